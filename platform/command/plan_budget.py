"""`ladder plan --budget C`: what to train with a budget by a fitted law, its cost, and the cost of being wrong."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from upath import UPath

from ladder.analysis.api import (
    FLOPS_PER_PARAMETER_TOKEN,
    FLOPS_PER_PF_DAY,
    HELDOUT_LOSS,
    BudgetPlan,
    Fit,
    FitOptions,
    Interval,
    Mistake,
    Surface,
    SweepData,
    TableFit,
    find_law,
    fit_table,
    format_count,
    interval_words,
    mistake,
    plan_budget,
    plan_served,
    surface_of,
)
from ladder.models.errors import InputError
from ladder.models.sizes import PAPER_SIZES, RUNGS, Size, parse_size
from ladder.platform.command.fitted import fit_sweep, read_finished
from ladder.platform.command.options import console, echo_json
from ladder.platform.costs import Rate, gpu_rate
from ladder.platform.gpus import ASSUMED_GPU

NEAR = 1.5
"""A rung within this factor of the optimal N is near enough to be named; else a shape is proposed."""
WIDTH_PER_LAYER = 64
"""Width over layers of proposed shapes, as GPT-2's 117M has it (768 / 12)."""
WIDEST = 32_768
"""Largest width of a proposed shape."""


@dataclass(frozen=True, kw_only=True)
class TableColumns:
    """A table of runs and the names of its columns."""

    path: Path | None
    params: str | None
    tokens: str | None
    flops: str | None
    score: str | None
    drop_highest: int
    cluster: str | None


@dataclass(frozen=True, kw_only=True)
class BudgetRequest:
    """What the command line asks about a budget."""

    budget: float
    """Training FLOPs."""
    sweep: str | None
    """The sweep to fit; None: the table."""
    columns: TableColumns
    law: str
    bootstrap: int
    seed: int
    corpus: str | None
    storage: UPath
    tracking: str | None
    gpu: str | None
    utilisation: float
    price: float | None
    as_json: bool
    serve_tokens: float | None = None
    """Tokens that the model will be served for; None: only training counts."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.budget) and self.budget > 0):
            raise InputError(f"--budget is {self.budget}; give training FLOPs above 0, such as 1e21")
        if not issubclass(find_law(self.law), Surface):
            raise InputError(f"--law {self.law} has no optimum in N and D; choose hoffmann, gadre or kaplan")

    @property
    def rate(self) -> Rate:
        """What a GPU-hour does."""
        return gpu_rate(self.gpu or ASSUMED_GPU, self.utilisation)


@dataclass(frozen=True, kw_only=True)
class ModelKind:
    """What a size needs besides its shape to have a number of parameters."""

    context: int = 1024
    vocabulary: int = 50_257


def show_budget(request: BudgetRequest) -> None:
    """Prints the plan of a budget."""
    source, fit, kind = fit_source(request)
    plan = plan_budget(fit, request.budget)
    rungs = near_sizes(plan, request.columns.params, kind)
    served = (
        None if request.serve_tokens is None else plan_served(surface_of(fit), plan.best.loss, request.serve_tokens)
    )
    if request.as_json:
        echo_json(budget_to_json(request, source, plan, rungs) | {"served": None if served is None else vars(served)})
        return
    screen = console()
    tell_optimum(screen, request, source, plan)
    tell_sizes(screen, plan, rungs)
    tell_cost(screen, request, plan)
    if served is not None:
        screen.print(
            f"Served for {format_count(request.serve_tokens or 0)} tokens (2 N FLOPs each), the same loss of "
            f"{served.loss:.4f} is cheapest with N {format_count(served.params)} on {format_count(served.tokens)} "
            f"tokens: {served.training_flops:.3g} FLOPs of training and {served.serving_flops:.3g} of serving, "
            f"{served.share:.1%} of what the compute-optimal model takes in all (Sardana et al. 2024).",
            soft_wrap=True,
        )
    for warning in plan.warnings:
        screen.print(f"Note: {warning}.")


def fit_source(request: BudgetRequest) -> tuple[str, Fit, ModelKind]:
    """What is fitted, in words, the fit, and the kind of models it is about (GPT-2's own for a table)."""
    columns = request.columns
    if columns.path is not None:
        fit = fit_table(table_fit(request, columns, columns.path))
        assert isinstance(fit, Fit), "the law is a surface"
        return str(columns.path), fit, ModelKind()
    only_tables = [name for name in ("tokens", "flops", "cluster", "drop_highest") if getattr(columns, name)]
    if only_tables:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in only_tables)
        raise InputError(f"{named} goes with --table; the columns of a sweep are known")
    assert request.sweep is not None, "check_source saw to it"
    data = read_finished(request.sweep, request.corpus, request.storage, request.tracking)
    options = FitOptions(bootstrap=request.bootstrap, seed=request.seed)
    score, params = columns.score or HELDOUT_LOSS, columns.params or "params_total"
    fit = fit_sweep(data, request.law, score=score, params=params, options=options)
    return f"sweep {data.name}", fit, kind_of(data)


