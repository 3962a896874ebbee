"""`ladder plan`: a sweep before it is run, a budget after one was, and what a user gets wrong."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from ladder.analysis.laws.surfaces import BESIROGLU
from ladder.models.sizes import parse_size
from ladder.platform.command.main import main

NOISE = 0.004
SWEEP = '''"""A question."""

from ladder.sweeps.rules import gpt2_recipe
from ladder.sweeps.words import Sweep, grid

SWEEP = Sweep(
    name="{name}", corpus="webtext", recipe=gpt2_recipe,
    points=grid(sizes=("6x384", "8x512", "10x640", "117M", "345M"), tokens_per_parameter={ratios}),
)
'''


@dataclass(frozen=True)
class Ended:
    """How a call of the command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ended]:
    """Calls `ladder plan` as a shell would, in this process, with an empty storage unless one is given."""

    def call(*arguments: object) -> Ended:
        where = () if "--storage" in arguments else ("--storage", tmp_path)
        monkeypatch.setattr(sys, "argv", ["ladder", "plan", *map(str, (*arguments, *where))])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def sweep_file(tmp_path: Path) -> Callable[..., Path]:
    """A file with a sweep of five sizes at some numbers of tokens per parameter."""

    def write(name: str, ratios: tuple[int, ...]) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(SWEEP.format(name=name, ratios=ratios))
        return path

    return write


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Fifteen runs under Besiroglu's law."""
    sizes, ratios = (a.ravel() for a in np.meshgrid([3e7, 1e8, 3e8, 1e9, 3e9], [5, 20, 80]))
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(15))
    loss = BESIROGLU.score(N=sizes, D=sizes * ratios) * noise
    path = tmp_path / "runs.csv"
    pl.DataFrame({"n": sizes, "d": sizes * ratios, "c": 6 * sizes**2 * ratios, "loss": loss}).write_csv(path)
    return path


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A storage whose store has the sweep `planted`: five sizes at three ratios, two seeds each, under a known law."""
    folder = tmp_path_factory.mktemp("storage")
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("planted", artifact_location=(folder / "artifacts").as_uri())
    client.create_run(experiment, tags={"ladder.kind": "sweep", "ladder.laws": '["hoffmann"]'})
    generator = np.random.default_rng(4)
    for size in (30_000_000, 100_000_000, 300_000_000, 1_000_000_000, 3_000_000_000):
        for ratio in (5, 20, 80):
            for seed in (0, 1):
                loss = float(BESIROGLU.score(N=size, D=size * ratio) * np.exp(NOISE * generator.standard_normal()))
                params: dict[str, Any] = {"params_total": size, "params_non_embedding": size // 2}
                params |= {"size": f"s{size}", "tokens": size * ratio, "seed": seed}
                tags = {"ladder.kind": "run", "ladder.run": f"{size}-{ratio}-{seed}", "ladder.status": "finished"}
                run = client.create_run(experiment, tags=tags).info.run_id
                listed = [Param(name, str(value)) for name, value in params.items()]
                client.log_batch(run, [Metric("heldout/loss", loss, 0, 1)], listed, [RunTag("written", "yes")])
    yield folder


def test_a_sweep_is_simulated_and_runs_are_proposed(
    plan: Callable[..., Ended], sweep_file: Callable[..., Path]
) -> None:
    ended = plan(sweep_file("wide", (5, 20, 80)), "--gpu", "h100", "--price-per-gpu-hour", 2, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    resolution = found["resolution"]
    assert resolution["status"] == "identifiable" and resolution["problem"] is None
    for name, truth in BESIROGLU.parameters.items():
        low, high = resolution["before"]["intervals"][name]
        assert low < truth < high
    assert resolution["target"]["flops"] == pytest.approx(10 * max(run["flops_6nd"] for run in found["runs"]))
    low, high = resolution["before"]["loss"]
    assert low < resolution["target"]["loss"] < high
    proposal = resolution["proposal"]
    assert 1 <= len(proposal["runs"]) <= 4 and resolution["narrowing"] < 1
    there = {(run["size"], run["tokens"], run["seed"]) for run in found["runs"]}
    for run in proposal["runs"]:
        assert run["flops_6nd"] <= 1.01 * max(planned["flops_6nd"] for planned in found["runs"])
        assert run["tokens"] % run["batch_tokens"] == 0 and run["cost"] == pytest.approx(2 * run["worker_hours"])
        assert (run["size"], run["tokens"], run["seed"]) not in there
    assert proposal["flops"] == pytest.approx(sum(run["flops_6nd"] for run in proposal["runs"]))


QUICK = ("--simulations", 100, "--added-runs", 0)


def test_a_plan_says_what_runs_share_and_counts_it_once(plan: Callable[..., Ended], tmp_path: Path) -> None:
    path = tmp_path / "branched.py"
    text = SWEEP.format(name="branched", ratios=(5, 20, 80)).replace("gpt2_recipe", "small_recipe")
    path.write_text(text.replace("recipe=small_recipe", "context=128, recipe=small_recipe"))
    ended = plan(path, "--gpu", "h100", *QUICK, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    short, middle, long = [run for run in found["runs"] if run["size"] == "117M"]
    assert short["shared_steps"] == short["steps"] - -(-short["steps"] // 5) and long["shared_steps"] == 0
    own = 1 - middle["shared_steps"] / middle["steps"]
    assert middle["seconds"] / long["seconds"] == pytest.approx(own * middle["tokens"] / long["tokens"], rel=1e-3)
    assert found["gpu_hours"] == pytest.approx(sum(run["worker_hours"] for run in found["runs"]))

    ended = plan(path, "--gpu", "h100", *QUICK)
    assert "of them shared" in ended.out
    words = " ".join(ended.out.split())
    assert "10 of the 15 runs branch off a longer one of their size where their decay begins, which saves 19%" in words


def test_each_run_is_planned_on_what_its_size_asks_for(plan: Callable[..., Ended]) -> None:
    found = json.loads(plan("gpt2", *QUICK, "--json").out)
    assert found["rate"]["gpu"] == "H100", "runs that ask for GPUs are not costed on a core"
    shapes = {run["size"]: (run["workers"], run["gpus_per_worker"]) for run in found["runs"]}
    assert shapes["6x384"] == (1, 0.25) and shapes["117M"] == (1, 1) and shapes["1542M"] == (8, 1)
    assert {run["precision"] for run in found["runs"]} == {"bf16"}
    assert found["gpu_hours"] == pytest.approx(sum(run["gpu_hours"] for run in found["runs"]))
    text = plan("gpt2", *QUICK, "--price-per-gpu-hour", 2).out
    assert "workers x GPUs" in text and "1 x 0.25" in text and "8 x 1" in text and "GPU-hours" in text
    assert "\u2026" not in text, "no column is cut"


def test_the_accelerator_is_shown_and_planned_for(plan: Callable[..., Ended], sweep_file: Callable[..., Path]) -> None:
    path = sweep_file("wide", (5, 20, 80))
    text = path.read_text().replace("import Sweep", "import Execution, Sweep")
    asking = text.replace("\n)", '    execution=Execution(workers=2, accelerator_type="A100-80G"),\n)')
    path.write_text(asking)
    assert json.loads(plan(path, *QUICK, "--json").out)["rate"]["gpu"] == "A100"
    assert "2 x 1 A100-80G" in plan(path, *QUICK).out
    path.write_text(asking.replace("A100-80G", "T4"))
    refused = plan(path, *QUICK)
    assert refused.code == 2 and "ask for T4" in refused.err and "with --gpu" in refused.err


def test_runs_that_ask_for_no_gpu_are_planned_on_a_core(plan: Callable[..., Ended]) -> None:
    found = json.loads(plan("demo", *QUICK, "--json").out)
    assert found["resolution"]["shared_noise"] == 0.5  # its budgets branch off trunks
    assert found["rate"]["gpu"] is None and {run["gpu_hours"] for run in found["runs"]} == {0.0}
    assert {(run["workers"], run["cpus_per_worker"], run["gpus_per_worker"]) for run in found["runs"]} == {(1, 1, 0.0)}
    assert "workers x cores" in plan("demo", *QUICK).out


def test_one_ratio_is_flagged_and_the_proposed_runs_can_be_pasted(
    plan: Callable[..., Ended], sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = sweep_file("ray", (20,))
    ended = plan(path, "--gpu", "H100")
    assert ended.code == 0 and "not identifiable: every run has the same 20 tokens per parameter" in ended.out
    points = [line.split("#")[0].strip() for line in ended.out.splitlines() if line.strip().startswith("Point(")]
    assert points
    grown = tmp_path / "grown.py"
    text = path.read_text().replace("import Sweep, grid", "import Point, Sweep, grid").replace('"ray"', '"grown"')
    grown.write_text(text.replace("(20,)),", "(20,)) + (" + " ".join(points) + "),"))
    after = json.loads(plan(grown, "--gpu", "H100", "--json").out)
    assert after["resolution"]["status"] == "identifiable"
    assert len(after["runs"]) == 5 + len(points)


def test_the_reference_and_the_noise_are_what_was_asked_for(
    plan: Callable[..., Ended], sweep_file: Callable[..., Path]
) -> None:
    path = sweep_file("wide", (5, 20, 80))
    quick = ("--gpu", "H100", "--simulations", 500, "--json")
    kaplan = json.loads(plan(path, "--reference", "kaplan", *quick).out)["resolution"]
    assert kaplan["law"] == "kaplan" and set(kaplan["before"]["intervals"]) == {"Nc", "Dc", "alpha_N", "alpha_D"}
    widths = []
    for noise in (0.002, 0.004):
        low, high = json.loads(plan(path, "--noise", noise, *quick).out)["resolution"]["before"]["intervals"]["beta"]
        widths.append(high - low)
    # Twice the noise, twice the width: but for Huber's delta, which is nearer to the smaller noise.
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.15)


def test_a_sweep_that_was_run_gives_the_law_and_the_noise_of_its_seeds(
    plan: Callable[..., Ended], sweep_file: Callable[..., Path], storage: Path
) -> None:
    path = sweep_file("wide", (5, 20, 80))
    quick = ("--gpu", "H100", "--simulations", 500, "--json", "--storage", storage)
    found = json.loads(plan(path, "--reference", "planted", *quick).out)["resolution"]
    assert "30 runs of planted" in found["reference"]["source"]
    assert found["reference"]["parameters"]["alpha"] == pytest.approx(BESIROGLU.alpha, abs=0.04)
    assert "measured from 30 runs of 15 settings of planted, 15 degrees of freedom" in found["noise_source"]
    low, high = found["noise_interval"]
    assert low < found["noise"] < high and low < NOISE < high
    other = json.loads(plan(path, "--noise-from", "planted", *quick).out)["resolution"]
    assert other["noise"] == found["noise"] and other["reference"]["source"].startswith("Besiroglu")


def test_a_budget_is_planned_by_a_table(plan: Callable[..., Ended], table: Path) -> None:
    columns = ("--table", table, "--params", "n", "--tokens", "d", "--score", "loss")
    costs = ("--gpu", "A100", "--mfu", 0.5, "--price-per-gpu-hour", 3, "--bootstrap", 300)
    ended = plan("--budget", "1e22", *columns, *costs, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    truth = BESIROGLU.optimum(1e22)
    for name, value in (("params", truth.params), ("tokens", truth.tokens)):
        low, high = found[name]["interval"]
        assert low < value < high and low < found[name]["value"] < high
    assert found["params"]["value"] * found["tokens"]["value"] == pytest.approx(1e22 / 6)
    assert found["gpu_hours"] == pytest.approx(1e22 / (312e12 * 0.5) / 3600)
    assert found["cost"] == pytest.approx(3 * found["gpu_hours"])
    assert [wrong["params"] for wrong in found["mistakes"][-2:]] == pytest.approx(
        [found["params"]["value"] / 2, found["params"]["value"] * 2]
    )
    for wrong in found["mistakes"]:
        assert wrong["extra_compute"] > 0
        assert wrong["extra_gpu_hours"] == pytest.approx(wrong["extra_compute"] * found["gpu_hours"])
    third = json.loads(plan("--budget", "1e22", *columns[:4], "--flops", "c", *columns[-2:], *costs, "--json").out)
    assert third["params"]["value"] == pytest.approx(found["params"]["value"], rel=1e-9)
    assert third["params"]["interval"] == pytest.approx(found["params"]["interval"], rel=1e-9)
    text = plan("--budget", "1e22", *columns, *costs)
    assert text.code == 0 and "The cost of being wrong" in text.out and "GPU-hours" in text.out


def test_a_budget_is_planned_by_a_sweep(plan: Callable[..., Ended], storage: Path) -> None:
    quick = ("--budget", "1e22", "--bootstrap", 200, "--storage", storage, "--json")
    first = json.loads(plan("planted", *quick).out)
    assert first["points"] == 30 and first["source"] == "sweep planted"
    low, high = first["params"]["interval"]
    assert low < BESIROGLU.optimum(1e22).params < high
    other = json.loads(plan(*quick, "planted", "--params", "params_non_embedding").out)
    assert other["params"]["value"] < first["params"]["value"]


def test_runs_at_one_ratio_cannot_plan_a_budget(plan: Callable[..., Ended], tmp_path: Path) -> None:
    path = tmp_path / "ray.csv"
    N = np.array([1e7, 3e7, 1e8, 3e8, 1e9])
    pl.DataFrame({"n": N, "d": 20 * N, "loss": BESIROGLU.score(N=N, D=20 * N)}).write_csv(path)
    ended = plan("--budget", "1e21", "--table", path, "--params", "n", "--tokens", "d", "--score", "loss")
    assert ended.code == 2 and ended.out == ""
    assert "not identifiable" in ended.err and "add runs at other ratios" in ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name a sweep"),
        (("--budget", "1e21"), "name a sweep that was run"),
        (("--budget", "1e21", "demo", "--table", "x.csv"), "got two"),
        (("--budget", "-1", "demo"), "training FLOPs"),
        (("--budget", "nan", "demo"), "training FLOPs"),
        (("--flops", "1e21", "demo"), "a budget is given by --budget 1e21"),
        (("demo", "--budget", "1e21", "--flops", "C"), "--flops goes with --table"),
        (("demo", "--tasks", "sst2", "--params", "n"), "--params would be ignored"),
        (("--budget", "1e21", "demo", "--law", "power"), "no optimum"),
        (("--budget", "1e21", "demo", "--law", "nonsense"), "nonsense"),
        (("--budget", "1e21", "demo", "--noise", "0.1"), "--noise would be ignored"),
        (("--budget", "1e21", "--table", "x.csv"), "--score"),
        (("--budget", "1e21", "--table", "x.csv", "--score", "loss", "--params", "n", "--tokens", "d"), "x.csv"),
        (("demo", "--table", "x.csv"), "--table would be ignored"),
        (("demo", "--target-flops", "0"), "--target-flops"),
        (("demo", "--noise", "0.1", "--noise-from", "demo"), "one of the two"),
        (("demo", "--noise", "-1"), "--noise"),
        (("demo", "--noise", "nan"), "--noise is nan"),
        (("demo", "--gpu", "B9000"), "B9000"),
        (("gpt2", "--reference", "nowhere", "--gpu", "H100"), "no tracking store"),
        (("--budget", "1e21", "demo", "--tokens", "d"), "--table"),
    ],
)
def test_what_a_user_gets_wrong_ends_in_two_and_names_it(
    plan: Callable[..., Ended], arguments: tuple[str, ...], words: str
) -> None:
    ended = plan(*arguments)
    assert ended.code == 2 and words in ended.err and "Traceback" not in ended.err


def test_a_sweep_or_a_score_that_is_not_in_the_store_is_named(plan: Callable[..., Ended], storage: Path) -> None:
    ended = plan("--budget", "1e21", "other", "--storage", storage)
    assert ended.code == 2 and "'other'" in ended.err and "planted" in ended.err
    ended = plan("--budget", "1e21", "planted", "--score", "lambada/accuracy", "--storage", storage)
    assert ended.code == 2 and "heldout/loss" in ended.err


def test_a_plan_says_what_each_worker_holds(plan: Callable[..., Ended], tmp_path: Path) -> None:
    """On a GPU of 24 GB GPT-2's smallest fits each of eight workers whole, its largest does not."""
    path = tmp_path / "wide.py"
    path.write_text(
        SWEEP.format(name="wide", ratios=(5, 20, 80))
        .replace('("6x384", "8x512", "10x640", "117M", "345M")', '("117M", "345M", "1542M")')
        .replace("import Sweep", "import Execution, Sweep")
        .replace("    points=", '    execution=Execution(workers=8, accelerator_type="A10G"),\n    points=')
    )
    ended = plan(path, "--simulations", 100, "--json")
    assert ended.code == 0, ended.err
    rows = {row["size"]: (row["strategy"], row["activation_checkpointing"]) for row in json.loads(ended.out)["runs"]}
    assert rows == {"117M": ("ddp", False), "345M": ("ddp", False), "1542M": ("fsdp2", False)}
    shown = plan(path, "--simulations", 100).out
    assert "strategy" in shown and "fsdp2" in shown


