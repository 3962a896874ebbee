"""The benchmarks by name. A new one is a file in `benchmarks/` and a line here."""

from collections.abc import Sequence

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.benchmarks.gpt1.copa import COPA
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
from ladder.platform.evaluation.benchmarks.heldout import loss
from ladder.platform.evaluation.benchmarks.heldout.pages import PAGES_BYTES, PAGES_CLOZE, PAGES_LAST_WORD, PAGES_WORDS

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        loss.HELDOUT,
        PAGES_LAST_WORD,
        PAGES_CLOZE,
        PAGES_WORDS,
        PAGES_BYTES,
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
        SST2,
        COPA,
        RACE,
        STORY_CLOZE,
        CBT_CN_TEST,
        CBT_NE_TEST,
        LAMBADA_PREPROCESSED,
        LAMBADA_STOP_WORDS,
        WIKITEXT2_RAW,
    )
}


def find_benchmarks(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks of these names, in order, each once; InputError for an unknown name."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise InputError(f"unknown benchmark {', '.join(unknown)}: known are {', '.join(BENCHMARKS)}")
    return [BENCHMARKS[name] for name in dict.fromkeys(names)]
