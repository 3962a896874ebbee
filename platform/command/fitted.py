"""Fits of sweeps that were run, for commands that plan by them."""

import click
import polars as pl
from upath import UPath

from ladder.analysis.api import HELDOUT_LOSS, Fit, FitOptions, Points, SweepData, fit_law, make_points, read_sweep
from ladder.models.errors import InputError, hide_credentials
from ladder.platform.identity import check_schema
from ladder.platform.storage import is_local
from ladder.platform.tracking.database import tracking_uri
from ladder.sweeps.load import known_sweeps, load_sweep


def read_finished(name_or_file: str, corpus: str | None, storage: UPath, tracking: str | None) -> SweepData:
    """The runs of a sweep given by its file, its name, or the name under which the tracking store has it."""
    check_schema(storage)
    given = name_or_file in known_sweeps() or name_or_file.endswith(".py")
    name = (load_sweep(name_or_file).name if given else name_or_file) + (f"-{corpus}" if corpus else "")
    where = "" if is_local(storage) and tracking is None else f" from {hide_credentials(tracking or str(storage))}"
    click.echo(f"reading the runs of {name}{where} ...", err=True)  # MLflow alone takes seconds to import
    return read_sweep(tracking_uri(tracking, storage), name)


def sweep_points(data: SweepData, score: str = HELDOUT_LOSS, params: str = "params_total") -> Points:
    """Finished runs that have the score, as points; InputError where there is none."""
    if params not in ("params_total", "params_non_embedding"):
        raise InputError(f"a sweep counts N as params_total or params_non_embedding, got --params {params}")
    finished = data.finished
    if score not in data.scores:
        raise InputError(f"sweep {data.name!r} has no score {score!r}; it has {', '.join(data.scores) or 'none yet'}")
    rows = finished.filter(pl.col(score).is_not_null())
    if rows.height == 0:
        counts = ", ".join(f"{row['len']} {row['status']}" for row in data.table.group_by("status").len().to_dicts())
        raise InputError(
            f"sweep {data.name!r} has no finished run with {score} ({counts or 'no runs'}); "
            f"`ladder run {data.name}` goes on with it"
        )
    return make_points(rows[score].to_numpy(), params=rows[params].to_numpy(), tokens=rows["tokens"].to_numpy())


def fit_sweep(data: SweepData, law: str, *, score: str, params: str, options: FitOptions) -> Fit:
    """A law fitted to a sweep's finished runs."""
    return fit_law(law, sweep_points(data, score, params), options)
