"""What to train with a compute budget, by a fitted law, what a wrong choice of size costs, and what to run first.

The optimum is the law's closed form; its interval carries every bootstrap refit through the same form. A size that is
not the optimal one reaches the optimum's loss too, with more tokens, unless its own term alone is above that loss: the
compute it then takes beyond the budget is the cost of being wrong. Where no law is determined, `find_additions` names
the cheapest runs that would determine one. The learning rate or batch to train with follows from the best of each size
in a search, which `find_winners` finds.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy import stats
from scipy.optimize import minimize_scalar

from ladder.analysis.fitting.fits import Fit, OptimalRun
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.intervals import Interval
from ladder.analysis.fitting.parabolas import find_winners
from ladder.analysis.fitting.points import count_distinct
from ladder.analysis.laws.law import FLOPS_PER_PARAMETER_TOKEN, format_count
from ladder.analysis.laws.surfaces import BESIROGLU, Allocation, Surface
from ladder.analysis.planning.design import SEED_NOISE, place_target
from ladder.analysis.planning.proposal import Proposal, list_candidates, propose
from ladder.analysis.tables.fit_table import Found, TableFit, fit_table, numbers, prepare
from ladder.analysis.tables.sweeps import PARAMS
from ladder.models.errors import InputError

FAR, VERY_FAR = 10.0, 100.0
"""Multiples of the largest fitted run's compute beyond which a prediction is called far, and very far, beyond the
data."""
UNSHOWN = ", which these runs cannot show; fit again with larger runs before spending"
LOOSE = 10.0
"""Ratio of the ends of the optimal size's interval beyond which it is called hardly known."""
FLOPS_PER_SERVED = 2.0
"""FLOPs of a forward pass for each parameter and token."""
SMALLEST_SERVED = 1000.0
"""How many times smaller than the compute-optimal size the search for a served model goes."""
FACTORS = (0.5, 2.0)
"""Fixed multiples of the optimal size whose cost is told beside that of the interval's ends."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """What training another size than the optimal one costs, under the fitted law."""

    name: str
    """Which size it is."""
    params: float
    """N of that size."""
    tokens: float
    """Its tokens at the same budget."""
    loss: float
    """Its loss at the same budget, nats per token."""
    flops: float | None
    """Least compute with which it reaches the optimum's loss; None where no number of tokens does."""
    budget: float
    """The budget, training FLOPs."""

    @property
    def extra(self) -> float | None:
        """Compute beyond the budget as a share of it; None where the loss is out of reach."""
        return None if self.flops is None else self.flops / self.budget - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class BudgetPlan:
    """The compute-optimal run at a budget with all that is known about it."""

    fit: Fit
    best: Allocation
    params: Interval
    """Optimal N over the refits."""
    tokens: Interval
    """Optimal D over the refits."""
    ratio: Interval
    """Optimal tokens per parameter over the refits."""
    loss: Interval
    """The law's loss at the optimum, nats per token."""
    new_run: Interval
    """The loss of one run there, its own noise included."""
    beyond: float
    """The budget over the compute of the largest fitted run."""
    mistakes: tuple[Mistake, ...]
    """At the ends of the interval of N, where it is known, and at FACTORS of N."""
    warnings: tuple[str, ...]
    """What stands between these numbers and trust."""


def plan_budget(fit: Fit, flops: float) -> BudgetPlan:
    """The best use of `flops` under a fit.

    Raises InputError where the fit does not say how to spend compute, or the budget is not above 0.
    """
    law = surface_of(fit)
    found = fit.optimum(flops)
    require_size(fit, flops, found)
    best, beyond = found.best, flops / float(fit.points.quantity("flops").max())
    ends = (("low end of the interval", found.params.low), ("high end of the interval", found.params.high))
    places = [(name, end) for name, end in ends if end is not None]
    places += [(f"{factor:g} x the optimum", factor * best.params) for factor in FACTORS]
    return BudgetPlan(
        fit=fit,
        best=best,
        params=found.params,
        tokens=found.tokens,
        ratio=found.ratio,
        loss=found.loss,
        new_run=found.new_run,
        beyond=beyond,
        mistakes=tuple(mistake(law, best, params, name) for name, params in places),
        warnings=tuple(doubts(fit, best, beyond, found.params)),
    )


@dataclass(frozen=True, kw_only=True)
class ServedRun:
    """The cheapest model of a loss when it is also to be served (Sardana et al. 2024, eq. 3)."""

    params: float
    """N."""
    tokens: float
    """D, tokens of training."""
    loss: float
    """Its loss, nats per token."""
    training_flops: float
    """6 N D."""
    serving_flops: float
    """2 N for every token served."""
    share: float
    """All of its compute over that of the compute-optimal model of the same loss."""


