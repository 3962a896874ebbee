"""`ladder fit`: its JSON contract, its table for people, and its refusals."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from ladder.analysis.fitting.fits import FitOptions, fit_hoffmann
from ladder.analysis.laws.law import LossSigmoid
from ladder.analysis.laws.surfaces import Hoffmann
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


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """Sixteen runs with a task loss and the accuracy that follows from it, and eight sizes whose accuracy saturates."""
    N, D = (a.ravel() for a in np.meshgrid([1.9e8, 3.7e8, 7.6e8, 1.3e9], [4e9, 1e10, 4e10, 2e11]))
    loss = Hoffmann(E=0.5, A=60.0, B=100.0, alpha=0.25, beta=0.25).score(N=N, D=D)
    accuracy = LossSigmoid(a=-0.55, k=4.0, L0=1.05, b=0.85).score(x=loss)
    path = tmp_path / "scores.parquet"
    pl.DataFrame({"n": N, "d": D, "task": loss, "acc": accuracy, "run": np.arange(16)}).write_parquet(path)
    return path


def test_two_step_gives_both_steps(scores: Path) -> None:
    columns = ("--params", "n", "--tokens", "d", "--loss", "task", "--score", "acc", "--bootstrap", "0", "--no-anchor")
    found = json.loads(fit(scores, "--law", "two-step", *columns, "--json").stdout)
    assert found["law"] == "two-step" and found["status"] == "converged"
    assert found["parameters"]["alpha"] == pytest.approx(0.25, rel=1e-5)
    assert found["parameters"]["L0"] == pytest.approx(1.05, rel=1e-5)
    assert "second step: accuracy" in fit(scores, "--law", "two-step", *columns).output


@pytest.mark.parametrize("law", ["loss-sigmoid", "loss-error"])
def test_laws_of_a_loss_read_its_column(scores: Path, law: str) -> None:
    found = json.loads(
        fit(scores, "--law", law, "--loss", "task", "--score", "acc", "--bootstrap", "0", "--json").stdout
    )
    assert found["law"] == law and found["points"] == 16


def test_isoflop_lists_its_budgets(tmp_path: Path) -> None:
    C = np.repeat([1e18, 1e19, 1e20], 7)
    N = np.array([LAW.optimum(c).params for c in C]) * np.tile(np.geomspace(1 / 4, 4, 7), 3)
    path = tmp_path / "budgets.jsonl"
    pl.DataFrame({"n": N, "c": C, "loss": LAW.score(N=N, D=C / 6 / N)}).write_ndjson(path)
    columns = ("--law", "isoflop", "--params", "n", "--flops", "c", "--score", "loss")
    found = json.loads(fit(path, *columns, "--json").stdout)
    assert found["parameters"]["a"] == pytest.approx(LAW.a, abs=1e-3)
    assert [budget["status"] for budget in found["budgets"]] == ["used"] * 3
    one = json.loads(fit(path, *columns, "--budget", "1e19", "--json").stdout)
    assert len(one["budgets"]) == 1 and one["status"] == "not identifiable" and one["parameters"]["a"] is None
    assert "best N" in fit(path, *columns).output


def test_envelope_reads_curves_by_run(tmp_path: Path) -> None:
    N, ratio = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e10, 14), np.geomspace(1, 400, 50), indexing="ij"))
    path = tmp_path / "curves.csv"
    pl.DataFrame({"n": N, "d": ratio * N, "loss": LAW.score(N=N, D=ratio * N), "run": N.astype(str)}).write_csv(path)
    columns = ("--law", "envelope", "--params", "n", "--tokens", "d", "--score", "loss", "--bootstrap", "50")
    found = json.loads(fit(path, *columns, "--cluster", "run", "--json").stdout)
    assert found["parameters"]["a"] == pytest.approx(LAW.a, abs=0.02) and found["runs"] == 14
    with pytest.raises(InputError, match="envelope needs --cluster"):
        fit(path, *columns)


def test_holdout_predicts_each_larger_size_by_every_law(tmp_path: Path) -> None:
    x = np.geomspace(1e6, 1e9, 7)
    path = tmp_path / "sizes.csv"
    pl.DataFrame({"n": x, "acc": 0.8 - 30 * x**-0.3}).write_csv(path)
    columns = ("--law", "log-linear", "--law", "saturating", "--params", "n", "--score", "acc", "--bootstrap", "0")
    found = json.loads(fit(path, *columns, "--holdout", "--json").stdout)
    assert [one["law"] for one in found["fits"]] == ["log-linear", "saturating"]
    errors = found["holdout"]["mean_errors"]
    assert errors["saturating"] < 1e-6 < errors["log-linear"]
    assert {window["size"] for window in found["holdout"]["windows"]} == set(x[3:])
    shown = fit(path, *columns, "--holdout").output
    assert "held out: each of the larger params" in shown and "observed" in shown


def test_holdout_of_one_law_is_beside_its_fit(table: Path) -> None:
    found = json.loads(fit(table, *COLUMNS, "--bootstrap", "0", "--holdout", "--json").stdout)
    assert found["law"] == "hoffmann", "the contract's keys stay where they are"
    (window,) = found["holdout"]["windows"]
    assert window["size"] == 3e7 and window["n_fitted"] == 9 and window["relative_error"] < 0.02


def test_holdout_of_too_few_sizes_is_refused(table: Path) -> None:
    pl.read_csv(table).filter(pl.col("n") < 2e7).write_csv(table)
    with pytest.raises(InputError, match="no size can be held out: hoffmann need more sizes"):
        fit(table, *COLUMNS, "--holdout")


def test_holdout_goes_along_tokens_where_there_are_no_sizes(tmp_path: Path) -> None:
    d = np.geomspace(1e8, 1e11, 6)
    path = tmp_path / "tokens.csv"
    pl.DataFrame({"d": d, "loss": 20 * d**-0.09}).write_csv(path)
    columns = ("--law", "power", "--tokens", "d", "--score", "loss", "--bootstrap", "0")
    found = json.loads(fit(path, *columns, "--holdout", "--json").stdout)
    assert {window["variable"] for window in found["holdout"]["windows"]} == {"tokens"}
    assert found["holdout"]["mean_errors"]["power"] < 1e-9


@pytest.mark.parametrize("extension", ["csv", "tsv", "parquet", "json", "jsonl"])
def test_every_kind_of_file_gives_the_same_fit(table: Path, extension: str) -> None:
    runs = pl.read_csv(table)
    path = table.with_suffix(f".{extension}")
    writers = {
        "csv": runs.write_csv,
        "tsv": lambda p: runs.write_csv(p, separator="\t"),
        "parquet": runs.write_parquet,
        "json": runs.write_json,
        "jsonl": runs.write_ndjson,
    }
    writers[extension](path)
    found = json.loads(fit(path, *COLUMNS, "--bootstrap", "0", "--json").stdout)
    direct = fit_hoffmann(runs["n"], runs["d"], runs["loss"], options=FitOptions(bootstrap=0, starts=20))
    assert found["parameters"] == pytest.approx(direct.law.parameters, rel=1e-9)


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
        (lambda t: t.with_columns(d=pl.lit(None)), "'d' is missing in row 1|holds"),
        (lambda t: t.with_columns(n=pl.lit(float("inf"))), "'n' is inf in row 1"),
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
        ((*COLUMNS, "--bootstrap", "100000000"), "bootstrap is 100,000,000; give 0 to 1,000,000"),
        (("--law", "two-step", "--params", "n", "--tokens", "d", "--score", "loss"), "two-step needs --loss"),
        (("--law", "loss-error", "--score", "loss"), "loss-error needs --loss"),
        (("--law", "isoflop", "--params", "n", "--score", "loss"), "isoflop needs two of --params"),
        (
            ("--law", "isoflop", "--params", "n", "--flops", "c", "--score", "loss", "--tolerance", "0"),
            "tolerance is 0",
        ),
        (("--law", "isoflop", "--params", "n", "--flops", "c", "--score", "loss", "--holdout"), "has no hold-out"),
    ],
)
def test_bad_options_are_refused(table: Path, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(table, *options)


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.output and "ladder fit runs.csv --law hoffmann" in result.output


def refused(table: Path, *options: str) -> str:
    """The sentence with which a fit is refused."""
    with pytest.raises(InputError) as caught:
        fit(table, *options)
    return str(caught.value)


@pytest.fixture
def families(tmp_path: Path) -> Path:
    """Twenty runs of one law in billions, of two families by turns, one without a loss, one without its run's name."""
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(0.01, 1, 5), np.geomspace(0.2, 20, 4)))
    L = Hoffmann(E=1.8, A=480.0, B=2000.0, alpha=0.35, beta=0.37).score(N=1e9 * N, D=1e9 * D)
    L = L * np.exp(0.003 * np.random.default_rng(0).standard_normal(20))
    path = tmp_path / "families.csv"
    runs = [f"run{place}" for place in range(19)] + [" "]
    pl.DataFrame({"n": N, "d": D, "loss": L, "family": ["a", "b"] * 10, "run": runs}).write_csv(path)
    return path


