"""A sweep as tables, read from MLflow: one row per run, one row per point of a curve, one row per kind of measurement.

Runs describe their own measurements (unit, direction, chance), so that nothing here knows the benchmarks by name.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

import polars as pl

from ladder.models.errors import InputError, hide_credentials
from ladder.models.sizes import parse_size

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

HELDOUT_LOSS = "heldout/loss"
"""The measurement that every run has: held-out loss in nats per token."""
PARAMS = "params_total"
"""N of every fit unless it says otherwise: with embeddings, as Hoffmann et al. 2022 count."""
MLFLOW_INFINITY = 1e308
"""MLflow stores an infinite metric as plus or minus 1.797e308."""
MEASUREMENTS_FILE = "measurements.json"
"""Artifact in which a run describes its scores."""
SWEEP_FILE = "sweep.json"
"""Artifact in which the parent lists the keys of the sweep's runs."""
PAGE = 1000
"""Runs per search request."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One declared column of the table of runs."""

    name: str
    dtype: type[pl.DataType]
    meaning: str
    """What it holds, with the unit."""


COLUMNS: tuple[Column, ...] = (
    Column(name="run", dtype=pl.String, meaning="key of the run"),
    Column(name="size", dtype=pl.String, meaning="name of the model's size"),
    Column(name="params_total", dtype=pl.Int64, meaning="parameters with embeddings"),
    Column(name="params_non_embedding", dtype=pl.Int64, meaning="parameters without token and position embeddings"),
    Column(name="tokens", dtype=pl.Int64, meaning="tokens seen in training"),
    Column(name="flops_6nd", dtype=pl.Float64, meaning="training FLOPs as 6 x params_total x tokens"),
    Column(name="flops_exact", dtype=pl.Float64, meaning="training FLOPs with attention and vocabulary projection"),
    Column(name="seed", dtype=pl.Int64, meaning="seed of initialisation and data order"),
    Column(name="status", dtype=pl.String, meaning="waiting, running, finished or failed"),
)
CURVES: dict[str, str] = {
    "train/tokens": "tokens",
    "train/loss": "train_loss",
    "train/tokens_per_second": "tokens_per_second",
    HELDOUT_LOSS: "heldout_loss",
}
"""MLflow metric over step -> column of the curves."""
MEASUREMENT_FIELDS = ("benchmark", "protocol", "metric", "unit", "direction", "chance", "description")


REFERENCE_SCHEMA = {"name": pl.String, "model": pl.String, "params_total": pl.Int64, "score": pl.Float64}
"""Columns of the published models' scores: measurement, name of the model, N with embeddings, score."""