def plan_served(law: Surface, loss: float, served_tokens: float) -> ServedRun:
    """The N that reaches a loss with the least of 6 N D + 2 N served_tokens.

    Over-training a smaller model costs more compute once and saves some with every token served. Raises InputError for
    a loss that no model reaches and for tokens that are not a number of at least 0.
    """
    if not (np.isfinite(served_tokens) and served_tokens >= 0):
        raise InputError(f"--serve-tokens is {served_tokens}; give the tokens that will be served, such as 1e13")
    best = law.optimum(law.flops_for(loss))

    def compute(log_params: float) -> float:
        params = float(np.exp(log_params))
        try:
            tokens = law.tokens_for(params, loss)
        except InputError:  # too small for the loss with any number of tokens
            return float("inf")
        return params * (FLOPS_PER_PARAMETER_TOKEN * tokens + FLOPS_PER_SERVED * served_tokens)

    # From the optimal size down the compute first falls, then rises without bound where the size alone misses the loss.
    sizes = np.log(best.params) - np.linspace(0, np.log(SMALLEST_SERVED), 400)
    place = int(np.argmin([compute(float(size)) for size in sizes]))
    low, high = float(sizes[min(place + 1, 399)]), float(sizes[max(place - 1, 0)])
    found = minimize_scalar(compute, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    params = float(np.exp(found.x if found.fun <= compute(float(sizes[place])) else sizes[place]))
    tokens = law.tokens_for(params, loss)
    return ServedRun(
        params=params,
        tokens=tokens,
        loss=loss,
        training_flops=FLOPS_PER_PARAMETER_TOKEN * params * tokens,
        serving_flops=FLOPS_PER_SERVED * params * served_tokens,
        share=compute(float(np.log(params))) / compute(float(np.log(best.params))),
    )


def surface_of(fit: Fit) -> Surface:
    """The fit's law where it says how to spend compute; InputError with the reason where it does not.

    An irreducible loss of 0, at its bound, leaves the optimum what it is; a missing term or exponent does not.
    """
    if not isinstance(fit.law, Surface):
        raise InputError(f"{fit.law.name} is no law in N and D, so it has no optimum; use hoffmann, gadre or kaplan")
    if fit.status is Status.NOT_IDENTIFIABLE:
        raise InputError(f"these runs cannot say how to spend compute ({fit.status}): {fit.reason}")
    if fit.status is Status.AT_BOUND and fit.health.bounds_hit != ("E",):
        raise InputError(
            f"these runs cannot say how to spend compute ({fit.status}): {fit.reason}; "
            "add runs over a wider range of sizes and tokens"
        )
    return fit.law


def require_size(fit: Fit, flops: float, found: OptimalRun) -> None:
    """InputError where too many refits have no best size: an exponent of 0 wants N of 0, or all of it."""
    drawn = fit.optima(flops)
    if drawn is None or found.params.known:
        return
    without = float(np.mean(~np.isfinite(drawn["params"])))
    if fit.draws is not None and without <= fit.draws.tail:  # the ends are unknown since the refits are few
        return
    raise InputError(
        f"these runs cannot say how to spend compute (not identifiable): in {without:.0%} of {len(drawn['params'])} "
        "refits an exponent is 0, so that more parameters, or more tokens, would change nothing; add runs over a wider "
        "range of sizes and tokens, which `ladder plan SWEEP` proposes"
    )


def mistake(law: Surface, best: Allocation, params: float, name: str) -> Mistake:
    """The cost of `params` in place of the best size at best.flops."""
    tokens = best.flops / (FLOPS_PER_PARAMETER_TOKEN * params)
    try:
        needed = FLOPS_PER_PARAMETER_TOKEN * params * law.tokens_for(params, best.loss)
    except InputError:  # no number of tokens takes this size there
        needed = None
    return Mistake(
        name=name,
        params=params,
        tokens=tokens,
        loss=float(law.score(N=params, D=tokens)),
        flops=needed,
        budget=best.flops,
    )


def doubts(fit: Fit, best: Allocation, beyond: float, sizes: Interval) -> list[str]:
    """What should keep a reader from trusting the numbers."""
    found = []
    if fit.status is not Status.CONVERGED:
        found.append(f"the fit is {fit.status}: {fit.reason}")
    if fit.draws is None:
        found.append("the intervals are unknown: no run is spare to judge the noise by, or no refits were asked for")
    if fit.misfit:
        found.append(fit.misfit)
    if sizes.low and sizes.high and sizes.high > LOOSE * sizes.low:
        found.append(f"the interval of the optimal size spans a factor of {sizes.high / sizes.low:,.0f}")
    if beyond > FAR:
        very, more = ("", "") if beyond <= VERY_FAR else ("very ", UNSHOWN)
        found.append(
            f"{beyond:,.0f} times the compute of the largest fitted run: {very}far beyond the data. The intervals hold "
            f"only if the law does{more}"
        )
    ratios = fit.points.quantity("tokens") / fit.points.quantity("params")
    if not ratios.min() <= best.tokens_per_parameter <= ratios.max():
        found.append(
            f"no fitted run has {best.tokens_per_parameter:.3g} tokens per parameter; theirs go from "
            f"{ratios.min():.3g} to {ratios.max():.3g}"
        )
    largest = float(fit.points.quantity("params").max())
    if best.params > largest and beyond <= FAR:
        found.append(f"the size is above the largest fitted one, {format_count(largest)}")
    return found


NEXT_COMPUTE = (1.0, 10.0, 100.0)
"""Budgets of the suggested runs, as multiples of the compute of the largest run."""


def suggest(fit: Fit, flops: float) -> list[BudgetPlan]:
    """The compute-optimal runs at multiples of a compute; none unless a law with an optimum converged and says how."""
    if not isinstance(fit.law, Surface) or fit.status is not Status.CONVERGED or not flops > 0:
        return []
    try:
        return [plan_budget(fit, flops * factor) for factor in NEXT_COMPUTE]
    except InputError:  # the refits do not say; the runs to add are named in its place
        return []


@dataclass(frozen=True, kw_only=True)
class SeedNoise:
    """The pooled spread of runs that repeat a size and a number of tokens with other seeds."""

    standard_deviation: float
    """Of ln score, so a share of it: sqrt(sum of squared deviations from the settings' means / degrees of freedom)."""
    degrees_of_freedom: int
    """Runs less settings."""
    low: float
    """Lower end of the 95 % chi-square interval of the standard deviation: normal noise, equal in all settings."""
    high: float
    """Upper end."""
    settings: int
    """Settings with at least two seeds."""
    runs: int
    """Runs in them."""


def seed_noise(table: pl.DataFrame, score: str) -> SeedNoise | None:
    """The noise of ln score among runs of equal size and tokens; None where no setting has two seeds.

    Of a table with a `status` only finished runs count. Runs of one setting that share a seed differ in something that
    the table does not say, so that setting is left out.
    """
    needed = (score, PARAMS, "tokens", "seed")
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise InputError(f"seed noise needs {', '.join(needed)}, and the table lacks {', '.join(missing)}")
    rows = table.filter(pl.col("status") == "finished") if "status" in table.columns else table
    rows = rows.filter(pl.col(score).is_finite())
    if (rows[score] <= 0).any():
        raise InputError(f"{score} is 0 or less somewhere and has no logarithm; name a loss or perplexity")
    value = pl.col(score).log()
    counted = {"runs": pl.len(), "seeds": pl.col("seed").n_unique(), "squares": ((value - value.mean()) ** 2).sum()}
    settings = rows.group_by(PARAMS, "tokens", maintain_order=True).agg(**counted)
    settings = settings.filter((pl.col("runs") > 1) & (pl.col("runs") == pl.col("seeds")))
    freedom = int((settings["runs"] - 1).sum())
    if freedom < 1:
        return None
    squares = float(settings["squares"].sum())
    low, high = (float(np.sqrt(squares / stats.chi2.ppf(0.5 + side * 0.475, freedom))) for side in (1, -1))
    return SeedNoise(
        standard_deviation=float(np.sqrt(squares / freedom)),
        degrees_of_freedom=freedom,
        low=low,
        high=high,
        settings=settings.height,
        runs=int(settings["runs"].sum()),
    )


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


def find_additions(
    loss: pl.DataFrame, fit: Fit | None, noise: SeedNoise | None, trunks: Mapping[str, str]
) -> Additions | None:
    """Runs of the sweep's own sizes to add; None where there are too few sizes or nothing would help.

    `trunks` says what each run branched off, where it did.
    """
    known = loss.drop_nulls(["tokens"])
    params, tokens = known[PARAMS].to_numpy().astype(float), known["tokens"].to_numpy().astype(float)
    if known.height == 0 or count_distinct(params) < SIZES:
        return None
    law, told = stand_in(fit)
    spread, source = reckoned_noise(fit, noise)
    design = (params, tokens)
    target = place_target(law, params, tokens, None)
    labels = np.unique([trunks.get(run, run) for run in known["run"]], return_inverse=True)[1] if trunks else None
    candidates = list_candidates(design, np.unique(params))
    found = propose(law, design, candidates, noise=spread, target=target, trunks=labels)
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


def fit_search(request: TableFit, setting: str) -> tuple[Found, pl.DataFrame, list[str]]:
    """A rule of the best learning rate, batch ... over N, D or C, from the trials of a search.

    The request names the table of trials, the score they are judged by (lower is better) and the axes; the law, such as
    power-rule, is fitted to each size's best `setting` (`find_winners`). Returns the fit, the winners and why
    some sizes have none. Raises InputError where no size has a winner.
    """
    rows, axes = prepare(request)[0], list(request.axes.values())
    if not axes:
        raise InputError("--search needs --params, --tokens or --flops: the sizes whose best setting is looked for")
    columns = {name: numbers(rows, name, positive=name != request.score) for name in (*axes, setting, request.score)}
    winners, left = find_winners(pl.DataFrame(columns), axes, setting, request.score)
    if winners.height == 0:
        raise InputError(f"no size has a best {setting}: {'; '.join(left[:3])}")
    return fit_table(replace(request, path=winners, score=setting, where=())), winners, left
