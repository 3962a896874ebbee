"""The first screen of the report: what to train, the law, its bands, the held-out error, the benchmarks.

The smallest pieces of all the report's sentences stand at the end: intervals, equations with their numbers, counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.fitting.health import Status, interval_words
from ladder.analysis.fitting.intervals import Interval
from ladder.analysis.laws.law import FLOPS_PER_PF_DAY, Floats, LogLinear, format_count, format_number
from ladder.analysis.laws.surfaces import find_law
from ladder.analysis.planning.budget import FACTORS, BudgetPlan, addition_words
from ladder.analysis.report.findings import Findings
from ladder.analysis.report.scores import ScoreFinding
from ladder.analysis.tables.sweeps import PARAMS

CLEAR_AICC = 4.0
"""Difference of AICc from which a law is preferred (Burnham and Anderson 2002, section 2.6)."""
POOR_ERROR = 0.5
"""Relative error on held-out sizes beyond which no form is said to predict a score."""
EXPONENTS = ("alpha", "beta", "alpha_N", "alpha_D", "b")
"""Parameters that say how fast the loss falls."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question of the first screen with what is known of it."""

    label: str
    """The question in a word or two."""
    lead: str
    """The answer itself."""
    sentences: Sequence[str] = field(default_factory=tuple)
    """What qualifies it."""
    head: Sequence[str] = field(default_factory=tuple)
    """Header of a small table; empty where there is none."""
    rows: Sequence[Sequence[str]] = field(default_factory=tuple)
    """Its rows."""


def answers(findings: Findings) -> list[Answer]:
    """All that can be answered, in the order of the questions."""
    told: list[Answer] = []
    if findings.loss.height:
        told += [next_answer(findings), *held_out_answer(findings), law_answer(findings), *band_answer(findings)]
        told += choice_answer(findings)
    return [*told, *score_answer(findings), *form_answer(findings)]


def law_answer(findings: Findings) -> Answer:
    """The first law that is identified, or why none is."""
    refused = [
        f"{refusal.law} was not fitted: {refusal.reason}."
        for refusal in findings.refusals
        if find_law(refusal.law).inputs == ("N", "D")
    ]
    refused += [
        f"{fit.law.name} is {fit.status}: {fit.reason}."
        for fit in findings.fits
        if fit.status is Status.NOT_IDENTIFIABLE
    ]
    fit = findings.drawn
    if fit is None:
        return Answer(label="Law", lead="These runs do not determine a law of the loss.", sentences=refused)
    known = [name for name in EXPONENTS if name in fit.law.parameters]
    told = ", ".join(f"{name} {interval_words(fit.intervals[name])}" for name in known)
    at = " at each size's largest token count" if fit.law.inputs == ("x",) else ""
    sure = fit.status is Status.CONVERGED
    if fit.health.degrees_of_freedom < 1:
        sure = False
    caveat = [] if fit.status is Status.CONVERGED else [f"Status {fit.status}: {fit.reason}."]
    caveat += ["As many runs as parameters: nothing checks the law."] if fit.health.degrees_of_freedom < 1 else []
    caveat += [f"{capital(fit.misfit)}."] if fit.misfit else []
    return Answer(
        label="Law",
        lead=f"Held-out loss{at} follows {equation(fit)}."
        if sure
        else f"Best fit{at}, not identified: {equation(fit)}.",
        sentences=[f"{fit.level:.0%} intervals: {told}; {counted(len(fit.points), 'run')}.", *caveat, *refused],
    )


