"""From which size on one candidate is likelier than another, in a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What a checkpoint gives to two candidates."""

    size: str
    params: int
    tokens: int
    """Tokens it was trained on; 0 where unknown."""
    first: float
    """Probability of the first candidate."""
    second: float
    """Probability of the second candidate."""


def describe_lead(pairs: Sequence[Pair], first: str, second: str) -> str:
    """Where the first candidate leads the second; each size by its checkpoints of most tokens, seeds averaged."""
    sizes = _by_size(pairs)
    if not sizes:
        return ""
    leads = [pair.first > pair.second for pair in sizes]
    a, b = _quote(first), _quote(second)
    if len(sizes) == 1:
        (only,) = sizes
        return f"{a} is {_ratio(only.first, only.second)} {b} for the model of {only.params:,} parameters."
    if all(leads):
        return f"{a} is likelier than {b} at every size."
    if not any(leads):
        return f"{a} is not likelier than {b} at any size."
    begins = len(leads) - next((i for i, lead in enumerate(reversed(leads)) if not lead), len(leads))
    if begins < len(leads):
        size = sizes[begins]
        before = " Below that it leads at some sizes and not at others." if any(leads[:begins]) else ""
        return f"{a} is likelier than {b} from {size.params:,} parameters on ({size.size}).{before}"
    return f"{a} is likelier than {b} at {sum(leads)} of {len(leads)} sizes, but not at the largest."


def _by_size(pairs: Sequence[Pair]) -> list[Pair]:
    found = []
    for params in sorted({pair.params for pair in pairs}):
        own = [pair for pair in pairs if pair.params == params]
        most = max(pair.tokens for pair in own)
        last = [pair for pair in own if pair.tokens == most]
        first, second = fmean(pair.first for pair in last), fmean(pair.second for pair in last)
        found.append(Pair(size=last[0].size, params=params, tokens=most, first=first, second=second))
    return found


def _ratio(first: float, second: float) -> str:
    if first == second:
        return "as likely as"
    if min(first, second) == 0:
        return "likelier than" if first > second else "less likely than"
    times = max(first, second) / min(first, second)
    return f"{times:.3g} times {'likelier than' if first > second else 'less likely than'}"


def _quote(text: str) -> str:
    return f'"{text.strip()}"' if text.strip() else repr(text)
