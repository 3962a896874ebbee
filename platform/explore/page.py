"""The page: its files as the server sends them, and one file of them all with the answers, for who has no server."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ladder.platform.explore.catalogue import Entry
from ladder.platform.explore.views import EXAMPLE_CANDIDATES, EXAMPLE_TEXT, Question

FOLDER = Path(__file__).parent / "static"
SCRIPTS = ("text.js", "drawing.js", "panels.js", "page.js")
"""In the order of loading."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy: nothing from another host, no script or style within the page."""


def page_state(title: str, entries: Sequence[Entry], items: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """What the page is told when it opens: the checkpoints by N and tokens, the example and the benchmarks' items."""
    return {
        "title": title,
        "models": [entry.to_json() for entry in entries],
        "example": {"text": EXAMPLE_TEXT, "candidates": EXAMPLE_CANDIDATES},
        "items": list(items),
    }


def saved_page(state: Mapping[str, Any], question: Question, answers: Mapping[str, Any], view: str) -> str:
    """The page as one HTML file: the same scripts and style, and the answers in place of a server."""
    html = (FOLDER / "page.html").read_text()
    style = (FOLDER / "page.css").read_text()
    script = "\n".join((FOLDER / name).read_text() for name in SCRIPTS)
    saved = {"state": state, "question": asdict(question), "answers": answers, "view": view}
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:"
    tags = "".join(f'<script src="{name}" defer></script>\n' for name in SCRIPTS)
    assert tags in html, "page.html loads the scripts in the order of SCRIPTS"
    return (
        html.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{_policy_tag(policy)}')
        .replace('<link rel="stylesheet" href="page.css">', f"<style>{style}</style>")
        .replace(tags, f'<script type="application/json" id="saved">{_embed(saved)}</script>\n')
        .replace("</body>", f"<script>{script}</script>\n</body>")
    )


def _policy_tag(policy: str) -> str:
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">'


def _embed(value: Any) -> str:
    """JSON that no text in it can end: every < is escaped."""
    return json.dumps(value).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
