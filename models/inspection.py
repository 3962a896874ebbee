"""What happens inside a pass: where each position looks, and what each layer would say next.

It walks the blocks of a model with the usual forward pass beside it, and makes what that pass never holds: attention's
probabilities, which the fused kernels do not return, and the state after each block as the head would read it.

Shapes: T tokens, L blocks, D width, H heads, K = D / H, V vocabulary.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ladder.models.gpt2 import GPT2, Block


def attention_from(model: GPT2, tokens: Tensor, position: int) -> Tensor:
    """Attention's probabilities from one position to itself and those before it: tokens [T] to [L, H, position + 1].

    softmax(q k^T / sqrt(K)) with q of that position, computed anew from each block's own input (Vaswani et al. 2017,
    equation 1).
    """
    rows = []
    for block, state in zip(model.h, _states(model, tokens[: position + 1]), strict=False):
        assert isinstance(block, Block)
        attention = block.attn
        q, k, _ = attention.c_attn(block.ln_1(state)).view(len(state), 3, attention.n_head, -1).unbind(1)  # [T, H, K]
        scores = torch.einsum("hk,shk->hs", q[-1], k) * q.shape[-1] ** -0.5
        rows.append(scores.softmax(-1, dtype=torch.float32))
    return torch.stack(rows)


def lens_log_probabilities(model: GPT2, tokens: Tensor, *, first: int = 0) -> Iterator[Tensor]:
    """ln p of the next token if the head read the state after the embedding, then after each block (nostalgebraist
    2020, the logit lens): L + 1 times [T - first, V], for the positions from `first` on.

    The final norm takes mean and variance of the very state that it norms. With those of the last layer, as was
    published once (TransformerLens#1076), early layers look flat.
    """
    for state in _states(model, tokens):
        logits = F.linear(model.ln_f(state[first:]), model.wte.weight)
        yield logits.log_softmax(-1, dtype=torch.float32)


def _states(model: GPT2, tokens: Tensor) -> Iterator[Tensor]:
    """The residual stream [T, D] after the embedding, then after each block."""
    state = model.wte(tokens) + model.wpe.weight[: len(tokens)]
    yield state
    for block in model.h:
        state = block(state[None], None)[0]
        yield state
