"""Which attention a run trains with: of those that can run, the one that is fastest for the run's own shape.

xformers and SDPA each choose among several kernels, and which is faster depends on device, precision and shape; so on
CUDA both are checked against the plain one and timed once, before training. The choice carries its reason and the
operator that was dispatched, since "xformers" alone does not say what ran.

Shapes: B sequences, T positions, H heads, K width of a head.
"""

import importlib
import logging
import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from ladder.models.attention import choose_backend, self_attend
from ladder.models.errors import InputError
from ladder.models.sizes import Size

CHECKED_SEQUENCES = 1
"""Sequences whose attention is compared with the plain one, which holds all T^2 scores of each head."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Largest relative error, in norm, of output and gradient: several roundings of the precision."""
REPEATS = 10
"""Timed passes, forward and backward, after three that warm up."""
LEAST_GAIN = 0.02
"""Share of the time that SDPA has to save before it is taken in place of xformers, so that noise does not choose."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AttentionShape:
    """What attention gets in one forward pass of a run."""

    sequences: int
    """B."""
    length: int
    """T, in tokens."""
    heads: int
    """H."""
    width: int
    """K."""

    @classmethod
    def of(cls, size: Size, sequences: int) -> "AttentionShape":
        """The shape in a micro-batch of a size."""
        return cls(sequences=sequences, length=size.context, heads=size.n_head, width=size.d_model // size.n_head)

    def __str__(self) -> str:
        return f"{self.sequences} x {self.length} x {self.heads} x {self.width}"


@dataclass(frozen=True, kw_only=True)
class AttentionChoice:
    """The attention of a run."""

    backend: str
    """A name of ladder.models.attention.BACKENDS."""
    operator: str
    """What the back end dispatches to, such as fa3F/fa3B or FLASH_ATTENTION."""
    reason: str
    """Why it was chosen, in one clause."""


def choose_attention(
    asked: str, shape: AttentionShape, device: torch.device, dtype: torch.dtype, *, before: str | None = None
) -> AttentionChoice:
    """The attention for `asked` ("auto" or a name) and a shape; errors as of `choose_backend`.

    "auto" keeps the back end that the run had `before`, where that can run here: another one rounds differently.
    """
    if asked == "auto" and before is not None:
        try:
            choose_backend(before, device, dtype, width=shape.width)
        except InputError as error:
            logger.warning("attention is chosen anew: the run had %s before, and %s", before, error)
        else:
            operator = find_operator(before, shape, device, dtype)
            return AttentionChoice(backend=before, operator=operator, reason="the run had it before")
    backend, reason = choose_backend(asked, device, dtype, width=shape.width)
    if asked == "auto" and backend == "xformers":
        backend, reason = compare_backends(("xformers", "sdpa"), shape, device, dtype)
    return AttentionChoice(backend=backend, operator=find_operator(backend, shape, device, dtype), reason=reason)


def compare_backends(
    backends: tuple[str, ...], shape: AttentionShape, device: torch.device, dtype: torch.dtype
) -> tuple[str, str]:
    """The fastest of some back ends that agree with the plain one, and why; the first is kept unless it is beaten by
    LEAST_GAIN. One that disagrees is left out with a warning; if all do, the plain one is returned."""
    seconds: dict[str, float] = {}
    reasons = []
    for backend in backends:
        error = relative_error(backend, shape, device, dtype)
        if error > TOLERANCE[dtype]:
            reasons.append(f"{backend} differs from the plain attention by {error:.2g}")
            logger.warning("attention %s is not used for %s in %s: %s", backend, shape, dtype, reasons[-1])
            continue
        seconds[backend] = time_attention(backend, shape, device, dtype)
        reasons.append(f"{backend} {seconds[backend] * 1e3:.3g} ms")
    told = f"{', '.join(reasons)}, forward and backward of {shape}"
    if not seconds:
        return "reference", told
    first, fastest = next(iter(seconds)), min(seconds, key=seconds.__getitem__)
    return (fastest if seconds[fastest] < (1 - LEAST_GAIN) * seconds[first] else first), told


def relative_error(backend: str, shape: AttentionShape, device: torch.device, dtype: torch.dtype) -> float:
    """The larger of the relative errors, in norm, of output and gradient beside the plain attention in float32."""
    x = _sample(shape, CHECKED_SEQUENCES, device, dtype)
    wanted, got = _forward_and_backward("reference", x.float()), _forward_and_backward(backend, x)
    return max(float((a.float() - b).norm() / b.norm()) for a, b in zip(got, wanted, strict=True))


def time_attention(backend: str, shape: AttentionShape, device: torch.device, dtype: torch.dtype) -> float:
    """Seconds of a forward and a backward pass, median of REPEATS."""
    x = _sample(shape, shape.sequences, device, dtype)
    seconds = []
    for _ in range(3 + REPEATS):
        started = time.perf_counter()
        _forward_and_backward(backend, x)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[3:])


def _sample(shape: AttentionShape, sequences: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Queries, keys and values as the network lays them out, [B, T, 3, H, K]."""
    draws = torch.Generator().manual_seed(0)  # its own: a run's random state does not depend on this
    one = torch.randn(1, shape.length, 3, shape.heads, shape.width, generator=draws)
    return one.to(device, dtype).expand(sequences, -1, -1, -1, -1).contiguous()


def _forward_and_backward(backend: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output [B, T, H, K], and the gradient of half its square in x [B, T, 3, H, K]."""
    leaf = x.detach().requires_grad_(True)
    y = self_attend(leaf, backend=backend)
    (gradient,) = torch.autograd.grad(y, leaf, y.detach())
    return y.detach(), gradient


def find_operator(backend: str, shape: AttentionShape, device: torch.device, dtype: torch.dtype) -> str:
    """The kernels that a back end dispatches to for a shape, without running them."""
    if backend not in ("xformers", "sdpa"):
        return "matrix products"
    q, k, v = (torch.empty(1, shape.length, shape.heads, shape.width, device=device, dtype=dtype) for _ in range(3))
    if backend == "sdpa":
        q, k, v = (x.transpose(1, 2).requires_grad_(True) for x in (q, k, v))
        return SDPBackend(torch._fused_sdp_choice(q, k, v, None, 0.0, True)).name
    fmha = importlib.import_module("xformers.ops.fmha")
    inputs = fmha.Inputs(q, k, v, attn_bias=fmha.attn_bias.LowerTriangularMask(), p=0.0)
    forward = fmha.dispatch._dispatch_fw(inputs, needs_gradient=True)
    backward = fmha.dispatch._dispatch_bw(inputs, varlen_lse_packed=False)
    return f"{forward.NAME}/{backward.NAME}"
