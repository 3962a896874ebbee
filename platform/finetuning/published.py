"""Where the files of each task are published, with the sums that their publishers' loaders check.

GLUE's archives have one folder each, named as the task's folder is: with these addresses and sums huggingface/datasets'
loaders (glue.py, scitail.py) open the members named here. SNLI's loader reads the tables beside the JSON lines. Story
Cloze is given to who fills in a form.
"""

from dataclasses import dataclass

from upath import UPath

from ladder.platform.evaluation.benchmarks.gpt1 import copa, story_cloze
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.finetuning.task import Task

GLUE = "https://dl.fbaipublicfiles.com/glue/data"
SENTEVAL = "https://dl.fbaipublicfiles.com/senteval/senteval_data"


def _members(archive: str, sha256: str, members: dict[str, str]) -> tuple[BenchmarkFile, ...]:
    """Files of an archive: name in the task's folder to path in the archive."""
    return tuple(
        BenchmarkFile(name=name, sha256=None, address=archive, member=member, archive_sha256=sha256)
        for name, member in members.items()
    )


def _glue(archive: str, sha256: str, folder: str, *names: str) -> tuple[BenchmarkFile, ...]:
    chosen = names or ("train.tsv", "dev.tsv")
    return _members(f"{GLUE}/{archive}", sha256, {name: f"{folder}/{name}" for name in chosen})


def _plain(address: str, sha256: str, name: str | None = None) -> BenchmarkFile:
    return BenchmarkFile(name=name or address.rsplit("/", 1)[-1], sha256=sha256, address=address)


PUBLISHED: dict[str, tuple[BenchmarkFile, ...]] = {
    "sst2": _glue("SST-2.zip", "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa", "SST-2"),
    "cola": _glue("CoLA.zip", "f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff", "CoLA"),
    "snli": _members(
        "https://nlp.stanford.edu/projects/snli/snli_1.0.zip",
        "afb3d70a5af5d8de0d9d81e2637e0fb8c22d1235c2749d83125ca43dab0dbd3e",
        {f"snli_1.0_{split}.jsonl": f"snli_1.0/snli_1.0_{split}.jsonl" for split in ("train", "dev")},
    ),
    "mnli": _glue(
        "MNLI.zip",
        "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633",
        "MNLI",
        "train.tsv",
        "dev_matched.tsv",
        "dev_mismatched.tsv",
    ),
    "qnli": _glue("QNLIv2.zip", "e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5", "QNLI"),
    "rte": _glue("RTE.zip", "6bf86de103ecd335f3441bd43574d23fef87ecc695977a63b82d5efb206556ee", "RTE"),
    "scitail": _members(
        "http://data.allenai.org.s3.amazonaws.com/downloads/SciTailV1.1.zip",
        "3fccd37350a94ca280b75998568df85fc2fc62843a3198d644fcbf858e6943d5",
        {
            f"tsv_format/scitail_1.0_{split}.tsv": f"SciTailV1.1/tsv_format/scitail_1.0_{split}.tsv"
            for split in ("train", "dev")
        },
    ),
    "qqp": _glue("QQP-clean.zip", "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0", "QQP"),
    "mrpc": (
        _plain(
            f"{SENTEVAL}/msr_paraphrase_train.txt", "60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89"
        ),
        _plain(f"{GLUE}/mrpc_dev_ids.tsv", "971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7"),
    ),
    "stsb": _glue("STS-B.zip", "e60a6393de5a8b5b9bac5020a1554b54e3691f9d600b775bd131e613ac179c85", "STS-B"),
    "race": (
        _plain(
            "http://www.cs.cmu.edu/~glai1/data/race/RACE.tar.gz",
            "b2769cc9fdc5c546a693300eb9a966cec6870bd349fbc44ed5225f8ad33006e5",
        ),
    ),
    "story-cloze": (story_cloze.EXAMPLES,),
    "copa": (copa.EXAMPLES, copa.FILE),
    "wnli": _glue("WNLI.zip", "ae0e8e4d16f4d46d4a0a566ec7ecceccfd3fbfaa4a7a4b4e02848c0f2561ac46", "WNLI"),
}
"""Files by task."""


@dataclass(frozen=True, kw_only=True)
class TaskFiles:
    """A task's files as `ladder fetch` installs them: into the folder that `ladder finetune` looks in."""

    task: Task
    """The task."""

    @property
    def name(self) -> str:
        """Name in messages."""
        return self.task.name

    @property
    def folder_name(self) -> str:
        """Folder that local copies may stand in."""
        return self.task.folder

    @property
    def files(self) -> tuple[BenchmarkFile, ...]:
        """All of them."""
        return PUBLISHED[self.task.name]

    def folder(self, storage: UPath) -> UPath:
        """Where they are installed."""
        return storage / "tasks" / self.task.folder

    def needed_files(self, shots: int | None) -> tuple[BenchmarkFile, ...]:
        """All of them."""
        return self.files
