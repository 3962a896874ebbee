"""What stands under the report's figures, and its longer lists: resolution, conventions, sources."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.fitting.health import Status, interval_words
from ladder.analysis.fitting.intervals import t_quantile
from ladder.analysis.fitting.isoflop import IsoFlopFit
from ladder.analysis.fitting.parabolas import BudgetStatus
from ladder.analysis.fitting.points import DISTINCT, count_distinct
from ladder.analysis.fitting.predictions import convention_values
from ladder.analysis.laws.law import Floats, format_number
from ladder.analysis.laws.surfaces import Surface
from ladder.analysis.planning.budget import SeedNoise
from ladder.analysis.report.answers import capital, counted, interval_source, listed, objective
from ladder.analysis.report.canvas import group_budgets
from ladder.analysis.report.figures import MOST_BANDS, MOST_BUDGETS, has_frontier
from ladder.analysis.report.findings import LAST_SHARE, Findings, not_above
from ladder.analysis.report.scores import BASELINES, TRANSFER_HEAD, ScoreFinding, largest_budget, transfer_rows
from ladder.analysis.tables.sweeps import HELDOUT_LOSS, PARAMS, SweepData, is_heldout


@dataclass(frozen=True, kw_only=True)
class Doubling:
    """What doubling the size does to a score, as text."""

    value: str
    interval: str


def loss_caption(findings: Findings) -> str:
    """What the figure of loss against size shows."""
    fit = findings.drawn
    if fit is None:
        return "One point per run, coloured by token budget. No law is identified by these runs."
    bands = f"shaded the {fit.level:.0%} band of the curve, dotted that of a new run"
    if fit.law.inputs == ("x",):
        return (
            "One point per run, coloured by token budget. No law in both N and D is identified by these runs; the "
            f"dashed line is {fit.law.name} in N alone, through each size's largest budget, {bands}."
        )
    few = len(group_budgets(findings.loss)) <= MOST_BANDS
    where = "" if few else ", at the largest budget"
    return f"One point per run, coloured by token budget; lines are {fit.law.name}, {bands}{where}."


def compute_caption(findings: Findings) -> str:
    """What the figure of loss against compute shows."""
    fit = findings.surface
    if fit is None:
        return "One point per run, coloured by size."
    told = f"One point per run, coloured by size, with {fit.law.name}'s curve for each."
    if not isinstance(fit.law, Surface) or not has_frontier(fit):
        return f"{told} No frontier is drawn: the law is {fit.status}."
    return (
        f"{told} Along the dashed frontier, the least loss that a budget can buy, N grows as "
        f"C^{format_number(fit.law.a, 3)} and D as C^{format_number(fit.law.b, 3)}."
    )


def ratio_caption(findings: Findings) -> str:
    """What the figure of tokens per parameter shows."""
    fit = findings.surface
    if fit is None:
        return "One point per run, coloured by tokens per parameter."
    told = f"One point per run, coloured by tokens per parameter, with {fit.law.name}'s curve for each."
    return told + (" The dashed frontier is their envelope." if has_frontier(fit) else "")


def isoflop_caption(fit: IsoFlopFit) -> str:
    """What the parabolas show, or why there are none."""
    used = [budget for budget in fit.budgets if budget.status is BudgetStatus.USED]
    left = {budget.status for budget in fit.budgets} - {BudgetStatus.USED}
    others = "; ".join(
        f"{sum(budget.status is status for budget in fit.budgets)} not: {status}" for status in sorted(left)
    )
    told = "A parabola in ln N through runs of equal compute; a star marks its lowest point. "
    if len(fit.budgets) > MOST_BUDGETS:
        told += f"At most {MOST_BUDGETS} budgets are drawn. "
    told += f"{len(used)} of "
    return f"{told}{counted(len(fit.budgets), 'budget')} usable{f', {others}' if others else ''}."


def isoflop_refusal(fit: IsoFlopFit) -> str:
    """Why there is no view at equal compute."""
    if max(budget.n_sizes for budget in fit.budgets) < 3:
        return (
            "No view at equal compute: no budget of this design has three sizes (the largest has "
            f"{max(budget.n_sizes for budget in fit.budgets)}); it would take runs of 3 or more sizes whose tokens "
            "shrink as their parameters grow."
        )
    return f"No view at equal compute: {fit.reason}."


def optimum_caption(findings: Findings) -> str:
    """The exponents of the best size, by the law and by parabolas."""
    told = []
    fit, isoflop = findings.surface, findings.isoflop
    if fit is not None and isinstance(fit.law, Surface) and has_frontier(fit):
        told.append(f"{fit.law.name}: N grows as C^{format_number(fit.law.a, 3)}")
    if isoflop is not None and isoflop.frontier is not None:
        ends = isoflop.intervals["a"]
        told.append(
            f"IsoFLOP parabolas: C^{format_number(isoflop.frontier.a, 3)} ({isoflop.level:.0%} {interval_words(ends)})"
        )
        if isoflop.status is not Status.CONVERGED:
            told.append(f"status {isoflop.status}: {isoflop.reason}")
    return f"{capital('; '.join(told))}." if told else ""


def perplexity_caption(findings: Findings) -> str:
    """What the figure of perplexities shows, with the gap at the largest size."""
    runs = largest_budget(findings.loss).drop_nulls("train_loss").sort(PARAMS)
    if runs.height == 0:
        return ""
    gap = float(runs["score"][-1]) - float(runs["train_loss"][-1])
    side = "above" if gap > 0 else "below"
    return (
        f"Figure 4 of the GPT-2 paper on these runs: each size at its largest token count; training perplexity is over "
        f"the last {LAST_SHARE:.0%} of the steps. At the largest size held-out loss is "
        f"{format_number(abs(gap), 2)} nats {side} training loss."
    )


def residual_caption(fit: Fit) -> str:
    """How large the residuals are."""
    return (
        f"Root mean square {100 * fit.health.residual_rms:.2g} %, largest {100 * fit.health.residual_max:.2g} %. "
        "A pattern along size or budget, rather than scatter, means that the form is wrong."
    )


def score_caption(score: ScoreFinding) -> str:
    """What a measurement's panel says beyond what it shows."""
    if score.fit is None:
        return f"No line: {score.refusal}."
    doubled = per_doubling(score, score.fit)
    told = [f"Per doubling of N {doubled.value} ({doubled.interval})."]
    if score.bent is not None:
        told.append(f"{capital(score.bent.law.name)} predicts held-out sizes better than the dashed line.")
    if not score.monotone:
        told.append("Not monotone in size.")
    return " ".join(told)


