"""A fit as JSON for programs and as a plain table for people."""

import dataclasses
import math
from typing import Any

from ladder.analysis.fits import Fit
from ladder.analysis.units import format_number


def fit_to_json(fit: Fit) -> dict[str, Any]:
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
        "health": {name: finite(value) for name, value in dataclasses.asdict(fit.health).items()},
    }


def finite(value: Any) -> Any:
    """The value, or None where JSON has no word for it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def describe_fit(fit: Fit) -> str:
    """A readable summary: law, parameters with intervals, status, health."""
    objective = fit.objective.kind + (f" (delta {fit.objective.delta:g})" if fit.objective.kind == "huber" else "")
    width = max(len(name) for name in fit.law.parameters)
    lines = [f"{fit.law.name}: {fit.law.equation}", ""]
    lines.append(f"  {'':{width}}  {'value':>12}  {fit.level:.0%} interval")
    for name, value in fit.law.parameters.items():
        interval = fit.intervals[name]
        known = interval.low is not None and interval.high is not None
        ends = f"{format_number(interval.low)} to {format_number(interval.high)}" if known else "unknown"
        lines.append(f"  {name:{width}}  {format_number(value):>12}  {ends}")
    health = fit.health
    lines += [
        "",
        f"status      {fit.status}" + (f": {fit.reason}" if fit.reason else ""),
        f"objective   {fit.value:.7e}, {objective}, summed over {len(fit.points)} points",
        f"residuals   root mean square {health.residual_rms:.3g}, largest {health.residual_max:.3g}"
        + (f", R2 {health.r_squared:.4f}" if health.r_squared is not None else ""),
        f"health      {health.best_share:.0%} of {health.starts} starts reached the best objective, condition number "
        f"{health.condition_number:.3g}, scaled gradient {health.gradient_norm:.1e}",
    ]
    return "\n".join(lines)
