"""The scaling-law report: one self-contained HTML file, every statement and number of which is computed from the runs.

`findings` decides what is true, `figures` draws, this module puts both into words and a template.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from ladder.analysis import figures, words
from ladder.analysis.canvas import to_svg
from ladder.analysis.findings import PARAMS, Findings, ScoreFinding, find, largest_budget
from ladder.analysis.fits import Fit, FitOptions
from ladder.analysis.runs import SweepData
from ladder.analysis.units import format_count, format_number

TABLE_SCORES = 8
"""Measurements shown as columns of the table of runs; the rest are in the figures."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure of the page."""

    title: str
    svg: Markup
    caption: str
    """What it shows and what to see in it, in words computed from the findings."""


def write_report(data: SweepData, path: Path, options: FitOptions | None = None) -> Path:
    """Writes the report of a sweep; InputError where no run has finished."""
    html = render_report(find(data, options))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")
    return path


def render_report(findings: Findings) -> str:
    """The report as HTML."""
    source = files("ladder.analysis").joinpath("templates/report.html").read_text(encoding="utf-8")
    # Undefined names raise, so that a mistake in the template cannot pass as an empty cell.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["raised"] = raise_exponents
    return environment.from_string(source).render(page(findings))


def raise_exponents(text: str) -> Markup:
    """The text with N^0.35 as a superscript."""
    return Markup(re.sub(r"\^(-?[\w.]*\w)", r"<sup>\1</sup>", str(escape(text))))


def page(findings: Findings) -> dict[str, Any]:
    """Everything that the template shows."""
    data = findings.data
    title, _, rest = data.question.partition("\n")
    counts = {row["status"]: row["len"] for row in data.table.group_by("status").len().to_dicts()}
    return {
        "sweep": data.name,
        "title": title or data.name,
        "question": [paragraph.strip() for paragraph in rest.split("\n\n") if paragraph.strip()],
        "counts": ", ".join(f"{counts[s]} {s}" for s in ("finished", "failed", "running", "waiting") if s in counts),
        "answers": words.answers(findings),
        "loss_figures": draw_losses(findings),
        "score_figures": [drawing for score in findings.scores if (drawing := draw_finding(score)) is not None],
        "runs": runs_table(findings),
        "laws": [law_rows(fit) for fit in findings.fits],
        "refusals": findings.refusals,
        "scores": [score_row(score) for score in findings.scores],
        "comparisons": [row for score in findings.scores if (row := words.comparison(score)) is not None],
        "resolution": words.resolution(findings),
        "failed": data.failed.to_dicts(),
        "unfinished": data.table.filter(pl.col("status").is_in(["running", "waiting"]))["run"].to_list(),
        "conventions": words.conventions(findings),
        "provenance": words.provenance(data),
        "written": datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "mlflow_runs": data.provenance.mlflow_run_ids,
    }


def drawing(title: str, figure: Figure | None, caption: str) -> Drawing | None:
    """A figure made ready for the page; None where there is none."""
    return None if figure is None else Drawing(title=title, svg=Markup(to_svg(figure)), caption=caption)


def draw_losses(findings: Findings) -> list[Drawing]:
    """The figures of the loss."""
    loss, surface = findings.loss, findings.surface
    drawings = [
        drawing("Held-out loss against size", figures.draw_loss(loss, findings.drawn), words.loss_caption(findings)),
        drawing(
            "Training loss against tokens",
            figures.draw_training(findings.data.curves, findings.data.table.drop_nulls(["size", PARAMS])),
            "One line per run, coloured by size; the label is at each size's longest run.",
        ),
        drawing("Held-out loss against compute", figures.draw_compute(loss, surface), words.compute_caption(findings)),
        drawing(
            "Train and held-out perplexity",
            figures.draw_perplexity(largest_budget(loss)),
            words.perplexity_caption(findings),
        ),
    ]
    if surface is not None:
        residuals = figures.draw_residuals(loss, surface)
        drawings.append(drawing(f"Residuals of {surface.law.name}", residuals, words.residual_caption(surface)))
    return [made for made in drawings if made is not None]


def draw_finding(score: ScoreFinding) -> Drawing | None:
    """The figure of one measurement; None where no run has it."""
    if score.rows.height == 0:
        return None
    return drawing(score.name, figures.draw_score(score), words.score_caption(score))


def runs_table(findings: Findings) -> dict[str, Any]:
    """Header and rows of the table of runs."""
    data = findings.data
    scores = data.scores[:TABLE_SCORES]
    head = [
        "run",
        "size",
        "N total",
        "N without embeddings",
        "tokens",
        "tokens per N",
        "FLOPs 6ND",
        "FLOPs exact",
        "seed",
    ]
    rows = [run_cells(row, scores) for row in data.table.iter_rows(named=True)]
    return {"head": [*head, *scores, "status"], "rows": rows, "left_out": data.scores[TABLE_SCORES:]}


def run_cells(row: dict[str, Any], scores: Sequence[str]) -> list[str]:
    """One row of the table of runs as text; an absent value is a dash."""
    count = {
        name: "-" if row[name] is None else format_count(row[name])
        for name in (PARAMS, "params_non_embedding", "tokens")
    }
    ratio = None if row["tokens"] is None or row[PARAMS] is None else row["tokens"] / row[PARAMS]
    return [
        row["run"],
        row["size"] or "-",
        *count.values(),
        format_number(ratio, 3),
        format_number(row["flops_6nd"], 3),
        format_number(row["flops_exact"], 3),
        "-" if row["seed"] is None else str(row["seed"]),
        *(format_number(row[name]) for name in scores),
        row["status"],
    ]


def law_rows(fit: Fit) -> dict[str, Any]:
    """A fitted law with its coefficients and health."""
    health = fit.health
    return {
        "name": fit.law.name,
        "equation": fit.law.equation,
        "status": str(fit.status),
        "reason": fit.reason,
        "points": len(fit.points),
        "level": f"{fit.level:.0%}",
        "parameters": [
            (name, format_number(value), words.interval(fit.intervals[name]))
            for name, value in fit.law.parameters.items()
        ],
        "health": [
            ("objective", f"{fit.value:.4g} ({words.objective(fit)})"),
            ("starts at the best objective", f"{health.best_share:.0%} of {health.starts}"),
            ("scaled gradient", f"{health.gradient_norm:.1e}"),
            ("condition number", format_number(health.condition_number, 3)),
            ("residual, root mean square", format_number(health.residual_rms, 3)),
            ("R2", "-" if health.r_squared is None else f"{health.r_squared:.4f}"),
            ("degrees of freedom", str(health.degrees_of_freedom)),
            ("intervals from", words.interval_source(fit)),
        ],
    }


def score_row(score: ScoreFinding) -> dict[str, str]:
    """A measurement's log-linear law as a row of text."""
    fit = score.fit
    row = {"name": score.name, "what": score.description, "runs": str(score.fitted.height)}
    if fit is None:
        return row | {"slope": "-", "interval": "-", "r_squared": "-", "status": f"not fitted: {score.refusal}"}
    doubled = words.per_doubling(score, fit)
    monotone = "" if score.monotone else ", not monotone in size"
    r_squared = "-" if fit.health.r_squared is None else f"{fit.health.r_squared:.3f}"
    return row | {
        "slope": doubled.value,
        "interval": doubled.interval,
        "r_squared": r_squared,
        "status": f"{fit.status}{monotone}",
    }
