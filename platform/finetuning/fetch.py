"""Puts the published files of tasks into storage, downloaded or from local copies, as those of benchmarks are."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from upath import UPath

from ladder.models.errors import InputError, PartialFailure
from ladder.platform.evaluation.files.fetch import Display, Naming, install
from ladder.platform.evaluation.files.sources import Downloads, LocalCopies, Source, downloads_folder
from ladder.platform.finetuning.published import TaskFiles
from ladder.platform.finetuning.registry import find_tasks


def fetch_tasks(
    names: Sequence[str],
    *,
    storage: UPath,
    source_dir: Path | None = None,
    again: bool = False,
    display: Display | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> list[UPath]:
    """The files of the tasks named, put into storage where they are not there already.

    They are downloaded, or taken from `source_dir`. A task that cannot be had does not stop the others: at the end
    InputError, or PartialFailure where some are there, names all that failed.
    """
    display = display or Display()
    source: Source
    if source_dir is not None:
        source = LocalCopies(source_dir, lambda name, digest: None)
    else:
        source = Downloads(downloads_folder(storage), progress=display.progress, wait=wait)
    installed: list[UPath] = []
    failures: list[str] = []
    for task in find_tasks(names):
        naming = Naming(what="task", fetch="ladder fetch --tasks")
        try:
            installed += install(TaskFiles(task=task), storage, source, display, again=again, naming=naming)
        except InputError as error:
            failures.append(str(error))
        source.forget(())
    if failures:
        kind = PartialFailure if installed else InputError
        raise kind("\n  ".join(failures))
    return installed
