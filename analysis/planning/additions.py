"""Runs to add where a sweep does not determine its law: the cheapest that would, by `proposal`, in words."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.fitting.grouping import SeedNoise
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.points import count_distinct
from ladder.analysis.laws.published import BESIROGLU
from ladder.analysis.laws.surfaces import Surface
from ladder.analysis.laws.units import format_count
from ladder.analysis.planning.design import SEED_NOISE, place_target
from ladder.analysis.planning.proposal import Proposal, list_candidates, propose
from ladder.analysis.report.scores import PARAMS

SIZES = 3
"""Sizes that a law with an offset needs; with fewer, other sizes must come first, and which is not for a formula."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Additions:
    """The runs with what was assumed in choosing them."""

    proposal: Proposal
    names: dict[float, str]
    """N -> name of the size."""
    law: str
    """Which law was taken for the truth."""
    noise: str
    """Which noise was reckoned with."""


def find_additions(loss: pl.DataFrame, fit: Fit | None, noise: SeedNoise | None) -> Additions | None:
    """Runs of the sweep's own sizes to add; None where there are too few sizes or nothing would help."""
    known = loss.drop_nulls(["tokens"])
    params, tokens = known[PARAMS].to_numpy().astype(float), known["tokens"].to_numpy().astype(float)
    if known.height == 0 or count_distinct(params) < SIZES:
        return None
    law, told = stand_in(fit)
    spread, source = reckoned_noise(fit, noise)
    design = (params, tokens)
    target = place_target(law, params, tokens, None)
    found = propose(law, design, list_candidates(design, np.unique(params)), noise=spread, target=target)
    names = dict(zip(known[PARAMS].cast(pl.Float64), known["size"], strict=True))
    return Additions(proposal=found, names=names, law=told, noise=source) if found.runs else None


def stand_in(fit: Fit | None) -> tuple[Surface, str]:
    """The law that is taken for the truth: the fitted one where it is whole, else a published one."""
    if fit is not None and isinstance(fit.law, Surface) and fit.status is Status.AMBIGUOUS and fit.law.decay > 0:
        return fit.law, f"{fit.law.name} as fitted here"
    return BESIROGLU, "the law of Besiroglu et al. 2024 as a stand-in"


def reckoned_noise(fit: Fit | None, noise: SeedNoise | None) -> tuple[float, str]:
    """Standard deviation of ln loss: between seeds, else the residuals, else assumed."""
    if noise is not None and noise.standard_deviation > 0:
        return noise.standard_deviation, f"the noise between seeds, {noise.standard_deviation:.2%}"
    if fit is not None and fit.log_residual and fit.health.degrees_of_freedom > 0 and fit.health.residual_rms > 0:
        scale = float(np.sqrt(len(fit.points) / fit.health.degrees_of_freedom))
        return fit.health.residual_rms * scale, f"the residuals' noise, {fit.health.residual_rms * scale:.2%}"
    return SEED_NOISE, f"an assumed noise of {SEED_NOISE:.2%}"


def addition_words(additions: Additions) -> list[str]:
    """The runs and what they would bring."""
    runs = additions.proposal.runs
    counts = Counter((run.params, run.tokens) for run in runs)
    told = ", ".join(
        f"{additions.names[params]} on {format_count(tokens)} tokens{f' ({count} seeds)' if count > 1 else ''}"
        for (params, tokens), count in sorted(counts.items())
    )
    purpose = "determine the law" if additions.proposal.criterion == "all parameters" else "narrow its extrapolation"
    return [
        f"The cheapest runs that {purpose} most: {told}; {additions.proposal.share:.0%} of this sweep's compute.",
        f"They are chosen to first order, under {additions.law} and {additions.noise}.",
    ]
