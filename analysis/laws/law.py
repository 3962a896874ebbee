"""What every scaling law has: a formula that broadcasts, its parameters, and which quantities it reads.

Letters as in the papers: N parameters, D tokens seen, C training FLOPs, L loss in nats per token. One `formula` serves
a single law and a thousand bootstrap draws alike.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Variable = Literal["params", "tokens", "flops", "loss"]

FLOPS_PER_PARAMETER_TOKEN = 6.0
"""C = 6 N D: 2 for the forward and 4 for the backward pass (Kaplan et al. 2020, section 2.1)."""


class Law:
    """What every law has; `inputs` says which of N, D the formula reads ("x" is one chosen variable)."""

    name: ClassVar[str]
    equation: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    fitted: ClassVar[tuple[str, ...]]
    """Names of the fields that a fit finds; the other fields are given constants."""
    log_residual: ClassVar[bool]
    """True where residuals are taken of the logarithm (losses), False where of the score itself (accuracies)."""
    reads: ClassVar[Variable | None] = None
    """What "x" must be; None: whichever of N, D and C the points name."""

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        """The score for inputs ("N", "D" or "x") and values (parameters and constants), all broadcast together."""
        raise NotImplementedError

    @property
    def values(self) -> dict[str, float]:
        """Every field by name."""
        return {field.name: float(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]

    @property
    def parameters(self) -> dict[str, float]:
        """The fitted parameters by name."""
        return {name: self.values[name] for name in self.fitted}

    @classmethod
    def given(cls) -> tuple[str, ...]:
        """Names of the fields that are given and not fitted."""
        return tuple(field.name for field in fields(cls) if field.name not in cls.fitted)  # type: ignore[arg-type]

    @property
    def constants(self) -> dict[str, Floats]:
        """The given fields by name, ready for `formula`."""
        return {name: np.array([self.values[name]]) for name in self.given()}

    def score(self, **inputs: ArrayLike) -> Floats:
        """The law's score at inputs given by name, as in `law.score(N=1e8, D=2e9)`."""
        arrays = {name: np.asarray(value, dtype=np.float64) for name, value in inputs.items()}
        return np.asarray(self.formula(arrays, {name: np.float64(v) for name, v in self.values.items()}))  # type: ignore[misc]
