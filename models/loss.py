"""The loss: nats of the next token, without ever holding the logits of all tokens at once.

For M tokens and V classes the logits would be the largest tensor of a training step by far. Here they exist for one
chunk of tokens at a time; since the loss is a sum, its gradients are known as soon as a chunk's logits are, so they are
taken in the forward pass, in the logits' own memory, and forgotten (the idea of Liger-Kernel's fused linear cross
entropy, Hsu et al. 2024, arXiv:2410.10989). A chunk is large, since each adds once to the head's whole gradient; its
softmax is taken part by part, since that is in float32 and need not be kept.

GPUs multiply matrices of 50,304 rows faster than of 50,257, so there the head is padded to a multiple of
`CLASS_MULTIPLE` in a copy that lives for one call. A padded class has the probability 0: no loss, gradient or
checkpoint knows of it.

Where no gradient is wanted not even the chunk's logits are needed, only their sum, which is taken tile by tile.

Shapes: B sequences of T tokens, M = B T tokens, C tokens of a chunk, D width, V classes, P classes with padding.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_LOGITS = 1 << 25
"""Logits of a chunk, in numbers, where that makes at most MOST_CHUNKS. On two cores with 1024 tokens, 50,257
classes and width 768 in bf16, chunks of 2^24, 2^25 and 2^26 logits took 0.33, 0.23 and 0.23 s."""
MOST_CHUNKS = 8
"""Chunks of a call: each reads and writes the head's gradient once, and is unrolled by torch.compile."""

PART_LOGITS = {"cpu": 1 << 19, "cuda": 1 << 24}
"""Logits whose softmax is taken at once, by kind of device: on a CPU 2 MiB in fp32, which stay in its cache; on a GPU
64 MiB, so that it has enough to do. A compiled softmax keeps nothing, so that there a part is a chunk."""

CLASS_MULTIPLE, FEWEST_CLASSES = {"cpu": 1, "cuda": 128}, 4096
"""The head is padded to a multiple of the first, by kind of device, where it has more classes than the second: at most
3 % more work. A CPU gains nothing from it, and the copy of a large head takes it time and memory."""

TILES = {"cpu": (2048, 1 << 20), "cuda": (8192, 1 << 27)}
"""Tokens and logits of a tile by kind of device. On a CPU 4 MiB of logits in fp32: measured for 50,257 classes of width
384, the projection with its sum took 0.205 s for 1024 tokens on two cores, where the projection alone in one piece took
0.26 s; tiles of four times as many logits took 0.25 s, of 256 tokens 0.22 s."""


SHIFT_COLUMNS = {"cpu": 2, "cuda": 8}
"""Columns after those of the head, by kind of device: two are needed, GPUs want a multiple of eight. Two took no time
that could be measured on a CPU, for widths of 128 to 768; a bias of each token took 2 to 9 %."""


