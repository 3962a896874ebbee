"""MLflow's page opens on all runs of a sweep and four charts: read off the page of a real browser."""

import base64
import json
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from upath import UPath

from ladder.platform.runs.curve import read_curve
from ladder.platform.tracking.database import open_experiment
from ladder.platform.tracking.records import open_sweep
from ladder.platform.tracking.sync import sync_runs
from ladder.platform.tracking.view import VIEW_TAG, prepare_view, view_address
from ladder.sweeps.expand import CorpusFacts, expand
from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Run, Sweep, grid
from tests.platform.tracking.browser import Browser, programs
from tests.platform.tracking.conftest import Folder, free_port, score, wait_for

GRID = Sweep(
    name="mine",
    corpus="c",
    context=32,
    points=grid(sizes=("1x16", "2x32", "3x64"), tokens=(4096, 8192, 16384, 32768)),
    recipe=small_recipe,
    question="What is asked.",
)
"""More runs than the ten that MLflow draws by default."""
RUNS = expand(GRID, CorpusFacts(name="c", vocabulary=257, fingerprint="f"), precision="fp32")
STEPS = range(10, 101, 10)

CHARTS = """
return [...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
    title: plot.closest('[data-testid="experiment-view-compare-runs-card"]').innerText.split('\\n')[0],
    x: plot._fullLayout.xaxis.type, y: plot._fullLayout.yaxis.type, over: plot._fullLayout.xaxis.title.text,
    points: plot.data.flatMap(line => (line.x ?? []).map((x, i) => [line.name, x, line.y[i]])),
    drawn: plot.querySelectorAll('.scatterlayer .trace path.point').length,
}));
"""


def law(run: Run) -> float:
    """A held-out loss that falls with size and tokens."""
    return 1.5 + 20 * run.size.params_total**-0.3 + 30 * run.recipe.tokens**-0.35


def finish(storage: UPath, client: Any) -> str:
    """All runs of the grid, finished and tracked; MLflow's id of the experiment."""
    tracked = open_sweep(client, GRID, RUNS, storage)
    for run in RUNS:
        accuracy = score("lambada", 1 / law(run)) | {"metric": "accuracy"}
        Folder(storage, GRID, run).finish(STEPS, score("heldout", law(run)), accuracy)
    sync_runs(client, tracked, GRID, RUNS, storage)
    return tracked.experiment


def saved_state(client: Any, experiment: str) -> dict[str, Any]:
    """The state of the page, decoded as MLflow's front end does it."""
    view = json.loads(client.get_experiment(experiment).tags[VIEW_TAG])
    assert isinstance(view["name"], str) and isinstance(view["createdAt"], int)
    packed = view["state"].removeprefix("deflate;")
    assert packed != view["state"]
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def test_a_new_experiment_is_marked_as_the_training_of_models(world: Any) -> None:
    experiment = open_experiment(world.client, "new", world.storage)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_view_names_the_scores_that_the_runs_have(world: Any) -> None:
    experiment = finish(world.storage, world.client)
    prepare_view(world.client, experiment)
    state = saved_state(world.client, experiment)
    assert {"metrics.`heldout/loss`", "metrics.`lambada/accuracy`", "params.`size`"} <= set(state["selectedColumns"])
    lines, (parallel,) = state["compareRunCharts"][:-1], state["compareRunCharts"][-1:]
    assert len(lines) == 3 and parallel["selectedMetrics"] == ["heldout/loss", "lambada/accuracy"]
    assert len(world.client.get_experiment(experiment).tags[VIEW_TAG]) < 5000, "the least that any MLflow keeps"


def test_a_view_that_is_prepared_again_is_not_written_again(world: Any) -> None:
    experiment = finish(world.storage, world.client)
    prepare_view(world.client, experiment)
    before = world.client.get_experiment(experiment).last_update_time
    time.sleep(0.01)
    prepare_view(world.client, experiment)
    assert world.client.get_experiment(experiment).last_update_time == before


