"""Where a sweep's folder has what its search found."""

from upath import UPath

from ladder.platform.storage import read_json
from ladder.sweeps.tuned import Found

TUNED = "tuned.json"
"""File of a sweep with what its search found."""


def read_found(storage: UPath, sweep: str) -> Found | None:
    """What the search of a sweep found, or None where it was not searched in this storage."""
    path = storage / "sweeps" / sweep / TUNED
    value = read_json(path)
    return None if value is None else Found.from_json(value, str(path))