def per_doubling(score: ScoreFinding, fit: Fit) -> Doubling:
    """The change of the score when size doubles: a factor for perplexities, a difference otherwise."""
    slope, ends = fit.law.parameters["b"], fit.intervals["b"]

    def tell(b: float | None) -> str:
        if b is None:
            return "unknown"
        return f"x {2**b:.3f}" if score.log_score else f"{b * np.log(2):+.3g}"

    known = ends.low is not None and ends.high is not None
    return Doubling(value=tell(slope), interval=f"{tell(ends.low)} to {tell(ends.high)}" if known else "unknown")


def comparison(score: ScoreFinding) -> dict[str, str] | None:
    """Which form predicts larger sizes better, for a measurement with enough sizes to tell; None otherwise."""
    errors = score.errors
    if not errors:
        return None
    best = score.best_form
    last = {window.law: window.relative_error for window in score.windows[-len(errors) :]}
    return {
        "name": score.name,
        "errors": ", ".join(f"{law} {error:.2%}" for law, error in errors.items()),
        "last": ", ".join(f"{law} {error:.2%}" for law, error in last.items()),
        "best": str(best),
        "windows": str(len(score.windows) // len(errors)),
    }


FEW_FREEDOM = 20
"""Degrees of freedom up to which Student's t is noticeably wider than the normal."""


def resolution(findings: Findings) -> list[str]:
    """What the design can and cannot tell."""
    told = [design_words(findings)] if findings.loss.height else []
    for fit in findings.fits:
        if fit.status is not Status.CONVERGED:
            told.append(f"{fit.law.name}: {fit.status}. {capital(fit.reason)}.")
        told += wide_intervals(fit)
    told += [f"{refusal.law}: not fitted. {capital(refusal.reason)}." for refusal in findings.refusals]
    told += isoflop_words(findings)
    if findings.loss.height:
        told.append(seed_words(findings.noise))
    freedom = sorted({s.fit.line.degrees_of_freedom for s in findings.scores if s.fit and s.fit.line})
    return told + [line_words(count, findings.level) for count in freedom if count <= FEW_FREEDOM]


def design_words(findings: Findings) -> str:
    """The ranges that the runs span."""
    loss = findings.loss
    params = loss[PARAMS].to_numpy().astype(float)
    sizes = count_distinct(params)
    told = f"{counted(loss.height, 'run')} with a loss: {counted(sizes, 'size')}{factor_words(params, 'N')}"
    if loss["tokens"].null_count():
        return told + "; the tokens that they saw are not known."
    tokens = loss["tokens"].to_numpy().astype(float)
    ratio = tokens / params
    told += f", {counted(count_distinct(tokens), 'token count')}{factor_words(tokens, 'D')}"
    few = "" if sizes >= 4 else f" A law in N cannot be tested on {counted(sizes, 'size')}; it takes 4."
    return f"{told}, {format_number(ratio.min(), 3)} to {format_number(ratio.max(), 3)} tokens per parameter.{few}"


def factor_words(values: Floats, letter: str) -> str:
    """The factor from least to largest, where there is one."""
    factor = values.max() / values.min()
    return f" over a factor of {format_number(float(factor), 3)} in {letter}" if factor > 1 + DISTINCT else ""


def isoflop_words(findings: Findings) -> list[str]:
    """What the view at equal compute can say, where it is not sound."""
    fit = findings.isoflop
    if fit is None or fit.status is Status.CONVERGED:
        return []
    return [isoflop_refusal(fit) if not fit.used else f"IsoFLOP parabolas: {fit.status}. {capital(fit.reason)}."]


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
                f"{fit.law.name}: {name} is between {format_number(ends.low, 2)} and {format_number(ends.high, 2)}; a "
                f"wider range of {wanted} or repeated seeds would narrow it."
            )
    return found


