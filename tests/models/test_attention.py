"""Attention: every back end computes what the plain one does, and the choice says why."""

import logging

import pytest
import torch
from torch import Tensor

from ladder.models import attention
from ladder.models.attention import attend, choose_backend, self_attend
from ladder.models.errors import InputError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def attention_and_gradients(x: Tensor, grad: Tensor, backend: str) -> list[Tensor]:
    """Output and gradient in float32 of x [B, T, 3, H, K]."""
    leaf = x.clone().requires_grad_(True)
    output = self_attend(leaf, backend=backend)
    output.backward(grad)
    assert leaf.grad is not None
    return [output.detach().float(), leaf.grad.float()]


def relative_error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("backend", ["sdpa", "blocked"])
@pytest.mark.parametrize("length", [1, 7, 64, 65, 150])
def test_a_back_end_agrees_with_the_plain_one_in_fp32(backend: str, length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(2, length, 3, 3, 16, generator=generator)
    grad = torch.randn(2, length, 3, 16, generator=generator)
    for got, wanted in zip(
        attention_and_gradients(x, grad, backend), attention_and_gradients(x, grad, "reference"), strict=True
    ):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 63, 65, 200, 257, 600])
def test_blocks_in_bf16_attend_to_the_past_alone(length: int) -> None:
    x = torch.randn(2, length, 3, 2, 16, generator=torch.Generator().manual_seed(length)).bfloat16()
    grad = torch.randn(2, length, 2, 16).bfloat16()
    wanted = attention_and_gradients(x.double(), grad.double(), "reference")
    for got, other in zip(attention_and_gradients(x, grad, "blocked"), wanted, strict=True):
        assert relative_error(got, other) < 0.006


@pytest.mark.parametrize("backend", ["sdpa", "blocked"])
def test_bf16_costs_a_back_end_no_more_than_the_rounding_of_its_numbers(backend: str) -> None:
    # One bf16 rounding is 2^-9 = 0.002; scores of standard deviation 4, which bf16 scores would spoil (2 % measured).
    generator = torch.Generator().manual_seed(0)
    x = (2 * torch.randn(2, 200, 3, 2, 64, generator=generator)).bfloat16()
    grad = torch.randn(2, 200, 2, 64, generator=generator).bfloat16()
    wanted = attention_and_gradients(x.double(), grad.double(), "reference")
    with torch.autocast("cpu", torch.bfloat16):
        got = attention_and_gradients(x, grad, backend)
    for one, other in zip(got, wanted, strict=True):
        assert relative_error(one, other) < 0.006


@pytest.mark.parametrize("backend", ["sdpa", "blocked", "reference"])
def test_one_query_over_a_cache_sees_every_key(backend: str) -> None:
    x = torch.randn(2, 9, 3, 2, 8)
    q, k, v = x.unbind(2)
    last = attend(q[:, -1:], k, v, backend=backend, causal=False)
    torch.testing.assert_close(last, attend(q, k, v, backend=backend)[:, -1:])


@pytest.mark.parametrize("backend", ["sdpa", "blocked", "reference"])
def test_no_query_sees_the_future(backend: str) -> None:
    q, k, v = torch.randn(1, 130, 3, 2, 8).unbind(2)
    before = attend(q, k, v, backend=backend)
    k, v = k.clone(), v.clone()
    k[:, 70:], v[:, 70:] = 5.0, 7.0
    after = attend(q, k, v, backend=backend)
    torch.testing.assert_close(after[:, :70], before[:, :70])
    assert not torch.allclose(after[:, 70:], before[:, 70:])


def test_auto_takes_blocks_on_the_cpu() -> None:
    name, reason = choose_backend("auto", CPU, torch.bfloat16)
    assert name == "blocked" and "CPU" in reason


def test_xformers_by_name_is_refused_on_the_cpu() -> None:
    with pytest.raises(InputError, match="attention xformers cannot run here.*CUDA only.*cpu.*sdpa or auto"):
        choose_backend("xformers", CPU, torch.float32)


def test_blocks_by_name_are_refused_on_cuda() -> None:
    with pytest.raises(InputError, match="blocked cannot run here.*cuda"):
        choose_backend("blocked", CUDA, torch.bfloat16)


def test_an_unknown_back_end_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="'flash'.*auto, xformers, sdpa, blocked or reference"):
        choose_backend("flash", CPU, torch.float32)


def test_auto_falls_back_to_sdpa_with_a_warning_where_xformers_refuses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(attention, "_load_xformers", lambda: None)

    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("xFormers wasn't build with CUDA support\nsecond line")

    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)  # no CUDA here to put the probe on
    monkeypatch.setattr(attention, "_attend_xformers", refuse)
    with caplog.at_level(logging.WARNING):
        name, reason = choose_backend("auto", CUDA, torch.bfloat16)
    assert name == "sdpa" and "wasn't build with CUDA support" in reason and "second line" not in reason
    assert reason in caplog.text
    with pytest.raises(InputError, match="wasn't build with CUDA support"):
        choose_backend("xformers", CUDA, torch.bfloat16)


def test_a_refusal_names_each_operator_with_its_reason() -> None:
    message = "No operator found for `x` with inputs:\n  query: shape=(1, 2)\n`fa2F` is not supported because:\n"
    message += "    wrong device\n    too old\n`cutlassF` is not supported because:\n    no bf16\n"
    assert attention._reasons(message) == (
        "No operator found for `x` with inputs:; `fa2F` is not supported because: wrong device too old; "
        "`cutlassF` is not supported because: no bf16"
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_xformers_agrees_with_the_plain_one_on_cuda(dtype: torch.dtype) -> None:
    assert choose_backend("xformers", CUDA, dtype)[0] == "xformers"
    x = torch.randn(2, 200, 3, 2, 64, device=CUDA, dtype=dtype)
    grad = torch.randn(2, 200, 2, 64, device=CUDA, dtype=dtype)
    wanted = attention_and_gradients(x.double(), grad.double(), "reference")
    for one, other in zip(attention_and_gradients(x, grad, "xformers"), wanted, strict=True):
        assert relative_error(one, other) < (0.006 if dtype is torch.bfloat16 else 1e-3)  # TF32 may be on
