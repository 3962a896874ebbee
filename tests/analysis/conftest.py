"""A sweep's data made from a known law, without MLflow: what the report and its figures are tested on."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from ladder.analysis.laws.surfaces import Hoffmann
from ladder.analysis.tables.sweeps import COLUMNS, MEASUREMENT_FIELDS, Provenance, SweepData

LAW = Hoffmann(E=1.1, A=60.0, B=90.0, alpha=0.33, beta=0.32)
SIZES = {"2x64": 132_928, "3x96": 384_960, "4x128": 859_008, "6x192": 2_768_064}
BUDGETS = (400_000, 1_600_000, 6_400_000)


def make_rows(sizes: dict[str, int], budgets: tuple[int, ...], noise: float) -> list[dict[str, object]]:
    """One finished run per size and budget with a loss and an accuracy."""
    generator = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for size, params in sizes.items():
        for tokens in budgets:
            loss = float(LAW.score(N=params, D=tokens) * np.exp(noise * generator.standard_normal()))
            row: dict[str, object] = {"run": f"{size}-{tokens}", "size": size, "params_total": params}
            row |= {"params_non_embedding": int(params * 0.9), "tokens": tokens, "flops_6nd": 6.0 * params * tokens}
            row |= {"flops_exact": 6.5 * params * tokens, "seed": 0, "status": "finished", "heldout/loss": loss}
            row["cloze/accuracy"] = 0.9 - 0.25 * loss / 3
            rows.append(row)
    return rows


def make_sweep(
    *,
    sizes: dict[str, int] | None = None,
    budgets: tuple[int, ...] = BUDGETS,
    noise: float = 0.003,
    laws: tuple[str, ...] = ("hoffmann", "log-linear"),
    rows: list[dict[str, object]] | None = None,
    failed: dict[str, str] | None = None,
) -> SweepData:
    """Data of a finished sweep; `rows` replaces the runs."""
    rows = make_rows(sizes or SIZES, budgets, noise) if rows is None else rows
    scores = sorted({name for row in rows for name in row if "/" in name})
    schema = {column.name: column.dtype for column in COLUMNS} | dict.fromkeys(scores, pl.Float64)
    table = pl.DataFrame(rows, schema=schema)
    described = [
        {
            "name": "heldout/loss",
            "benchmark": "heldout",
            "metric": "loss",
            "unit": "nats per token",
            "direction": "lower",
        },
        {
            "name": "cloze/accuracy",
            "benchmark": "cloze",
            "metric": "accuracy",
            "unit": "fraction",
            "direction": "higher",
        },
    ]
    kinds = {name: pl.Float64 if name == "chance" else pl.String for name in ("name", *MEASUREMENT_FIELDS)}
    curve_schema = {"run": pl.String, "step": pl.Int64, "tokens": pl.Float64, "train_loss": pl.Float64}
    curves = [
        {"run": row["run"], "step": step, "tokens": 1e4 * step, "train_loss": 2 + 3 / step}
        for row in rows
        for step in range(1, 30)
    ]
    return SweepData(
        name="planted",
        question="Is the loss a power law?\n\nPrediction: it is, with alpha 0.33.",
        laws=laws,
        table=table,
        standard_errors=pl.DataFrame(
            [{"run": row["run"], "name": "cloze/accuracy", "standard_error": 0.01, "count": 400} for row in rows],
            schema={"run": pl.String, "name": pl.String, "standard_error": pl.Float64, "count": pl.Int64},
        ),
        measurements=pl.DataFrame(described, schema=kinds),
        curves=pl.DataFrame(curves, schema=curve_schema),
        failed=pl.DataFrame(
            [{"run": run, "reason": reason} for run, reason in (failed or {}).items()],
            schema={"run": pl.String, "reason": pl.String},
        ),
        provenance=Provenance(
            origin={"tracking store": "sqlite:///nowhere.db", "MLflow run of the sweep": "parent0"},
            commit="c0ffee",
            versions={"python": "3.11"},
            settings={"corpus": ("pydocs",), "corpus_fingerprint": ("abc123",)},
            mlflow_run_ids={str(row["run"]): "child0" for row in rows},
        ),
    )


@pytest.fixture(scope="session")
def planted() -> Callable[..., SweepData]:
    """`make_sweep`: data of a finished sweep of LAW."""
    return make_sweep


@pytest.fixture(scope="session")
def planted_law() -> Hoffmann:
    """LAW."""
    return LAW