def test_a_plan_counts_what_activation_checkpointing_computes_twice(
    plan: Callable[..., Ended], sweep_file: Callable[..., Path]
) -> None:
    """The forward pass of the blocks once more: a third of their share, and nothing for the head."""
    path = sweep_file("wide", (5, 20, 80))
    text = path.read_text().replace("import Sweep", "import Execution, Sweep")

    def planned(checkpointing: bool) -> tuple[dict[str, Any], str]:
        asked = f"execution=Execution(accelerator_type='H100', activation_checkpointing={checkpointing})"
        path.write_text(text.replace("    points=", f"    {asked},\n    points="))
        found = json.loads(plan(path, *QUICK, "--json").out)
        return {row["run"]: row for row in found["runs"]}, " ".join(plan(path, *QUICK).out.split())

    (without, quiet), (with_it, told) = planned(False), planned(True)
    for key, row in with_it.items():
        size = parse_size(row["size"])
        head = 6 * size.vocabulary * size.d_model / size.flops_per_token
        assert row["seconds"] / without[key]["seconds"] == pytest.approx(1 + (1 - head) / 3)
        assert row["flops_exact"] == without[key]["flops_exact"] and without[key]["flops_recomputed"] == 0
        own = 1 - row["shared_steps"] / row["steps"]
        assert row["flops_recomputed"] == pytest.approx((1 - head) / 3 * own * row["flops_exact"])
    assert "a second time" in told and "a second time" not in quiet


