"""Numbers for people: few digits, a unit prefix where one is usual."""

import math

PREFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
FLOPS_PER_PF_DAY = 1e15 * 86400
"""Training FLOPs in one petaflop/s-day (Kaplan et al. 2020, section 1.1)."""


def format_number(value: float | None, digits: int = 4) -> str:
    """4 significant digits, plain between 1e-3 and 1e5, otherwise with an exponent; a dash for an absent value."""
    if value is None or not math.isfinite(value):
        return "-"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}".replace("e+", "e")
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def format_count(value: float) -> str:
    """1.2M, 350k, 7B: parameters and tokens to three digits."""
    for size, letter in PREFIXES:
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
