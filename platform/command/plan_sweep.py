"""`ladder plan SWEEP`: each run's cost, what the fit could resolve, and the runs to add."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from upath import UPath

from ladder.analysis.api import (
    HELDOUT_LOSS,
    REFERENCES,
    SEED_NOISE,
    SEED_NOISE_SOURCE,
    SHARED_NOISE,
    Fit,
    FitOptions,
    Floats,
    Noise,
    Prospect,
    Question,
    Reference,
    SeedNoise,
    SweepData,
    assess_design,
    format_count,
    interval_words,
    leaves_reference,
    list_candidates,
    seed_noise,
    surface_of,
)
from ladder.models.errors import InputError
from ladder.models.sizes import PAPER_SIZES, RUNGS, Size
from ladder.platform.command.chosen import Chosen, choose
from ladder.platform.command.fitted import fit_sweep, read_finished
from ladder.platform.command.options import console, echo_json
from ladder.platform.command.plan_runs import run_row, runs_table, tell_totals, training_text
from ladder.platform.costs import Rate, asked_gpu, find_rate, worker_hours
from ladder.sweeps.expand import resolved_recipe
from ladder.sweeps.trunks import find_relatives, planned_shared_steps
from ladder.sweeps.tuned import describe_rule
from ladder.sweeps.words import Run

SLOW_LOSSES = 500_000
"""Simulated losses from which a plan takes seconds and says what it is doing."""


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """What the command line asks about a sweep."""

    sweep: str
    corpus: str | None
    storage: UPath
    tracking: str | None
    gpu: str | None
    utilisation: float
    price: float | None
    nodes: str | None
    """A cluster's file or address, to show which nodes the runs get; None: not shown."""
    reference: str
    """Name of a published law or of a sweep that was run."""
    noise: float | None
    noise_from: str | None
    target_flops: float | None
    added_runs: int
    added_flops: float | None
    simulations: int
    seed: int
    as_json: bool

    def __post_init__(self) -> None:
        for name in ("target_flops", "added_flops"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise InputError(f"--{name.replace('_', '-')} is {value}; give training FLOPs above 0, such as 1e21")
        if self.noise is not None and not np.isfinite(self.noise):
            raise InputError(f"--noise is {self.noise}; give a standard deviation of ln loss, such as {SEED_NOISE}")
        if self.noise is not None and self.noise_from is not None:
            raise InputError("--noise gives the noise and --noise-from measures it; give one of the two")


def show_sweep(request: SweepRequest) -> None:
    """Prints the plan of a sweep."""
    chosen = choose(request.sweep, request.storage, request.corpus, dry=True)
    reference, noise = find_reference(request)
    runs = candidate_runs(chosen, reference, request.added_flops)
    question = Question(
        target_flops=request.target_flops,
        added_runs=request.added_runs,
        simulations=request.simulations,
        seed=request.seed,
    )
    if len(chosen.runs) * request.simulations > SLOW_LOSSES:
        click.echo(f"simulating {request.simulations:,} sweeps of {len(chosen.runs):,} runs ...", err=True)
    trunks = trunks_of(chosen.runs)
    prospect = assess_design(
        reference, noise, places(chosen.runs, reference), places(runs, reference), question, trunks
    )
    added = name_added(chosen, prospect, runs)
    nodes = None if request.nodes is None else find_nodes(chosen, request.nodes)
    rate = find_rate(request.gpu or asked_gpu(chosen.sweep.name, chosen.executions), request.utilisation)
    if request.as_json:
        resolution = prospect.to_json() | {"proposal": proposal_to_json(prospect, chosen, added, rate, request.price)}
        shared = planned_shared_steps(chosen.runs)
        rows = [run_row(chosen, run, rate, request.price, shared[run.key]) for run in chosen.runs]
        if nodes is not None:
            rows = [row | {"nodes": nodes[row["run"]]} for row in rows]
        gpu_hours = sum(row["gpu_hours"] for row in rows)
        shown = {"sweep": chosen.sweep.name, "runs": rows, "gpu_hours": gpu_hours, "rate": vars(rate)}
        echo_json(shown | {"resolution": resolution, "recipe": describe_rule(chosen.sweep.recipe)})
        return
    screen = console()
    screen.print(runs_table(chosen, rate, request.price, nodes))
    screen.print(f"Recipe: {describe_rule(chosen.sweep.recipe)}.", highlight=False)
    tell_totals(screen, chosen, rate)
    if nodes is not None:
        tell_nodes(screen, nodes)
    tell_resolution(screen, prospect)
    tell_proposal(screen, prospect, chosen, added, rate, request.price)
    stand_in = leaves_reference(reference, places(chosen.runs, reference)[0])
    for warning in [*prospect.warnings, *([stand_in] if stand_in else [])]:
        screen.print(f"Note: {warning[0].upper()}{warning[1:]}.")


def find_nodes(chosen: Chosen, where: str) -> dict[str, str]:
    """The nodes that each run gets, in words."""
    from ladder.platform.command.plan_nodes import planned_nodes  # it needs Ray, which takes seconds to import

    return planned_nodes(chosen, where)


def tell_nodes(screen: Console, nodes: Mapping[str, str]) -> None:
    """Say which node types serve alike, and which runs no node holds."""
    several = list(dict.fromkeys(words for words in nodes.values() if " or " in words))
    if several:
        screen.print(f"Nodes: {'; '.join(several)}; the table has the first.")
    unserved = [key for key, words in nodes.items() if words == "none"]
    if unserved:
        screen.print(
            f"No node of the cluster holds {len(unserved)} of the runs, such as {unserved[0]}: `ladder run` would "
            "refuse them.",
            style="bold",
        )


def places(runs: tuple[Run, ...], reference: Reference) -> tuple[Floats, Floats]:
    """N, as the reference counts it, and D of runs."""
    params = np.array([getattr(run.size, reference.params) for run in runs], dtype=np.float64)
    return params, np.array([run.recipe.tokens for run in runs], dtype=np.float64)


def trunks_of(runs: tuple[Run, ...]) -> NDArray[np.int64] | None:
    """[n] what each run shares the beginning of its training with, as a label; None where nothing is shared."""
    relatives = find_relatives(runs)
    if not relatives:
        return None
    trunks = [min([run.key, *(other.run for other in relatives.get(run.key, ()))]) for run in runs]
    return np.asarray(np.unique(trunks, return_inverse=True)[1], dtype=np.int64)


def find_reference(request: SweepRequest) -> tuple[Reference, Noise]:
    """The law taken for the truth and the noise of seeds, each with its source."""
    data, fit = None, None
    if request.reference in REFERENCES:
        reference = REFERENCES[request.reference]
    else:
        data = read_finished(request.reference, None, request.storage, request.tracking)
        fit = fit_sweep(data, "hoffmann", score=HELDOUT_LOSS, params="params_total", options=FitOptions(bootstrap=0))
        params = fit.points.quantity("params")
        reference = Reference(
            law=surface_of(fit),
            source=f"fitted to the {len(fit.points)} runs of {data.name}"
            + (f" ({fit.status}: {fit.reason})" if fit.reason else ""),
            sizes=(float(params.min()), float(params.max())),
        )
    return reference, find_noise(request, data, fit)


def find_noise(request: SweepRequest, data: SweepData | None, fit: Fit | None) -> Noise:
    """The noise that was given, else measured from seeds, else left by the reference's fit, else assumed."""
    if request.noise is not None:
        return Noise(value=request.noise, source="as given")
    if request.noise_from is not None:
        data = read_finished(request.noise_from, None, request.storage, request.tracking)
    measured = None if data is None else seed_noise(data.table, HELDOUT_LOSS)
    if measured is not None and data is not None:
        return measured_noise(measured, data.name)
    if request.noise_from is not None:
        raise InputError(
            f"sweep {request.noise_from!r} has no setting that was run with two seeds, so its noise is unknown; run "
            "one with seeds=(0, 1, 2), or give --noise"
        )
    if data is not None and fit is not None and fit.health.degrees_of_freedom > 0 and fit.health.residual_rms > 0:
        spread = fit.health.residual_rms * np.sqrt(len(fit.points) / fit.health.degrees_of_freedom)
        return Noise(value=float(spread), source=f"what the law leaves of {data.name}, whose settings have one seed")
    return Noise(value=SEED_NOISE, source=SEED_NOISE_SOURCE)


def measured_noise(measured: SeedNoise, name: str) -> Noise:
    """Noise measured from repeated seeds; seeds that agree exactly are refused."""
    if not measured.standard_deviation > 0:
        raise InputError(f"the seeds of {name} agree to the last digit, so they are no repeats; give --noise")
    source = (
        f"measured from {measured.runs} runs of {measured.settings} settings of {name}, "
        f"{measured.degrees_of_freedom} degrees of freedom"
    )
    return Noise(value=measured.standard_deviation, source=source, low=measured.low, high=measured.high)


def candidate_runs(chosen: Chosen, reference: Reference, most_flops: float | None) -> tuple[Run, ...]:
    """Runs that could be added: the sweep's sizes and the ladder's between them, by the budgets around its own.

    No run reads the corpus more than once, unless the sweep itself does.
    """
    design = places(chosen.runs, reference)
    sizes = {run.size.params_total: run.size for run in chosen.runs}
    first = chosen.runs[0].size
    for rung in (*RUNGS, *PAPER_SIZES.values()):
        size = replace(rung, context=first.context, vocabulary=first.vocabulary)
        sizes.setdefault(size.params_total, size)
    by_params: dict[float, Size] = {float(getattr(size, reference.params)): size for size in sizes.values()}
    corpus = None if chosen.corpus is None else max(float(chosen.corpus.train.n_tokens), float(design[1].max()))
    N, D = list_candidates(design, np.array([*by_params]), most_flops=most_flops, most_tokens=corpus)
    return tuple(make_run(chosen, by_params[n], round(d), 0) for n, d in zip(N, D, strict=True))


def make_run(chosen: Chosen, size: Size, tokens: int, seed: int) -> Run:
    """A run of the sweep's recipe."""
    recipe = resolved_recipe(chosen.sweep, size, tokens, seed, chosen.precision)
    return replace(chosen.runs[0], size=size, recipe=recipe)


def name_added(chosen: Chosen, prospect: Prospect, candidates: tuple[Run, ...]) -> tuple[Run, ...]:
    """The proposed runs, each with the first seed that its setting does not have yet."""
    there = list(chosen.runs)
    for proposed in prospect.proposal.runs:
        run = candidates[proposed.candidate]
        taken = {
            other.recipe.seed
            for other in there
            if other.size.params_total == run.size.params_total and other.recipe.tokens == run.recipe.tokens
        }
        seed = next(seed for seed in range(len(there) + 1) if seed not in taken)
        there.append(make_run(chosen, run.size, run.recipe.tokens, seed))
    return tuple(there[len(chosen.runs) :])


def proposal_to_json(
    prospect: Prospect, chosen: Chosen, added: tuple[Run, ...], rate: Rate, price: float | None
) -> dict[str, Any]:
    """The runs to add, for programs."""
    proposal = prospect.proposal
    widths = [{"relative_width": proposed.width} for proposed in proposal.runs]
    rows = [run_row(chosen, run, rate, price) | width for run, width in zip(added, widths, strict=True)]
    return {"criterion": proposal.criterion, "flops": proposal.flops, "share": proposal.share, "runs": rows}


def tell_resolution(screen: Console, prospect: Prospect) -> None:
    """What a fit could say of the sweep as it is, and with the proposed runs."""
    resolution, target, noise = prospect.resolution, prospect.target, prospect.noise
    low, high = resolution.ratios
    screen.print(
        f"\nWhat a fit could say: {resolution.runs} runs, {resolution.sizes} sizes, {resolution.budgets} token counts, "
        f"{low:.3g} to {high:.3g} tokens per parameter."
    )
    known = "" if noise.low is None else f" (95 % interval {noise.low:.2g} to {noise.high:.2g})"
    screen.print(
        f"Truth: {resolution.law}'s law, {prospect.reference.source}. Noise of ln loss between seeds: "
        f"{noise.value:.3g}{known}, {noise.source}; the widths go with it."
    )
    if resolution.problem:
        screen.print(f"{resolution.status}: {resolution.problem}.", style="bold")
    screen.print(interval_table(prospect))
    shared = f" Budgets of one trunk share {SHARED_NOISE:.0%} of their variance." if prospect.shares_noise else ""
    screen.print(
        f"95 % intervals that `ladder fit` would give, from {prospect.question.simulations:,} simulated sweeps (seed "
        f"{prospect.question.seed}). Target: {target.flops:.3g} FLOPs, best spent on N {target.params:.3g} and "
        f"D {target.tokens:.3g}.{shared}"
    )


def interval_table(prospect: Prospect) -> Table:
    """Truth, interval as it is, interval with the proposed runs, for each parameter and the extrapolation."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    added = len(prospect.proposal.runs)
    columns = ["truth", "this sweep", *([f"with {added} more"] if added else [])]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    simulations = [prospect.before, *([prospect.after] if added else [])]
    for name, truth in prospect.reference.law.parameters.items():
        cells = ["unknown" if s is None else interval_words(s.intervals[name]) for s in simulations]
        table.add_row(name, f"{truth:.4g}", *cells)
    loss = ["unknown" if s is None else interval_words(s.loss, "{:.3f}".format) for s in simulations]
    exponent = ["unknown" if s is None else interval_words(s.a) for s in simulations]
    table.add_row("a, as in best N ~ C^a", f"{prospect.reference.law.a:.4g}", *exponent)
    table.add_row("loss at the target", f"{prospect.target.loss:.3f}", *loss)
    best = ["unknown" if s is None else interval_words(s.params, format_count) for s in simulations]
    table.add_row("best N there", format_count(prospect.target.params), *best)
    return table


def tell_proposal(
    screen: Console, prospect: Prospect, chosen: Chosen, added: tuple[Run, ...], rate: Rate, price: float | None
) -> None:
    """The runs to add, ready to be pasted into the sweep."""
    proposal = prospect.proposal
    if not added:
        screen.print("\nNo run within these limits would narrow the extrapolation by as much as half a percent.")
        return
    hours = sum(worker_hours(run, chosen.sweep.execution_for(run.size), rate) for run in added)
    unit = "worker" if rate.gpu is None else "GPU"
    cost = "" if price is None else f", cost {hours * price:,.2f}"
    effect = "" if prospect.narrowing is None else f"; it narrows the loss's interval to {prospect.narrowing:.0%}"
    screen.print(
        f"\nCheapest runs to add, chosen for {proposal.criterion}: {proposal.share:.1%} more compute, "
        f"{hours:,.3g} {unit}-hours{cost}{effect}. In the sweep's file, points=grid(...) + ("
    )
    for run, proposed in zip(added, proposal.runs, strict=True):
        point = f'Point(size="{run.size.name}", tokens={run.recipe.tokens}, seed={run.recipe.seed}),'
        screen.print(
            f"  {point:58} # {proposed.tokens / proposed.params:.3g} tokens a parameter, {proposed.flops:.2g} FLOPs, "
            f"{training_text(run, chosen, rate)}",
            highlight=False,
        )
    screen.print(")")
