"""What a storage fixes of the identity of its runs: the schema version, and of each sweep the precision.

    ladder.json                  {"schema": 1}
    sweeps/<sweep>/sweep.json    {"precision": "bf16"}: what `auto` means in that sweep

Both are written once, by the first `ladder run`, so that every command on every machine that sees the storage comes to
the same keys.
"""

import json
from collections.abc import Iterable
from typing import Any

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.storage import create_exclusively
from ladder.sweeps.expand import ResolvedPrecision
from ladder.sweeps.words import OLDER_GPUS, SCHEMA, Execution


def check_schema(storage: UPath) -> None:
    """Raises InputError where the storage holds runs of another schema version than ours; writes nothing."""
    found = _read_object(storage / "ladder.json")
    if found is None and not (storage / "sweeps").exists():
        return
    schema = None if found is None else found.get("schema")
    if schema != SCHEMA:
        what = "sweeps without a schema version (no ladder.json)" if found is None else f"sweeps of schema {schema!r}"
        raise InputError(
            f"storage {storage} holds {what}, wanted schema {SCHEMA}, since runs of another schema have other keys. "
            "Name another folder with --storage, or use the ladder that made this one."
        )


def mark_schema(storage: UPath) -> None:
    """Write our schema version into a storage that has none yet; InputError as `check_schema`."""
    check_schema(storage)
    if _read_object(storage / "ladder.json") is None:
        _create(storage / "ladder.json", {"schema": SCHEMA})
        check_schema(storage)  # another ladder may have been first


def read_precision(storage: UPath, sweep: str) -> ResolvedPrecision | None:
    """What `auto` means in a sweep, or None before its first `ladder run`."""
    path = sweep_file(storage, sweep)
    found = _read_object(path)
    if found is None:
        return None
    match found.get("precision"):
        case "bf16":
            return "bf16"
        case "fp32":
            return "fp32"
        case other:
            raise InputError(f"{path} has the precision {other!r}, wanted bf16 or fp32. Restore it from a backup.")


def record_precision(storage: UPath, sweep: str, precision: ResolvedPrecision) -> ResolvedPrecision:
    """Record what `auto` means in a sweep, and return it: where another was first, that one's word."""
    _create(sweep_file(storage, sweep), {"precision": precision})
    recorded = read_precision(storage, sweep)
    assert recorded is not None, "it was just written"
    return recorded


def choose_precision(executions: Iterable[Execution]) -> tuple[ResolvedPrecision, str]:
    """What `auto` is to mean in a sweep whose runs are carried out in these ways, and why.

    One word for all its sizes, as they are compared with each other: bf16 where runs ask for GPUs, unless for one
    without bf16 instructions; else what is fastest on the device at hand.
    """
    executions = list(executions)
    for older in OLDER_GPUS:
        if any(execution.accelerator_type == older for execution in executions):
            return "fp32", f"{older} has no bf16 instructions"
    if any(execution.asks_for_gpus for execution in executions):
        return "bf16", "its runs ask for GPUs"
    return local_precision(executions)


def local_precision(executions: Iterable[Execution]) -> tuple[ResolvedPrecision, str]:
    """The precision that the device at hand trains fastest in, and why."""
    import torch  # late: a second that `ladder status` spends only before the precision is recorded

    from ladder.platform.hardware import fastest_precision

    gpu = torch.cuda.is_available() and all(execution.gpus_per_worker != 0 for execution in executions)
    precision, why = fastest_precision(torch.device("cuda" if gpu else "cpu"))
    what = "the GPU of this machine" if gpu else "this machine's processor"
    return precision, f"{what} {why}"


def sweep_file(storage: UPath, sweep: str) -> UPath:
    """Where a sweep's precision is recorded."""
    return storage / "sweeps" / sweep / "sweep.json"


def _create(path: UPath, value: dict[str, Any]) -> None:
    """Write a file that is written once, unless it is there already."""
    try:
        create_exclusively(path, json.dumps(value).encode())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}. Name another storage with --storage.") from error


def _read_object(path: UPath) -> dict[str, Any] | None:
    """The JSON object in a file, None where there is no file."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}), wanted an object. Restore it from a backup.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds {found!r}, wanted a JSON object. Restore it from a backup.")
    return found
