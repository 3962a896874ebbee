"""How runs are given to workers and what is told of them, without Ray: its workers are calls in this process."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.exceptions import RayTaskError

from ladder.models.errors import InputError
from ladder.platform.finetuning.data import load_task
from ladder.platform.finetuning.local import JobState
from ladder.platform.launching import finetuning as module
from ladder.platform.launching.cluster import Cluster, NodeType
from ladder.platform.launching.finetuning import fine_tune_all
from tests.platform.finetuning.conftest import write_sst2
from tests.platform.launching.test_finetuning_on_ray import jobs

CPU = torch.device("cpu")


class FakeRay:
    """Ray whose tasks are done when they are waited for, one at each wait."""

    def __init__(self) -> None:
        self.options_seen: list[dict[str, Any]] = []

    def remote(self, function: Callable[..., Any]) -> Any:
        fake = self

        class Remote:
            def options(self, **options: Any) -> "Remote":
                fake.options_seen.append(options)
                return self

            def remote(self, *arguments: Any) -> Callable[[], Any]:
                return lambda: function(*arguments)

        return Remote()

    def wait(self, going: Sequence[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        assert num_returns == len(going) and timeout > 0
        return list(going[:1]), list(going[1:])

    def get(self, done: Sequence[Callable[[], Any]]) -> list[Any]:
        try:
            return [task() for task in done]
        except InputError as error:
            raise RayTaskError("function", "a trace", error) from error


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """FakeRay in Ray's place, on a machine of two cores."""
    made = FakeRay()

    @contextmanager
    def connected(address: str | None) -> Iterator[Cluster]:
        yield Cluster(local=address is None, types=(NodeType(name="this machine", cpus=2, gpus=0),))

    monkeypatch.setattr(module, "ray", made)
    monkeypatch.setattr(module, "connected", connected)
    return made


def test_two_workers_do_all_runs_and_each_end_is_told_once(tmp_path: Path, fake: FakeRay) -> None:
    shown: list[tuple[str, int, int]] = []

    def show(state: JobState, known: int, total: int) -> None:
        shown.append((state.job.run.key, known, total))

    made = jobs(tmp_path, "storage", seeds=2, train=32)
    states = fine_tune_all([*made, *made], CPU, show=show, concurrent=2)
    assert fake.options_seen == [{"num_cpus": 1, "num_gpus": 0, "max_retries": 3}]
    assert [(state.state, state.worked_on) for state in states] == [("finished", True)] * 4
    assert [known for _, known, _ in shown] == [1, 2, 3, 4] and {total for *_, total in shown} == {4}
    again = fine_tune_all(made, CPU, show=show, concurrent=2)
    assert [(state.state, state.worked_on) for state in again] == [("finished", False)] * 4
    assert len(fake.options_seen) == 1, "what is there already needs no Ray"


def test_an_error_of_the_user_s_is_raised_as_it_is(tmp_path: Path, fake: FakeRay) -> None:
    made = jobs(tmp_path, "storage", seeds=1, train=32)
    write_sst2(tmp_path / "data", train=33, dev=40)
    load_task.cache_clear()
    with pytest.raises(InputError, match="are no longer those that the run is of"):
        fine_tune_all(made, CPU, show=lambda state, known, total: None, concurrent=2)


def test_more_workers_than_cores_are_refused(tmp_path: Path, fake: FakeRay) -> None:
    made = jobs(tmp_path, "storage", seeds=2, train=32)
    with pytest.raises(InputError, match="--concurrent-runs 3: this machine has room for 2"):
        fine_tune_all(made, CPU, show=lambda state, known, total: None, concurrent=3)