def test_the_memory_of_each_run_is_predicted_on_the_gpu_it_asks_for(tmp_path: Path, plan: Callable[..., Ended]) -> None:
    path = tmp_path / "large.py"
    path.write_text(LARGE.format(gpu="H100"))
    ended = plan(path, *QUICK, "--json")
    rows = {run["size"]: run for run in json.loads(ended.out)["runs"]}
    assert all(run["fits"] for run in rows.values())
    assert all(80e9 > run["peak_memory_bytes"] > 16 * run["params_total"] for run in rows.values())
    assert rows["117M"]["micro_batch_sequences"] > rows["1542M"]["micro_batch_sequences"] >= 1
    path.write_text(LARGE.format(gpu="L4"))
    assert not {run["size"]: run for run in json.loads(plan(path, *QUICK, "--json").out)["runs"]}["1542M"]["fits"]
    assert "do not fit the memory of L4: 1542M" in plan(path, *QUICK).out


LARGE = """
from ladder.sweeps.words import Execution, Recipe, Sweep, grid

def recipe(size, tokens, seed):
    return Recipe(tokens=tokens, batch_tokens=1 << 17, lr_peak=1e-4, seed=seed)

SWEEP = Sweep(
    name="large", corpus="openwebtext",
    points=grid(sizes=("117M", "1542M"), tokens=(1 << 28, 1 << 29, 1 << 30)), recipe=recipe,
    execution=Execution(accelerator_type="{gpu}"),
)
"""
