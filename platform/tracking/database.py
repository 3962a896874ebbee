"""Where tracking goes: an MLflow server, or by default an SQLite file in the storage."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from upath import UPath

from ladder.models.errors import InputError, hide_credentials
from ladder.platform.storage import is_local
from ladder.platform.tracking.view import KIND_TAGS

SQLITE = "sqlite:///"
LOGIN = (
    "It wants to know who asks: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, "
    "in the environment."
)


def tracking_uri(tracking: str | None, storage: UPath) -> str:
    """The tracking URI asked for, or the SQLite file in a local storage.

    Raises InputError where the storage is remote and no server is named: SQLite does not live on object stores.
    """
    if tracking:
        return tracking
    if not is_local(storage):
        raise InputError(
            f"storage {storage} is remote, and an SQLite file cannot live there: name an MLflow server with --tracking."
        )
    return f"{SQLITE}{storage}/mlflow.db"


def open_tracking(uri: str) -> MlflowClient:
    """A client, its database made where it is a new SQLite file.

    Raises InputError where the server or the file cannot be reached.
    """
    limit_waiting()
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which is for what --json writes
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it tells its makers of every call
    for name in ("alembic", "mlflow"):  # what a migration does is of no use to anyone who runs a sweep
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with _one_at_a_time(uri):
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        what = f"tracking at {hide_credentials(uri)} cannot be reached: {first_line(error)}"
        raise InputError(f"{what}. {LOGIN if '401' in str(error) else 'See --tracking.'}") from error
    return client


def open_experiment(client: MlflowClient, name: str, storage: UPath) -> Experiment:
    """A sweep's experiment, made where it is not there; InputError where the user deleted it."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # A server decides where artifacts go; beside an SQLite file they go into the storage.
        beside = f"{storage}/mlflow/{name}" if is_local(storage) and client.tracking_uri.startswith(SQLITE) else None
        try:
            return client.get_experiment(client.create_experiment(name, artifact_location=beside, tags=KIND_TAGS))
        except MlflowException as error:
            experiment = client.get_experiment_by_name(name)  # somebody else was quicker
            if experiment is None:
                raise InputError(f"the MLflow experiment {name!r} cannot be made: {error}") from error
    if experiment.lifecycle_stage == "deleted":
        raise InputError(
            f"the MLflow experiment {name!r} is deleted: restore it with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`, or give the sweep another name."
        )
    return experiment


def limit_waiting() -> None:
    """A call to a server that is dead or hangs ends within half a minute, and not after four minutes or sixteen.

    What the user has set stays. Nothing is lost by giving up: whatever was not acknowledged is sent again.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


def first_line(error: BaseException) -> str:
    """What an error says, short enough for a log, without the credentials of an address in it."""
    return hide_credentials((str(error).strip().splitlines() or [type(error).__name__])[0])[:300]


@contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Of several processes that make one SQLite database at once, all but one would fail."""
    if not uri.startswith(SQLITE):
        yield
        return
    path = Path(uri.removeprefix(SQLITE))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