def next_token_nats(hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum over tokens of -ln p(target), in nats: float32 scalar, differentiable in `hidden` and `head`.

    hidden [B, T, D] or [M, D], head [V, D], targets [B, T] or [M] int64. With weights, of the targets' shape, each
    token counts as often as its weight says: 0 for padding. Under autocast the matrix products are in autocast's
    precision and the softmax in float32. The first derivative only.
    """
    hidden, targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    weights = None if weights is None else weights.reshape(-1)
    if not torch.is_grad_enabled():
        nats = token_nats(hidden, head, targets)
        return nats.sum() if weights is None else (nats * weights).sum()
    total: Tensor = _NextTokenNats.apply(hidden, head, targets, weights)  # type: ignore[no-untyped-call]
    return total


@torch.no_grad()
def token_nats(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """For each token -ln p(target) in nats [M] float32; arguments as of `next_token_nats`, no gradient."""
    return _scan(hidden, head, targets, likeliest=False)[0]


@torch.no_grad()
def token_nats_and_likeliest(hidden: Tensor, head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """`token_nats`, and whether the target is the likeliest token [M] bool, the first of equals counting as it."""
    nats, best = _scan(hidden, head, targets, likeliest=True)
    return nats, best == targets.reshape(-1)


@torch.no_grad()
def scoring_head(head: Tensor, dtype: torch.dtype) -> Tensor:
    """The head [V, D] for scores without gradients in `dtype`; where that is less exact, [V, D + S] to be exact still.

    Softmax does not change where all logits of a token move by the same, but their rounding does: bf16 has 8
    significant bits, so that GPT-2's logits, which lie around -35 to -110, would be rounded to steps of .25 to .5. So
    the mean row is taken off, and S columns of ones and zeros let a state move all its logits (`_shifted`).
    """
    if head.dtype == dtype:
        return head
    columns = head.new_zeros(head.shape[0], SHIFT_COLUMNS.get(head.device.type, SHIFT_COLUMNS["cuda"]))
    columns[:, :2] = 1
    return torch.cat([head - head.mean(0), columns], 1).to(dtype)


def _scan(hidden: Tensor, head: Tensor, targets: Tensor, *, likeliest: bool) -> tuple[Tensor, Tensor]:
    """-ln p(target) [M] float32 and, where asked for, the likeliest token [M] (otherwise zeros).

    The target's own logit is summed in float32; in the sum over all classes it takes the place of the rounded one, or
    a token of p near 1 would have nats below 0: -ln p = ln(1 + exp(ln of the sum over the others - own logit)). Less
    exact logits are moved so that the target's is 0: those that are near it, which decide, are then rounded the least.
    """
    flat, targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    weight = scoring_head(head, _matmul_dtype(hidden))
    tile_tokens, tile_logits = TILES.get(flat.device.type, TILES["cuda"])
    nats, best = [], []
    for start in range(0, len(flat), tile_tokens):
        states, wanted = (tensor[start : start + tile_tokens] for tensor in (flat, targets))
        states = states.to(weight.dtype)
        logits = (states.float() * weight[wanted, : states.shape[1]].float()).sum(1)
        if weight.shape[1] > states.shape[1]:
            states, logits = _shifted(states, logits, weight.shape[1])
        tile = max(1, tile_logits // len(states))
        log_total, rounded, tokens = _log_total(states, weight, wanted, tile, likeliest=likeliest)
        share = (rounded - log_total).exp().clamp(max=1 - torch.finfo(torch.float32).eps)
        nats.append(F.softplus(log_total + torch.log1p(-share) - logits))
        best.append(tokens)
    return torch.cat(nats), torch.cat(best)


def _shifted(states: Tensor, logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """States [C, width] whose logits are those of `states` less `logits` [C], and what is left of `logits` [C].

    What is taken off is written as two numbers of the states' precision, the second being what the first is off by.
    """
    first = -logits.to(states.dtype)
    second = -(logits + first.float()).to(states.dtype)
    zeros = states.new_zeros(len(states), width - states.shape[1] - 2)
    shifted = torch.cat([states, first[:, None], second[:, None], zeros], 1)
    return shifted, logits + first.float() + second.float()


def _log_total(
    states: Tensor, weight: Tensor, targets: Tensor, tile: int, *, likeliest: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """ln of the sum of exp over all classes of the logits of states [C, D], `tile` classes at a time; float32 [C].

    With it the targets' logits as they are in that sum [C] and, where asked for, the likeliest class [C].

    A tile's logits are still in the processor's cache when they are summed. log_softmax gives that sum in one pass over
    them, where logsumexp takes three: a tenth of the time of scoring a long text in bf16.
    """
    log_totals = []
    own = torch.zeros(len(states), device=states.device)
    top = torch.full((len(states), 1), -torch.inf, device=states.device)
    best = torch.zeros((len(states), 1), dtype=torch.int64, device=states.device)
    for start in range(0, weight.shape[0], tile):
        logits = _matmul(states, weight[start : start + tile].T).float()  # [C, tile]
        log_totals.append(logits[:, 0] - torch.log_softmax(logits, 1)[:, 0])
        places = targets - start
        found = logits.gather(1, places.clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
        own = torch.where((places >= 0) & (places < logits.shape[1]), found, own)
        if likeliest:
            place = logits.argmax(1, keepdim=True)
            value = logits.gather(1, place)
            best = torch.where(value > top, place + start, best)
            top = torch.maximum(top, value)
    return torch.logsumexp(torch.stack(log_totals), 0), own, best[:, 0]


class _NextTokenNats(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        total, grad_hidden, grad_head = _nats_and_gradients(hidden, head, targets, weights)
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_head.to(head.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (scale,) = grad_outputs
        grad_hidden, grad_head = ctx.saved_tensors
        return grad_hidden.mul_(scale), grad_head.mul_(scale), None, None  # in place: another pass back is an error


def _nats_and_gradients(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of nats, and its gradient in hidden [M, D] and head [V, D]."""
    dtype = _matmul_dtype(hidden)
    flat, weight = hidden.to(dtype), _padded(head.to(dtype))  # [M, D], [P, D]
    total = torch.zeros((), device=hidden.device)
    grad_hidden = []
    grad_head: Tensor | None = None
    for rows in _chunks(flat.shape[0], weight.shape[0]):
        logits = _matmul(flat[rows], weight.T)  # [C, P]
        of_rows = None if weights is None else weights[rows, None]  # [C, 1]
        total += _nats_then_gradient_(logits, targets[rows, None], head.shape[0], of_rows)
        grad_hidden.append(_weighted(_matmul(logits, weight), of_rows))  # [C, D]
        grad_head = _add_product(grad_head, logits.T, _weighted(flat[rows], of_rows))  # [P, D]
        del logits  # or they would be there beside those of the next chunk
    assert grad_head is not None, "a loss over no tokens"
    return total, torch.cat(grad_hidden), grad_head[: head.shape[0]]


def _nats_then_gradient_(logits: Tensor, targets: Tensor, n_classes: int, weights: Tensor | None) -> Tensor:
    """The sum of nats of targets [C, 1] times the weights [C, 1], and in place of the logits [C, P] the gradient of the
    nats in them, p - onehot(target), without weights: those are for the states, of which there are fewer numbers."""
    if logits.shape[1] > n_classes:
        logits[:, n_classes:] = -torch.inf
    nats = []
    for rows in _parts(logits):
        log_probs = torch.log_softmax(logits[rows], dim=1, dtype=torch.float32)
        own = log_probs.gather(1, targets[rows])  # [rows, 1]
        nats.append(own.sum() if weights is None else (own * weights[rows]).sum())
        logits[rows] = log_probs.exp_()
        logits[rows].scatter_(1, targets[rows], own.expm1().to(logits.dtype))
    return -torch.stack(nats).sum()


def _weighted(states: Tensor, weights: Tensor | None) -> Tensor:
    """states [C, D] times the weights [C, 1], in the precision of the states."""
    return states if weights is None else (states * weights).to(states.dtype)


def _padded(weight: Tensor) -> Tensor:
    """weight [V, D] with rows of zeros up to its device's multiple of classes: [P, D]."""
    n_classes = weight.shape[0]
    multiple = CLASS_MULTIPLE.get(weight.device.type, CLASS_MULTIPLE["cuda"])
    missing = -n_classes % multiple if n_classes > FEWEST_CLASSES else 0
    return F.pad(weight, (0, 0, 0, missing)) if missing else weight


def _matmul_dtype(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in the precision they have, whatever autocast would make of it."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def _add_product(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """Adds a @ b to a float32 total, in place; None: there is none yet. A float32 product is never there beside it."""
    if total is None:
        return _matmul(a, b).float()
    if a.dtype is not torch.float32:
        return total.add_(_matmul(a, b))
    with torch.autocast(a.device.type, enabled=False):
        return total.addmm_(a, b)


def _chunks(n_tokens: int, n_classes: int) -> list[slice]:
    """Slices that cover `n_tokens` rows, MOST_CHUNKS or as few as have CHUNK_LOGITS logits, alike but for the last."""
    n_chunks = min(MOST_CHUNKS, -(-n_tokens * n_classes // CHUNK_LOGITS))
    return _slices(n_tokens, -(-n_tokens // max(1, n_chunks)))


def _parts(logits: Tensor) -> list[slice]:
    """Slices that cover the rows of a chunk's logits [C, P]."""
    if torch.compiler.is_compiling():
        return [slice(None)]
    most = PART_LOGITS.get(logits.device.type, PART_LOGITS["cuda"])
    return _slices(logits.shape[0], max(1, most // logits.shape[1]))


def _slices(n_rows: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
