"""GELU: the cheap form is torch's in value and slope."""

import pytest
import torch
from torch.nn import functional as F

from ladder.models.gelu import CHUNK, gelu_


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_value_and_slope_are_torchs(dtype: torch.dtype) -> None:
    x = torch.linspace(-12, 12, CHUNK + 1001).to(dtype)  # more than a chunk, and not a whole number of them
    ours, theirs = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
    y, wanted = gelu_(ours), F.gelu(theirs, approximate="tanh")
    y.backward(torch.ones_like(y))
    wanted.backward(torch.ones_like(wanted))
    tolerance = {"atol": 2e-6, "rtol": 2e-6} if dtype is torch.float32 else {"atol": 1e-6, "rtol": 2**-7}
    torch.testing.assert_close(y, wanted, **tolerance)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=2 * tolerance["atol"] + 1e-5, rtol=tolerance["rtol"])


def test_a_transposed_input_keeps_its_places() -> None:
    x = torch.randn(5, 7).t().requires_grad_(True)
    wanted = F.gelu(x, approximate="tanh")
    torch.testing.assert_close(gelu_(x), wanted)


def test_a_tensor_that_was_kept_is_refused_and_not_wrong() -> None:
    """It is overwritten, and the derivative of exp is its value."""
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gelu_(torch.randn(5, requires_grad=True).exp()).sum().backward()


def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    x = torch.randn(5, requires_grad=True)
    (slope,) = torch.autograd.grad(gelu_(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        slope.sum().backward()


def test_a_second_backward_pass_is_refused_and_not_wrong() -> None:
    y = gelu_(torch.randn(5, requires_grad=True) * 1)
    y.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_nothing_is_kept_where_no_gradient_is_asked_for() -> None:
    with torch.no_grad():
        assert gelu_(torch.randn(3, requires_grad=True)).grad_fn is None
