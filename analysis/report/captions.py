"""What stands under the report's figures, each number computed from the findings."""

from dataclasses import dataclass

import numpy as np

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.isoflop import BudgetStatus, IsoFlopFit
from ladder.analysis.laws.surfaces import Surface
from ladder.analysis.laws.units import format_number
from ladder.analysis.report.compute_figures import MOST_BUDGETS, has_frontier
from ladder.analysis.report.figures import MOST_BANDS, group_budgets
from ladder.analysis.report.findings import LAST_SHARE, Findings
from ladder.analysis.report.phrases import capital, counted, interval
from ladder.analysis.report.scores import PARAMS, ScoreFinding, largest_budget


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
            f"IsoFLOP parabolas: C^{format_number(isoflop.frontier.a, 3)} ({isoflop.level:.0%} {interval(ends)})"
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