TRANSFER_FILE = "transfer.json"
"""Artifact in which the parent of fine-tuning says what its runs come to."""
TRANSFER_SCHEMA = {
    "checkpoint": pl.String, "run": pl.String, "size": pl.String, "params_total": pl.Int64, "tokens": pl.Int64,
    "task": pl.String, "metric": pl.String, "unit": pl.String, "direction": pl.String, "chance": pl.Float64,
    "setting": pl.String, "layers": pl.String, "standard_error_seeds": pl.Float64, "standard_error_items": pl.Float64,
    "collapsed": pl.Int64, "missing": pl.Int64, "cut_share": pl.Float64, "beside": pl.Object, "seed": pl.Int64,
    "score": pl.Float64,
}  # fmt: skip
"""Scores after fine-tuning: a row for each checkpoint, task, metric, setting, part taken over and seed. The setting
says in words what tells a task's recipes apart; it is empty where there is one."""
OVER_TRAINING_FILE = "over_training.json"
"""Artifact in which the sweep's parent keeps zero-shot scores of checkpoints in the course of training."""
OVER_TRAINING_SCHEMA = {
    "run": pl.String, "tokens": pl.Int64, "benchmark": pl.String, "metric": pl.String, "unit": pl.String,
    "value": pl.Float64, "standard_error": pl.Float64, "chance": pl.Float64, "normalised": pl.Float64,
    "normalised_error": pl.Float64, "reference": pl.String, "count": pl.Int64,
}  # fmt: skip
"""Those scores: tokens trained on, 0 of the untrained network; the score between chance, 0, and the reference, 1."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the numbers come from."""

    origin: dict[str, str]
    """What was read: the tracking store with the ids in it, or a file with its checksum and columns."""
    commit: str | None
    versions: dict[str, str]
    """Package versions as the sweep recorded them."""
    settings: dict[str, tuple[str, ...]]
    """Distinct values over the runs of what they should share: corpus, fingerprint, tokenizer, precision, device ..."""
    mlflow_run_ids: dict[str, str]
    """Run key -> MLflow run id; empty for runs of a file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepData:
    """Everything the report says about a sweep is computed from this."""

    name: str
    question: str
    """The sweep's docstring."""
    laws: tuple[str, ...]
    """Names of the laws that the sweep asks for."""
    table: pl.DataFrame
    """One row per run: COLUMNS, then one column per measurement; a missing score is null."""
    standard_errors: pl.DataFrame
    """run, name, standard_error, count: null where undefined."""
    measurements: pl.DataFrame
    """name, then MEASUREMENT_FIELDS: one row per kind of measurement."""
    curves: pl.DataFrame
    """run, step, then the columns named in CURVES; null where a metric has no value at that step."""
    failed: pl.DataFrame
    """run, reason: the runs that failed, or the rows of a file that had to be left out."""
    provenance: Provenance
    references: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REFERENCE_SCHEMA))
    """REFERENCE_SCHEMA: scores of the GPT-2 paper's models, where a measurement states them."""
    transfer: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=TRANSFER_SCHEMA))
    """TRANSFER_SCHEMA: what the runs' checkpoints score after fine-tuning; empty where none was fine-tuned."""
    over_training: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=OVER_TRAINING_SCHEMA))
    """OVER_TRAINING_SCHEMA: zero-shot scores of the runs' checkpoints; empty where none was asked for."""
    clusters: dict[str, str] = field(default_factory=dict)
    """Run -> group that the bootstrap draws whole (checkpoints of one run); empty: every run is its own."""
    trunks: dict[str, str] = field(default_factory=dict)
    """Run -> what it shares the beginning of its training with; empty where every run was trained by itself."""
    axes: dict[str, str] = field(default_factory=dict)
    """What the axes of a table's figures say: N and loss by their columns; empty where the conventions are known."""
    tolerance: float | None = None
    """Width in ln C of one budget; None: found."""
    budgets: tuple[float, ...] = ()
    """Budgets of the view at equal compute, training FLOPs; empty where they are to be found."""
    source: Literal["sweep", "table"] = "sweep"
    """Whether the runs were trained here or read from a file."""

    @property
    def finished(self) -> pl.DataFrame:
        """The rows of finished runs."""
        return self.table.filter(pl.col("status") == "finished")

    @property
    def scores(self) -> list[str]:
        """Names of the measurement columns, in the order in which the runs were scored."""
        columns = [name for name in self.table.columns if name not in {column.name for column in COLUMNS}]
        places = {name: place for place, name in enumerate(self.measurements["name"])}
        return sorted(columns, key=lambda name: (places.get(name, len(places)), columns.index(name)))

    def describe(self, name: str) -> dict[str, Any]:
        """unit, direction, chance ... of a measurement; None where no run described it."""
        rows = self.measurements.filter(pl.col("name") == name)
        return rows.row(0, named=True) if rows.height else dict.fromkeys(("name", *MEASUREMENT_FIELDS))


SETTINGS = (
    "corpus", "corpus_fingerprint", "tokenizer", "context", "vocabulary", "batch_tokens", "schedule", "precision",
    "attention", "device", "workers",
)  # fmt: skip


def read_sweep(tracking_uri: str, sweep: str) -> SweepData:
    """The sweep of a name from the MLflow store; InputError where the store or the sweep is not there."""
    from mlflow import MlflowClient  # two seconds: only those who read pay for it

    refuse_missing_store(tracking_uri)
    client = MlflowClient(tracking_uri=tracking_uri)
    experiment = client.get_experiment_by_name(sweep)
    if experiment is None:
        known = ", ".join(sorted(e.name for e in client.search_experiments() if e.name != "Default")) or "none"
        where = hide_credentials(tracking_uri)
        raise InputError(f"the store {where} has no sweep {sweep!r}; it has {known}. Run `ladder run {sweep}` first")
    parents = search(client, experiment.experiment_id, "sweep")
    parent = max(parents, key=lambda run: run.info.start_time, default=None)
    tags: Mapping[str, str] = parent.data.tags if parent else {}
    keys = read_artifact(client, parent, SWEEP_FILE).get("runs", []) if parent else []
    scored = read_artifact(client, parent, OVER_TRAINING_FILE) if parent else []
    runs = latest_runs(search(client, experiment.experiment_id, "run"), keys)
    described = [(key, entry) for key, run in runs.items() for entry in read_measurements(client, run)]
    return SweepData(
        name=sweep,
        question=tags.get("ladder.question", "").strip(),
        laws=tuple(json.loads(tags.get("ladder.laws", "[]"))),
        table=make_table(runs, keys),
        standard_errors=make_standard_errors(described),
        measurements=make_measurements([entry for _, entry in described]),
        curves=make_curves(client, runs),
        failed=make_failed(runs),
        provenance=Provenance(
            origin={
                "tracking store": hide_credentials(tracking_uri),
                "MLflow experiment": experiment.experiment_id,
                "MLflow run of the sweep": parent.info.run_id if parent else "none",
            },
            commit=tags.get("ladder.commit"),
            versions=json.loads(tags.get("ladder.versions", "{}")),
            settings=collect_settings(runs.values()),
            mlflow_run_ids={key: run.info.run_id for key, run in runs.items()},
        ),
        references=make_references([entry for _, entry in described]),
        trunks=find_trunks(runs),
        transfer=read_transfer(client, sweep),
        over_training=pl.DataFrame(list(scored), schema=OVER_TRAINING_SCHEMA),
    )


