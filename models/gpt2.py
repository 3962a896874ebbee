"""The GPT-2 network (Radford et al. 2019, section 2.3), in the order of the forward pass.

Pre-norm blocks, a norm before the head, learned positions, tanh GELU, the head tied to the token embedding. Parameters
have the names of the released checkpoints (`wte`, `h.0.attn.c_attn`, `ln_f`); linear layers have torch's [out, in]
layout in memory and are transposed on the way to and from files. No dropout: runs here see each token about once.

Shapes: B sequences, T tokens of each, D = d_model, H heads, K = D / H, V = vocabulary.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ladder.models.attention import BACKENDS, self_attend
from ladder.models.cache import Place
from ladder.models.gelu import gelu_
from ladder.models.parametrization import BaseShape, scales_of
from ladder.models.sizes import MLP_RATIO, Size

NORM_EPSILON = 1e-5
"""Added to the variance in every layer norm (openai/gpt-2, src/model.py, norm)."""

WEIGHT_STD = 0.02
"""Standard deviation of the initial weights and token embeddings (openai/gpt-2, src/model.py, conv1d and wte)."""

POSITION_STD = 0.01
"""Standard deviation of the initial position embeddings (openai/gpt-2, src/model.py, wpe)."""


class Attention(nn.Module):
    """Causal self-attention with one matrix for queries, keys and values."""

    def __init__(self, size: Size, *, layer: int, backend: str) -> None:
        super().__init__()
        self.layer, self.n_head, self.backend = layer, size.n_head, backend
        self.c_attn = nn.Linear(size.d_model, 3 * size.d_model)
        self.c_proj = nn.Linear(size.d_model, size.d_model)

    def forward(self, x: Tensor, place: Place | None) -> Tensor:
        batch, length, width = x.shape
        heads = self.c_attn(x).view(batch, length, 3, self.n_head, width // self.n_head)  # [B, T, 3, H, K]
        if place is None:
            y = self_attend(heads, backend=self.backend)  # [B, T, H, K]
        else:
            y = place.attend(self.layer, *heads.unbind(2), backend=self.backend)
        projected: Tensor = self.c_proj(y.reshape(batch, length, width))  # [B, T, D]
        return projected


class MLP(nn.Module):
    """Two layers with GELU between."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.c_fc = nn.Linear(size.d_model, MLP_RATIO * size.d_model)
        self.c_proj = nn.Linear(MLP_RATIO * size.d_model, size.d_model)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c_proj(gelu_(self.c_fc(x)))
        return y


class Block(nn.Module):
    """One layer: attention and MLP, each added to the residual stream."""

    def __init__(self, size: Size, *, layer: int, backend: str) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(size.d_model, eps=NORM_EPSILON)
        self.attn = Attention(size, layer=layer, backend=backend)
        self.ln_2 = nn.LayerNorm(size.d_model, eps=NORM_EPSILON)
        self.mlp = MLP(size)

    def forward(self, x: Tensor, place: Place | None) -> Tensor:
        x = x + self.attn(self.ln_1(x), place)
        y: Tensor = x + self.mlp(self.ln_2(x))
        return y


class GPT2(nn.Module):
    """GPT-2 of any size. Its loss: `next_token_nats(model.hidden(tokens), model.wte.weight, targets)`, a tied head."""

    def __init__(
        self,
        size: Size,
        *,
        attention: str = "sdpa",
        seed: int = 0,
        base: BaseShape | None = None,
        activation_checkpointing: bool = False,
    ) -> None:
        """A model with the initial weights of `seed`, on torch's default device; `attention` is a back end's name.

        With a base shape the initial scales are those of CompleteP; the network is the same.

        With activation checkpointing (Chen et al. 2016) training keeps of each block only its input and computes the
        rest again in the backward pass: a third more work. Where no gradient is wanted it makes no difference.
        """
        assert attention in BACKENDS, f"attention {attention!r} is not chosen yet: see choose_backend"
        super().__init__()
        self.size, self.activation_checkpointing = size, activation_checkpointing
        with torch.device("meta"):  # so that torch's own initial weights are neither drawn nor paid for
            self.wte = nn.Embedding(size.vocabulary, size.d_model)
            self.wpe = nn.Embedding(size.context, size.d_model)
            self.h = nn.ModuleList(Block(size, layer=layer, backend=attention) for layer in range(size.n_layer))
            self.ln_f = nn.LayerNorm(size.d_model, eps=NORM_EPSILON)
        self.to_empty(device=torch.get_default_device())
        self.initialise(seed, base)

    def hidden(self, tokens: Tensor, place: Place | None = None) -> Tensor:
        """What the head reads: tokens [B, T] int64 to [B, T, D], after the final norm.

        With a place in a cache, the tokens stand there, see what the cache holds before them and are added to it.
        """
        length, context = tokens.shape[1], self.size.context
        assert length <= context, f"{length} positions do not fit the context of {context}"
        x = self.wte(tokens)  # [B, T, D]
        if place is None or place.positions is None:
            x = x + self.wpe.weight[:length]
        else:
            x = x + self.wpe(place.positions)[:, None]  # T is 1
        for block in self.h:
            if self.activation_checkpointing and place is None and torch.is_grad_enabled():
                x = checkpoint(block, x, place, use_reentrant=False, preserve_rng_state=False)  # it draws nothing
            else:
                x = block(x, place)
        y: Tensor = self.ln_f(x)
        return y

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each: tokens [B, T] int64 to [B, T, V]. Training takes `hidden` instead."""
        return F.linear(self.hidden(tokens), self.wte.weight)

    @torch.no_grad()
    def initialise(self, seed: int, base: BaseShape | None = None) -> None:
        """Draws the initial weights from a generator of their own, on the CPU, so that every device has the same.

        | parameters | standard deviation |
        | --- | --- |
        | token embedding, weights | WEIGHT_STD |
        | weights that write to the residual stream (c_proj) | WEIGHT_STD / sqrt(2 n_layer), the residual layers |
        | position embedding | POSITION_STD |
        | biases; gains of norms | 0; exactly 1 |

        With a base shape each is multiplied as `scales_of` says.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            scale = scales_of(name, self.size, base).init
            if name.endswith("bias"):
                parameter.zero_()
            elif "ln_" in name:
                parameter.fill_(scale)
            elif not parameter.is_meta:
                std = scale * self._initial_std(name)
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))

    def _initial_std(self, name: str) -> float:
        if name.endswith("c_proj.weight"):
            return WEIGHT_STD / math.sqrt(2 * self.size.n_layer)
        return POSITION_STD if name == "wpe.weight" else WEIGHT_STD
