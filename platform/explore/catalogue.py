"""The checkpoints that the page shows: by sweep, folder, storage URI or Hugging Face name, sorted by N and tokens.

a sweep           the newest checkpoint of each finished run
a run's folder    every checkpoint that is kept of it: the steps of one run
a checkpoint      itself, of ours or of Hugging Face
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upath import UPath

from ladder.models.errors import InputError, hide_credentials
from ladder.models.sizes import Size
from ladder.models.weights import CONFIG_FILE, find_folder, size_of
from ladder.platform.evaluation.measurement import HELDOUT
from ladder.platform.runs.attempt import RESULT
from ladder.platform.runs.checkpoints import MARK, list_checkpoints, read_mark
from ladder.platform.runs.status import READERS
from ladder.platform.storage import exists, list_names, read_json


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A checkpoint that can be looked into; its weights are not read yet."""

    name: str
    """What the page and its links call it: the run's key and the step, or what was given for it."""
    folder: UPath
    """Where its files are."""
    size: Size
    """Its shape."""
    tokens: int | None = None
    """Tokens that it was trained on; None where nothing says so, as for a released model."""
    step: int | None = None
    """Optimizer steps that it was trained for; None as above."""
    seed: int | None = None
    """Seed of its run; None as above."""
    heldout: float | None = None
    """Held-out loss of its run in nats per token, for the last step only; None where it was not measured."""

    def to_json(self) -> dict[str, Any]:
        """What the page is told of it."""
        return {
            "name": self.name,
            "size": self.size.name,
            "params": self.size.params_total,
            "layers": self.size.n_layer,
            "heads": self.size.n_head,
            "context": self.size.context,
            "tokens": self.tokens,
            "step": self.step,
            "seed": self.seed,
            "heldout": self.heldout,
        }


def find_entries(sources: Sequence[str], storage: UPath) -> list[Entry]:
    """The checkpoints of all sources, by parameters and then by tokens; InputError where one names none."""
    entries = [entry for source in sources for entry in _find(source, storage)]
    entries.sort(key=lambda entry: (entry.size.params_total, entry.tokens or 0, entry.seed or 0, entry.name))
    return list({entry.name: entry for entry in entries}.values())


def _find(source: str, storage: UPath) -> list[Entry]:
    sweep = storage / "sweeps" / source
    if "/" not in source and not Path(source).is_dir() and list_names(sweep):
        return _of_sweep(sweep)
    try:
        folder = UPath(source) if "://" in source else UPath(find_folder(source))
    except InputError as error:
        known = ", ".join(sorted(list_names(storage / "sweeps"))) or "none"
        raise InputError(f"{error}. Of sweeps the storage {hide_credentials(str(storage))} has {known}.") from error
    if exists(folder / CONFIG_FILE):
        return [_entry(folder, source)]
    steps = list_checkpoints(folder)
    if steps:
        return _read_all(steps)
    raise InputError(
        f"{hide_credentials(source)} holds no checkpoint: wanted a sweep, the folder of a run or of a checkpoint, a "
        "storage URI of one, or a Hugging Face name such as gpt2"
    )


def _of_sweep(folder: UPath) -> list[Entry]:
    """The newest checkpoint of each finished run."""
    runs = sorted(path.parent for path in folder.glob(f"*/{RESULT}"))
    with ThreadPoolExecutor(READERS) as pool:
        newest = [kept[0] for kept in pool.map(list_checkpoints, runs) if kept]
    if not newest:
        raise InputError(f"no run of sweep {folder.name} in {folder.parent} has finished; `ladder run` trains one")
    return _read_all(newest)


def _read_all(checkpoints: Sequence[UPath]) -> list[Entry]:
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda checkpoint: _entry(checkpoint, None), checkpoints))


def _entry(folder: UPath, given: str | None) -> Entry:
    """The entry of a checkpoint's folder, called as it was given where it is of no run of ours."""
    size = size_of(_read_config(folder), Path(folder.name))
    if not exists(folder / MARK):
        return Entry(name=hide_credentials(given or folder.name), folder=folder, size=size)
    mark = read_mark(folder)
    step, recipe = int(mark.get("step", 0)), mark.get("recipe") or {}
    batch = recipe.get("batch_tokens")
    result = read_json(folder.parent / RESULT) or {}
    return Entry(
        name=f"{mark.get('run', folder.parent.name)}/{step}",
        folder=folder,
        size=size,
        tokens=None if batch is None else step * int(batch),
        step=step,
        seed=recipe.get("seed"),
        heldout=_heldout(result) if result.get("step") == step else None,
    )


def _heldout(result: dict[str, Any]) -> float | None:
    """Nats per token in a run's result."""
    for measurement in result.get("measurements", ()):
        if measurement["benchmark"] == HELDOUT and measurement["metric"] == "loss":
            return float(measurement["value"])
    return None


def _read_config(folder: UPath) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / CONFIG_FILE} cannot be read: {error}; the checkpoint is damaged") from error
    if not isinstance(config, dict):
        raise InputError(f"{folder / CONFIG_FILE} holds a {type(config).__name__}, not an object; it is damaged")
    return config
