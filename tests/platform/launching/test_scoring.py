"""Many checkpoints at one time are scored as one by one, and a checkpoint that fails stops no other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayTaskError, WorkerCrashedError
from upath import UPath

from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.weights import save_weights
from ladder.platform.evaluation.checkpoints.score import Outcome, ScoringTask, score_checkpoint
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.evaluation.scorer import Progress
from ladder.platform.launching import scoring
from ladder.platform.launching.scoring import score_all


@pytest.fixture
def tasks(tmp_path: Path, storage: UPath) -> list[ScoringTask]:
    """Three checkpoints of growing size, the second one damaged."""
    made = []
    for name in ("1x16h1", "2x16h1", "2x32h2"):
        save_weights(GPT2(parse_size(name, context=32, vocabulary=257), seed=1), tmp_path / name, tokenizer="bytes")
        task = ScoringTask(
            checkpoint=str(tmp_path / name),
            benchmarks=("heldout", "pages-bytes"),
            storage=str(storage),
            corpus="small",
            device="cpu",
            precision="fp32",
            use_cache=False,
        )
        made.append(task)
    weights = tmp_path / "2x16h1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    return made


def values(outcomes: list[Outcome]) -> dict[tuple[str, str | None], list[float]]:
    return {(o.checkpoint, o.benchmark): [m.value for m in o.measurements] for o in outcomes}


def test_over_ray_the_scores_are_those_of_one_by_one(tasks: list[ScoringTask]) -> None:
    together = list(score_all(tasks, concurrent=2))
    alone = [outcome for task in tasks for outcome in score_checkpoint(task)]
    assert values(together).keys() == values(alone).keys()
    assert len(together) == 5, "two benchmarks of two checkpoints, and one checkpoint that is damaged"
    for which, numbers in values(alone).items():
        assert values(together)[which] == pytest.approx(numbers, rel=1e-5), which
    (damaged,) = [outcome for outcome in together if outcome.problem is not None]
    assert damaged.checkpoint == tasks[1].checkpoint
    assert "truncated or damaged" in str(damaged.problem)


class FakeRay:
    """Streams of outcomes as Ray gives them, without Ray; of the streams waited for, the first is ready."""

    def __init__(self, streams: dict[str, list[Any]]) -> None:
        self.streams = streams
        self.started: list[str] = []

    def remote(self, task: ScoringTask, threads: int) -> Any:
        self.started.append(task.checkpoint)
        return iter(self.streams[task.checkpoint])

    def wait(self, streams: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return streams[:num_returns], streams[num_returns:]

    def get(self, item: Any) -> Any:
        if isinstance(item, Exception):
            raise item
        return item


def test_a_worker_that_dies_or_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    measurement = Measurement(benchmark="b", protocol="", metric="m", value=1.0, unit="", direction="lower", count=1)
    good = Outcome(checkpoint="good", benchmark="b", measurements=(measurement,), params_total=1)
    failed = RayTaskError("score", "traceback", ValueError("no such thing"))
    fake = FakeRay({"dies": [WorkerCrashedError()], "fails": [failed], "good": [good], "late": [good]})
    monkeypatch.setattr(scoring, "ray", fake)
    tasks = [ScoringTask(checkpoint=name, benchmarks=("b",), storage=".") for name in fake.streams]
    outcomes = list(scoring._spread(tasks, fake, slots=2, cpus=1))
    assert fake.started == ["dies", "fails", "good", "late"]
    assert [(outcome.checkpoint, outcome.problem) for outcome in outcomes] == [
        (
            "dies",
            "its worker died, as it does when memory runs out (WorkerCrashedError); try fewer --concurrent-checkpoints",
        ),
        ("fails", "ValueError: no such thing"),
        ("good", None),
        ("good", None),
    ]


def test_one_by_one_a_checkpoint_that_fails_stops_no_other_either(
    tasks: list[ScoringTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(task: ScoringTask, progress: Progress) -> Iterator[Outcome]:
        if task is tasks[0]:
            raise RuntimeError("a bug")
        yield Outcome(checkpoint=task.checkpoint, benchmark="b", params_total=1)

    monkeypatch.setattr(scoring, "score_checkpoint", fail)
    problems = [outcome.problem for outcome in score_all(tasks, concurrent=1)]
    assert problems == ["RuntimeError: a bug", None, None]
    with pytest.raises(RuntimeError, match="a bug"):
        list(score_all(tasks[:1], concurrent=1))


def test_as_many_checkpoints_as_cores_and_memory_hold(
    tasks: list[ScoringTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Memory:
        available = 5 * scoring.SLOT_BYTES

    monkeypatch.setattr(scoring.psutil, "virtual_memory", Memory)
    monkeypatch.setattr(scoring.torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(scoring, "count_cores", lambda: 16)
    assert scoring._room(tasks) == 4, "each slot has its memory and the weights twice"
    monkeypatch.setattr(scoring, "count_cores", lambda: 3)
    assert scoring._room(tasks) == 3
    monkeypatch.setattr(scoring.torch.cuda, "device_count", lambda: 8)
    assert scoring._room(tasks) == 3, "the tasks ask for the processor"


def test_a_slot_has_no_more_cores_than_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        {"Alive": True, "Resources": {"memory": 1.0}},
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    monkeypatch.setattr(scoring.ray, "nodes", lambda: nodes)
    assert scoring._cores_each(6, gpus=0) == 2
    assert scoring._cores_each(1, gpus=0) == 4
    assert scoring._cores_each(2, gpus=1) == 2
    assert scoring._cores_each(99, gpus=0) == 1
