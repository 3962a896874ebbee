"""`ladder report`: of a table, of two sweeps in one store, and its refusals."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from ladder.analysis import api
from ladder.analysis.laws.surfaces import Hoffmann
from ladder.models.errors import InputError
from ladder.platform.command.report import command

LAW = Hoffmann(E=1.1, A=60.0, B=90.0, alpha=0.33, beta=0.32)
SIZES = (132_928, 384_960, 859_008, 2_768_064)
BUDGETS = (400_000, 1_600_000, 6_400_000)


def report(storage: Path, *options: str) -> Result:
    """`ladder report OPTIONS`, exceptions let through as the program's main sees them."""
    return CliRunner().invoke(command, ["--storage", str(storage), *options], catch_exceptions=False)


def write_sweep(client: MlflowClient, folder: Path, name: str, factor: float) -> str:
    """A finished sweep of the planted law in the store, losses times a factor; returns its parent's id."""
    experiment = client.create_experiment(name, artifact_location=(folder / name).as_uri())
    parent = client.create_run(experiment, tags={"ladder.kind": "sweep", "ladder.laws": '["hoffmann"]'})
    generator = np.random.default_rng(len(name))
    for params in SIZES:
        for tokens in BUDGETS:
            loss = float(LAW.score(N=params, D=tokens) * factor * np.exp(0.001 * generator.standard_normal()))
            tags = {"ladder.kind": "run", "ladder.run": f"{params}-{tokens}", "ladder.status": "finished"}
            run = client.create_run(experiment, tags=tags).info.run_id
            shown = {"size": params, "params_total": params, "tokens": tokens, "seed": 0}
            shown |= {"params_non_embedding": params, "flops_6nd": 6 * params * tokens, "flops_exact": params * tokens}
            logged = [Param(key, str(value)) for key, value in shown.items()]
            client.log_batch(run, [Metric("heldout/loss", loss, 0, 1)], logged)
    return str(parent.info.run_id)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve runs of a planted law with two scores."""
    N, D = (a.ravel() for a in np.meshgrid([1e6, 3e6, 1e7, 3e7], [2e7, 1e8, 5e8]))
    loss = LAW.score(N=N, D=D) * np.exp(0.002 * np.random.default_rng(0).standard_normal(12))
    path = tmp_path / "runs.csv"
    pl.DataFrame({"n": N, "d": D, "loss": loss, "err_cloze": loss / 4, "set": ["a"] * 11 + ["b"]}).write_csv(path)
    return path


def test_a_table_is_reported_under_its_name(table: Path, tmp_path: Path) -> None:
    columns = ("--params", "n", "--tokens", "d", "--score", "loss", "--score", "err_cloze", "--where", "set=a")
    result = report(tmp_path / "storage", "--table", str(table), *columns)
    path = Path(result.stdout.strip())
    assert path == tmp_path / "storage" / "reports" / "runs" / "index.html"
    html = path.read_text()
    assert "Scaling laws of runs" in html and "11 rows" in html and "accuracy = 1 - error" in html


GADRE = ("--params", "N", "--tokens", "D", "--score", "loss_c4_val", "--score", "err_piqa", "--name", "gadre")


def test_families_in_a_table_are_told_apart(shared: Path, tmp_path: Path) -> None:
    """On one line the model of most tokens stood for all of its size, and a form "won" at 650 % error."""
    table = shared / "laws" / "gadre_overtraining" / "gadre_104_models.csv"
    with pytest.raises(
        InputError, match=r"dataset_name \(rpj, c4_original, rw_original\) may tell families.*--group-by"
    ):
        report(tmp_path, "--table", str(table), *GADRE)
    page = Path(report(tmp_path, "--table", str(table), *GADRE, "--group-by", "dataset_name").stdout.strip())
    html = page.read_text()
    links = re.findall(r'href="([^"]+index.html)"', html)
    assert links == ["1-rpj/index.html", "2-c4-original/index.html", "3-rw-original/index.html"]
    own = [(page.parent / link).read_text() for link in links]
    assert all(f": {rows} rows" in text for rows, text in zip((35, 34, 35), own, strict=True))
    rows = pl.read_csv(table).filter(pl.col("dataset_name") == "c4_original")
    fit = api.fit(rows, law="hoffmann", score="loss_c4_val", params="N", tokens="D")
    assert isinstance(fit, api.Fit)
    low, high = (api.format_number(end) for end in fit.interval("alpha").as_list())
    assert f"{low} to {high}" in html, "a family's interval is that of a fit to its rows alone"
    pooled = Path(report(tmp_path, "--table", str(table), *GADRE, "--pool").stdout.strip())
    assert "104 rows" in pooled.read_text()


def test_a_column_that_names_one_model_a_row_is_no_family(table: Path, tmp_path: Path) -> None:
    pl.read_csv(table).with_columns(model=pl.col("n").cast(pl.String)).drop("set").write_csv(table)
    columns = ("--params", "n", "--tokens", "d", "--score", "loss")
    assert "12 rows" in Path(report(tmp_path, "--table", str(table), *columns).stdout.strip()).read_text()


def test_two_sweeps_are_compared_and_the_page_is_stored_with_both(tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    parents = [write_sweep(client, tmp_path, name, factor) for name, factor in (("old", 1.0), ("newer", 0.95))]
    result = report(tmp_path, "old", "newer")
    path = Path(result.stdout.strip().splitlines()[-1])
    assert path == tmp_path / "reports" / "old-and-newer" / "index.html"
    assert "newer reaches the lower loss at" in path.read_text()
    assert [item.path for item in client.list_artifacts(parents[0])] == ["report-with-newer"]
    assert [item.path for item in client.list_artifacts(parents[1])] == ["report-with-old"]
    assert client.get_run(parents[0]).data.tags["ladder.report-with-newer"] == str(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "got 0 sweeps; wanted one sweep, two to compare, or --table FILE"),
        (("a", "b", "c"), "got 3 sweeps"),
        (("demo", "demo"), "got the sweep demo twice"),
        (("--table", "x.csv", "--score", "loss", "--name", "../x"), "names a folder of the storage"),
        (("demo", "--params", "n"), "got 1 sweeps and --params; wanted"),
        (("demo", "--group-by", "n"), "got 1 sweeps and --group-by; wanted"),
        (("--table", "x.csv"), "--table needs at least one --score COLUMN"),
        (("demo", "--table", "x.csv", "--score", "loss"), "got the sweep demo and --table"),
        (("--table", "x.csv", "--score", "loss"), "there is no table at x.csv"),
    ],
)
def test_what_is_asked_wrongly_is_refused(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        report(tmp_path, *options)


def test_a_sweep_that_is_nowhere_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    client.create_experiment("mine")
    with pytest.raises(InputError, match="no sweep 'yours'; it has mine"):
        report(tmp_path, "yours")
    assert not (tmp_path / "reports").exists()
