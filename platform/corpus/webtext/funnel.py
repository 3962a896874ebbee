"""What each step let through and what it left out, by reason: one list from lines to documents."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Counts = Mapping[str, int]
RULES = ("domain ", "extension ", "contains ", "subreddit ")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: `entered` is `left` plus the reasons."""

    name: str
    """What it does."""
    unit: str
    """What is counted."""
    entered: int
    """How many came in."""
    left: int
    """How many went on."""
    reasons: Mapping[str, int]
    """Why the others did not, the most frequent first."""


def make_funnel(stages: Mapping[str, Mapping[str, Any]], splits: Mapping[str, int]) -> list[dict[str, Any]]:
    """The steps of a corpus, as JSON; `splits` are the documents of each split."""
    steps: list[Step] = []
    if "links" in stages:
        steps += _link_steps(stages["links"]["counts"], stages["pages"]["counts"])
    else:
        pages = stages["pages"]["counts"]
        steps.append(_step("texts with a URL of their own", "texts", pages["captures"], pages["found"], ["same_url"]))
    text, duplicates = stages["text"]["counts"], stages["duplicates"]["counts"]
    reasons = {name: n for name, n in text.items() if name not in ("pages", "kept", "bytes")}
    steps.append(_with_reasons("text of the pages", "pages", text["pages"], text["kept"], reasons))
    reasons = {f"{kind}_duplicate": duplicates.get(kind, 0) for kind in ("exact", "near")}
    steps.append(_with_reasons("each text once", "documents", duplicates["documents"], duplicates["kept"], reasons))
    train = splits["train"]
    steps.append(
        _with_reasons("to train on", "documents", sum(splits.values()), train, {"held_out": splits["heldout"]})
    )
    return [asdict(step) for step in steps]


def _link_steps(links: Counts, pages: Counts) -> list[Step]:
    posted = ("over_18", "late", "no_date", "self", "bad_url")
    by_rule = {name: n for name, n in links.items() if name.startswith(RULES)}
    dropped = {name: links[name] for name in posted if name in links}
    submissions = links["submissions"]
    unread = {name: links[name] for name in ("broken", "empty") if links.get(name)}
    return [
        _with_reasons("lines of the dumps", "lines", submissions + sum(unread.values()), submissions, unread),
        _with_reasons("links that may stay", "submissions", submissions, links["links"], {**dropped, **by_rule}),
        _step("each URL once", "submissions", links["links"], links["urls"], ["same_url"]),
        _step("enough karma", "URLs", links["urls"], links["kept"], ["low_score"]),
        _step("found in the archives", "URLs", links["kept"], pages["found"], ["not_found"]),
    ]


def _step(name: str, unit: str, entered: int, left: int, reason: Sequence[str]) -> Step:
    return _with_reasons(name, unit, entered, left, {reason[0]: entered - left})


def _with_reasons(name: str, unit: str, entered: int, left: int, reasons: Counts) -> Step:
    ordered = dict(sorted(((why, n) for why, n in reasons.items() if n), key=lambda item: (-item[1], item[0])))
    return Step(name=name, unit=unit, entered=entered, left=left, reasons=ordered)
