"""The tasks by name. A new one is a file in `tasks/` and a line here."""

from collections.abc import Sequence

from ladder.models.errors import InputError
from ladder.platform.finetuning.task import Task
from ladder.platform.finetuning.tasks.cola import COLA
from ladder.platform.finetuning.tasks.copa import COPA
from ladder.platform.finetuning.tasks.mnli import MNLI
from ladder.platform.finetuning.tasks.mrpc import MRPC
from ladder.platform.finetuning.tasks.qnli import QNLI
from ladder.platform.finetuning.tasks.qqp import QQP
from ladder.platform.finetuning.tasks.race import RACE
from ladder.platform.finetuning.tasks.rte import RTE
from ladder.platform.finetuning.tasks.scitail import SCITAIL
from ladder.platform.finetuning.tasks.snli import SNLI
from ladder.platform.finetuning.tasks.sst2 import SST2
from ladder.platform.finetuning.tasks.story_cloze import STORY_CLOZE
from ladder.platform.finetuning.tasks.stsb import STSB
from ladder.platform.finetuning.tasks.wnli import WNLI

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        SST2,
        COLA,
        SNLI,
        MNLI,
        QNLI,
        RTE,
        SCITAIL,
        QQP,
        MRPC,
        STSB,
        RACE,
        STORY_CLOZE,
        COPA,
        WNLI,
    )
}
"""GPT-1's twelve, then COPA of its announcement and WNLI of GLUE."""


def find_tasks(names: Sequence[str]) -> list[Task]:
    """The tasks of these names, in order, each once; InputError for an unknown name, or for none."""
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        what = f"unknown task {', '.join(unknown)}" if unknown else "no task is named"
        raise InputError(f"{what}: known are {', '.join(TASKS)}")
    return [TASKS[name] for name in dict.fromkeys(names)]