def line_words(freedom: int, level: float) -> str:
    """What few degrees of freedom do to the lines' intervals."""
    if freedom < 1:
        return "A line through two points leaves nothing to judge it by: its intervals are unknown."
    return (
        f"Lines through scores with {counted(freedom, 'degree')} of freedom: their {level:.0%} intervals reach "
        f"{t_quantile(0.5 + level / 2, freedom):.1f} standard errors to each side. With many runs it would be "
        f"{t_quantile(0.5 + level / 2, 1e6):.1f}."
    )


def seed_words(noise: SeedNoise | None) -> str:
    """The spread between seeds of one size and budget, where any were repeated."""
    if noise is None:
        return "Seeds were not repeated: the noise of a run is estimated from the residuals of the fit alone."
    return (
        f"Seeds repeated at {counted(noise.settings, 'setting')} ({counted(noise.runs, 'run')}): standard deviation "
        f"{noise.standard_deviation:.2%} of the loss between seeds, 95 % interval {noise.low:.2%} to "
        f"{noise.high:.2%}."
    )


def transfer_words(findings: Findings) -> dict[str, Any]:
    """The table, the sentences and the limits of what was fine-tuned."""
    return {
        "head": [*TRANSFER_HEAD, f"over scratch, {findings.level:.0%}"],
        "rows": transfer_rows(findings.data),
        "sentences": transfer_sentences(findings),
        "limits": transfer_limits(findings),
    }


def transfer_sentences(findings: Findings) -> list[str]:
    """How each curve moves, its laws or why there are none, and what the networks are not above."""
    told, refused = [], dict[tuple[str, str], list[str]]()
    for curve in findings.transfer:
        score, slope = curve.score, ""
        if score.fit is not None:
            slope = " Per doubling of N {0.value} ({0.interval}).".format(per_doubling(score, score.fit))
        told.append(f"{score.name}: {curve.movement}.{slope}")
        for axis, law in curve.laws.items():
            if isinstance(law, str):
                refused.setdefault((axis, law), []).append(score.name)
                continue
            ends = {name: interval_words(law.intervals[name]) for name in law.law.parameters}
            known = ", ".join(f"{n} {format_number(v)} ({ends[n]})" for n, v in law.law.parameters.items())
            told.append(f"{score.name} by {axis}: {law.law.name}, {law.status}: {known}.")
    told += [f"By {axis} there is no law of {listed(names)}. {capital(why)}." for (axis, why), names in refused.items()]
    return told + [below for name in BASELINES if (below := below_words(findings.data, name))]


def below_words(data: SweepData, name: str) -> str:
    """Which models with all blocks are not above a baseline, or scratch, beyond doubt."""
    below, asked = not_above(data, name)
    words = name.replace("_", " ")
    if not below:
        return f"All are above {words} beyond doubt." if asked else ""
    return f"{len(below)} of {asked} are not above {words} beyond doubt: {listed(below)}."