def test_runs_that_an_older_ladder_tracked_get_their_points(world: Any) -> None:
    """As many as a newer one gives them, so that a second sync doubles none."""
    run = RUNS[0]
    experiment = open_experiment(world.client, "older", world.storage).experiment_id
    record = world.client.create_run(experiment, tags={"ladder.kind": "run"}).info.run_id
    params = {"params_total": run.size.params_total, "flops_6nd": run.size.flops_6nd(run.recipe.tokens)}
    for name, value in params.items():
        world.client.log_param(record, name, value)
    world.client.log_metric(record, "heldout/loss", 3.0, timestamp=123, step=7)
    for _ in range(2):
        prepare_view(world.client, experiment)
        (point,) = world.client.get_metric_history(record, "scaling/loss_over_params")
        assert (point.value, point.step, point.timestamp) == (3.0, run.size.params_total, 123)
        (point,) = world.client.get_metric_history(record, "scaling/loss_over_megaflops")
        assert point.step == round(params["flops_6nd"] / 1e6)


class Ui:
    """`ladder ui` in a process of its own."""

    def __init__(self, storage: UPath) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "ladder", "ui", "--storage", str(storage), "--port", str(self.port)]
        started = time.monotonic()
        self.process = subprocess.Popen([*command, "--no-open"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.said = [self.process.stdout.readline() for _ in range(3)]
        self.seconds = time.monotonic() - started

    @property
    def family(self) -> list[psutil.Process]:
        """The command and all that it started."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def close(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)


@pytest.fixture
def ui(world: Any) -> Iterator[Ui]:
    finish(world.storage, world.client)
    ui = Ui(world.storage)
    yield ui
    ui.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    programs()
    browser = Browser(tmp_path / "profile", free_port(), wait_for)
    yield browser
    browser.close()


@pytest.mark.slow
def test_the_ui_is_three_processes_and_leaves_none(ui: Ui, world: Any) -> None:
    """The command, MLflow's, and one worker; no runner of jobs."""
    print(f"up in {ui.seconds:.1f} s")
    experiment = world.experiment()
    assert view_address(f"http://127.0.0.1:{ui.port}", experiment) in ui.said[1]
    family = ui.family
    assert len(family) == 3, [process.cmdline() for process in family]
    assert {c.laddr.ip for p in family for c in p.net_connections("tcp") if c.status == "LISTEN"} == {"127.0.0.1"}
    began = time.monotonic()
    ui.process.send_signal(signal.SIGINT)
    assert ui.process.wait(30) == 0
    assert not psutil.wait_procs(family, timeout=0)[1]
    print(f"gone in {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 3


@pytest.mark.slow
def test_the_page_shows_all_runs_and_four_charts_without_a_click(ui: Ui, browser: Browser, tmp_path: Path) -> None:
    browser.open(ui.said[1].removeprefix("  charts: ").strip())
    wait_for(lambda: len(browser.run(CHARTS)) >= 3 and all(chart["points"] for chart in browser.run(CHARTS)[:3]))
    wait_for(lambda: browser.run("return document.querySelectorAll('.parcoords .label').length") == 5)
    browser.picture(tmp_path / "view.png")
    print(f"picture: {tmp_path / 'view.png'}")
    curves, by_params, by_flops = browser.run(CHARTS)[:3]
    assert {(run, x, y) for run, x, y in curves["points"]} == {
        (run.key, point["train/tokens"], point["train/loss"])
        for run in RUNS
        for point in read_curve(Folder(UPath(tmp_path / "storage"), GRID, run).path)
    }
    assert curves["over"] == "train/tokens" and curves["y"] == "log"
    params = {run.key: run.size.params_total for run in RUNS}
    assert {name: x for name, x, _ in by_params["points"]} == params
    for chart in (by_params, by_flops):
        assert {name: y for name, _, y in chart["points"]} == pytest.approx({run.key: law(run) for run in RUNS})
    for chart in (by_params, by_flops):
        assert (chart["x"], chart["y"]) == ("log", "log") and chart["drawn"] >= len(RUNS)
    flops = {run.key: run.size.flops_6nd(run.recipe.tokens) / 1e6 for run in RUNS}
    assert {name: x for name, x, _ in by_flops["points"]} == {key: round(value) for key, value in flops.items()}
    text = browser.run("return document.body.innerText")
    assert all(run.key in text for run in RUNS)
    axes = browser.run("return [...document.querySelectorAll('.parcoords .label')].map(label => label.textContent)")
    assert set(axes[:4]) == {"params_total", "tokens", "lr_peak", "heldout/loss"}
    assert axes[4].startswith("lambad") and axes[4].endswith("curacy"), "MLflow cuts what has no room"
    titles = ["train/loss", "scaling/loss_over_params", "scaling/loss_over_megaflops"]
    assert [chart["title"] for chart in (curves, by_params, by_flops)] == titles
