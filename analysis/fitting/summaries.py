"""Fits as JSON for programs and as plain tables for people: what their `to_json` and their repr give."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ladder.analysis.fitting.intervals import Interval
from ladder.analysis.laws.law import format_count, format_number

if TYPE_CHECKING:  # each kind of fit describes itself, so its module imports this one
    from ladder.analysis.fitting.fits import Fit
    from ladder.analysis.fitting.frontiers import EnvelopeFit, Frontier
    from ladder.analysis.fitting.holdout import HoldOut
    from ladder.analysis.fitting.isoflop import IsoFlopFit
    from ladder.analysis.fitting.two_step import TwoStepFit

SHOWN_REFUSALS = 6
"""Refused budgets that a table for people lists."""


def finite(value: Any) -> Any:
    """The value, or None where JSON has no word for it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def ends_of(interval: Interval) -> str:
    """low to high, or unknown; where one end is known it is told."""
    if interval.low is None and interval.high is None:
        return "unknown"
    low, high = ("unknown" if end is None else format_number(end) for end in (interval.low, interval.high))
    return f"{low} to {high}"


def parameter_lines(parameters: Mapping[str, float], intervals: Mapping[str, Interval], level: float) -> list[str]:
    """A row for each parameter: value and interval."""
    width = max(len(name) for name in parameters)
    head = f"  {'':{width}}  {'value':>12}  {level:.0%} interval"
    rows = [
        f"  {name:{width}}  {format_number(value):>12}  {ends_of(intervals[name])}"
        for name, value in parameters.items()
    ]
    return [head, *rows]


def objective_words(fit: "Fit") -> str:
    """What was minimised."""
    return fit.objective.kind + (f" (delta {fit.objective.delta:g})" if fit.objective.kind == "huber" else "")


def health_lines(fit: "Fit") -> list[str]:
    """Objective, residuals and health of one fit."""
    health = fit.health
    return [
        f"objective   {fit.value:.7e}, {objective_words(fit)}, summed over {len(fit.points)} points",
        f"residuals   root mean square {health.residual_rms:.3g}, largest {health.residual_max:.3g}"
        + (f", R2 {health.r_squared:.4f}" if health.r_squared is not None else ""),
        f"health      {health.best_share:.0%} of {health.starts} starts reached the best objective, condition number "
        f"{health.condition_number:.3g}, scaled gradient {health.gradient_norm:.1e}",
    ]


def status_line(status: str, reason: str) -> str:
    """The status and why."""
    return f"status      {status}" + (f": {reason}" if reason else "")


def misfit_lines(fit: "Fit") -> list[str]:
    """That the law misses the points by more than noise, where something says so."""
    return [f"misfit      {fit.misfit}"] if fit.misfit else []


def describe_fit(fit: "Fit") -> str:
    """A readable summary: law, parameters with intervals, status, health."""
    lines = [f"{fit.law.name}: {fit.law.equation}", ""]
    lines += parameter_lines(fit.law.parameters, fit.intervals, fit.level)
    return "\n".join([*lines, "", status_line(fit.status, fit.reason), *misfit_lines(fit), *health_lines(fit)])


def fit_to_json(fit: "Fit") -> dict[str, Any]:
    """The contract of `ladder fit --json`; what is unknown is null, never 0 and never NaN."""
    return {
        "law": fit.law.name,
        "equation": fit.law.equation,
        "objective_kind": fit.objective.kind,
        "delta": fit.objective.delta if fit.objective.kind == "huber" else None,
        "points": len(fit.points),
        "parameters": {name: finite(value) for name, value in fit.law.parameters.items()},
        "constants": {name: float(value[0]) for name, value in fit.law.constants.items()},
        "intervals": {name: interval.as_list() for name, interval in fit.intervals.items()},
        "level": fit.level,
        "bootstrap": None if fit.draws is None else fit.draws.kind,
        "objective": finite(fit.value),
        "status": str(fit.status),
        "reason": fit.reason,
        "misfit": fit.misfit,
        "health": {name: finite(value) for name, value in dataclasses.asdict(fit.health).items()},
    }


def describe_steps(fit: "TwoStepFit") -> str:
    """Both steps' parameters, the worse status, and the health of either."""
    lines = [f"{fit.law.name}: {fit.law.equation}", ""]
    lines += parameter_lines(fit.law.parameters, fit.intervals, fit.level)
    lines += ["", status_line(fit.status, fit.reason)]
    for name, step in (("first step: task loss", fit.first), ("second step: accuracy", fit.second)):
        lines += ["", name, *misfit_lines(step), *health_lines(step)]
    return "\n".join(lines)


def steps_to_json(fit: "TwoStepFit") -> dict[str, Any]:
    """The contract's keys over both steps, and each step whole."""
    first, second = fit_to_json(fit.first), fit_to_json(fit.second)
    kept = ("objective_kind", "objective", "health")
    return {
        "law": fit.law.name,
        "equation": fit.law.equation,
        "points": len(fit.second.points),
        "parameters": first["parameters"] | second["parameters"],
        "intervals": first["intervals"] | second["intervals"],
        "level": fit.level,
        "bootstrap": first["bootstrap"],
        "status": str(fit.status),
        "reason": fit.reason,
        **{name: first[name] for name in kept},
        "steps": [first, second],
    }