def read_transfer(client: "MlflowClient", sweep: str) -> pl.DataFrame:
    """TRANSFER_SCHEMA: what `ladder finetune` says of a sweep's checkpoints."""
    experiment = client.get_experiment_by_name(f"{sweep}-transfer")
    parents = [] if experiment is None else search(client, experiment.experiment_id, "finetuning")
    told = [{"setting": ""} | row for parent in parents for row in read_artifact(client, parent, TRANSFER_FILE)]
    rows = [row | {"seed": int(seed), "score": score} for row in told for seed, score in row.pop("values").items()]
    return pl.DataFrame([{name: row[name] for name in TRANSFER_SCHEMA} for row in rows], schema=TRANSFER_SCHEMA)


def find_trunks(runs: Mapping[str, "Run"]) -> dict[str, str]:
    """Run -> its size and seed, where a run of them branched off another one; those without such a run are alone."""
    names = {key: f"{run.data.params.get('size')} s{run.data.params.get('seed')}" for key, run in runs.items()}
    shared = {names[key] for key, run in runs.items() if run.data.params.get("shared_steps", "0") not in ("0", "None")}
    return {key: name if name in shared else key for key, name in names.items()} if shared else {}


def refuse_missing_store(tracking_uri: str) -> None:
    """InputError for an SQLite file that does not exist: opening it would create an empty one."""
    if tracking_uri.startswith("sqlite:///"):
        path = Path(tracking_uri.removeprefix("sqlite:///"))
        if not path.exists():
            raise InputError(
                f"there is no tracking store at {path}; run a sweep first or name the store with --tracking"
            )


def search(client: "MlflowClient", experiment_id: str, kind: str) -> list["Run"]:
    """All runs of a kind ("sweep" or "run") in the experiment."""
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], filter_string=f"tags.`ladder.kind` = '{kind}'", max_results=PAGE, page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def latest_runs(runs: Iterable["Run"], keys: Sequence[str]) -> dict[str, "Run"]:
    """Run key -> its latest MLflow run, for the keys of the sweep as it is now, in their order; no keys: for all."""
    latest: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: run.info.start_time):
        latest[run.data.tags.get("ladder.run", run.info.run_id)] = run
    return {key: latest[key] for key in keys or latest if key in latest}


def read_artifact(client: "MlflowClient", run: "Run", name: str) -> Any:
    """What a run's JSON artifact holds; an empty dict where there is none."""
    local = local_folder(run.info.artifact_uri)
    if local is not None:
        path = local / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if name not in {item.path for item in client.list_artifacts(run.info.run_id)}:
        return {}
    with TemporaryDirectory() as folder:
        return json.loads(Path(client.download_artifacts(run.info.run_id, name, folder)).read_text(encoding="utf-8"))


def read_measurements(client: "MlflowClient", run: "Run") -> list[dict[str, Any]]:
    """The entries of the run's measurements.json; none for a run that was not scored yet."""
    return list(read_artifact(client, run, MEASUREMENTS_FILE))


def local_folder(artifact_uri: str) -> Path | None:
    """The folder of artifacts on this machine, read without MLflow's copy and progress bar; None for a remote one."""
    scheme = urlsplit(artifact_uri).scheme
    if scheme == "file":
        return Path(unquote(urlsplit(artifact_uri).path))
    return Path(artifact_uri) if scheme == "" else None


def is_heldout(name: str) -> bool:
    """True for the held-out text of the training corpus, in whatever unit: no benchmark."""
    return name.split("/", 1)[0] == HELDOUT_LOSS.split("/", 1)[0]


def is_score(name: str) -> bool:
    """True for a measurement, False for what describes the training or the machine, or repeats a loss for a chart."""
    return not name.startswith(("train/", "system/", "scaling/"))