def kind_of(data: SweepData) -> ModelKind:
    """The context and vocabulary of a sweep's runs; GPT-2's where they are not recorded or not one."""
    recorded = {name: data.provenance.settings.get(name, ()) for name in ("context", "vocabulary")}
    return ModelKind(**{name: int(values[0]) for name, values in recorded.items() if len(values) == 1})


def table_fit(request: BudgetRequest, columns: TableColumns, path: Path) -> TableFit:
    """The request as `ladder fit` has it."""
    if columns.score is None:
        raise InputError("--table needs the column of the loss; name it with --score")
    return TableFit(
        path=path,
        law_name=request.law,
        score=columns.score,
        params=columns.params,
        tokens=columns.tokens,
        flops=columns.flops,
        drop_highest=columns.drop_highest,
        cluster=columns.cluster,
        bootstrap=request.bootstrap,
        seed=request.seed,
    )


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A size that could be trained with the budget."""

    size: Size
    cost: Mistake
    """What it costs beside the optimal size."""


def near_sizes(plan: BudgetPlan, params_column: str | None, kind: ModelKind) -> tuple[Rung, ...]:
    """The ladder's two nearest sizes within NEAR of the optimal N, and a shape that is nearest of all shapes."""
    convention = params_column if params_column == "params_non_embedding" else "params_total"
    law = plan.fit.law
    assert isinstance(law, Surface)

    def count(size: Size) -> int:
        return int(getattr(size, convention))

    def distance(size: Size) -> float:
        return abs(math.log(count(size) / plan.best.params))

    ladder = [parse_size(rung.name, **vars(kind)) for rung in (*RUNGS, *PAPER_SIZES.values())]
    near = sorted((size for size in ladder if distance(size) < math.log(NEAR)), key=distance)[:2]
    shape = min(shapes(kind), key=distance)
    chosen = [*near, *([shape] if distance(shape) < math.log(NEAR) and shape not in near else [])]
    return tuple(Rung(size=s, cost=mistake(law, plan.best, float(count(s)), s.name)) for s in chosen)


def shapes(kind: ModelKind) -> list[Size]:
    """Shapes of heads of 64 and about WIDTH_PER_LAYER, from narrow to wide."""
    widths = range(64, WIDEST + 1, 64)
    layers = {width: max(2, round(width / WIDTH_PER_LAYER)) for width in widths}
    return [parse_size(f"{n}x{width}", **vars(kind)) for width, n in layers.items()]


def value_with(value: float, interval: Interval) -> dict[str, Any]:
    """A value and its interval, for programs."""
    return {"value": value, "interval": interval.as_list()}


def budget_to_json(request: BudgetRequest, source: str, plan: BudgetPlan, rungs: tuple[Rung, ...]) -> dict[str, Any]:
    """The plan for programs; what is unknown is null."""
    fit, best, rate = plan.fit, plan.best, request.rate
    hours = rate.hours(request.budget)
    return {
        "flops": request.budget,
        "source": source,
        "law": fit.law.name,
        "parameters": fit.law.parameters,
        "intervals": {name: interval.as_list() for name, interval in fit.intervals.items()},
        "points": len(fit.points),
        "status": str(fit.status),
        "params": value_with(best.params, plan.params),
        "tokens": value_with(best.tokens, plan.tokens),
        "tokens_per_parameter": value_with(best.tokens_per_parameter, plan.ratio),
        "loss": value_with(best.loss, plan.loss) | {"new_run": plan.new_run.as_list()},
        "compute_beyond_data": plan.beyond,
        "sizes": [{"size": rung.size.name} | mistake_to_json(rung.cost, request) for rung in rungs],
        "gpu": request.gpu or ASSUMED_GPU,
        "mfu": request.utilisation,
        "gpu_hours": hours,
        "price_per_gpu_hour": request.price,
        "cost": None if request.price is None else hours * request.price,
        "mistakes": [{"name": wrong.name} | mistake_to_json(wrong, request) for wrong in plan.mistakes],
        "warnings": list(plan.warnings),
    }


