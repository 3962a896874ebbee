"""The notebook under docs/ runs, and what it shows holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ladder.analysis import api
from ladder.models.errors import InputError

NOTEBOOK = Path(__file__).parents[2] / "docs" / "laws.ipynb"


def test_the_notebook_runs_on_the_published_points(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDER_SHARED", str(shared))
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["fit"].law.alpha == pytest.approx(0.34731, abs=1e-5)
    assert names["a"].low < 0.513 < names["a"].high
    assert names["again"].intervals == names["fit"].intervals and names["size"] > 50_000
    assert len(names["isoflop"].used) == 9
    assert names["served"].params < names["plan"].best.params


def frame() -> pl.DataFrame:
    """Ten sizes of a planted power law under names of one's own."""
    sizes = np.geomspace(1e6, 1e9, 10)
    noise = np.exp(0.005 * np.random.default_rng(0).standard_normal(10))
    return pl.DataFrame({"my size": sizes, "my loss": 20 * sizes**-0.1 * noise})


def test_frames_of_polars_and_pandas_give_the_same_fit_and_a_figure() -> None:
    made = [
        api.fit(table, law="power", params="my size", score="my loss", bootstrap=100)
        for table in (frame(), pd.DataFrame(frame().to_dict(as_series=False)))
    ]
    assert isinstance(made[0], api.Fit) and isinstance(made[1], api.Fit)
    assert made[0].intervals == made[1].intervals
    axes = api.plot(made[0]).axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "params"


def test_a_long_frame_is_reported_as_it_is(tmp_path: Path) -> None:
    """A row for each model, task and metric, as lm-evaluation-harness and leaderboards have them."""
    sizes = {f"net-{size}m": size * 1e6 for size in (10, 30, 100, 300, 1000)}
    long = pl.DataFrame(
        [
            {"model": name, "task": "cloze", "metric": metric, "value": value}
            for place, name in enumerate(sizes)
            for metric, value in (("acc", 0.3 + 0.1 * place), ("acc_stderr", 0.01))
        ]
    )
    page = api.report(long, tmp_path / "page.html", score="cloze_acc", params="model").read_text()
    assert "1 of 1 score improve" in page and "5 rows" in page


def test_what_the_command_takes_as_name_and_value_may_be_a_mapping_or_one_word() -> None:
    table = pl.concat([frame().with_columns(family=pl.lit(name)) for name in ("a", "b")])
    names = {"law": "power", "params": "my size", "score": "my loss", "bootstrap": 0}
    for where in ({"family": "a"}, "family=a", ("family=a",)):
        fit = api.fit(table.lazy(), where=where, fixed={"alpha": 0.1}, bounds={"A": (1, 100)}, **names)
        assert isinstance(fit, api.Fit) and len(fit.points) == 10
        assert fit.fixed == ("alpha",) and fit.law.parameters["A"] == pytest.approx(20, rel=0.01)


def test_a_choice_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="fit has no choice sizes; it has"):
        api.fit(frame(), law="power", sizes="my size", score="my loss")
    fit = api.fit(frame(), law="power", params="my size", score="my loss", bootstrap=0)
    assert isinstance(fit, api.Fit)
    with pytest.raises(InputError, match="power has no 'a'"):
        fit.interval("a")
    for ask in (fit.predict, fit.band):
        with pytest.raises(InputError, match="power reads x; give x too"):
            ask({"N": np.array([1e9])})
    with pytest.raises(InputError, match="cannot be written"):
        api.save_fits({"law": fit}, Path("nowhere/law.json"))
    with pytest.raises(InputError, match="holds no saved fit"):
        api.load_fits(Path("nowhere.json"))
