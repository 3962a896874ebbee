"""The loss: in values and gradients it is torch's cross entropy, however it is cut."""

import unittest.mock
import weakref

import pytest
import torch
from torch import Tensor, UntypedStorage
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ladder.models import loss
from ladder.models.loss import next_token_nats, scoring_head, token_nats, token_nats_and_likeliest


def inputs(vocabulary: int = 50, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """hidden [3, 11, 16], head [V, 16], targets [3, 11]."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(3, 11, 16, generator=generator).requires_grad_(True)
    head = torch.randn(vocabulary, 16, generator=generator).requires_grad_(True)
    return hidden, head, torch.randint(vocabulary, (3, 11), generator=generator)


def torchs_nats(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, head).flatten(0, 1).float(), targets.flatten(), reduction="sum")


def gradients(nats: Tensor, hidden: Tensor, head: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(nats / 7, (hidden, head))  # a scale other than one, as training has


@pytest.mark.parametrize("chunk_logits", [1, 50, 130, 1 << 24])
def test_values_and_gradients_are_torchs_in_fp32(chunk_logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK_LOGITS", chunk_logits)
    arguments = inputs()
    ours, theirs = next_token_nats(*arguments), torchs_nats(*arguments)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    for got, wanted in zip(gradients(ours, *arguments[:2]), gradients(theirs, *arguments[:2]), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk_logits", [130, 1 << 24])
def test_under_bf16_autocast_it_is_no_further_from_the_truth_than_torch(
    chunk_logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "CHUNK_LOGITS", chunk_logits)
    arguments = inputs(300)
    truth = torchs_nats(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = next_token_nats(*arguments), torchs_nats(*arguments)
    assert ours.dtype == torch.float32
    assert abs(ours - truth) <= 1.2 * abs(theirs - truth) + 1e-3 * truth
    exact = gradients(truth, *arguments[:2])
    for got, peer, wanted in zip(
        gradients(ours, *arguments[:2]), gradients(theirs, *arguments[:2]), exact, strict=True
    ):
        assert got.dtype == torch.float32
        assert (got - wanted).norm() <= 1.2 * (peer - wanted).norm()


def test_logits_that_are_huge_give_finite_nats() -> None:
    hidden, head, targets = inputs()
    nats = next_token_nats(hidden * 1e4, head, targets)
    torch.testing.assert_close(nats, torchs_nats(hidden * 1e4, head, targets))
    assert nats.isfinite() and all(gradient.isfinite().all() for gradient in gradients(nats, hidden, head))


def test_rows_and_sequences_give_the_same() -> None:
    hidden, head, targets = inputs()
    assert next_token_nats(hidden.flatten(0, 1), head, targets.flatten()) == next_token_nats(hidden, head, targets)


def test_nats_by_token_sum_to_the_loss_and_flag_the_likeliest() -> None:
    hidden, head, targets = inputs()
    nats, greedy = token_nats_and_likeliest(hidden, head, targets)
    assert nats.shape == greedy.shape == (33,) and nats.dtype == torch.float32 and greedy.dtype == torch.bool
    torch.testing.assert_close(nats.sum(), next_token_nats(hidden, head, targets).detach())
    assert torch.equal(token_nats(hidden, head, targets), nats)
    best = F.linear(hidden, head).argmax(-1)
    assert token_nats_and_likeliest(hidden, head, best)[1].all()
    assert torch.equal(greedy, (best == targets).flatten())


@pytest.mark.parametrize("tile", [(1, 1), (4, 24), (1024, 1 << 20)])
def test_nats_and_likeliest_do_not_depend_on_the_tile(tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loss.TILES, "cpu", tile)
    hidden, head, targets = inputs()
    nats, greedy = token_nats_and_likeliest(hidden * 10, head, targets)
    logits = F.linear(hidden * 10, head).flatten(0, 1)
    wanted = F.cross_entropy(logits, targets.flatten(), reduction="none")
    torch.testing.assert_close(nats, wanted.detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(greedy, logits.argmax(-1) == targets.flatten())


def test_of_equally_likely_tokens_the_first_counts_as_the_likeliest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loss.TILES, "cpu", (2, 6))
    hidden, head = torch.zeros(2, 4), torch.randn(9, 4)
    assert token_nats_and_likeliest(hidden, head, torch.tensor([0, 8]))[1].tolist() == [True, False]


def moved(shift: float, n_tokens: int = 4000, n_classes: int = 2000) -> tuple[Tensor, Tensor, Tensor]:
    """hidden [M, 64], head [V, 64] whose logits have a standard deviation of 2.5 and a mean of `shift`, and targets."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(n_tokens, 64, generator=generator)
    head = torch.randn(n_classes, 64, generator=generator) * 2.5 / 8
    hidden[:, 0], head[:, 0] = 4.0, shift / 4
    probabilities = (hidden @ head.T).softmax(1)
    return hidden, head, torch.multinomial(probabilities, 1, generator=generator)[:, 0]


@pytest.mark.parametrize("shift", [0.0, -110.0])
@pytest.mark.parametrize("cast_before", [False, True])
def test_in_bf16_the_nats_do_not_depend_on_where_the_logits_lie(shift: float, cast_before: bool) -> None:
    hidden, head, targets = moved(shift)
    logits = hidden.double() @ head.double().T
    exact = F.cross_entropy(logits, targets, reduction="none")
    likeliest = logits.argmax(1)
    given = scoring_head(head, torch.bfloat16) if cast_before else head
    with torch.autocast("cpu", torch.bfloat16):
        nats = token_nats(hidden, given, targets)
        hits = token_nats_and_likeliest(hidden, given, likeliest)[1]
    assert abs(float((nats - exact).mean())) < 0.002
    assert float((nats - exact).abs().mean()) < 0.01  # the rounding of hidden and head themselves
    assert 1 - float(hits.float().mean()) < 0.007


def test_in_bf16_a_confident_token_is_neither_below_zero_nor_above_its_nats_on_average() -> None:
    """Targets of p from .9 to 1: a sum that rounds the target's logit otherwise than the numerator is off by it."""
    hidden, head, _ = moved(0.0, n_tokens=8000)
    hidden = hidden * 3
    logits = hidden.double() @ head.double().T
    exact, targets = -logits.log_softmax(1).max(1).values, logits.argmax(1)
    sure = exact < 0.1
    assert int(sure.sum()) > 500
    # In bf16 the states and the head are rounded too; the truth is that of the rounded ones.
    head = scoring_head(head, torch.bfloat16)
    hidden = hidden.to(torch.bfloat16)
    logits = hidden.double() @ head[:, :64].double().T
    exact = F.cross_entropy(logits, targets, reduction="none")
    with torch.autocast("cpu", torch.bfloat16):
        nats = token_nats(hidden, head, targets)
    assert bool((nats >= 0).all())
    assert float(nats[sure].mean()) == pytest.approx(float(exact[sure].mean()), rel=0.01)
    assert float((nats - exact)[sure].abs().mean()) < 0.1 * float(exact[sure].mean())


def test_in_fp32_the_head_is_taken_as_it_is() -> None:
    head = inputs()[1].detach()
    assert scoring_head(head, torch.float32) is head


def test_without_gradients_none_are_computed() -> None:
    hidden, head, targets = inputs()
    with torch.no_grad():
        quiet = next_token_nats(hidden, head, targets)
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, next_token_nats(hidden, head, targets).detach())


