"""The report's longer lists of sentences: what the design resolves, the conventions, where the numbers come from."""

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.fitting.grouping import SeedNoise
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.intervals import t_quantile
from ladder.analysis.fitting.points import DISTINCT, count_distinct
from ladder.analysis.laws.law import Floats
from ladder.analysis.laws.units import format_number
from ladder.analysis.report.captions import isoflop_refusal
from ladder.analysis.report.findings import OTHER_PARAMS, Findings
from ladder.analysis.report.phrases import capital, counted, interval_source, objective
from ladder.analysis.report.scores import PARAMS
from ladder.analysis.tables.sweeps import SweepData

FEW_FREEDOM = 20
"""Degrees of freedom up to which Student's t is noticeably wider than the normal."""
N_WORDS = {PARAMS: "parameters with embeddings", OTHER_PARAMS: "parameters without embeddings"}


def resolution(findings: Findings) -> list[str]:
    """What the design can and cannot tell."""
    told = [design_words(findings)] if findings.loss.height else []
    for fit in findings.fits:
        if fit.status is not Status.CONVERGED:
            told.append(f"{fit.law.name}: {fit.status}. {capital(fit.reason)}.")
        told += wide_intervals(fit)
    told += [f"{refusal.law}: not fitted. {capital(refusal.reason)}." for refusal in findings.refusals]
    told += isoflop_words(findings)
    if findings.loss.height:
        told.append(seed_words(findings.noise))
    freedom = sorted({s.fit.line.degrees_of_freedom for s in findings.scores if s.fit and s.fit.line})
    return told + [line_words(count, findings.level) for count in freedom if count <= FEW_FREEDOM]


def design_words(findings: Findings) -> str:
    """The ranges that the runs span."""
    loss = findings.loss
    params = loss[PARAMS].to_numpy().astype(float)
    sizes = count_distinct(params)
    told = f"{counted(loss.height, 'run')} with a loss: {counted(sizes, 'size')}{factor_words(params, 'N')}"
    if loss["tokens"].null_count():
        return told + "; the tokens that they saw are not known."
    tokens = loss["tokens"].to_numpy().astype(float)
    ratio = tokens / params
    told += f", {counted(count_distinct(tokens), 'token count')}{factor_words(tokens, 'D')}"
    few = "" if sizes >= 4 else f" {counted(sizes, 'size')} leave none to test a law in N on after fitting it; 4 do."
    return f"{told}, {format_number(ratio.min(), 3)} to {format_number(ratio.max(), 3)} tokens per parameter.{few}"


def factor_words(values: Floats, letter: str) -> str:
    """The factor from least to largest, where there is one."""
    factor = values.max() / values.min()
    return f" over a factor of {format_number(float(factor), 3)} in {letter}" if factor > 1 + DISTINCT else ""


def isoflop_words(findings: Findings) -> list[str]:
    """What the view at equal compute can say, where it is not sound."""
    fit = findings.isoflop
    if fit is None or fit.status is Status.CONVERGED:
        return []
    return [isoflop_refusal(fit) if not fit.used else f"IsoFLOP parabolas: {fit.status}. {capital(fit.reason)}."]


def wide_intervals(fit: Fit) -> list[str]:
    """Exponents whose interval is as wide as half their value: known in sign at best."""
    found = []
    for name in ("alpha", "beta", "alpha_N", "alpha_D"):
        ends = fit.intervals.get(name)
        if ends is None or ends.low is None or ends.high is None:
            continue
        value = fit.law.parameters[name]
        if ends.high - ends.low > 0.5 * abs(value):
            wanted = "tokens" if name in ("beta", "alpha_D") else "sizes"
            found.append(
                f"{fit.law.name}: {name} is known only to within {format_number(ends.low, 2)} to "
                f"{format_number(ends.high, 2)}; a wider range of {wanted} or repeated seeds would narrow it."
            )
    return found


def line_words(freedom: int, level: float) -> str:
    """What few degrees of freedom do to the lines' intervals."""
    if freedom < 1:
        return "A line through two points leaves nothing to judge it by: its intervals are unknown."
    return (
        f"Lines of measurements with {counted(freedom, 'degree')} of freedom: their {level:.0%} t intervals are "
        f"{t_quantile(0.5 + level / 2, freedom):.1f} standard errors wide on each side, where many runs would need "
        f"{t_quantile(0.5 + level / 2, 1e6):.1f}."
    )


def seed_words(noise: SeedNoise | None) -> str:
    """The spread between seeds of one size and budget, where any were repeated."""
    if noise is None:
        return "Seeds were not repeated: the noise of a run is estimated from the residuals of the fit alone."
    return (
        f"Seeds repeated at {counted(noise.settings, 'setting')} ({counted(noise.runs, 'run')}): standard deviation "
        f"{noise.standard_deviation:.2%} of the loss between seeds, {noise.level:.0%} interval {noise.low:.2%} to "
        f"{noise.high:.2%}."
    )


def conventions(findings: Findings) -> list[str]:
    """Which N, D, C and objective the numbers use."""
    data = findings.data
    if data.source == "table":
        lines = [data.question] if data.question else []
    else:
        lines = [
            f"N is {N_WORDS[PARAMS]}; D is tokens seen, repeats included; C = 6 N D in fits, the exact count with "
            "attention and vocabulary projection is in the table.",
            "Loss is in nats per token of this tokenizer; losses of different tokenizers compare only per byte.",
        ]
    if findings.fits:
        first = findings.fits[0]
        lines.append(f"Objective of {first.law.name}: {objective(first)}; its intervals: {interval_source(first)}.")
    lines.append(
        "Laws in one variable and lines of measurements use each size at its largest token count. Perplexities are "
        "fitted in their logarithm, other measurements as they are. Bars are 1.96 standard errors of the measurement; "
        "bands are of the law: shaded where its curve lies, dotted where a new run would."
    )
    other = findings.other_convention
    if other is not None and other.status is not Status.NOT_IDENTIFIABLE:
        values = ", ".join(f"{name} {format_number(value)}" for name, value in other.law.parameters.items())
        lines.append(f"With N as {N_WORDS[OTHER_PARAMS]}, {other.law.name} gives {values} ({other.status}).")
    return lines


def provenance(data: SweepData) -> list[tuple[str, str]]:
    """Where the numbers come from, as pairs."""
    source = data.provenance
    pairs = [("commit", source.commit or "not recorded")] if data.source == "sweep" else []
    if source.versions or data.source == "sweep":
        versions = ", ".join(f"{name} {version}" for name, version in source.versions.items())
        pairs.append(("versions", versions or "not recorded"))
    pairs += [(name.replace("_", " "), ", ".join(values)) for name, values in source.settings.items()]
    return [*pairs, *source.origin.items()]
