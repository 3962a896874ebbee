"""The sizes of the ladder: GPT-2 shapes, and what follows from a shape alone (parameters, FLOPs, memory).

The paper's four keep the paper's names; every other rung is named by its shape, `<layers>x<width>`. Nothing here
needs torch: plans and tables count with these numbers, and a test asserts that torch counts the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ladder.models.errors import InputError

HEAD_WIDTH = 64
"""Width of an attention head, as in all four sizes of the paper."""

MLP_RATIO = 4
"""Width of a block's hidden layer over the width of the model (Radford et al. 2018, section 4.1)."""

_SHAPE = re.compile(r"(\d+)x(\d+)(?:h(\d+))?")


def default_heads(d_model: int) -> int:
    """Heads of width 64; where 64 does not divide the width, the most heads at least that wide that do."""
    most = max(1, d_model // HEAD_WIDTH)
    return next(n_head for n_head in range(most, 0, -1) if d_model % n_head == 0)


@dataclass(frozen=True, kw_only=True)
class Size:
    """A GPT-2 shape."""

    name: str
    """What people call it: a name of the paper ("117M") or the shape itself ("4x128")."""
    n_layer: int
    """Transformer blocks."""
    d_model: int
    """Width of the residual stream, in units."""
    n_head: int
    """Attention heads in each block; divides `d_model`."""
    context: int = 1024
    """Positions that the model can see, in tokens."""
    vocabulary: int = 50257
    """Token embeddings, in tokens; may exceed the tokenizer's so as to be a rounder number."""

    def __post_init__(self) -> None:
        for field in ("n_layer", "d_model", "n_head", "context", "vocabulary"):
            if getattr(self, field) < 1:
                raise InputError(f"size {self.name}: {field} is {getattr(self, field)}; it must be at least 1")
        if self.d_model % self.n_head:
            raise InputError(
                f"size {self.name}: {self.n_head} heads do not divide the width {self.d_model}; "
                f"name a number of heads that does, such as {self.n_layer}x{self.d_model}h{default_heads(self.d_model)}"
            )

    @property
    def shape_name(self) -> str:
        """The one name of the shape: the paper's where it has one, whatever `name` says."""
        for paper in PAPER_SIZES.values():
            if (self.n_layer, self.d_model, self.n_head) == (paper.n_layer, paper.d_model, paper.n_head):
                return paper.name
        heads = "" if self.n_head == default_heads(self.d_model) else f"h{self.n_head}"
        return f"{self.n_layer}x{self.d_model}{heads}"

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by group; the head is tied to the token embedding and counted there, once.

        A block of width d has 12 d^2 weights (attention 3 d^2 + d^2, MLP 4 d^2 + 4 d^2), 9 d biases (3 + 1 + 4 + 1)
        and two layer norms of 2 d.
        """
        d = self.d_model
        return {
            "token_embedding": self.vocabulary * d,
            "position_embedding": self.context * d,
            "blocks": self.n_layer * (12 * d * d + 13 * d),
            "final_norm": 2 * d,
        }

    @property
    def params_total(self) -> int:
        """All parameters, embeddings included: the N of the paper's names as torch counts it."""
        return sum(self.parameter_counts().values())

    @property
    def params_non_embedding(self) -> int:
        """Parameters of the blocks and the final norm: the N of Kaplan et al. 2020, section 2.1."""
        counts = self.parameter_counts()
        return counts["blocks"] + counts["final_norm"]

    @property
    def flops_per_token(self) -> int:
        """FLOPs to train on one token at full context: three times the forward pass (Kaplan et al. 2020, section 2.1).

        Forward: 2 for each matmul weight of the blocks, 4 n_layer context d_model for QK^T and AV, 2 for each weight of
        the vocabulary projection. The causal half of attention is not taken off, and what is not a matrix product
        (norms, softmax, GELU, embedding look-up, optimizer) is left out.
        """
        return 3 * (self.recomputed_flops_per_token + 2 * self.vocabulary * self.d_model)

    @property
    def recomputed_flops_per_token(self) -> int:
        """FLOPs of the blocks' forward pass, which activation checkpointing runs a second time; not in
        `flops_per_token`, as it trains nothing."""
        weights = 2 * self.n_layer * 12 * self.d_model**2
        attention = 4 * self.n_layer * self.context * self.d_model
        return weights + attention

    def flops_exact(self, tokens: int) -> int:
        """FLOPs to train on `tokens` tokens, counted as `flops_per_token` says."""
        return self.flops_per_token * tokens

    def flops_6nd(self, tokens: int) -> int:
        """FLOPs to train on `tokens` tokens by the rule C = 6 N D, with N all parameters."""
        return 6 * self.params_total * tokens

    @property
    def training_bytes(self) -> int:
        """Bytes of weights, gradients and AdamW's two moments in fp32 (16 a parameter); activations come on top."""
        return 16 * self.params_total


PAPER_SIZES: Mapping[str, Size] = MappingProxyType(
    {
        # Radford et al. 2019, table 2; the parameters as the released models have them.
        "117M": Size(name="117M", n_layer=12, d_model=768, n_head=12),
        "345M": Size(name="345M", n_layer=24, d_model=1024, n_head=16),
        "762M": Size(name="762M", n_layer=36, d_model=1280, n_head=20),
        "1542M": Size(name="1542M", n_layer=48, d_model=1600, n_head=25),
    }
)


def parse_size(name: str, *, context: int = 1024, vocabulary: int = 50257) -> Size:
    """The size called `name`: one of the paper's, or a shape such as "4x128" or, with heads given, "4x128h4".

    A shape of the paper gets the paper's name: "12x768" is 117M.
    """
    if name in PAPER_SIZES:
        paper = PAPER_SIZES[name]
        n_layer, d_model, n_head = paper.n_layer, paper.d_model, paper.n_head
    else:
        n_layer, d_model, n_head = _parse_shape(name)
    size = Size(name=name, n_layer=n_layer, d_model=d_model, n_head=n_head, context=context, vocabulary=vocabulary)
    return replace(size, name=size.shape_name)


def _parse_shape(name: str) -> tuple[int, int, int]:
    match = _SHAPE.fullmatch(name)
    if match is None:
        raise InputError(
            f"unknown size {name!r}: wanted one of the paper's, {', '.join(PAPER_SIZES)}, "
            "or a shape such as 4x128 (4 layers of width 128) or 4x128h4 (with 4 heads)"
        )
    n_layer, d_model = int(match[1]), int(match[2])
    if n_layer < 1 or d_model < 1:
        raise InputError(f"size {name!r} has {n_layer} layers of width {d_model}; both must be at least 1")
    return n_layer, d_model, int(match[3]) if match[3] else default_heads(d_model)


RUNGS: tuple[Size, ...] = tuple(
    parse_size(shape) for shape in ("2x64", "3x96", "4x128", "5x192", "6x256", "6x384", "8x512", "10x640")
)
"""Rungs below the paper's, each two to three times the one before it in parameters without embeddings."""
