"""The smallest pieces of the report's sentences: intervals, equations with their numbers, how a fit was made."""

from collections.abc import Sequence

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.fitting.intervals import Interval
from ladder.analysis.laws.units import format_count, format_number

NAMED = 6
"""Names that a sentence lists before it counts the rest."""


def interval(ends: Interval) -> str:
    """low to high, or unknown."""
    if ends.low is None or ends.high is None:
        return "unknown"
    return f"{format_number(ends.low)} to {format_number(ends.high)}"


def count_interval(ends: Interval) -> str:
    """low to high of parameters or tokens, or unknown."""
    if ends.low is None or ends.high is None:
        return "unknown"
    return f"{format_count(ends.low)} to {format_count(ends.high)}"


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
