"""What a person asks of whoever works on a sweep, by files in its folder, from any machine that sees the storage.

    sweeps/<sweep>/stop.json     end the work, and leave it as it can be resumed
    sweeps/<sweep>/retry.json    failed runs are open again

An order has an id. A driver notes the ids that it finds when it begins, and follows an order whose id is another: so
no clock matters, and a `ladder run` that is started after a stop goes on.
"""

import socket
import time
import uuid
from typing import Literal

from upath import UPath

from ladder.platform.provenance import user
from ladder.platform.storage import read_json, write_json

Order = Literal["stop", "retry"]


def give_order(storage: UPath, sweep: str, order: Order) -> None:
    """Leave an order for whoever works on a sweep now."""
    by = f"{user()}@{socket.gethostname()}"
    write_json(_path(storage, sweep, order), {"id": uuid.uuid4().hex, "time": time.time(), "by": by})


class OrdersSeen:
    """The orders that a driver has seen; those that are there at its beginning were for others."""

    def __init__(self, storage: UPath, sweep: str) -> None:
        self._storage, self._sweep = storage, sweep
        self._seen: dict[Order, str | None] = {order: self._read(order)[0] for order in ("stop", "retry")}

    def is_new(self, order: Order) -> str | None:
        """Who gave an order since the last call, or None where nobody did."""
        found, by = self._read(order)
        if found == self._seen[order]:
            return None
        self._seen[order] = found
        return by

    def _read(self, order: Order) -> tuple[str | None, str | None]:
        found = read_json(_path(self._storage, self._sweep, order)) or {}
        return found.get("id"), found.get("by")


def _path(storage: UPath, sweep: str, order: Order) -> UPath:
    return storage / "sweeps" / sweep / f"{order}.json"
