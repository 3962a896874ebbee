"""The report's sentences, each computed from the findings."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ladder.analysis.bootstrap import Interval, t_quantile
from ladder.analysis.findings import (
    LAST_SHARE,
    NEXT_COMPUTE,
    OTHER_PARAMS,
    PARAMS,
    Findings,
    ScoreFinding,
    largest_budget,
)
from ladder.analysis.fits import Fit
from ladder.analysis.health import Status
from ladder.analysis.holdout import mean_errors
from ladder.analysis.laws import Hoffmann
from ladder.analysis.points import count_distinct, is_one_ratio
from ladder.analysis.runs import SweepData
from ladder.analysis.units import FLOPS_PER_PF_DAY, format_count, format_number

N_WORDS = {PARAMS: "parameters with embeddings", OTHER_PARAMS: "parameters without embeddings"}


@dataclass(frozen=True, kw_only=True)
class Doubling:
    """What doubling the size does to a score, as text."""

    value: str
    interval: str


def interval(ends: Interval) -> str:
    """low to high, or unknown."""
    if ends.low is None or ends.high is None:
        return "unknown"
    return f"{format_number(ends.low)} to {format_number(ends.high)}"


def objective(fit: Fit) -> str:
    """How the fit was made."""
    of = "log loss" if fit.log_residual else "score"
    if fit.objective.kind == "huber":
        return f"sum of Huber {fit.objective.delta:g} on {of}"
    return f"sum of {'squares' if fit.objective.kind == 'squares' else 'absolute values'} of residuals of {of}"


def interval_source(fit: Fit) -> str:
    """Where the intervals come from."""
    if fit.line is not None:
        return f"Student's t, {fit.line.degrees_of_freedom} degrees of freedom"
    if fit.draws is None:
        return "nothing: unknown"
    count = len(next(iter(fit.draws.values.values())))
    what = "resampled runs" if fit.draws.kind == "points" else "the fit with new noise"
    return f"{count} refits of {what}"


def equation(fit: Fit) -> str:
    """The law with its numbers in place of its letters."""
    v = {name: format_number(value) for name, value in fit.law.parameters.items()}
    match fit.law.name:
        case "hoffmann":
            return f"L = {v['E']} + {v['A']} / N^{v['alpha']} + {v['B']} / D^{v['beta']}"
        case "gadre":
            return f"L = {v['E']} + {v['A']} / N^{v['alpha']} + {v['B']} / D^{v['alpha']}"
        case "power-offset":
            return f"L = {v['E']} + {v['A']} / N^{v['alpha']}"
        case "power":
            return f"L = {v['A']} / N^{v['alpha']}"
        case "log-linear":
            return f"L = {v['a']} + ({v['b']}) ln N"
    return fit.law.equation + " with " + ", ".join(f"{name} = {value}" for name, value in v.items())


def answers(findings: Findings) -> list[str]:
    """The first screen: the law, how well it predicts, the benchmarks, what to train next."""
    return [*law_answers(findings), *held_out_answer(findings), *score_answers(findings), *next_answers(findings)]


def law_answers(findings: Findings) -> list[str]:
    """The first law that is identified, or why none is."""
    refused = [
        f"{fit.law.name} is {fit.status}: {fit.reason}."
        for fit in findings.fits
        if fit.status is Status.NOT_IDENTIFIABLE
    ]
    usable = [fit for fit in findings.fits if fit.status is not Status.NOT_IDENTIFIABLE]
    if not usable:
        return refused or [
            f"No law could be fitted: {'; '.join(r.reason for r in findings.refusals) or 'none was asked for'}."
        ]
    fit = usable[0]
    exponents = [name for name in ("alpha", "beta", "alpha_N", "alpha_D", "b") if name in fit.law.parameters]
    told = ", ".join(f"{name} {interval(fit.intervals[name])}" for name in exponents)
    caveat = "" if fit.status is Status.CONVERGED else f" Status {fit.status}: {fit.reason}."
    at = " at each size's largest token count" if fit.law.inputs == ("x",) else ""
    return [*refused, f"Held-out loss{at} follows {equation(fit)} ({fit.level:.0%} intervals: {told}).{caveat}"]


def held_out_answer(findings: Findings) -> list[str]:
    """How well the first law predicts the largest size from the others."""
    return [
        f"Fitted without the largest size ({window.n_fitted} runs), {window.law} predicts its held-out loss of "
        f"{format_number(window.observed)} as {format_number(window.predicted)}: {window.relative_error:.2%} off."
        for window in findings.windows[-1:]
    ]


def score_answers(findings: Findings) -> list[str]:
    """One sentence on how many measurements improve with size, naming those that do not."""
    fitted = [score for score in findings.scores if score.fit is not None]
    if not fitted:
        return []
    sure = [score.name for score in fitted if improves(score)]
    unsure = [score.name for score in fitted if not improves(score)]
    text = f"{len(sure)} of {len(fitted)} measurements improve with size by more than their 95% interval"
    return [text + (f"; not so {', '.join(unsure)}." if unsure else "."), *form_answer(findings)]


def form_answer(findings: Findings) -> list[str]:
    """Which form predicts the accuracies of larger sizes, benchmark by benchmark."""
    rows = [row for score in findings.scores if (row := comparison(score)) is not None]
    by_form = {form: [row["name"] for row in rows if row["best"] == form] for form in ("log-linear", "saturating")}
    told = [f"{form} for {', '.join(names)}" for form, names in by_form.items() if names]
    return [f"On sizes held out, the better form is {'; '.join(told)}."] if told else []


def improves(score: ScoreFinding) -> bool:
    """True where the whole interval of the slope is on the better side of zero."""
    assert score.fit is not None
    slope = score.fit.intervals["b"]
    if slope.low is None or slope.high is None:
        return False
    return slope.high < 0 if score.direction == "lower" else slope.low > 0


def next_answers(findings: Findings) -> list[str]:
    """What to train next, or which runs to add first."""
    run = findings.next_run
    if run is None:
        return []
    best = run.allocation
    known = run.low is not None and run.high is not None
    band = f" ({format_number(run.low)} to {format_number(run.high)})" if known else ""
    inside = best.params <= float(findings.loss[PARAMS].max())  # type: ignore[arg-type]
    note = "" if inside else "; the size lies beyond those that were run"
    return [
        f"With {NEXT_COMPUTE:g} times the compute of the largest run ({format_number(best.flops, 3)} FLOPs, "
        f"{format_number(best.flops / FLOPS_PER_PF_DAY, 3)} PF-days) the law's best choice is "
        f"{format_count(best.params)} parameters on {format_count(best.tokens)} tokens, "
        f"{format_number(best.tokens_per_parameter, 3)} per parameter, and it predicts a loss of "
        f" {format_number(best.loss)}{band}{note}."
    ]


def loss_caption(findings: Findings) -> str:
    """What the figure of loss against size shows."""
    fit = findings.drawn
    if fit is None:
        return "One point per run, coloured by token budget. No law is identified by these runs."
    if fit.law.inputs == ("x",):
        return (
            "One point per run, coloured by token budget. No law in both N and D is identified by these runs; the "
            f"dashed line with its {fit.level:.0%} band is {fit.law.name} in N alone."
        )
    return f"One point per run, coloured by token budget; lines and {fit.level:.0%} bands are {fit.law.name}."


def compute_caption(findings: Findings) -> str:
    """What the figure of loss against compute shows."""
    fit = findings.surface
    if fit is None or not isinstance(fit.law, Hoffmann):
        return "One point per run, coloured by size."
    law = fit.law
    return (
        f"One point per run, coloured by size, with {law.name}'s curve for each. Along the dashed line, the least loss "
        f"that a budget can buy, N grows as C^{format_number(law.a, 3)} and D as C^{format_number(law.b, 3)}."
    )


def perplexity_caption(findings: Findings) -> str:
    """What the figure of perplexities shows, with the gap at the largest size."""
    runs = largest_budget(findings.loss).drop_nulls("train_loss").sort(PARAMS)
    if runs.height == 0:
        return ""
    gap = float(runs["score"][-1]) - float(runs["train_loss"][-1])
    side = "above" if gap > 0 else "below"
    return (
        f"Each size at its largest token count; training perplexity is over the last {LAST_SHARE:.0%} of the steps. "
        f"At the largest size held-out loss is {format_number(abs(gap), 2)} nats {side} training loss."
    )


def residual_caption(fit: Fit) -> str:
    """How large the residuals are."""
    return (
        f"Root mean square {100 * fit.health.residual_rms:.2g} %, largest {100 * fit.health.residual_max:.2g} %. "
        "A pattern along size or budget, rather than scatter, means that the form is wrong."
    )


def score_caption(score: ScoreFinding) -> str:
    """What a measurement is and what its line says."""
    what = (score.description[:1].upper() + score.description[1:]).rstrip(".") + "." if score.description else ""
    if score.fit is None:
        return f"{what} Not fitted: {score.refusal}.".strip()
    doubled = per_doubling(score, score.fit)
    faint = " Faint points are smaller token budgets." if score.rows.height > score.fitted.height else ""
    bend = "" if score.monotone else " Not monotone in size."
    return f"{what} Per doubling of N: {doubled.value} ({doubled.interval}).{bend}{faint}".strip()


def per_doubling(score: ScoreFinding, fit: Fit) -> Doubling:
    """The change of the score when size doubles: a factor for perplexities, a difference otherwise."""
    slope, ends = fit.law.parameters["b"], fit.intervals["b"]

    def tell(b: float | None) -> str:
        if b is None:
            return "unknown"
        return f"x {2**b:.3f}" if score.log_score else f"{b * np.log(2):+.4g}"

    known = ends.low is not None and ends.high is not None
    return Doubling(value=tell(slope), interval=f"{tell(ends.low)} to {tell(ends.high)}" if known else "unknown")


def comparison(score: ScoreFinding) -> dict[str, str] | None:
    """Which form predicts larger sizes better, for a measurement with enough sizes to tell; None otherwise."""
    errors = mean_errors(score.windows)
    if len(errors) < 2:
        return None
    best = min(errors, key=lambda law: errors[law])
    n_windows = len(score.windows) // len(errors)
    last = {window.law: window.relative_error for window in score.windows[-len(errors) :]}
    return {
        "name": score.name,
        "errors": ", ".join(f"{law} {error:.2%}" for law, error in errors.items()),
        "last": ", ".join(f"{law} {error:.2%}" for law, error in last.items()),
        "best": best,
        "windows": str(n_windows),
    }


def resolution(findings: Findings) -> list[str]:
    """What the design can and cannot tell."""
    loss = findings.loss
    params, tokens = loss[PARAMS].to_numpy().astype(float), loss["tokens"].to_numpy().astype(float)
    sizes, budgets = count_distinct(params), count_distinct(tokens)
    ratio = tokens / params
    told = [
        f"{loss.height} finished runs: {sizes} sizes over a factor of {format_number(params.max() / params.min(), 3)} "
        f"in N, {budgets} token counts over a factor of {format_number(tokens.max() / tokens.min(), 3)} in D, "
        f"{format_number(ratio.min(), 3)} to {format_number(ratio.max(), 3)} tokens per parameter."
    ]
    for fit in findings.fits:
        if fit.status is not Status.CONVERGED:
            told.append(f"{fit.law.name}: {fit.status}. {fit.reason[:1].upper() + fit.reason[1:]}.")
        told += wide_intervals(fit)
    told += [f"{refusal.law}: not fitted. {refusal.reason}." for refusal in findings.refusals]
    if not any(is_one_ratio(fit.points) for fit in findings.fits if fit.law.inputs == ("N", "D")) and sizes < 4:
        told.append(f"{sizes} sizes leave no size to test a law in N on after fitting it; 4 or more do.")
    told += seed_words(loss)
    told += [line_words(s.fit.line.degrees_of_freedom) for s in findings.scores[:1] if s.fit and s.fit.line]
    return told


def wide_intervals(fit: Fit) -> list[str]:
    """Exponents whose interval is as wide as half their value: known in sign at best."""
    found = []
    for name in ("alpha", "beta", "alpha_N", "alpha_D"):
        ends = fit.intervals.get(name)
        if ends is None or ends.low is None or ends.high is None:
            continue
        value = fit.law.parameters[name]
        if ends.high - ends.low > 0.5 * abs(value):
            wanted = "tokens" if name in ("beta", "alpha_D") else "sizes"
            found.append(
                f"{fit.law.name}: {name} is known only to within {format_number(ends.low, 2)} to "
                f"{format_number(ends.high, 2)}; a wider range of {wanted} or repeated seeds would narrow it."
            )
    return found


def line_words(freedom: int) -> str:
    """What few degrees of freedom do to the lines' intervals."""
    if freedom < 1:
        return "A line through two points leaves nothing to judge it by: its intervals are unknown."
    return (
        f"Lines of the measurements leave {freedom} degrees of freedom: their 95% intervals are "
        f"{t_quantile(0.975, freedom):.1f} standard errors wide on each side, where many runs would need 2.0."
    )


