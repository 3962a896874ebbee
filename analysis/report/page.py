"""The scaling-law report: one self-contained HTML file, every statement and number of which is computed from the runs.

`findings` decides what is true, the figures' modules draw, this module puts both into words and a template.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from ladder.analysis.fitting.fits import Fit, FitOptions
from ladder.analysis.fitting.health import interval_words
from ladder.analysis.fitting.points import DISTINCT
from ladder.analysis.laws.law import format_count, format_number
from ladder.analysis.report import captions
from ladder.analysis.report.answers import answers, capital, counted, interval_source, objective
from ladder.analysis.report.canvas import SIZE_LABEL, draw_panel, to_svg
from ladder.analysis.report.figures import (
    LOSS_LABEL,
    N_LABEL,
    draw_compute,
    draw_isoflop,
    draw_layers,
    draw_loss,
    draw_optimal_size,
    draw_over_training,
    draw_perplexity,
    draw_ratios,
    draw_residuals,
    draw_training,
)
from ladder.analysis.report.findings import Findings, find, place_words, training_lines
from ladder.analysis.report.scores import ScoreFinding, ScoreTable, largest_budget, paper_first, score_tables
from ladder.analysis.tables.sweeps import HELDOUT_LOSS, PARAMS, SweepData, is_heldout

TABLE_SCORES = 7
"""Measurements side by side in a table of runs; more go into further tables."""
MOST_ROWS = 500
"""Runs in a table of the page; a page of ten thousand would not open on a phone."""
MOST_CURVES = 200
"""Runs whose training curves are drawn one by one."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure of the page."""

    title: str
    svg: Markup
    caption: str
    """What it shows and what to see in it, in words computed from the findings."""


def write_report(data: SweepData, path: Path, options: FitOptions | None = None, example: str | None = None) -> Path:
    """Writes the report of a sweep or of a table of runs; InputError where nothing can be said.

    `example` is the address of a page that shows a text through the sweep's checkpoints, for a link.
    """
    return write_page(path, render_report(find(data, options), example))


def write_page(path: Path, html: str) -> Path:
    """Writes a page, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")
    return path


def render_report(findings: Findings, example: str | None = None) -> str:
    """The report as HTML."""
    return render("report.html", page(findings) | {"example": example})


def render(template: str, values: dict[str, Any]) -> str:
    """A template of this package with its values."""
    # Undefined names raise, so that a mistake in the template cannot pass as an empty cell.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=FunctionLoader(lambda name: read_template(name)),
    )  # fmt: skip
    environment.filters["raised"] = raise_exponents
    environment.filters["breakable"] = breakable
    environment.filters["stacked"] = stack_lines
    written = datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template(template).render(values | {"written": written})


def read_template(name: str) -> str:
    """The text of a template."""
    return files("ladder.analysis.report").joinpath(f"templates/{name}").read_text(encoding="utf-8")


def raise_exponents(text: str) -> Markup:
    """The text with N^0.35 as a superscript."""
    return Markup(re.sub(r"\^(-?[\w.]*\w)", r"<sup>\1</sup>", str(escape(text))))


def stack_lines(text: str) -> Markup:
    """The text's first line with the further ones small below it."""
    first, *rest = str(text).split("\n")
    below = (f'<span class="below">{escape(line)}</span>' for line in rest)
    return Markup(f"{raise_exponents(first)}{''.join(below)}")


def breakable(name: str) -> Markup:
    """A name of a measurement that may be broken where its words meet."""
    return Markup(re.sub(r"([/_-])", r"\1<wbr>", str(escape(name))))


