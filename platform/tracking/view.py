"""The page that MLflow's UI opens on for a sweep: its runs with the columns that matter, and four charts.

MLflow (3.17) keeps a saved view in a tag of the experiment, `mlflow.sharedViewState.<key>`: a name, two times and the
state of the page, which is JSON, deflated and in base64. The key in the address opens it. Only an axis of steps can be
logarithmic in its charts. So the held-out loss of a finished run is also kept as two metrics whose step is the number
that the chart is drawn over; whoever opens the page needs no click to see how the loss falls.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.entities import Run as Record
    from mlflow.tracking import MlflowClient

VIEW_KEY = "ladder"
"""Key of the prepared view in addresses."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
"""Tag of the experiment that holds it."""
KIND_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.experiment.primaryMetric.name": "heldout/loss",
}
"""Tags by which MLflow takes an experiment for the training of models, and not for an application of some."""

LOSS = "heldout/loss"
"""Metric of the held-out loss, nats per token."""
LOSS_OVER_PARAMS = "scaling/loss_over_params"
"""The held-out loss at a step that is the number of parameters."""
LOSS_OVER_FLOPS = "scaling/loss_over_megaflops"
"""The held-out loss at a step that is the training FLOPs, 6 x parameters x tokens, in millions: steps are 64-bit
integers, so this holds up to 9e24 FLOPs."""
SECTION = "ladder"
"""Section of the page that holds the four charts."""
SECTION_TITLE = "scaling/: the step is N, or MFLOPs"
"""What stands above the charts, whose own titles are names of metrics; MLflow cuts it after some forty letters."""


def scaling_metrics(params: int, flops: int, loss: float, time_ms: int) -> list["Metric"]:
    """The points of a run in the charts over parameters and over FLOPs."""
    from mlflow.entities import Metric

    return [
        Metric(LOSS_OVER_PARAMS, loss, time_ms, params),
        Metric(LOSS_OVER_FLOPS, loss, time_ms, max(1, round(flops / 1e6))),
    ]


def prepare_view(client: "MlflowClient", experiment: str) -> None:
    """Write the view of a sweep's experiment, and the points that runs of an older ladder lack."""
    runs = _scored_runs(client, experiment)
    for run in runs:
        if LOSS_OVER_PARAMS not in run.data.metrics:
            last = client.get_metric_history(run.info.run_id, LOSS)[-1]
            params, flops = (int(run.data.params[name]) for name in ("params_total", "flops_6nd"))
            metrics = scaling_metrics(params, flops, last.value, last.timestamp)
            client.log_batch(run.info.run_id, metrics=metrics, synchronous=True)
    found = client.get_experiment(experiment)
    tags = KIND_TAGS | {VIEW_TAG: _saved(_state(_scores(runs)), made_ms=found.creation_time or 0)}
    for name, value in tags.items():
        if found.tags.get(name) != value:
            client.set_experiment_tag(experiment, name, value)


def view_address(server: str, experiment: str, *, charts: bool = True) -> str:
    """The address of the view on an MLflow server: its charts, or its table."""
    mode = "CHART" if charts else "TABLE"
    # Without the last word a browser that is new to MLflow shows the pages for applications of models.
    query = f"viewStateShareKey={VIEW_KEY}&compareRunsMode={mode}&workflowType=machine_learning"
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs?{query}"


def _scored_runs(client: "MlflowClient", experiment: str) -> list["Record"]:
    """The runs of a sweep that have a held-out loss."""
    found: list[Record] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`ladder.kind` = 'run' and metrics.`{LOSS}` > 0", max_results=1000, page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def _scores(runs: Sequence["Record"]) -> list[str]:
    """The held-out loss and one score of each benchmark, the first by name, which at least half of the runs have."""
    counts: dict[str, int] = {}
    for name in [name for run in runs for name in run.data.metrics]:
        counts[name] = counts.get(name, 0) + 1
    first: dict[str, str] = {}
    for name in sorted(name for name, count in counts.items() if 2 * count >= len(runs)):
        benchmark = name.partition("/")[0]
        if benchmark not in ("train", "heldout", "scaling", "system"):
            first.setdefault(benchmark, name)
    return [LOSS, *first.values()]


def _state(scores: Sequence[str]) -> dict[str, Any]:
    """What the page shows: the runs by held-out loss, all of them drawn."""
    section = {"uuid": SECTION, "name": SECTION_TITLE, "display": True, "isReordered": True, "deleted": False}
    return {
        "searchFilter": "tags.`ladder.kind` = 'run'",
        "orderByKey": f"metrics.`{LOSS}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            *(f"tags.`ladder.{name}`" for name in ("status", "reason")),
            *(f"params.`{name}`" for name in ("size", "params_total", "tokens", "lr_peak", "seed")),
            *(f"metrics.`{name}`" for name in (*scores, "train/loss", "train/tokens_per_second", "train/mfu")),
        ],
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": _charts(scores),
        "compareRunSections": [section | {"isGenerated": False, "columns": 2, "cardHeight": 300}],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }


def _charts(scores: Sequence[str]) -> list[dict[str, Any]]:
    steps = {"xAxisKey": "step", "xAxisScaleType": "log"}
    tokens = {"xAxisKey": "metric", "selectedXAxisMetricKey": "train/tokens"}
    parallel = {"selectedParams": ["params_total", "tokens", "lr_peak"], "selectedMetrics": list(scores)}
    return [
        _line("train/loss", tokens),
        _line(LOSS_OVER_PARAMS, steps),
        _line(LOSS_OVER_FLOPS, steps),
        _card("PARALLEL", "size-tokens-rate-scores") | parallel | {"showAllRuns": False},
    ]


def _line(metric: str, axis: dict[str, str]) -> dict[str, Any]:
    return (
        _card("LINE", metric)
        | {"metricKey": metric, "selectedMetricKeys": [metric], "scaleType": "log", "range": {}}
        | {"lineSmoothness": 0, "useGlobalLineSmoothing": False, "useGlobalXaxisKey": False, "ignoreOutliers": False}
        | {"xAxisScaleType": "linear", "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": []}
        | axis
    )


def _card(kind: str, name: str) -> dict[str, Any]:
    return {
        "uuid": f"{SECTION}-{name}",
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
    }


def _saved(state: dict[str, Any], *, made_ms: int) -> str:
    """A saved view as its tag holds it."""
    deflated = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    view = {"name": "ladder", "createdAt": made_ms, "updatedAt": made_ms, "state": f"deflate;{deflated}"}
    return json.dumps(view)
