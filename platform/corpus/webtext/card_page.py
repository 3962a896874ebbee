"""The card as one HTML page that needs nothing else: no script, no picture, no network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

RULE_LIMIT = 60


def draw_card(card: Mapping[str, Any]) -> str:
    """The page of a card's numbers."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(n=_number, percent=_percent, words=_words, json=_json)
    return environment.get_template("card.html").render(card=card, rule_limit=RULE_LIMIT)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    figure = f"{100 * share:.1f}" if share >= 0.001 or share == 0 else f"{100 * share:.2g}"
    return f"{figure}\u00a0%"  # no line ends between the two


def _words(name: str) -> str:
    return name.replace("_", " ")


def _json(value: Any) -> str:
    import json

    return json.dumps(value, indent=1)