def frontier_json(frontier: "Frontier | None", intervals: Mapping[str, Interval]) -> dict[str, Any]:
    """Parameters and intervals of a frontier; null where there is none."""
    values = dict.fromkeys(intervals) if frontier is None else frontier.parameters
    return {
        "parameters": {name: finite(value) for name, value in values.items()},
        "intervals": {name: interval.as_list() for name, interval in intervals.items()},
    }


def frontier_lines(fit: "IsoFlopFit | EnvelopeFit") -> list[str]:
    """Equation and parameters of a frontier, or that there is none."""
    if fit.frontier is None:
        return ["no exponent"]
    return [fit.frontier.equation, "", *parameter_lines(fit.frontier.parameters, fit.intervals, fit.level)]


def describe_isoflop(fit: "IsoFlopFit") -> str:
    """The frontier, then every budget's lowest point or why it has none."""
    lines = ["isoflop: a parabola in ln N of the loss at each budget (Hoffmann et al. 2022, approach 2)", ""]
    lines += [*frontier_lines(fit), "", status_line(fit.status, fit.reason), ""]
    lines.append(f"  {'FLOPs':>9}  {'runs':>4}  {'best N':>8}  {fit.level:.0%} interval    {'best D':>8}  {'loss':>6}")
    for budget in fit.used:
        assert budget.params is not None and budget.tokens is not None, "a used budget has a vertex"
        low, high = budget.interval.low, budget.interval.high
        ends = f"{format_count(low)} to {format_count(high)}" if low is not None and high is not None else "unknown"
        lines.append(
            f"  {budget.flops:9.2e}  {len(budget.rows):4}  {format_count(budget.params):>8}  {ends:15}  "
            f"{format_count(budget.tokens):>8}  {format_number(budget.loss):>6}"
        )
    refused = [budget for budget in fit.budgets if budget.reason]
    lines += [f"  {budget.flops:9.2e}  {len(budget.rows):4}  {budget.reason}" for budget in refused[:SHOWN_REFUSALS]]
    if len(refused) > SHOWN_REFUSALS:
        lines.append(f"  and {len(refused) - SHOWN_REFUSALS} more budgets that are not used")
    return "\n".join(lines)


def isoflop_to_json(fit: "IsoFlopFit") -> dict[str, Any]:
    """The contract's keys, and every budget."""
    return {
        "law": "isoflop",
        "equation": "N_opt = params_at_one C^a, D_opt = tokens_at_one C^b",
        "objective_kind": "squares",
        "points": len(fit.points),
        **frontier_json(fit.frontier, fit.intervals),
        "level": fit.level,
        "status": str(fit.status),
        "reason": fit.reason,
        "budgets": [
            {
                "flops": budget.flops,
                "runs": len(budget.rows),
                "sizes": budget.n_sizes,
                "status": str(budget.status),
                "reason": budget.reason,
                "params": budget.params,
                "params_interval": budget.interval.as_list(),
                "tokens": budget.tokens,
                "loss": budget.loss,
                "curvature": budget.curvature,
            }
            for budget in fit.budgets
        ],
    }


def describe_envelope(fit: "EnvelopeFit") -> str:
    """The frontier and what it goes through."""
    kept = int(fit.minima.kept.sum())
    lines = ["envelope: the lowest of all training curves at each budget (Hoffmann et al. 2022, approach 1)", ""]
    lines += [*frontier_lines(fit), "", status_line(fit.status, fit.reason)]
    lines.append(
        f"minima      {kept} of {len(fit.minima.kept)} budgets have a best size between smaller and larger ones, of "
        f"{fit.n_runs} runs; intervals are of runs drawn again"
    )
    return "\n".join(lines)


def envelope_to_json(fit: "EnvelopeFit") -> dict[str, Any]:
    """The contract's keys, and the minima that are kept."""
    minima = fit.minima
    columns = {"flops": minima.flops, "params": minima.params, "tokens": minima.tokens, "loss": minima.loss}
    return {
        "law": "envelope",
        "equation": "N_opt = params_at_one C^a, D_opt = tokens_at_one C^b",
        "objective_kind": "squares",
        "points": int(minima.kept.sum()),
        "runs": fit.n_runs,
        **frontier_json(fit.frontier, fit.intervals),
        "level": fit.level,
        "status": str(fit.status),
        "reason": fit.reason,
        "minima": {name: values[minima.kept].tolist() for name, values in columns.items()},
    }


def describe_holdout(windows: Sequence["HoldOut"], errors: Mapping[str, float]) -> str:
    """A row for each held-out size and law, then the mean error of each law."""
    width = max(len(window.law) for window in windows)
    unit = windows[0].variable
    lines = [
        f"held out: each of the larger {unit} predicted from all below it",
        f"  {unit:>8}  {'law':{width}}  {'points':>6}  {'observed':>9}  {'predicted':>9}  error",
    ]
    lines += [
        f"  {format_count(window.size):>8}  {window.law:{width}}  {window.n_fitted:6}  "
        f"{format_number(window.observed):>9}  {format_number(window.predicted):>9}  {window.relative_error:.2%}"
        for window in windows
    ]
    lines += [f"  {'mean':>8}  {law:{width}}  {'':6}  {'':9}  {'':9}  {error:.2%}" for law, error in errors.items()]
    return "\n".join(lines)


def holdout_to_json(windows: Sequence["HoldOut"], errors: Mapping[str, float]) -> dict[str, Any]:
    """Every prediction of a held-out size, and each law's mean relative error."""
    rows = [{name: finite(value) for name, value in dataclasses.asdict(window).items()} for window in windows]
    return {"windows": rows, "mean_errors": {law: finite(error) for law, error in errors.items()}}