def page(findings: Findings) -> dict[str, Any]:
    """Everything that the template shows."""
    data = findings.data
    title, _, rest = data.question.partition("\n")
    is_sweep = data.source == "sweep"
    tables = tables_of(findings)
    return {
        "name": data.name,
        "kind": "Sweep" if is_sweep else "Table",
        "title": title if is_sweep and title else f"Scaling laws of {data.name}",
        "question": [part.strip() for part in rest.split("\n\n") if part.strip()] if is_sweep else [],
        "counts": count_words(data),
        "answers": answers(findings),
        "transfer": transfer(findings),
        "over_training": over_training(findings),
        "main_figures": main_figures(findings),
        "panels": draw_panels(findings.scores, findings.data.axes),
        "panels_caption": panels_caption(findings),
        "score_tables": tables,
        "table_title": "Scores beside the paper's" if any(part.references for part in tables) else "Scores",
        "table_caption": table_caption(tables),
        "loss_figures": draw_losses(findings),
        "loss_notes": loss_notes(findings),
        "laws": [law_rows(fit) for fit in findings.fits],
        "refusals": findings.refusals,
        "convention_head": ["parameter", *findings.conventions],
        "conventions_beside": captions.convention_rows(findings),
        "level": f"{findings.level:.0%}",
        "scores": [score_row(score) for score in findings.scores],
        "comparisons": [row for score in findings.scores if (row := captions.comparison(score)) is not None],
        "resolution": captions.resolution(findings),
        "runs": runs_table(data),
        "run_scores": scores_tables(data),
        "failed": data.failed.to_dicts(),
        "failed_title": "Failed" if is_sweep else "Left out",
        "unfinished": data.table.filter(pl.col("status").is_in(["running", "waiting"]))["run"].to_list(),
        "conventions": captions.conventions(findings),
        "provenance": captions.provenance(data),
        "mlflow_runs": list(data.provenance.mlflow_run_ids.items())[:MOST_ROWS],
    }


def transfer(findings: Findings) -> dict[str, Any] | None:
    """What the section on fine-tuning shows; None where nothing was fine-tuned."""
    panels = [
        drawing(curve.score.name, draw_panel(curve.score), capital(curve.movement) + ".") for curve in findings.transfer
    ]
    for rows in findings.data.transfer.partition_by("task", "metric", "setting", maintain_order=True):
        told = "A line per checkpoint; bars of 1.96 standard errors over seeds."
        panels.append(drawing(f"{place_words(rows)} by what is taken over", draw_layers(rows), told))
    return captions.transfer_words(findings) | {"panels": [one for one in panels if one]} if findings.transfer else None


def over_training(findings: Findings) -> dict[str, Any] | None:
    """Zero-shot scores over training: of each size's longest runs as they are, of the largest between chance and a
    reference; None where none were scored."""
    rows = training_lines(findings.data)
    if rows.height == 0:
        return None
    panels = []
    for part in rows.partition_by("name", maintain_order=True):
        panels.append(drawing(part["name"][0], draw_over_training(part, part["unit"][0], part["chance"][0]), ""))
    known = rows.filter(pl.col("run") == rows["run"][-1]).drop_nulls("normalised")
    if known.height:
        known = known.with_columns(line="name", score="normalised", standard_error="normalised_error")
        figure = draw_over_training(known, "0 is chance, 1 the reference", None)
        panels.append(drawing(f"{rows['line'][-1]}, normalised", figure, captions.reference_words(rows)))
    return {"panels": panels, "caption": captions.over_training_words(rows)}


def count_words(data: SweepData) -> str:
    """How many runs stand where."""
    counts = {row["status"]: row["len"] for row in data.table.group_by("status").len().to_dicts()}
    known = ("finished", "failed", "running", "waiting", "left out")
    if data.source == "table":
        left = f", {counts['left out']} left out" if "left out" in counts else ""
        return counted(counts.get("finished", 0), "row") + left
    return ", ".join(f"{counts[status]} {status}" for status in known if status in counts)


def drawing(title: str, figure: Figure | None, caption: str, axes: Mapping[str, str] | None = None) -> Drawing | None:
    """A figure made ready for the page; None where there is none. `axes` names a table's own columns of N and loss."""
    if figure is None:
        return None
    own = {N_LABEL: "N", SIZE_LABEL: "N", f"best {N_LABEL}": "N", LOSS_LABEL: "loss"}
    for part in figure.axes if axes else ():
        for axis in (part.xaxis, part.yaxis):
            name = (axes or {}).get(own.get(axis.get_label_text(), ""), "")
            if name:
                axis.set_label_text(f"best {name}" if axis.get_label_text().startswith("best") else name)
    labelled = to_svg(figure).replace(' role="img"', f' role="img" aria-label="{escape(title)}"', 1)
    return Drawing(title=title, svg=Markup(labelled), caption=caption)


