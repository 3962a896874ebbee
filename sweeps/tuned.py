"""A recipe rule that takes learning rates, and batches where they were searched, from what `ladder tune` found.

    recipe=tuned("demo", small_recipe)

A size that was searched gets its own winner; any other size gets the power law through the winners. The rule names the
search; what it found is read from the storage when the sweep is chosen there, so a run's recipe, and with it its key,
has the numbers alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ladder.models.errors import InputError
from ladder.models.sizes import Size
from ladder.sweeps.search import with_batch
from ladder.sweeps.words import Recipe, RecipeRule

Edge = Literal["low", "high"]


@dataclass(frozen=True, kw_only=True)
class Winner:
    """The best trial of a size."""

    size: str
    """Name of the shape, as `ladder sizes` shows it."""
    params_non_embedding: int
    """Parameters without embeddings."""
    tokens: int
    """Tokens of the run that won."""
    lr: float
    """Its peak learning rate."""
    batch_tokens: int
    """Its batch."""
    loss: float
    """Its held-out loss, nats per token."""
    run: str
    """Its key."""
    edge: Edge | None
    """Whether its learning rate is the lowest or the highest that was tried, so that the best may lie beyond."""


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """y = coefficient * N^exponent, N without embeddings."""

    coefficient: float
    exponent: float

    def __call__(self, params: float) -> float:
        """y at N."""
        return float(self.coefficient * params**self.exponent)

    def __str__(self) -> str:
        return f"{self.coefficient:.3g} N^{self.exponent:.3g}"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found, as sweeps/<sweep>/tuned.json has it."""

    sweep: str
    """The sweep whose sizes were searched."""
    corpus: str
    """The corpus that was trained on."""
    corpus_fingerprint: str
    """Hash of its tokens and tokenizer."""
    date: str
    """When the search ended, as 2026-11-21."""
    searched_batch: bool
    """Whether batches were searched too, and not only learning rates."""
    winners: tuple[Winner, ...]
    """One for each size, the smallest first."""

    @property
    def lr_law(self) -> PowerLaw | None:
        """Learning rate by N; None where fewer than two sizes have their best within the search."""
        return fit_power_law([(w.params_non_embedding, w.lr) for w in self._inner])

    @property
    def batch_law(self) -> PowerLaw | None:
        """Batch in tokens by N; None as for `lr_law`, and where batches were not searched."""
        return (
            fit_power_law([(w.params_non_embedding, w.batch_tokens) for w in self._inner])
            if self.searched_batch
            else None
        )

    @property
    def provenance(self) -> str:
        """Where the numbers come from, in a line."""
        law = self.lr_law
        others = "no other size" if law is None else f"other sizes by lr = {law}, N without embeddings"
        sizes = ", ".join(w.size + (" (at the edge of the search)" if w.edge else "") for w in self.winners)
        return f"`ladder tune {self.sweep}` of {self.date} on corpus {self.corpus}: {sizes} as measured, {others}"

    @property
    def _inner(self) -> list[Winner]:
        return [winner for winner in self.winners if winner.edge is None]

    @classmethod
    def from_json(cls, value: Any, where: str) -> "Found":
        """What `tuned.json` holds, `where` being its path; InputError where it is no such file."""
        try:
            winners = tuple(Winner(**{name: w[name] for name in Winner.__dataclass_fields__}) for w in value["winners"])
            return cls(**{name: value[name] for name in cls.__dataclass_fields__} | {"winners": winners})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{where} is not what `ladder tune` writes (at {error}). Remove it and search again."
            ) from error


def fit_power_law(points: Sequence[tuple[float, float]]) -> PowerLaw | None:
    """The line of least squares through (x, y) in their logarithms; None with fewer than two different x."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    if len({x for x, _ in logs}) < 2:
        return None
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    exponent = sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)
    return PowerLaw(coefficient=math.exp(mean_y - exponent * mean_x), exponent=exponent)


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The rule that `tuned` makes."""

    search: str
    """Name of the sweep that was searched."""
    base: RecipeRule
    """What all but learning rate and batch come from."""
    found: Found | None = None
    """What the search found; None before the sweep is chosen in a storage."""

    def __call__(self, size: Size, tokens: int, seed: int) -> Recipe:
        """The recipe; InputError for a size that was not searched where there is no law for it."""
        if self.found is None:
            raise InputError(
                f"the learning rates of {self.search} are read from the storage: choose the sweep with a command."
            )
        recipe = self.base(size, tokens, seed)
        winner = next((winner for winner in self.found.winners if winner.size == size.shape_name), None)
        if winner is not None:
            batch_tokens = winner.batch_tokens if self.found.searched_batch else recipe.batch_tokens
            return replace(with_batch(recipe, batch_tokens), lr_peak=winner.lr)
        law = self.found.lr_law
        if law is None:
            raise InputError(
                f"size {size.shape_name} was not searched by `ladder tune {self.search}`, and a law for it wants two "
                "sizes whose best learning rate lies within the search. Search this size, or a wider range."
            )
        batch_law = self.found.batch_law
        if batch_law is not None:
            batch = max(1, round(batch_law(size.params_non_embedding) / size.context)) * size.context
            recipe = with_batch(recipe, batch)
        return replace(recipe, lr_peak=law(size.params_non_embedding))


def tuned(search: str, base: RecipeRule) -> Tuned:
    """The rule `base` with the learning rate, and the batch where it was searched, that `ladder tune SEARCH` found."""
    return Tuned(search=search, base=base)


def describe_rule(rule: RecipeRule) -> str:
    """A recipe rule in words, for the record: its name, and of a tuned one where its numbers come from."""
    if isinstance(rule, Tuned):
        source = f"`ladder tune {rule.search}`" if rule.found is None else rule.found.provenance
        return f"{describe_rule(rule.base)}, tuned by {source}"
    return str(getattr(rule, "__name__", type(rule).__name__))
