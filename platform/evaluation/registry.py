"""The benchmarks by name and by group. A new one is a file in `benchmarks/` and a line here."""

from collections.abc import Sequence

from ladder.models.errors import InputError, did_you_mean
from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.benchmarks.gpt1.cola import COLA
from ladder.platform.evaluation.benchmarks.gpt1.copa import COPA
from ladder.platform.evaluation.benchmarks.gpt1.dprd import DPRD
from ladder.platform.evaluation.benchmarks.gpt1.race import RACE
from ladder.platform.evaluation.benchmarks.gpt1.sst2 import SST2
from ladder.platform.evaluation.benchmarks.gpt1.story_cloze import STORY_CLOZE
from ladder.platform.evaluation.benchmarks.gpt2.cbt import CBT_CN, CBT_CN_TEST, CBT_NE, CBT_NE_TEST
from ladder.platform.evaluation.benchmarks.gpt2.cnn_dailymail import CNN_DAILYMAIL
from ladder.platform.evaluation.benchmarks.gpt2.coqa import COQA
from ladder.platform.evaluation.benchmarks.gpt2.enwik8 import ENWIK8
from ladder.platform.evaluation.benchmarks.gpt2.lambada import LAMBADA, LAMBADA_PREPROCESSED, LAMBADA_STOP_WORDS
from ladder.platform.evaluation.benchmarks.gpt2.lm1b import LM1B
from ladder.platform.evaluation.benchmarks.gpt2.natural_questions import NATURAL_QUESTIONS
from ladder.platform.evaluation.benchmarks.gpt2.ptb import PTB
from ladder.platform.evaluation.benchmarks.gpt2.text8 import TEXT8
from ladder.platform.evaluation.benchmarks.gpt2.wikitext2 import WIKITEXT2
from ladder.platform.evaluation.benchmarks.gpt2.wikitext2_raw import WIKITEXT2_RAW
from ladder.platform.evaluation.benchmarks.gpt2.wikitext103 import WIKITEXT103
from ladder.platform.evaluation.benchmarks.gpt2.winograd import WINOGRAD
from ladder.platform.evaluation.benchmarks.gpt2.wmt14 import WMT14
from ladder.platform.evaluation.benchmarks.heldout.loss import HELDOUT
from ladder.platform.evaluation.benchmarks.heldout.pages import PAGES_BYTES, PAGES_CLOZE, PAGES_LAST_WORD, PAGES_WORDS
from ladder.platform.evaluation.harness.names import is_harness_name
from ladder.platform.evaluation.own.file import OwnFile
from ladder.platform.evaluation.own.installed import installed_benchmarks

PAGES = (PAGES_LAST_WORD, PAGES_CLOZE, PAGES_WORDS, PAGES_BYTES)
GPT2_PAPER = (
    LAMBADA,
    CBT_CN,
    CBT_NE,
    WIKITEXT2,
    PTB,
    ENWIK8,
    TEXT8,
    WIKITEXT103,
    LM1B,
    WINOGRAD,
    COQA,
    CNN_DAILYMAIL,
    WMT14,
    NATURAL_QUESTIONS,
)
GPT1 = (SST2, COPA, RACE, STORY_CLOZE, COLA, DPRD)
ON_REQUEST = (CBT_CN_TEST, CBT_NE_TEST, LAMBADA_PREPROCESSED, LAMBADA_STOP_WORDS, WIKITEXT2_RAW)

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for benchmark in (HELDOUT, *PAGES, *GPT2_PAPER, *GPT1, *ON_REQUEST)
}
"""Those that come with ladder."""

ALL = "all"

GROUPS: dict[str, str] = {
    "gpt2-paper": "the data sets that the GPT-2 paper scores",
    "gpt1": "the data sets of GPT-1's zero-shot heuristics",
    "pages": "made from the pages held out of a corpus",
    ALL: "every one but other splits and protocols, which are scored where they are named",
}
"""Name of a group to what it holds."""


def known_benchmarks() -> dict[str, Benchmark]:
    """Every benchmark by name: those that come with ladder, then those of installed packages."""
    others = {name: made for name, made in installed_benchmarks().items() if name not in BENCHMARKS}
    return BENCHMARKS | others


def find_group(name: str) -> list[Benchmark]:
    """The benchmarks of a group, in order."""
    members = {"gpt2-paper": GPT2_PAPER, "gpt1": GPT1, "pages": PAGES}
    if name in members:
        return list(members[name])
    return [benchmark for benchmark in known_benchmarks().values() if not benchmark.on_request]


def _of_harness(names: Sequence[str]) -> dict[str, Benchmark]:
    """The tasks of lm-evaluation-harness among the names."""
    asked = [name for name in names if is_harness_name(name)]
    if not asked:
        return {}
    from ladder.platform.evaluation.harness.tasks import find_task

    return {name: find_task(name) for name in asked}


def find_benchmarks(names: Sequence[str], own: Sequence[OwnFile] = ()) -> list[Benchmark]:
    """The benchmarks of these names, in order, each once; InputError for an unknown name.

    `own` are the files that define the user's own among them.
    """
    known = known_benchmarks()
    of_files = [file.benchmark().name for file in own]
    known |= _of_harness([name for name in names if name not in of_files])
    for file in own:
        benchmark = file.benchmark()
        if benchmark.name in known or benchmark.name in GROUPS:
            raise InputError(f"{file.path}: a benchmark named {benchmark.name} is there already: give it another name")
        known = known | {benchmark.name: benchmark}
    unknown = [name for name in names if name not in known]
    if unknown:
        near = did_you_mean(unknown[0], [*known, *GROUPS])
        raise InputError(f"unknown benchmark {', '.join(unknown)}{near}: known are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def definitions(names: Sequence[str], own: Sequence[OwnFile]) -> dict[str, str]:
    """Names of benchmarks with the hash of what defines each (`Benchmark.definition`), empty for those of ladder."""
    return {benchmark.name: benchmark.definition for benchmark in find_benchmarks(names, own)}