def transfer_limits(findings: Findings) -> str:
    """What the transfer of these runs cannot show."""
    own = findings.data.transfer.filter(pl.col("layers") == "all")
    sizes, seeds = own[PARAMS].n_unique(), own["seed"].n_unique()
    told = [f"There are {counted(sizes, 'size')} and {counted(seeds, 'seed')}."]
    if seeds == 1:
        told.append("One seed says nothing about other seeds.")
    if sizes < 4:
        told.append("Fewer than four sizes leave a law in N untested.")
    return " ".join([
        *told,
        f"Up to {max(own['cut_share'], default=0.0):.0%} of a task's scored texts do not fit the context and are cut.",
        "The scored items are the same for all models: what they share moves a curve as a whole and not its slope.",
        "Nothing here says what larger sizes, other corpora or other learning rates would gain.",
    ])  # fmt: skip


def over_training_words(rows: pl.DataFrame) -> str:
    """How much stands behind the scores over training."""
    kept = rows.filter(pl.col("tokens") > 0).group_by("run").agg(pl.col("tokens").n_unique())["tokens"]
    fewest, *_, most = sorted([*kept, *kept])
    many = f"{fewest} to {most}" if fewest != most else str(most)
    items = [f"{name} {count:,}" for name, count in dict(rows.select("benchmark", "count").iter_rows()).items()]
    return f"Checkpoints of a run besides the untrained network: {many}. Items: {', '.join(items)}."


def reference_words(rows: pl.DataFrame) -> str:
    """What counts as 1 of each score over training, and which scores have no such thing."""
    named = dict(rows.select("name", "reference").iter_rows())
    raw = [name for name, reference in named.items() if reference is None]
    told = "; ".join(f"{name} {reference}" for name, reference in named.items() if reference is not None)
    return f"1 stands for: {told}." + (f" Without a reference: {listed(raw)}." if raw else "")


def conventions(findings: Findings) -> list[str]:
    """Which N, D, C and objective the numbers use."""
    data = findings.data
    if data.source == "table":
        lines = [data.question] if data.question else []
    else:
        lines = [
            "N is parameters with embeddings; D is tokens seen, repeats included; C = 6 N D in fits, the exact count "
            "with attention and vocabulary projection is in the table.",
            "Loss is in nats per token of this tokenizer; losses of different tokenizers compare only per byte.",
        ]
    if findings.fits:
        first = findings.fits[0]
        lines.append(f"Objective of {first.law.name}: {objective(first)}; its intervals: {interval_source(first)}.")
    lines.append(
        "Laws in one variable and lines of measurements use each size at its largest token count. Perplexities are "
        "fitted in their logarithm, other measurements as they are. Bars are 1.96 standard errors of the measurement; "
        "bands are of the law: shaded where its curve lies, dotted where a new run would."
    )
    return lines + unit_words(data)


def unit_words(data: SweepData) -> list[str]:
    """The held-out loss of the run of most compute in the other units that it was measured in; none for a table."""
    others = [name for name in data.scores if is_heldout(name) and name != HELDOUT_LOSS]
    if not others:
        return []
    rows = data.finished.drop_nulls([HELDOUT_LOSS, "flops_6nd", *others]).sort("flops_6nd")
    if rows.height == 0:
        return []
    last = rows.row(-1, named=True)
    told = ", ".join(f"{name.split('/', 1)[1].replace('_', ' ')} {format_number(last[name])}" for name in others)
    loss = format_number(last[HELDOUT_LOSS])
    return [f"Held-out loss is shown in nats per token. The {loss} of {last['run']} is in other units: {told}."]


def convention_rows(findings: Findings) -> list[list[str]]:
    """Parameters under each convention of N and FLOPs; a star marks a value outside of the first one's interval."""
    told = [convention_values(fit) for fit in findings.conventions.values()]
    rows = []
    for name, (_, own) in told[0].items() if told else ():
        cells = []
        for values in told:
            value, ends = values[name]
            beyond = own.low is not None and own.high is not None and not own.low <= value <= own.high
            cells.append(f"{format_number(value)}{' *' if beyond else ''}\n{interval_words(ends)}")
        rows.append([name, *cells])
    return rows


def provenance(data: SweepData) -> list[tuple[str, str]]:
    """Where the numbers come from, as pairs."""
    source = data.provenance
    pairs = [("commit", source.commit or "not recorded")] if data.source == "sweep" else []
    if source.versions or data.source == "sweep":
        versions = ", ".join(f"{name} {version}" for name, version in source.versions.items())
        pairs.append(("versions", versions or "not recorded"))
    pairs += [(name.replace("_", " "), ", ".join(values)) for name, values in source.settings.items()]
    return [*pairs, *source.origin.items()]