def band_answer(findings: Findings) -> list[Answer]:
    """How sure the curve is at the largest run, and where a new run there would land."""
    fit = findings.drawn
    if fit is None:
        return []
    # Most compute: the largest size may have been the shortest run.
    order = [PARAMS] if findings.loss["tokens"].null_count() else [pl.col(PARAMS) * pl.col("tokens")]
    largest = findings.loss.sort(*order).row(-1, named=True)
    place = {"N": [largest[PARAMS]], "D": [largest["tokens"]], "x": [largest[PARAMS]]}
    inputs = {name: np.array(place[name], dtype=np.float64) for name in fit.law.inputs}
    curve, run = fit.band(inputs), fit.band(inputs, new_run=True)
    if curve is None or run is None:
        return [Answer(label="Band", lead="Unknown: no run is left over to judge the law by.")]
    tokens = "" if largest["tokens"] is None else f" on {format_count(largest['tokens'])} tokens"
    return [
        Answer(
            label="Band",
            lead=f"The curve lies in {band_words(curve)}, a new run in {band_words(run)} nats per token.",
            sentences=[
                f"{fit.level:.0%} intervals at the run of most compute, N {format_count(largest[PARAMS])}{tokens}.",
                noise_words(findings, fit),
            ],
        )
    ]


def band_words(band: tuple[Floats, Floats]) -> str:
    """A band at one place."""
    return f"{format_number(float(band[0][0]))} to {format_number(float(band[1][0]))}"


def noise_words(findings: Findings, fit: Fit) -> str:
    """Noise between seeds beside what the law leaves unexplained."""
    left = f"the law leaves {100 * fit.health.residual_rms:.2g} % unexplained (root mean square)"
    noise = findings.noise
    if not fit.log_residual:
        left = f"the law leaves {fit.health.residual_rms:.2g} unexplained (root mean square)"
    if noise is None:
        return f"{capital(left)}; no seed was repeated, so noise and misfit cannot be separated."
    return (
        f"Runs that differ in the seed alone differ by {noise.standard_deviation:.2%} (standard deviation, "
        f"{noise.low:.2%} to {noise.high:.2%}, {counted(noise.settings, 'setting')}); {left}."
    )


def held_out_answer(findings: Findings) -> list[Answer]:
    """How well the drawn law predicts the largest size from the others, and whether its interval held."""
    told = []
    for window in findings.windows[-1:]:
        ends = Interval(low=window.low, high=window.high)
        band = f"the predicted {findings.level:.0%} interval, {interval_words(ends)}"
        held = {
            True: f"Its run of most compute lies inside {band}.",
            False: f"Its run of most compute lies outside {band}.",
            None: "Too few runs are left without it for an interval of the prediction.",
        }[window.inside]
        sentence = (
            f"Fitted without it ({counted(window.n_fitted, 'run')}), {window.law} predicts the mean of its runs' "
            f"losses, {format_number(window.observed)}, as {format_number(window.predicted)}."
        )
        lead = f"The largest size is predicted from the others to {window.relative_error:.2%}."
        told.append(Answer(label="Held out", lead=lead, sentences=[sentence, held]))
    return told


def choice_answer(findings: Findings) -> list[Answer]:
    """Which law of the loss the data prefers, and by how much."""
    if len(findings.choices) < 2:
        return []
    best, second = findings.choices[:2]
    gap = second.aicc - best.aicc
    lead = f"The data prefers {best.law} to {second.law}." if gap > CLEAR_AICC else "These runs cannot tell."
    told = [f"The AICc of {best.law} is {gap:.1f} below that of {second.law}; less than {CLEAR_AICC:g} says nothing."]
    nested = next((one for one in findings.choices if one.nested_doubt is not None), None)
    if nested is not None and nested.nested_doubt is not None:
        told.append(f"One exponent for both terms ({nested.law}) in place of two: p = {nested.nested_doubt:.2g}.")
    errors = [f"{one.law} {one.held_out:.2%}" for one in findings.choices if one.held_out is not None]
    told += [f"Mean error on held-out larger sizes: {', '.join(errors)}."] if errors else []
    return [Answer(label="Which law", lead=lead, sentences=told)]


