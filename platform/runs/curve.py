"""The training curve of a run, as a file that is written before anybody else is told of a point.

curve/000001.jsonl, ... in the run's folder, one for each attempt (the lease's epoch); the newest is the curve. An
attempt begins with a copy of the points that the one before it published, also of those after the checkpoint that it
resumes from, and leaves out the steps that it has already when it trains them again. So each step has one point, made
once, with its time; what was sent to MLflow before a kill is never made a second time with another time. A worker that
was taken over can only write to its own attempt's file, which nobody reads any more.
"""

import json
import threading
from pathlib import Path

from upath import UPath

from ladder.platform.storage import is_local, list_names, write_bytes

CURVE = "curve"
"""Folder of a run's curve."""

CurvePoint = dict[str, float]
"""`step`, `time_ms` (when it was made, in milliseconds since 1970) and metrics by the names that MLflow gets."""


class Curve:
    """The curve of a run while it is trained: points are added by the training loop and published by the heartbeat.

    Several threads may use it. To be opened after the lease of `epoch` was acquired: whoever held it before publishes a
    point, then looks at its lease, then sends the point, so every point that was sent is in the file copied here.
    """

    def __init__(self, folder: UPath, epoch: int) -> None:
        self.path = folder / CURVE / f"{epoch:06d}.jsonl"
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # the heartbeat and whoever saves a checkpoint publish
        self._points = read_curve(folder)
        self._published = 0
        self._whole = False  # the file is not there yet; later, whether it ends in a whole line

    def add(self, point: CurvePoint) -> None:
        """Add a point, unless an earlier attempt has made one at its step."""
        with self._lock:
            if not self._points or point["step"] > self._points[-1]["step"]:
                self._points.append(point)

    def publish(self) -> None:
        """Write what is not written yet; raises OSError where the storage refuses, and the next call tries again."""
        with self._writing:
            with self._lock:
                points, first = list(self._points), self._published
            if self._whole and len(points) == first:
                return
            append, self._whole = self._whole and is_local(self.path), False
            if append:
                with Path(self.path.path).open("ab") as file:
                    file.write(_lines(points[first:]))
            else:
                write_bytes(self.path, _lines(points))
            self._whole = True
            with self._lock:
                self._published = len(points)

    def published(self, first: int = 0) -> list[CurvePoint]:
        """The points that are in the file, from number `first` on."""
        with self._lock:
            return self._points[first : self._published]


def read_curve(folder: UPath) -> list[CurvePoint]:
    """The curve of the run in `folder`, in the order of steps; empty where there is none.

    A last line that a kill left half-written is left out.
    """
    names = [name for name in list_names(folder / CURVE) if name.endswith(".jsonl") and name[0].isdigit()]
    points: list[CurvePoint] = []
    for line in (folder / CURVE / max(names)).read_text().splitlines() if names else ():
        try:
            points.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return points


def _lines(points: list[CurvePoint]) -> bytes:
    return "".join(json.dumps(point) + "\n" for point in points).encode()