def seed_words(loss: pl.DataFrame) -> list[str]:
    """The spread between seeds of one size and budget, where any were repeated."""
    groups = loss.group_by(PARAMS, "tokens").agg(pl.col("score").log().std().alias("spread"), pl.len().alias("seeds"))
    repeated = groups.filter(pl.col("seeds") > 1)
    if repeated.height == 0:
        return ["Seeds were not repeated: the noise of a run is estimated from the residuals of the fit alone."]
    pooled = float(np.sqrt(np.average(repeated["spread"].to_numpy() ** 2, weights=repeated["seeds"].to_numpy() - 1)))
    return [f"Seeds repeated at {repeated.height} settings: standard deviation {pooled:.2%} of the loss between seeds."]


def conventions(findings: Findings) -> list[str]:
    """Which N, D, C and objective the numbers use."""
    lines = [
        f"N is {N_WORDS[PARAMS]}; D is tokens seen, repeats included; C = 6 N D in fits, the exact count with "
        "attention and vocabulary projection is in the table.",
        "Loss is in nats per token of this tokenizer; losses of different tokenizers compare only per byte.",
    ]
    if findings.fits:
        lines.append(f"Objective of {findings.fits[0].law.name}: {objective(findings.fits[0])}.")
    lines.append(
        "Laws in one variable and lines of measurements use each size at its largest token count. Perplexities are "
        "fitted in their logarithm, other measurements as they are."
    )
    other = findings.other_convention
    if other is not None and other.status is not Status.NOT_IDENTIFIABLE:
        values = ", ".join(f"{name} {format_number(value)}" for name, value in other.law.parameters.items())
        lines.append(f"With N as {N_WORDS[OTHER_PARAMS]}, {other.law.name} gives {values} ({other.status}).")
    return lines


def provenance(data: SweepData) -> list[tuple[str, str]]:
    """Where the numbers come from, as pairs."""
    source = data.provenance
    pairs = [
        ("commit", source.commit or "not recorded"),
        ("versions", ", ".join(f"{name} {version}" for name, version in source.versions.items()) or "not recorded"),
    ]
    pairs += [(name.replace("_", " "), ", ".join(values)) for name, values in source.settings.items()]
    pairs += [
        ("tracking store", source.tracking_uri),
        ("MLflow experiment", source.experiment_id),
        ("MLflow run of the sweep", source.parent_run_id or "none"),
    ]
    return pairs