def next_answer(findings: Findings) -> Answer:
    """What to train next, or which runs to add first."""
    runs = findings.next_runs
    if not runs:
        return Answer(label="Train next", lead="Runs that determine a law come first.", sentences=missing(findings))
    beyond = [run for run in runs if run.best.params > float(findings.loss[PARAMS].max())]  # type: ignore[arg-type]
    note = (
        f"From {beyond[0].beyond:g}x on the sizes are larger than any that was run: the law is extrapolated."
        if beyond
        else ""
    )
    fit = findings.surface
    assert fit is not None, "the runs were suggested by a law"
    first = runs[0]
    size = f"{format_count(first.best.params)} parameters (interval {interval_words(first.params, format_count)})"
    return Answer(
        label="Train next",
        lead=f"With the largest run's compute, {format_number(first.best.flops, 3)} FLOPs: {size} on "
        f"{format_count(first.best.tokens)} tokens.",
        head=["compute", "N", "tokens", "per N", "loss"],
        rows=[next_row(run) for run in runs],
        sentences=[f"Optima by the law, {fit.level:.0%} intervals.", note, *mistake_words(first), *warning_words(runs)],
    )


def mistake_words(plan: BudgetPlan) -> list[str]:
    """What a wrong size costs at a budget."""
    told = []
    for mistake in plan.mistakes[-len(FACTORS) :]:
        cost = "is out of reach" if mistake.extra is None else f"takes {mistake.extra:.0%} more compute"
        told.append(f"with {format_count(mistake.params)} parameters the same loss {cost}")
    return [f"The cost of a wrong size at 1x: {', '.join(told)}."]


def warning_words(plans: Sequence[BudgetPlan]) -> list[str]:
    """What `ladder plan` warns of at the same budgets, each warning once, at the least budget that has it."""
    told: dict[str, str] = {}
    for plan in plans:
        for warning in plan.warnings:
            told.setdefault(warning, f"At {plan.beyond:.3g}x: {warning}.")
    return list(told.values())


def next_row(run: BudgetPlan) -> list[str]:
    """A suggested run as text."""
    best = run.best
    days = f"{format_number(best.flops / FLOPS_PER_PF_DAY, 3)} PF-days"
    return [
        f"{run.beyond:g}x\n{format_number(best.flops, 3)} FLOPs\n{days}",
        f"{format_count(best.params)}\n{interval_words(run.params, format_count)}",
        f"{format_count(best.tokens)}\n{interval_words(run.tokens, format_count)}",
        format_number(best.tokens_per_parameter, 3),
        f"{format_number(best.loss)}\ncurve {interval_words(run.loss)}\nnew run {interval_words(run.new_run)}",
    ]


def missing(findings: Findings) -> list[str]:
    """What would make a suggestion possible."""
    asked = [fit for fit in findings.fits if fit.law.inputs == ("N", "D")]
    if findings.additions is not None:
        return addition_words(findings.additions)
    if not asked and not any(find_law(refusal.law).inputs == ("N", "D") for refusal in findings.refusals):
        return ["No law in both N and D was asked for; add hoffmann to the laws."]
    if any(fit.status is Status.NOT_IDENTIFIABLE for fit in asked) or not asked:
        return ["The reason is given under Law."]
    return ["A wider range of sizes, and of tokens at each size, would determine it."]


def score_answer(findings: Findings) -> list[Answer]:
    """How many measurements improve with size, naming those that do not."""
    fitted = [score for score in findings.scores if score.fit is not None]
    if not fitted:
        return []
    sure = [score.name for score in fitted if score.improves]
    unsure = [score.name for score in fitted if not score.improves]
    bent = [score.name for score in fitted if not score.monotone]
    sentences = [f"Established: {listed(sure)}."] if sure else []
    sentences += [f"Not established for {listed(unsure)}."] if unsure else []
    if max(score.fit.line.degrees_of_freedom if score.fit and score.fit.line else 0 for score in fitted) < 1:
        sentences = ["Two sizes leave nothing to judge a slope by."]
    if bent:
        sentences.append(f"Not monotone in size: {listed(bent)}.")
    if sure or unsure:
        sentences.append(
            f"Established means: the {findings.level:.0%} interval of the slope excludes zero on the better side, also "
            f"after a correction for {counted(len(fitted), 'score')} (Holm)."
        )
    dropped = max(score.rows.height - score.fitted.height for score in fitted)
    if dropped and findings.data.source == "table":
        sentences.append(
            f"Each size counts at its largest token count; up to {counted(dropped, 'row')} of a score are left out."
        )
    lead = f"{len(sure)} of {counted(len(fitted), 'score')} improve with size."
    return [Answer(label="Zero-shot", lead=lead, sentences=sentences)]