def mistake_to_json(wrong: Mistake, request: BudgetRequest) -> dict[str, Any]:
    """Cost of a size that is not the optimal one; null where it cannot reach the optimum's loss."""
    hours = extra_hours(wrong, request.rate)
    return {
        "params": wrong.params,
        "tokens": wrong.tokens,
        "loss": wrong.loss,
        "flops_to_same_loss": wrong.flops,
        "extra_compute": wrong.extra,
        "extra_gpu_hours": hours,
        "extra_cost": None if request.price is None or hours is None else hours * request.price,
    }


def extra_hours(wrong: Mistake, rate: Rate) -> float | None:
    """GPU-hours beyond the budget's."""
    return None if wrong.flops is None else rate.hours(wrong.flops - wrong.budget)


def tell_optimum(screen: Console, request: BudgetRequest, source: str, plan: BudgetPlan) -> None:
    """The optimum with its intervals."""
    fit, best = plan.fit, plan.best
    screen.print(
        f"{request.budget:.3g} FLOPs ({request.budget / FLOPS_PER_PF_DAY:.3g} PF-days), C = "
        f"{FLOPS_PER_PARAMETER_TOKEN:g} N D, best spent by {fit.law.equation}, fitted to {len(fit.points)} runs of "
        f"{source} ({fit.status}).",
        soft_wrap=True,
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for name in ("value", f"{fit.level:.0%} interval"):
        table.add_column(name, justify="right", no_wrap=True)
    counts = [("N, parameters", best.params, plan.params), ("D, tokens", best.tokens, plan.tokens)]
    for name, value, interval in counts:
        table.add_row(name, format_count(value), interval_words(interval, format_count))
    table.add_row("D / N", f"{best.tokens_per_parameter:.3g}", interval_words(plan.ratio))
    table.add_row("loss, nats per token", f"{best.loss:.4f}", interval_words(plan.loss, "{:.4f}".format))
    table.add_row("  of one new run", "", interval_words(plan.new_run, "{:.4f}".format))
    screen.print(table)


def tell_sizes(screen: Console, plan: BudgetPlan, rungs: tuple[Rung, ...]) -> None:
    """Sizes to train, nearest rungs first, the fitting shape last."""
    screen.print("Sizes near it:" if rungs else f"No shape of width 64 to {WIDEST} is within {NEAR:g} times this N.")
    for rung in rungs:
        cost = rung.cost
        extra = "out of reach" if cost.extra is None else f"{cost.extra:+.2%} compute"
        screen.print(
            f"  {rung.size.name:10} N {format_count(cost.params):>6}, D {format_count(cost.tokens):>6} for the budget: "
            f"loss {cost.loss:.4f}; the optimum's loss for {extra}",
            highlight=False,
        )


def tell_cost(screen: Console, request: BudgetRequest, plan: BudgetPlan) -> None:
    """GPU-hours and money of the budget, and what a wrong size adds to reach the same loss."""
    rate = request.rate
    hours = rate.hours(request.budget)
    money = "" if request.price is None else f", cost {hours * request.price:,.0f} at {request.price:g} an hour"
    screen.print(
        f"\nCost: {hours:,.3g} GPU-hours{money} ({request.gpu or ASSUMED_GPU} at {request.utilisation:.0%} of its "
        f"{rate.flops_per_second / 1e12:.4g} TFLOP/s)."
    )
    table = Table(box=None, padding=(0, 2, 0, 0), title="The cost of being wrong", title_justify="left")
    table.add_column("size trained", no_wrap=True)
    columns = ["N", "loss for the budget", "compute to the same loss", "GPU-hours more"]
    for name in [*columns, *([] if request.price is None else ["cost more"])]:
        table.add_column(name, justify="right", no_wrap=True)
    for wrong in plan.mistakes:
        extra = extra_hours(wrong, rate)
        cells = [wrong.name, format_count(wrong.params), f"{wrong.loss:.4f}"]
        if wrong.extra is None or extra is None:
            cells += ["no number of tokens", "-"] + ([] if request.price is None else ["-"])
        else:
            cells += [f"{wrong.extra:+.1%}", f"{extra:,.3g}"]
            cells += [] if request.price is None else [f"{extra * request.price:,.0f}"]
        table.add_row(*cells)
    screen.print(table)
