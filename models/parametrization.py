"""How initial weights and learning rates follow the shape: the standard parametrisation, or CompleteP.

CompleteP (Dey et al. 2025, table 1 with alpha = 1) is muP (Yang et al. 2022) in width, with residual branches divided
by the depth: one learning rate then serves every width and depth. The papers write it with multipliers in the forward
pass: logits times 1 / m_N, each branch times 1 / m_L, where m_N is the width and m_L the depth, as multiples of a base
shape. Here each multiplier is folded into the parameters that it multiplies, and their initial scale, learning rate,
weight decay and epsilon are changed so that training is the same. So the network stays a plain GPT-2, and its
checkpoints are read by whatever reads GPT-2:

- Logits: the head is tied to the token embedding, so the multiplier goes into the gain and bias of the final norm,
  which come before the head and nothing else. The embedding itself is scaled as an input (Yang et al. 2022, table 8,
  the formulation that allows tying).
- Residual branches: each ends with `c_proj`, whose weight and bias take the multiplier.
- Attention: muP wants scores divided by the head width, not its root. With one head width in all sizes the two differ
  by a constant, so GPT-2's root stays and `ladder.sweeps.expand` refuses a sweep with several head widths.

Folding a multiplier m into a parameter w (w' = m w) multiplies its initial scale and Adam's step by m and its gradient
by 1 / m, hence epsilon by 1 / m. The decay in a step, learning rate times weight decay, is the same for all matrices.
"""

from dataclasses import dataclass

from ladder.models.sizes import Size

HIDDEN_MATRICES = ("c_attn.weight", "c_fc.weight", "c_proj.weight")
"""Ends of the names of the matrices within blocks; what else is a matrix is an embedding."""


@dataclass(frozen=True, kw_only=True)
class BaseShape:
    """The shape at which CompleteP is the standard parametrisation, so a learning rate found there holds elsewhere."""

    d_model: int
    """Width in units."""
    n_layer: int
    """Depth in blocks."""


@dataclass(frozen=True, kw_only=True)
class Scales:
    """Factors for one parameter on what the standard parametrisation of the same shape has."""

    init: float = 1.0
    """On the initial standard deviation, or a norm's initial gain."""
    adam_lr: float = 1.0
    """On AdamW's learning rate; weight decay is divided by it."""
    muon_lr: float = 1.0
    """On Muon's learning rate where updates have a fixed root mean square; weight decay is divided by it."""
    epsilon: float = 1.0
    """On AdamW's epsilon."""


def scales_of(name: str, size: Size, base: BaseShape | None) -> Scales:
    """The factors of the parameter `name` of a network of `size`; without a base, those of the standard one: 1.

    | parameters | init | AdamW's rate | Muon's rate | epsilon |
    | --- | --- | --- | --- | --- |
    | token and position embedding, a task's head | 1 | 1 | | 1 / m_N |
    | final norm | 1 / m_N | 1 / m_N | | 1 |
    | c_attn, c_fc weights | m_N^-1/2 | 1 / m_N | m_N^-1/2 | 1 / (m_N m_L) |
    | c_proj weights | (m_N m_L)^-1/2 | 1 / (m_N m_L) | m_N^-1/2 / m_L | 1 / m_N |
    | c_proj biases | | 1 / m_L | | 1 / m_N |
    | other biases, norms in blocks | 1 | 1 | | 1 / (m_N m_L) |

    The initial c_proj of the standard parametrisation falls as n_layer^-1/2, so another m_L^-1/2 makes it 1 / m_L. An
    update of Muon has singular values of the order of its root mean square times the root of the width, where AdamW's
    has them of the order of the width; muP asks for the same of both (Yang et al. 2023, condition 1).
    """
    if base is None:
        return Scales()
    width, depth = size.d_model / base.d_model, size.n_layer / base.n_layer
    if name in ("wte.weight", "wpe.weight", "score.weight"):
        return Scales(epsilon=1 / width)
    if name.startswith("ln_f."):
        return Scales(init=1 / width, adam_lr=1 / width)
    if name.endswith("c_proj.weight"):
        return Scales(
            init=(width * depth) ** -0.5, adam_lr=1 / (width * depth), muon_lr=width**-0.5 / depth, epsilon=1 / width
        )
    if name.endswith("c_proj.bias"):
        return Scales(adam_lr=1 / depth, epsilon=1 / width)
    if name.endswith(HIDDEN_MATRICES):
        return Scales(init=width**-0.5, adam_lr=1 / width, muon_lr=width**-0.5, epsilon=1 / (width * depth))
    return Scales(epsilon=1 / (width * depth))