def finite(value: float) -> float | None:
    """The value; None for NaN and for what MLflow keeps of infinity."""
    return value if abs(value) < MLFLOW_INFINITY else None


def make_table(runs: Mapping[str, "Run"], keys: Sequence[str]) -> pl.DataFrame:
    """One row per run of the sweep; a key that has no MLflow run yet is waiting."""
    rows = []
    for key in keys or list(runs):
        run = runs.get(key)
        row: dict[str, Any] = {"run": key, "status": "waiting"}
        if run is not None:
            params = run.data.params
            row |= {column.name: params.get(column.name) for column in COLUMNS if column.name not in row}
            row["status"] = run.data.tags.get("ladder.status", "running")
            row |= {name: finite(value) for name, value in run.data.metrics.items() if is_score(name)}
        rows.append(row)
    declared = {column.name: column.dtype for column in COLUMNS}
    scores = sorted(
        {name for row in rows for name in row} - set(declared), key=lambda name: (name != HELDOUT_LOSS, name)
    )
    text = {name: pl.String if name in declared else pl.Float64 for name in (*declared, *scores)}
    table = pl.DataFrame(rows, schema=text)
    # Params are strings in MLflow; whole numbers may be written as 1e9.
    whole = [pl.col(n).cast(pl.Float64, strict=False).cast(t) for n, t in declared.items() if t == pl.Int64]
    real = [pl.col(n).cast(t, strict=False) for n, t in declared.items() if t == pl.Float64]
    return table.with_columns(*whole, *real)


def make_standard_errors(described: Iterable[tuple[str, Mapping[str, Any]]]) -> pl.DataFrame:
    """run, name, standard_error, count."""
    rows = [
        {
            "run": key,
            "name": f"{entry['benchmark']}/{entry['metric']}",
            "standard_error": entry.get("standard_error"),
            "count": entry.get("count"),
        }
        for key, entry in described
    ]
    schema = {"run": pl.String, "name": pl.String, "standard_error": pl.Float64, "count": pl.Int64}
    return pl.DataFrame(rows, schema=schema)


def make_measurements(entries: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """One row per kind of measurement, as the first run that has it describes it."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name = f"{entry['benchmark']}/{entry['metric']}"
        rows.setdefault(name, {"name": name} | {field: entry.get(field) for field in MEASUREMENT_FIELDS})
    schema = {name: pl.Float64 if name == "chance" else pl.String for name in ("name", *MEASUREMENT_FIELDS)}
    return pl.DataFrame(list(rows.values()), schema=schema)


def make_references(entries: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """REFERENCE_SCHEMA: what the measurements say that the paper's models scored, each once, by size."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in entries:
        name = f"{entry['benchmark']}/{entry['metric']}"
        for model, score in (entry.get("paper_scores") or {}).items():
            row = {"name": name, "model": model, "params_total": parse_size(model).params_total, "score": score}
            rows.setdefault((name, model), row)
    return pl.DataFrame(list(rows.values()), schema=REFERENCE_SCHEMA).sort("params_total", maintain_order=True)


def make_curves(client: "MlflowClient", runs: Mapping[str, "Run"]) -> pl.DataFrame:
    """The metrics of CURVES by run and step; of a step logged twice (after a resume) the last stays."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for key, run in runs.items():
        for metric, column in CURVES.items():
            if metric not in run.data.metrics:
                continue
            for point in sorted(client.get_metric_history(run.info.run_id, metric), key=lambda point: point.timestamp):
                row = rows.setdefault((key, point.step), {"run": key, "step": point.step})
                row[column] = finite(point.value)
    schema = {"run": pl.String, "step": pl.Int64} | dict.fromkeys(CURVES.values(), pl.Float64)
    return pl.DataFrame(list(rows.values()), schema=schema).sort("run", "step", maintain_order=True)


def make_failed(runs: Mapping[str, "Run"]) -> pl.DataFrame:
    """run, reason of the failed ones."""
    rows = [
        {"run": key, "reason": run.data.tags.get("ladder.reason", "no reason recorded")}
        for key, run in runs.items()
        if run.data.tags.get("ladder.status") == "failed"
    ]
    return pl.DataFrame(rows, schema={"run": pl.String, "reason": pl.String})


def collect_settings(runs: Iterable["Run"]) -> dict[str, tuple[str, ...]]:
    """Distinct values of every param in SETTINGS, in order of appearance."""
    settings: dict[str, tuple[str, ...]] = {}
    for run in runs:
        for name in SETTINGS:
            value = run.data.params.get(name)
            if value is not None and value not in settings.get(name, ()):
                settings[name] = (*settings.get(name, ()), value)
    return settings
