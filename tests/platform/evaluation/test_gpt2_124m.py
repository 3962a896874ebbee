"""GPT-2 124M scores what is known of it: wants a local copy (LADDER_GPT2=folder), or the network (-m network).

LAMBADA is asserted against what public runs of the same weights on the same file print. What the other sets come to is
written beside the paper's scores into the file that LADDER_SCORES names, one JSON line a score. Benchmarks are read
from LADDER_STORAGE, where `ladder fetch` puts them; one that is not there is left out, with what to do.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.weights import save_weights
from ladder.platform.evaluation.checkpoints.score import ScoringTask, score_checkpoint
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.evaluation.registry import BENCHMARKS

PUBLISHED: Mapping[str, tuple[float, float]] = {
    "lambada/accuracy": (0.3256, 0.0002),
    "lambada/perplexity": (40.06, 0.02),
    "lambada/accuracy_last_token": (0.4667, 0.002),
}
"""What is printed of the 124M weights on OpenAI's LAMBADA, and the rounding it has: by lm-evaluation-harness
(`lambada_openai`), and for the last token by re-runs of the paper (openai/gpt-2 issue 131, transformers issue 491)."""

RECORDED = ("cbt-cn", "cbt-ne", "wikitext2", "wikitext103", "ptb", "lambada-preprocessed", "wikitext2-raw")
"""Benchmarks of which what they come to is recorded beside the paper's."""


def score_gpt2(source: str, storage: UPath, names: Sequence[str]) -> dict[str, Measurement]:
    """The measurements of a checkpoint on the benchmarks, by name; it fails where one cannot be scored."""
    task = ScoringTask(
        checkpoint=source, benchmarks=tuple(names), storage=str(storage), precision="fp32", use_cache=False
    )
    outcomes = list(score_checkpoint(task))
    problems = [outcome.problem for outcome in outcomes if outcome.problem is not None]
    assert not problems, problems
    return {measurement.name: measurement for outcome in outcomes for measurement in outcome.measurements}


def differing(scores: Mapping[str, Measurement], published: Mapping[str, tuple[float, float]]) -> list[str]:
    """The scores that are not what is published, within its rounding."""
    return [
        f"{name}: got {scores[name].value:.5g}, published {value:.5g}"
        for name, (value, rounding) in published.items()
        if abs(scores[name].value - value) > rounding
    ]


def at_hand(storage: UPath, names: Sequence[str]) -> list[str]:
    """Those of the benchmarks whose files are in a storage."""
    return [name for name in names if BENCHMARKS[name].missing(storage=storage, corpus=None) is None]


def record(scores: Mapping[str, Measurement], path: Path, *, size: str) -> None:
    """Adds each score to a file of JSON lines, beside the paper's of that size."""
    with path.open("a") as file:
        for name, score in scores.items():
            line = {"name": name, "value": score.value, "standard_error": score.standard_error, "count": score.count}
            file.write(json.dumps(line | {"paper": score.paper_scores.get(size)}) + "\n")


@pytest.fixture(params=["local", pytest.param("hub", marks=pytest.mark.network)])
def gpt2(request: pytest.FixtureRequest, gpt2_vocabulary: None) -> str:
    """GPT-2 124M: the folder that LADDER_GPT2 names, or with the network the Hugging Face name."""
    if request.param == "hub":
        return "openai-community/gpt2"
    folder = os.environ.get("LADDER_GPT2")
    if folder is None:
        pytest.skip("no local copy of GPT-2 124M: set LADDER_GPT2 to its folder, or run with -m network")
    return folder


@pytest.fixture
def storage(shared: Path, tmp_path: Path) -> UPath:
    """The storage of LADDER_STORAGE, or one with LAMBADA alone."""
    if "LADDER_STORAGE" in os.environ:
        return UPath(os.environ["LADDER_STORAGE"])
    lambada = tmp_path / "benchmarks" / "lambada"
    lambada.mkdir(parents=True)
    (lambada / "lambada_test.jsonl").symlink_to(shared / "benchmarks" / "lambada" / "lambada_test.jsonl")
    return UPath(tmp_path)


@pytest.mark.timeout(3600)
def test_lambada_of_gpt2_124m_is_what_public_runs_print(gpt2: str, storage: UPath) -> None:
    scores = score_gpt2(gpt2, storage, ["lambada"])
    assert scores["lambada/accuracy"].count == 5153
    assert differing(scores, PUBLISHED) == []


@pytest.mark.timeout(7200)
def test_what_the_other_sets_come_to_is_recorded_beside_the_papers(gpt2: str, storage: UPath, tmp_path: Path) -> None:
    names = at_hand(storage, RECORDED)
    path = Path(os.environ.get("LADDER_SCORES", tmp_path / "scores.jsonl"))
    record(score_gpt2(gpt2, storage, names), path, size="117M")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["name"].partition("/")[0] for line in lines} >= set(names)
    for line in lines:
        if line["paper"] is not None and line["name"].endswith("accuracy"):
            assert abs(line["value"] - line["paper"]) < 0.05, line
        elif line["paper"] is not None:
            assert abs(line["value"] / line["paper"] - 1) < 0.25, line


def test_a_checkpoint_that_is_not_gpt2_differs_from_what_is_published(
    shared: Path, storage: UPath, gpt2_vocabulary: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above do, with weights that are at hand: an untrained model fails each assertion, and is recorded
    beside the paper's scores."""
    monkeypatch.delenv("LADDER_STORAGE", raising=False)
    lines = (shared / "benchmarks" / "lambada" / "lambada_test.jsonl").read_text().splitlines()[:8]
    file = tmp_path / "few" / "benchmarks" / "lambada" / "lambada_test.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n")
    save_weights(GPT2(parse_size("1x16h1"), seed=0), tmp_path / "small", tokenizer="gpt2")
    few = UPath(tmp_path / "few")
    assert at_hand(few, ("lambada", *RECORDED)) == ["lambada", "lambada-preprocessed"]
    scores = score_gpt2(str(tmp_path / "small"), few, ["lambada"])
    assert [text.partition(":")[0] for text in differing(scores, PUBLISHED)] == list(PUBLISHED)
    exact = {name: (scores[name].value, 0.0) for name in PUBLISHED}
    assert differing(scores, exact) == []
    record(scores, tmp_path / "scores.jsonl", size="117M")
    written = {line["name"]: line["paper"] for line in map(json.loads, (tmp_path / "scores.jsonl").open())}
    assert written == {"lambada/perplexity": 35.13, "lambada/accuracy": None, "lambada/accuracy_last_token": 0.4599}