def main_figures(findings: Findings) -> list[Drawing]:
    """The figures of the first screen: loss against size and compute with the law; none without a loss."""
    loss, own = findings.loss, findings.data.axes
    if loss.height == 0:
        return []
    size = drawing("Held-out loss against size", draw_loss(loss, findings.drawn), captions.loss_caption(findings), own)
    compute = None
    if not loss["flops_6nd"].null_count():
        told = captions.compute_caption(findings)
        compute = drawing("Held-out loss against compute", draw_compute(loss, findings.surface), told, own)
    return [made for made in (size, compute) if made is not None]


def draw_losses(findings: Findings) -> list[Drawing]:
    """The other figures of the loss; none without one."""
    loss, surface, data, own = findings.loss, findings.surface, findings.data, findings.data.axes
    if loss.height == 0:
        return []
    drawn = [drawing("Train and held-out perplexity against size", draw_perplexity(largest_budget(loss)),
                     captions.perplexity_caption(findings), own)]  # fmt: skip
    runs = data.table.drop_nulls(["size", PARAMS])
    if runs.height <= MOST_CURVES:
        told = "One line per run, coloured by size; the label is at each size's longest run."
        drawn.append(drawing("Training loss against tokens", draw_training(data.curves, runs), told))
    if not loss["flops_6nd"].null_count():
        ratios = draw_ratios(loss, surface)
        drawn.append(
            drawing("Loss against compute, by tokens per parameter", ratios, captions.ratio_caption(findings), own)
        )
    isoflop = findings.isoflop
    if isoflop is not None and isoflop.used:
        drawn.append(drawing("Loss at equal compute", draw_isoflop(isoflop), captions.isoflop_caption(isoflop), own))
        best = draw_optimal_size(isoflop, surface)
        drawn.append(drawing("Best size against compute", best, captions.optimum_caption(findings), own))
    if surface is not None:
        residuals = draw_residuals(loss, surface)
        drawn.append(drawing(f"Residuals of {surface.law.name}", residuals, captions.residual_caption(surface), own))
    return [made for made in drawn if made is not None]


def loss_notes(findings: Findings) -> list[str]:
    """What could not be drawn, and why."""
    isoflop = findings.isoflop
    return [captions.isoflop_refusal(isoflop)] if isoflop is not None and not isoflop.used else []


def draw_panels(scores: Sequence[ScoreFinding], axes: Mapping[str, str]) -> list[Drawing]:
    """A panel per measurement that any run has; none where the loss is the only one."""
    shown = [score for score in sorted(scores, key=paper_first) if score.rows.height]
    made = [drawing(score.name, draw_panel(score), captions.score_caption(score), axes) for score in shown]
    return [one for one in made if one is not None]


def panels_caption(findings: Findings) -> str:
    """How to read the panels."""
    told = (
        "As figure 1 of the GPT-2 paper: each size at its largest token count, bars of 1.96 standard errors; the line "
        f"is the law, shaded its {findings.level:.0%} band, dotted that of a new run."
    )
    told += token_words(findings)
    if any(score.rows.height > score.fitted.height for score in findings.scores):
        told += " Small grey points are smaller token budgets."
    if any(score.references.height for score in findings.scores):
        told += " Open grey diamonds are the paper's four models, for reference: other data, other training."
    return told


def token_words(findings: Findings) -> str:
    """Says where sizes differ in tokens too, so that a line in N alone mixes both."""
    if not findings.scores:
        return ""
    tokens = pl.concat([score.fitted["tokens"] for score in findings.scores]).drop_nulls()
    if tokens.is_empty() or tokens.max() / tokens.min() < 1 + DISTINCT:  # type: ignore[operator]
        return ""
    low, high = format_count(float(tokens.min())), format_count(float(tokens.max()))  # type: ignore[arg-type]
    return f" The sizes saw different numbers of tokens ({low} to {high}), so that the lines mix size and data."