def form_answer(findings: Findings) -> list[Answer]:
    """Which form predicts the scores of larger sizes, benchmark by benchmark."""
    compared = [score for score in findings.scores if score.best_form is not None]
    if not compared:
        others = [score for score in findings.scores if score.direction]
        return [no_form(findings)] if others else []
    line = [form_words(score) for score in compared if score.best_form == LogLinear.name]
    bent = [form_words(score) for score in compared if score.best_form != LogLinear.name]
    sentences = [f"A curve predicts better for {listed(bent)}."] if bent else []
    sentences += [f"The straight line in ln N predicts better for {listed(line)}."] if line else []
    poor = [score.name for score in compared if score.errors[str(score.best_form)] > POOR_ERROR]
    if poor:
        sentences.append(f"No form predicts {listed(poor)}: even the best is off by more than {POOR_ERROR:.0%}.")
    if all(len(score.windows) == len(score.errors) for score in compared):
        sentences.append("Each rests on one held-out size: weak evidence.")
    lead = (
        f"On held-out larger sizes a curve predicts {len(bent)} of "
        f"{counted(len(compared), 'score')} better than the straight line."
    )
    return [Answer(label="Which form", lead=lead, sentences=sentences)]


def no_form(findings: Findings) -> Answer:
    """Why forms were not compared."""
    rising = [s for s in findings.scores if s.fit is not None and s.rises]
    why = (
        "Too few sizes: a form with three parameters needs three and one to predict."
        if rising
        else "No score improves with size by more than its standard errors: forms would be compared on noise."
    )
    return Answer(label="Which form", lead="These runs cannot tell.", sentences=[why])


def bend_words(score: ScoreFinding) -> str:
    """The best form's name, and how it bends over these sizes: a sigmoid below its middle rises ever faster."""
    best, fit = str(score.best_form), score.bent
    if fit is None:
        return best
    if score.direction == "lower":
        return (
            f"{best} with a floor of {format_number(fit.law.parameters['E'])} ({interval_words(fit.intervals['E'])}),"
        )
    sizes = score.fitted[PARAMS].to_numpy().astype(float)
    low, middle, high = fit.predict({"x": np.geomspace(sizes.min(), sizes.max(), 3)})
    return f"{best}, {'levelling off' if middle > (low + high) / 2 else 'rising ever faster'},"


def form_words(score: ScoreFinding) -> str:
    """A measurement with the winner's error and the line's."""
    best = score.best_form
    assert best is not None
    rest = {form: error for form, error in score.errors.items() if form != best}
    other = min(rest, key=lambda form: rest[form]) if best == LogLinear.name else LogLinear.name
    windows = counted(len(score.windows) // len(score.errors), "window")
    shape = bend_words(score)
    return f"{score.name} ({shape} {score.errors[best]:.2%} off, {other} {score.errors[other]:.2%}; {windows})"


NAMED = 6
"""Names that a sentence lists before it counts the rest."""


def listed(names: Sequence[str]) -> str:
    """The names with commas; many are cut to the first few with the count of the rest."""
    if len(names) <= NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


def counted(count: int, one: str, many: str | None = None) -> str:
    """1 size, 2 sizes."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def objective(fit: Fit) -> str:
    """How the fit was made."""
    of = "log loss" if fit.log_residual else "score"
    if fit.objective.kind == "huber":
        return f"sum of Huber {fit.objective.delta:g} on {of}"
    return f"sum of {'squares' if fit.objective.kind == 'squares' else 'absolute values'} of residuals of {of}"


def interval_source(fit: Fit) -> str:
    """Where the intervals come from."""
    if fit.line is not None:
        return f"Student's t, {counted(fit.line.degrees_of_freedom, 'degree')} of freedom"
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