BILLIONS = ("--params", "n*1e9", "--tokens", "d*1e9", "--score", "loss")


def test_columns_may_be_arithmetic_and_places_are_predicted(families: Path) -> None:
    options = ("--law", "hoffmann", *BILLIONS, "--bootstrap", "200", "--starts", "30")
    found = json.loads(
        fit(families, *options, "--predict", "N=7e9,D=2e12", "--predict", "N=1e9,D=2e10", "--json").stdout
    )
    assert found["parameters"]["alpha"] == pytest.approx(0.35, abs=0.03)
    first, second = found["predictions"]
    # So far out the curve is less sure than a run is noisy: with few refits the two intervals may share an end.
    assert first["new_run_low"] <= first["low"] < first["value"] < first["high"] <= first["new_run_high"]
    assert second["new_run_low"] < second["low"] < second["value"] < second["high"] < second["new_run_high"]
    assert second["value"] > first["value"]
    told = fit(families, *options, "--predict", "C=1e22").stdout
    assert "predicted, with 95% intervals" in told and "new_run_low" in told


def test_a_saved_fit_predicts_as_it_did(families: Path, tmp_path: Path) -> None:
    saved = tmp_path / "law.json"
    options = ("--law", "hoffmann", *BILLIONS, "--bootstrap", "100", "--starts", "30", "--level", "0.9", "--json")
    first = json.loads(fit(families, *options, "--save", str(saved), "--predict", "C=1e22").stdout)
    again = json.loads(CliRunner().invoke(command, ["--load", str(saved), "--predict", "C=1e22", "--json"]).stdout)
    assert first == again and first["level"] == 0.9
    assert first["predictions"][0]["N_low"] < first["predictions"][0]["N"] < first["predictions"][0]["N_high"]