def tables_of(findings: Findings) -> list[ScoreTable]:
    """The tables of scores; none where the loss is the only one."""
    shown = [score for score in findings.scores if score.rows.height]
    return score_tables(shown, findings.data.finished) if shown else []


def table_caption(tables: Sequence[ScoreTable]) -> str:
    """How to read the table of scores."""
    told = "Each size at its largest token count; the value and its standard error, a dash where there is no score."
    if any(part.references for part in tables):
        told += " The paper's models were trained on WebText; the paper states no standard errors."
    return told


def runs_table(data: SweepData) -> dict[str, Any]:
    """Header and rows of the table of runs, smallest first, without columns that tell nothing."""
    head = ["run", "size", "N total", "N without embeddings", "tokens", "tokens per N", "FLOPs 6ND", "FLOPs exact"]
    head += ["seed", HELDOUT_LOSS, "status"]
    table = data.table.sort(PARAMS, "tokens", "seed", nulls_last=True, maintain_order=True)
    rows = [run_cells(row) for row in table.head(MOST_ROWS).iter_rows(named=True)]
    kept = [place for place in range(len(head)) if not {row[place] for row in rows} <= {"-", "finished"}]
    more = data.table.height - len(rows)
    return {
        "head": [head[place] for place in kept],
        "rows": [[row[place] for place in kept] for row in rows],
        "count": data.table.height,
        "more": f"{more} more are not shown: the tracking store has them all." if more else "",
    }


def scores_tables(data: SweepData) -> list[dict[str, Any]]:
    """Header and rows of the tables of every run's scores besides the loss."""
    names = [name for name in data.scores if not is_heldout(name)]
    shown = data.finished.head(MOST_ROWS).to_dicts()
    parts = [names[first : first + TABLE_SCORES] for first in range(0, len(names), TABLE_SCORES)]
    return [
        {
            "head": ["run", *part],
            "rows": [[row["run"], *(format_number(row[name]) for name in part)] for row in shown],
        }
        for part in parts
    ]


def run_cells(row: dict[str, Any]) -> list[str]:
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
        format_number(row.get(HELDOUT_LOSS)),
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
        "misfit": fit.misfit,
        "points": len(fit.points),
        "level": f"{fit.level:.0%}",
        "parameters": [
            (name, format_number(value), interval_words(fit.intervals[name]))
            for name, value in fit.law.parameters.items()
        ],
        "health": [
            ("objective", f"{fit.value:.4g} ({objective(fit)})"),
            ("starts at the best objective", f"{health.best_share:.0%} of {health.starts}"),
            ("scaled gradient", f"{health.gradient_norm:.1e}"),
            ("condition number", format_number(health.condition_number, 3)),
            ("residual, root mean square", format_number(health.residual_rms, 3)),
            ("R2", "-" if health.r_squared is None else f"{health.r_squared:.4f}"),
            ("degrees of freedom", str(health.degrees_of_freedom)),
            ("intervals from", interval_source(fit)),
        ],
    }


def score_row(score: ScoreFinding) -> dict[str, str]:
    """A measurement's log-linear law as a row of text."""
    fit = score.fit
    row = {"name": score.name, "runs": str(score.fitted.height)}
    if fit is None:
        absent = dict.fromkeys(("slope", "interval", "r_squared", "freedom"), "-")
        return row | absent | {"status": f"not fitted: {score.refusal}"}
    doubled = captions.per_doubling(score, fit)
    monotone = "" if score.monotone else ", not monotone in size"
    return row | {
        "slope": doubled.value,
        "interval": doubled.interval,
        "r_squared": "-" if fit.health.r_squared is None else f"{fit.health.r_squared:.3f}",
        "freedom": str(fit.health.degrees_of_freedom if fit.line is None else fit.line.degrees_of_freedom),
        "status": f"{fit.status}{monotone}",
    }
