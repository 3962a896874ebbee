"""The log of one run, written by its first worker: a JSON-lines file that is the truth, and a thread that tells MLflow
and the terminal about it without holding up the step.

A point costs the training loop one line of a local file. The thread wakes every second, writes `progress.json` for
whoever watches, and sends what has gathered to MLflow in one batch; if the tracking server does not answer, training
goes on, the points stay in the file, and they are sent when it answers or when the sweep is next run.
"""

import json
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.storage import is_local, write_json

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

Point = dict[str, float]


class RunLog:
    """Points of the curve and the progress of one run."""

    def __init__(self, curve: Path, *, folder: UPath, tracking: str, run_id: str) -> None:
        self.curve = curve
        self.folder = folder
        self._tracking, self._run_id = tracking, run_id
        self._lock = threading.Lock()
        self._unsent: list[Point] = []
        self._params: dict[str, str] = {}
        self._progress: dict[str, Any] = {}
        self._stop = threading.Event()
        self._client: MlflowClient | None = None
        self._thread = threading.Thread(target=self._work, name="run-log", daemon=True)
        self._thread.start()

    def point(self, point: Point) -> None:
        """Append a point of the curve."""
        with self.curve.open("a") as file:
            file.write(json.dumps(point) + "\n")
        with self._lock:
            self._unsent.append(point)

    def params(self, params: dict[str, str]) -> None:
        """Note how the run is carried out, for MLflow."""
        with self._lock:
            self._params |= params

    def progress(self, **facts: Any) -> None:
        """Say where the run stands; later words for the same thing replace earlier ones."""
        with self._lock:
            self._progress |= facts

    def close(self) -> None:
        """Send what is left and stop the thread."""
        self._stop.set()
        self._thread.join(timeout=60)

    def _work(self) -> None:
        seconds = 1.0 if is_local(self.folder) else 10.0  # an object store is no place for a write a second
        while not self._stop.wait(seconds):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            progress = self._progress | {"updated": time.time()}
            points, self._unsent = self._unsent, []
            params, self._params = self._params, {}
        write_json(self.folder / "progress.json", progress)
        if not points and not params:
            return
        try:
            self._send(points, params)
        except (OSError, InputError) as error:
            logger.warning("MLflow did not take %d points, which are kept: %s", len(points), error)
            with self._lock:
                self._unsent = points + self._unsent
                self._params = params | self._params

    def _send(self, points: list[Point], params: dict[str, str]) -> None:
        # Imported here, in the thread: MLflow takes a second to import, which the first steps need not wait for.
        from mlflow.exceptions import MlflowException

        from ladder.platform.tracking.database import open_tracking
        from ladder.platform.tracking.records import log_params, log_points, set_status

        try:
            self._client = self._client or open_tracking(self._tracking)
            if params:
                set_status(self._client, self._run_id, "running")
                log_params(self._client, self._run_id, params)
            log_points(self._client, self._run_id, points)
        except MlflowException as error:
            raise OSError(str(error).strip().splitlines()[0]) from error


def read_curve(path: Path | UPath) -> list[Point]:
    """The points of a curve file, in order; a half-written last line, as a kill leaves it, is left out."""
    points: list[Point] = []
    for line in path.read_text().splitlines():
        try:
            points.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return points
