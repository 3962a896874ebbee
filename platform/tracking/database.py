"""Where tracking goes: an MLflow server, or by default an SQLite file in the storage."""

import logging
import os
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.storage import is_local


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
    return f"sqlite:///{storage}/mlflow.db"


def open_tracking(uri: str) -> MlflowClient:
    """A client, its database made where it is a new SQLite file.

    Called once on the driver before any worker, since several processes that make one SQLite database at once fail.
    Raises InputError where the server or the file cannot be reached.
    """
    patience_with_servers()
    for name in ("alembic", "mlflow"):  # what a migration does is of no use to anyone who runs a sweep
        logging.getLogger(name).setLevel(logging.WARNING)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise InputError(f"tracking at {uri} cannot be reached: {_first_line(error)}. See --tracking.") from error
    return client


def patience_with_servers() -> None:
    """One call to a dead server blocks for four minutes by MLflow's defaults; two retries are about four seconds."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]
