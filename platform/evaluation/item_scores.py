"""What a benchmark gives for one metric, item by item, and the measurement over all items or over some of them.

An item is what can be left out: a passage, a question, an article, a document. The measurement over some of the items
is what `ladder overlap` asks for: the score without the examples that the corpus holds already.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ladder.platform.evaluation.estimates import Estimate, estimate_ratio
from ladder.platform.evaluation.measurement import Direction, Measurement

Estimator = Callable[[np.ndarray], Estimate]
"""The estimate over the items whose indices (int64, at least one) are given."""

Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True, kw_only=True)
class ItemScores:
    """One metric of a benchmark over its n items."""

    benchmark: str
    """Name of the benchmark."""
    protocol: str
    """How the text was prepared and what was scored, in a few words."""
    metric: str
    """Name of the number within the benchmark."""
    unit: str
    """What the value is counted in, such as nats per token or share of items."""
    direction: Direction
    """Whether a better model has a lower or a higher value."""
    description: str
    """One clause for a caption, standard error's unit of sampling included."""
    estimate: Estimator
    """The value and its standard error over some of the items."""
    counted: np.ndarray
    """What each item adds to the measurement's count [n]: 1 for an item, its words for a text."""
    totals: Mapping[str, np.ndarray]
    """Sums behind the value by item [n]: nats, tokens, words, characters, bytes, hits."""
    chance: float | None = None
    """Value of guessing without reading; None where guessing has no single value."""
    items: Sequence[Mapping[str, Any]] = ()
    """What each item was and what became of it [n], in JSON's own types, for who looks at single answers; none where
    its sums say all. Metrics over the same items share one list."""

    @property
    def n_items(self) -> int:
        """Number of items scored."""
        return len(self.counted)

    def samples(self) -> list[dict[str, Any]]:
        """One record for each item that counts: what it was, and its part of every sum."""
        items = self.items or [{}] * self.n_items
        return [
            {"benchmark": self.benchmark, "metric": self.metric, "item": index, **item}
            | {"sums": {name: float(values[index]) for name, values in self.totals.items()}}
            for index, item in enumerate(items)
            if self.counted[index]
        ]

    def measure(self, kept: np.ndarray | None = None) -> Measurement:
        """The measurement over the items of indices `kept`, at least one; None keeps all."""
        chosen = np.arange(self.n_items) if kept is None else kept
        assert len(chosen), "no item is left to measure"
        estimate = self.estimate(chosen)
        return Measurement(
            benchmark=self.benchmark,
            protocol=self.protocol,
            metric=self.metric,
            value=estimate.value,
            unit=self.unit,
            direction=self.direction,
            count=int(self.counted[chosen].sum()),
            standard_error=estimate.standard_error,
            chance=self.chance,
            description=self.description,
            totals={name: float(values[chosen].sum()) for name, values in self.totals.items()},
        )


def ratio_of(numerators: Numbers, denominators: Numbers) -> Estimator:
    """sum(numerators) / sum(denominators), both by item."""
    x, y = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    return lambda kept: estimate_ratio(x[kept], y[kept])


def mean_of(values: Numbers) -> Estimator:
    """Mean of values by item; a share where they are 0 and 1."""
    return ratio_of(values, np.ones(len(values)))


def perplexity_of(nats: Numbers, units: Numbers) -> Estimator:
    """exp(sum(nats) / sum(units)), both by item."""
    ratio = ratio_of(nats, units)
    return lambda kept: ratio(kept).exponential()


def bits_of(nats: Numbers, units: Numbers) -> Estimator:
    """Bits per unit: sum(nats) / sum(units) / ln 2, both by item."""
    ratio = ratio_of(nats, units)
    return lambda kept: ratio(kept).scaled(1 / math.log(2))