KINDS = {
    "two-step": ("--params", "n", "--tokens", "d", "--loss", "task", "--score", "acc"),
    "loss-sigmoid": ("--loss", "task", "--score", "acc"),
    "sigmoid": ("--params", "n", "--score", "acc", "--trials", "items"),
    "isoflop": ("--params", "n", "--flops", "c", "--score", "loss"),
    "envelope": ("--params", "n", "--tokens", "d", "--score", "loss", "--cluster", "n"),
    "log-linear": ("--params", "n", "--score", "acc"),
    "repeated": ("--params", "n", "--tokens", "d", "--unique", "u", "--score", "loss", "--starts", "20"),
    "power-rule": ("--params", "n", "--score", "loss"),
}
PLACES = {"isoflop": "C=1e22", "envelope": "C=1e22", "loss-sigmoid": "L=1.1", "two-step": "N=7e9,D=4e12"}


@pytest.mark.parametrize("law", KINDS)
def test_every_kind_of_fit_is_saved_and_predicts_as_it_did(law: str, tmp_path: Path) -> None:
    C = np.repeat([1e18, 1e19, 1e20], 7)
    N = np.array([LAW.optimum(c).params for c in C]) * np.tile(np.geomspace(1 / 4, 4, 7), 3)
    if law == "envelope":
        N, C = np.repeat(np.geomspace(1e7, 1e9, 8), 30), 6 * np.repeat(np.geomspace(1e7, 1e9, 8), 30)
        C = C * N * np.tile(np.geomspace(1, 400, 30), 8)
    D = C / 6 / N
    task = Hoffmann(E=0.5, A=60.0, B=100.0, alpha=0.25, beta=0.25).score(N=N, D=D)
    noise = np.random.default_rng(0).standard_normal(len(N))
    columns = {"n": N, "d": D, "c": C, "u": D / np.tile([1, 3, 9], len(N) // 3), "task": task * np.exp(0.002 * noise)}
    columns |= {"loss": LAW.score(N=N, D=D) * np.exp(0.001 * noise), "items": np.full(len(N), 1000)}
    accuracy = LossSigmoid(a=-0.75, k=6.0, L0=1.2, b=1.0).score(x=task) + 0.003 * noise[::-1]
    path, saved = tmp_path / "runs.parquet", tmp_path / "law.json"
    pl.DataFrame(columns | {"acc": np.clip(accuracy, 0, 1)}).write_parquet(path)
    place = ("--predict", PLACES.get(law, {"repeated": "N=1e9,D=1e10,U=1e9"}.get(law, "N=1e9")), "--json")
    first = json.loads(fit(path, "--law", law, *KINDS[law], "--bootstrap", "60", "--save", str(saved), *place).stdout)
    again = json.loads(CliRunner().invoke(command, ["--load", str(saved), *place], catch_exceptions=False).stdout)
    assert first["predictions"] and again == first


def test_groups_are_saved_together(families: Path, tmp_path: Path) -> None:
    saved = tmp_path / "laws.json"
    options = ("--law", "power", *BILLIONS[:2], "--score", "loss", "--bootstrap", "50", "--group-by", "family")
    first = json.loads(fit(families, *options, "--save", str(saved), "--predict", "N=1e9", "--json").stdout)
    loaded = CliRunner().invoke(command, ["--load", str(saved), "--predict", "N=1e9", "--json"], catch_exceptions=False)
    assert json.loads(loaded.stdout) == first and len(first["fits"]) == 2


def test_a_file_with_anything_else_in_it_is_no_fit(tmp_path: Path) -> None:
    for text in (
        "{}",
        '{"format": 1}',
        '{"format": 2, "fits": [{"name": "x", "whole": {"is": "Path", "fields": {}}}]}',
    ):
        (tmp_path / "law.json").write_text(text)
        with pytest.raises(InputError, match="holds no saved fit"):
            CliRunner().invoke(command, ["--load", str(tmp_path / "law.json")], catch_exceptions=False)


def test_conventions_stand_side_by_side_with_what_changes(table: Path) -> None:
    runs = pl.read_csv(table).with_columns(small=pl.col("n") * (pl.col("n") / 1e8) ** 0.3, exact=pl.col("c") * 1.2)
    runs.write_csv(table)
    columns = ("--law", "hoffmann", "--params", "n", "--tokens", "d", "--score", "loss", "--bootstrap", "100")
    asked = (*columns, "--beside", "params=small", "--beside", "flops=exact")
    told = fit(table, *asked).output
    assert "side by side; * lies outside of the first one's interval" in told
    row = next(line for line in told.splitlines() if line.strip().startswith("a  "))
    assert "*" in row, "the exponent of the optimum moves with the convention of N"
    found = {one.get("group", ""): one["parameters"] for one in json.loads(fit(table, *asked, "--json").stdout)["fits"]}
    assert list(found) == ["n, d", "small, d", "n, exact"]
    assert found["small, d"]["alpha"] == pytest.approx(found["n, d"]["alpha"] / 1.3, rel=1e-3)
    assert found["n, exact"]["beta"] == pytest.approx(found["n, d"]["beta"], rel=1e-3)
    with pytest.raises(InputError, match="names no axis"):
        fit(table, *columns, "--beside", "small")


def test_a_search_is_fitted_by_its_winners(tmp_path: Path) -> None:
    rows = [
        {"n": n, "lr": lr, "loss": 3 + 0.05 * np.log(lr / (0.1 * n**-0.3)) ** 2}
        for n in (1e6, 1e7, 1e8, 1e9)
        for lr in np.geomspace(5e-5, 5e-3, 9)
    ]
    pl.DataFrame(rows).write_csv(tmp_path / "trials.csv")
    columns = ("--search", "lr", "--score", "loss", "--law", "power-rule", "--params", "n")
    told = fit(tmp_path / "trials.csv", *columns, "--predict", "N=1e10").output
    assert "best lr of each size" in told and "-0.3" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--law", "isoflop", "--fix", "a=1"), "isoflop takes no --fix"),
        (("--law", "hoffmann", "--fix", "E=x"), "does not give 1 numbers; write such as --fix E=1.7"),
        (("--law", "hoffmann", "--fix", "alpha=nan"), "a fixed parameter is not a finite number"),
        (("--law", "hoffmann", "--bound", "E=1"), "does not give 2 numbers"),
        (("--law", "hoffmann", "--bound", "E=nan:2"), "a bound is not a number"),
        (("--law", "hoffmann", "--trials", "items"), "no column 'items'"),
        (("--law", "hoffmann", "--search", "lr", "--group-by", "n"), "asked for one at a time"),
        (("--law", "repeated"), "repeated needs --unique"),
    ],
)
def test_choices_of_one_law_are_refused_elsewhere(table: Path, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(table, *options, "--params", "n", "--tokens", "d", "--score", "loss", "--bootstrap", "0")


def test_groups_are_fitted_one_by_one(families: Path) -> None:
    options = ("--law", "power", *BILLIONS[:2], "--score", "loss", "--bootstrap", "0", "--json")
    found = json.loads(fit(families, *options, "--group-by", "family").stdout)
    assert [one["group"] for one in found["fits"]] == ["family a", "family b"]
    one = json.loads(fit(families, *options, "--where", "family=b").stdout)
    assert one["parameters"] == found["fits"][1]["parameters"] and one["points"] == 10


def test_rows_with_empty_cells_are_left_out_on_request_and_counted(families: Path) -> None:
    table = pl.read_csv(families).with_columns(loss=pl.when(pl.col("n") > 0.9).then(None).otherwise(pl.col("loss")))
    table.write_csv(families)
    options = ("--law", "power", *BILLIONS[:2], "--score", "loss", "--bootstrap", "0")
    assert "missing in row" in refused(families, *options)
    done = fit(families, *options, "--drop-missing")
    assert "left out 4 of 20 rows" in done.stderr and "over 16 points" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cluster", "run"), "column 'run' is empty in row 20"),
        (("--params", "n*family"), "holds no numbers"),
        (("--params", "n*__import__('os')"), "neither a column nor arithmetic"),
        (("--predict", "N=seven"), "is no place"),
        (("--predict", "N=1e9"), "have no D"),
        (("--where", "family=c"), "no row has family=c"),
        (("--level", "1.5"), "level is 1.5; it must be between 0 and 1"),
        (("--group-by", "corpus"), "has no column 'corpus'"),
    ],
)
def test_bad_choices_are_refused_in_a_sentence(families: Path, options: tuple[str, ...], message: str) -> None:
    assert message in refused(families, "--law", "hoffmann", *BILLIONS, "--bootstrap", "0", *options)


def test_a_column_may_be_named_twice(families: Path) -> None:
    done = fit(families, "--law", "power", "--params", "n", "--score", "loss", "--cluster", "n", "--bootstrap", "50")
    assert done.exit_code == 0