def test_logits_of_all_tokens_never_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    inner = loss._nats_then_gradient_

    def watched(logits: Tensor, targets: Tensor, n_classes: int, weights: Tensor | None) -> Tensor:
        seen.append(logits.numel())
        return inner(logits, targets, n_classes, weights)

    monkeypatch.setattr(loss, "CHUNK_LOGITS", 300)
    monkeypatch.setattr(loss, "_nats_then_gradient_", watched)
    next_token_nats(*inputs())
    assert max(seen) <= 300 and sum(seen) == 33 * 50


@pytest.mark.parametrize("n_tokens", [1, 7, 4096, 16384, 65536, 1 << 20])
def test_the_head_s_gradient_is_added_up_at_most_eight_times(n_tokens: int) -> None:
    chunks = loss._chunks(n_tokens, 50304)
    assert len(chunks) <= 8 and (n_tokens < 4096 or len(chunks) >= 4)
    assert [row for chunk in chunks for row in (chunk.start, chunk.stop)][1:-1:2] == [c.start for c in chunks[1:]]
    assert chunks[0].start == 0 and chunks[-1].stop == n_tokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [50, 127, 129])
def test_padded_classes_are_in_neither_loss_nor_gradient(
    dtype: torch.dtype, vocabulary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, head, targets = inputs(vocabulary)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        plain = next_token_nats(hidden, head, targets)
        monkeypatch.setattr(loss, "FEWEST_CLASSES", 0)
        monkeypatch.setitem(loss.CLASS_MULTIPLE, "cpu", 128)
        monkeypatch.setitem(loss.PART_LOGITS, "cpu", 300)
        padded = next_token_nats(hidden, head, targets)
    torch.testing.assert_close(padded, plain, rtol=1e-6, atol=0)
    for got, wanted in zip(gradients(padded, hidden, head), gradients(plain, hidden, head), strict=True):
        assert got.shape == wanted.shape
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_the_classes_of_gpt2_are_padded_on_a_gpu_and_in_memory_only(monkeypatch: pytest.MonkeyPatch) -> None:
    head = torch.nn.Parameter(torch.randn(50257, 4))
    assert loss._padded(head) is head
    monkeypatch.setitem(loss.CLASS_MULTIPLE, "cpu", loss.CLASS_MULTIPLE["cuda"])
    assert loss._padded(head).shape == (50304, 4)
    assert loss._padded(head[:512]) is not None and loss._padded(head[:512]).shape == (512, 4)
    next_token_nats(torch.randn(3, 4), head, torch.tensor([0, 50256, 7])).backward()
    assert head.shape == (50257, 4) and head.grad is not None and head.grad.shape == (50257, 4)


class LiveBytes(TorchDispatchMode):
    """The bytes of the storages that operations made and nobody has dropped yet, and their largest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: weakref.WeakSet[UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.untyped_storage() not in self._seen:
                storage = tensor.untyped_storage()
                self._seen.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._drop, storage.nbytes())
        self.most = max(self.most, self.now)
        return out

    def _drop(self, n_bytes: int) -> None:
        self.now -= n_bytes


@pytest.mark.parametrize("width", [768, 1600])
def test_the_loss_over_gpt2_s_classes_adds_at_most_a_gibibyte_at_16384_tokens(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted over fake tensors, from the states to their gradients, cut and padded as on a GPU."""
    monkeypatch.setitem(loss.PART_LOGITS, "cpu", loss.PART_LOGITS["cuda"])
    monkeypatch.setitem(loss.CLASS_MULTIPLE, "cpu", loss.CLASS_MULTIPLE["cuda"])
    with FakeTensorMode():
        hidden, head = torch.empty(16384, width), torch.empty(50257, width)
        targets = torch.empty(16384, dtype=torch.int64)
        with LiveBytes() as live, torch.autocast("cpu", torch.bfloat16):
            loss._nats_and_gradients(hidden, head, targets)
    assert 0.3 * 2**30 < live.most <= 2**30


def test_in_fp32_the_head_s_gradient_is_the_only_tensor_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a copy of the head nor what a chunk adds to the gradient is there beside the two."""
    monkeypatch.setitem(loss.PART_LOGITS, "cpu", 1 << 23)  # few parts, so that the test is short
    with FakeTensorMode():
        hidden, head = torch.empty(4096, 1024), torch.empty(50257, 1024)
        with LiveBytes() as live:
            loss._nats_and_gradients(hidden, head, torch.empty(4096, dtype=torch.int64))
    chunk = 4 * -(-4096 // len(loss._chunks(4096, 50257))) * 50257
    assert live.most < chunk + 2.5 * 4 * head.numel()


def test_compiling_unrolls_a_few_dozen_operations_a_chunk() -> None:
    """The bound holds for any number of tokens; it was 4,800 for 64 sequences of 1024."""
    sizes = []

    def count(graph: torch.fx.GraphModule, _: object) -> object:
        sizes.append(sum(len(module.graph.nodes) for module in graph.modules() if hasattr(module, "graph")))
        return graph.forward

    compiled = torch.compile(next_token_nats, backend=count, dynamic=False, fullgraph=True)
    arguments = torch.randn(2048, 4, requires_grad=True), torch.randn(50257, 4, requires_grad=True)
    with unittest.mock.patch.object(loss, "CHUNK_LOGITS", 1 << 20):  # as many chunks as there ever are
        nats = compiled(*arguments, torch.zeros(2048, dtype=torch.int64))
    torch.testing.assert_close(nats, next_token_nats(*arguments, torch.zeros(2048, dtype=torch.int64)))
    assert len(sizes) == 1 and 8 * 5 < sizes[0] < 400, sizes
    torch._dynamo.reset()


def test_weights_count_tokens_as_often_as_they_say() -> None:
    draws = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 5, 8, generator=draws, requires_grad=True)
    head = torch.randn(11, 8, generator=draws, requires_grad=True)
    targets = torch.randint(11, (3, 5), generator=draws)
    weights = torch.tensor([1.0, 0.0, 0.25, 2.0, 1.0]).expand(3, 5)
    wanted = (torch.nn.functional.cross_entropy((hidden @ head.T).reshape(-1, 11), targets.reshape(-1),
                                                reduction="none") * weights.reshape(-1)).sum()  # fmt: skip
    wanted_gradients = torch.autograd.grad(wanted, (hidden, head))
    nats = next_token_nats(hidden, head, targets, weights)
    gradients = torch.autograd.grad(nats, (hidden, head))
    assert torch.allclose(nats, wanted, rtol=1e-6)
    for ours, theirs in zip(gradients, wanted_gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(next_token_nats(hidden, head, targets, weights), wanted, rtol=1e-6)
