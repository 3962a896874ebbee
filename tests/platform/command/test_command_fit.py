"""`ladder fit`: its JSON contract, its table for people, and its refusals."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from ladder.analysis.laws import Hoffmann
from ladder.models.errors import InputError
from ladder.platform.command.fit import command

LAW = Hoffmann(E=1.8, A=480.0, B=2000.0, alpha=0.35, beta=0.37)
COLUMNS = ("--law", "hoffmann", "--params", "n", "--tokens", "d", "--score", "loss", "--starts", "20")


def fit(table: Path, *options: str) -> Result:
    """`ladder fit TABLE OPTIONS`, exceptions let through as the program's main sees them."""
    return CliRunner().invoke(command, [str(table), *options], catch_exceptions=False)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve runs of a planted law with a little noise."""
    N, D = (a.ravel() for a in np.meshgrid([1e6, 3e6, 1e7, 3e7], [2e7, 1e8, 5e8]))
    loss = LAW.score(N=N, D=D) * np.exp(0.002 * np.random.default_rng(0).standard_normal(12))
    path = tmp_path / "runs.csv"
    pl.DataFrame({"n": N, "d": D, "c": 6 * N * D, "loss": loss}).write_csv(path)
    return path


def test_json_has_the_keys_of_the_contract(table: Path) -> None:
    result = fit(table, *COLUMNS, "--bootstrap", "100", "--json")
    found = json.loads(result.stdout)
    assert {"law", "objective_kind", "points", "parameters", "intervals", "objective", "status", "health"} <= set(found)
    assert (found["law"], found["objective_kind"], found["points"]) == ("hoffmann", "huber", 12)
    assert set(found["parameters"]) == set(found["intervals"]) == {"E", "A", "B", "alpha", "beta"}
    low, high = found["intervals"]["alpha"]
    assert low < found["parameters"]["alpha"] < high
    assert found["status"] == "converged"


def test_the_chinchilla_points_give_the_published_fit(shared: Path) -> None:
    points = shared / "laws" / "epoch_chinchilla" / "svg_extracted_data.csv"
    columns = ("--params", "Model Size", "--flops", "Training FLOP", "--score", "loss", "--drop-highest", "5")
    found = json.loads(fit(points, "--law", "hoffmann", *columns, "--bootstrap", "0", "--json").stdout)
    assert found["points"] == 240
    assert found["objective"] == pytest.approx(1.0182740e-3, rel=1e-7)
    assert found["parameters"]["alpha"] == pytest.approx(0.3473, abs=1e-4)
    assert found["intervals"]["alpha"] == [None, None]


def test_the_third_of_params_tokens_and_flops_follows_from_two(table: Path) -> None:
    quick = ("--score", "loss", "--law", "hoffmann", "--bootstrap", "0", "--starts", "20", "--json")
    pairs = (("--params", "n", "--tokens", "d"), ("--params", "n", "--flops", "c"), ("--tokens", "d", "--flops", "c"))
    alphas = [json.loads(fit(table, *pair, *quick).stdout)["parameters"]["alpha"] for pair in pairs]
    assert alphas == pytest.approx([alphas[0]] * 3, rel=1e-9)


def test_people_get_a_table_with_intervals_and_status(table: Path) -> None:
    result = fit(table, *COLUMNS, "--bootstrap", "100")
    for wanted in ("L = E + A / N^alpha + B / D^beta", "95% interval", "alpha", "status      converged", "12 points"):
        assert wanted in result.output, wanted


@pytest.mark.parametrize("objective", ["lad", "squares"])
def test_objectives_can_be_chosen(table: Path, objective: str) -> None:
    found = json.loads(fit(table, *COLUMNS, "--objective", objective, "--bootstrap", "0", "--json").stdout)
    assert found["objective_kind"] == objective
    assert found["parameters"]["alpha"] == pytest.approx(0.35, abs=0.08)


@pytest.mark.parametrize("law", ["log-linear", "power", "power-offset", "saturating", "sigmoid"])
def test_laws_in_one_variable_need_one_column(table: Path, law: str) -> None:
    score = ("--score", "acc") if law in ("saturating", "sigmoid") else ("--score", "loss")
    runs = pl.read_csv(table).head(4).with_columns(acc=pl.Series([0.2, 0.4, 0.5, 0.55]))
    runs.write_csv(table)
    found = json.loads(fit(table, "--law", law, "--params", "n", *score, "--bootstrap", "50", "--json").stdout)
    assert found["law"] == law and found["points"] == 4


def test_one_ratio_is_reported_as_not_identifiable(tmp_path: Path) -> None:
    N = np.array([1e6, 3e6, 1e7, 3e7])
    path = tmp_path / "ray.jsonl"
    pl.DataFrame({"n": N, "d": 20 * N, "loss": LAW.score(N=N, D=20 * N)}).write_ndjson(path)
    result = fit(path, *COLUMNS, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["status"] == "not identifiable"
    assert "20 tokens per parameter" in found["reason"]
    assert found["intervals"]["beta"] == [None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("loss"), "no column 'loss'"),
        (lambda t: t.with_columns(loss=pl.lit("high")), "not a number"),
        (lambda t: t.with_columns(loss=-pl.col("loss")), "above 0"),
        (lambda t: t.with_columns(loss=pl.lit(float("nan"))), "finite"),
        (lambda t: t.with_columns(n=pl.lit(0.0)), "'n' is 0"),
        (lambda t: t.head(3), "3 points are fewer than the 5 parameters"),
        (lambda t: pl.concat([t, t.head(2)]), "rows 1, 2, 13, 14 repeat"),
        (lambda t: t.clear(), "no rows"),
    ],
)
def test_bad_tables_are_refused(table: Path, change: object, message: str) -> None:
    assert callable(change)
    change(pl.read_csv(table)).write_csv(table)
    with pytest.raises(InputError, match=message):
        fit(table, *COLUMNS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--law", "chinchilla", "--params", "n", "--score", "loss"), "law 'chinchilla' is unknown"),
        (("--law", "hoffmann", "--params", "n", "--score", "loss"), "needs two of --params"),
        (("--law", "power", "--score", "loss"), "needs one of --params"),
        ((*COLUMNS, "--drop-highest", "12"), "leaves none"),
        ((*COLUMNS, "--delta", "0"), "delta is 0"),
        ((*COLUMNS, "--cluster", "run"), "no column 'run'"),
        ((*COLUMNS, "--seed", "-1"), "seed is -1"),
    ],
)
def test_bad_options_are_refused(table: Path, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(table, *options)


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "Example:" in result.output and "ladder fit runs.csv --law hoffmann" in result.output
