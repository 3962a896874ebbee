"""The models in memory: those used last, as many as a bound of bytes holds."""

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import PAPER_SIZES
from ladder.models.tokenizer import Tokenizer
from ladder.platform.evaluation.checkpoints.open import open_checkpoint
from ladder.platform.evaluation.checkpoints.score import local_copy
from ladder.platform.explore.catalogue import Entry

BYTES_PER_PARAMETER = 4
"""The page computes in fp32, whatever a run was trained in."""

SHELF_BYTES = 4 * BYTES_PER_PARAMETER * PAPER_SIZES["117M"].params_total
"""Bytes of weights in memory at most: four models of GPT-2's smallest size. A larger model stands there alone."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A checkpoint in memory."""

    model: GPT2
    tokenizer: Tokenizer


class Shelf:
    """Checkpoints by name, opened when they are asked for; the least recently used leave.

    One computation at a time: two at once would share the cores and hold twice the memory.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        device: torch.device,
        tokenizer: str | None = None,
        most_bytes: int = SHELF_BYTES,
    ) -> None:
        self.entries = {entry.name: entry for entry in entries}
        self.device, self.tokenizer, self.most_bytes = device, tokenizer, most_bytes
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def opened(self) -> list[str]:
        """The names of the checkpoints in memory, the least recently used first."""
        return list(self._opened)

    def find(self, name: str) -> Entry:
        """The entry of a name; InputError where there is none."""
        if name not in self.entries:
            raise InputError(f"no checkpoint {name!r} is open on this page; reload it to see those that are")
        return self.entries[name]

    def compute(self, name: str, computation: Callable[[Opened], T]) -> T:
        """What a computation makes of a checkpoint; InputError where the checkpoint cannot be read (any more)."""
        entry = self.find(name)
        with self._lock, torch.inference_mode():
            return computation(self._take(entry))

    def fill(self) -> None:
        """Open the checkpoints that fit, the last ones first; a damaged one is told of when it is asked for."""
        room = self.most_bytes
        for entry in reversed(self.entries.values()):
            room -= _bytes(entry)
            if room < 0:
                return
            try:
                self.compute(entry.name, lambda _: None)
            except InputError:
                continue

    def _take(self, entry: Entry) -> Opened:
        if entry.name in self._opened:
            self._opened.move_to_end(entry.name)
            return self._opened[entry.name]
        needed = _bytes(entry)
        while self._opened and sum(map(_bytes, map(self.find, self._opened))) + needed > self.most_bytes:
            self._opened.popitem(last=False)
        opened = self._open(entry)
        self._opened[entry.name] = opened
        return opened

    def _open(self, entry: Entry) -> Opened:
        with _local(entry) as folder:
            model, tokenizer = open_checkpoint(
                str(folder), device=self.device, precision="fp32", tokenizer=self.tokenizer
            )
        if model.size.vocabulary < tokenizer.vocabulary:
            raise InputError(
                f"{entry.name} has a vocabulary of {model.size.vocabulary} and tokenizer {tokenizer.name} one of "
                f"{tokenizer.vocabulary}; name the tokenizer that it was trained with by --tokenizer"
            )
        return Opened(model=model, tokenizer=tokenizer)


@contextmanager
def _local(entry: Entry) -> Iterator[Path]:
    """The folder of a checkpoint, or a copy of it while it is read."""
    with tempfile.TemporaryDirectory(prefix="ladder-explore-") as scratch:
        try:
            folder = Path(local_copy(str(entry.folder), Path(scratch)))
        except OSError as error:
            raise InputError(f"{entry.name} cannot be read: {error}. Was it removed meanwhile?") from error
        if not folder.is_dir():
            raise InputError(f"{entry.name} is gone: there is no folder {folder} any more. Was it removed meanwhile?")
        yield folder


def _bytes(entry: Entry) -> int:
    return BYTES_PER_PARAMETER * entry.size.params_total
