"""Each benchmark's version is pinned to its scores, and the settings that it says it reads are those that it reads.

A test that fails here means that a number has changed its meaning: raise the benchmark's `version`, so that what was
kept under the old one is not taken for the new, and write the new version and scores below.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from upath import UPath

from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Setting
from ladder.platform.evaluation.benchmarks.gpt2 import enwik8, lm1b, ptb, text8, wikitext2, wikitext103
from ladder.platform.evaluation.evaluate import make_setting
from ladder.platform.evaluation.item_scores import ItemScores
from ladder.platform.evaluation.kinds import generation
from ladder.platform.evaluation.protocol import Limits, Protocol
from ladder.platform.evaluation.registry import BENCHMARKS

STORY = "Tom saw a red dog by the old mill. It ran to him and sat down. He gave the dog a bone. The dog was glad."
ARTICLES = " \n = One = \n \n A two @-@ part thing , in 1 @,@ 000 parts . \n \n = Two = \n \n Short <unk> . \n"
PTB = " no it was n't black monday \n but <unk> 's $ N fell \n"
SENTENCES = "He doesn 't .\n\" Yes , \" said Mr. O 'Brien .\n"
WORDS = "the quick brown fox jumps over the lazy dog "

PINNED: dict[str, tuple[int, str, dict[str, float]]] = {
    "cbt-cn": (1, "5f3011db473a", {"accuracy": 1}),
    "cbt-cn-test": (1, "5f3011db473a", {"accuracy": 1}),
    "cbt-ne": (1, "5f3011db473a", {"accuracy": 1}),
    "cbt-ne-test": (1, "5f3011db473a", {"accuracy": 1}),
    "cnn-dailymail": (2, "c97bbe3f92ac", {"rouge1": 0, "rouge2": 0, "rougeL": 0, "rouge_average": 0}),
    "cola": (1, "bb92577b705f", {"mcc": 0.57735, "auc": 0.5}),
    "copa": (2, "aa0c010b5c3b", {"accuracy": 1}),
    "coqa": (2, "44011856fe72", {"f1": 0}),
    "dprd": (1, "4d4cbdd7e55a", {"accuracy": 1}),
    "enwik8": (1, "7c7c2c0326b0", {"bits_per_byte": 8.00443}),
    "heldout": (
        1,
        "4c53d99157ac",
        {"loss": 5.54024, "perplexity": 254.739, "loss_per_word": 39.0158, "bits_per_byte": 7.99288},
    ),
    "lambada": (2, "041fc5fa2fc8", {"perplexity": 5.81129e09, "accuracy": 0, "accuracy_last_token": 0}),
    "lambada-preprocessed": (1, "940bca09d065", {"perplexity": 6.59692e09, "accuracy": 0, "accuracy_last_token": 0}),
    "lambada-stop-words": (1, "e3b0c44298fc", {"accuracy": 0}),
    "lm1b": (2, "9f49430478db", {"perplexity": 882306}),
    "natural-questions": (
        2,
        "f8b39c0bbeb9",
        {"exact_match": 0, "exact_match_most_confident_1_percent": 0, "calibration_error": 0},
    ),
    "pages-bytes": (1, "2c66bf56d8e3", {"bits_per_byte": 8.00984}),
    "pages-cloze": (1, "91e2d353b272", {"accuracy": 0}),
    "pages-last-word": (2, "f311638bfffd", {"perplexity": 8.6086e16, "accuracy": 0, "accuracy_last_token": 0}),
    "pages-words": (1, "2c66bf56d8e3", {"perplexity": 1.24766e17}),
    "ptb": (2, "29bf714dbac2", {"perplexity": 9.46925e07}),
    "race": (2, "b460187beca5", {"accuracy": 0.5, "accuracy_middle": 0.5, "accuracy_high": 0.5}),
    "sst2": (2, "d4b454144da0", {"accuracy": 0.5}),
    "story-cloze": (2, "6931030e9481", {"accuracy": 1}),
    "text8": (1, "7c7c2c0326b0", {"bits_per_character": 8.00443}),
    "wikitext103": (2, "1afb0b66c55f", {"perplexity": 339380}),
    "wikitext2": (2, "1afb0b66c55f", {"perplexity": 339380}),
    "wikitext2-raw": (
        1,
        "032cc77539b9",
        {"word_perplexity": 2.6649e06, "byte_perplexity": 70.2198, "bits_per_byte": 6.13381},
    ),
    "winograd": (1, "cc65c254dee1", {"accuracy_partial": 0.5, "accuracy_full": 0.5}),
    "wmt14": (2, "360fa2093812", {"bleu_fr_en": 0, "bleu_en_fr": 0}),
}
"""Benchmark to its version, a hash of what it asks of the model on the files below, and its scores there by a small
GPT-2 of bytes as it is drawn. Scores alone would not do: such a model is right about nothing."""

SMALL: dict[str, Callable[[Setting], list[ItemScores]]] = {
    "wikitext2": replace(wikitext2.WORDS, n_words=29, n_unknown=1).score,
    "wikitext103": replace(wikitext103.WORDS, n_words=29, n_unknown=1).score,
    "ptb": replace(ptb.WORDS, n_words=14).score,
    "lm1b": replace(lm1b.WORDS, n_words=15).score,
    "enwik8": replace(enwik8.STREAM, file_bytes=450, test_bytes=90, block_bytes=30).score,
    "text8": replace(text8.STREAM, file_bytes=450, test_bytes=90, block_bytes=30).score,
}
"""Those that only score the whole published file, made to score a smaller one."""


def cbt_item() -> str:
    sentences = [f"{number} The dog ran to the mill ." for number in range(1, 21)]
    choices = "|".join(["dog", "mill", "man", "bone", "cat", "tree", "house", "hill", "road", "boy"])
    return "\n".join([*sentences, f"21 Then the XXXXX sat down .\tdog\t\t{choices}", "", ""])


def race_line(name: str) -> str:
    exam = {
        "article": STORY,
        "questions": ["What colour was the dog?", "Tom gave it _ ."],
        "options": [["Red.", "Blue.", "Green.", "Black."], ["a bone", "a cat", "a hat", "a mill"]],
        "answers": ["A", "B"],
    }
    return json.dumps({"file": name, "text": json.dumps(exam)}) + "\n"


def copa_file(premise: str) -> str:
    texts = f"<p>{premise}</p><a1>He ran.</a1><a2>It rained.</a2>"
    item = f'<item id="1" asks-for="cause" most-plausible-alternative="1">{texts}</item>'
    return f'<?xml version="1.0"?>\n<copa-corpus>\n{item}\n{item.replace("cause", "effect")}\n</copa-corpus>\n'


def story_file(name: str) -> str:
    header = "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,RandomFifthSentenceQuiz1,"
    row = f"1,{name} ran.,He fell.,He wept.,He slept.,He got up.,The cat sang.,1\n"
    return header + "RandomFifthSentenceQuiz2,AnswerRightEnding\n" + row + row.replace("ran", "sat")


def coqa_file(name: str) -> str:
    asked = [{"input_text": text, "turn_id": turn} for turn, text in enumerate(["Who?", "What colour?"], start=1)]
    given = [{"input_text": text, "turn_id": turn} for turn, text in enumerate([name, "red"], start=1)]
    return json.dumps({"data": [{"story": STORY, "questions": asked, "answers": given}]})


def questions_file(word: str) -> str:
    return "".join(json.dumps({"question": f"who is {word} {n}", "answer": [f"{word} {n}"]}) + "\n" for n in range(4))


def segments(word: str) -> str:
    return "".join(f'<seg id="{n}">{word} {n}.</seg>\n' for n in range(6))


COLA_LINES = "a\t1\t\tTom saw a dog.\na\t0\t*\tTom a dog saw.\na\t1\t\tHe ran.\na\t0\t*\tRan he to.\n"
PASSAGES = (STORY[:90], "\u201cYes\u201d a dog the")

TEXTS: dict[str, str] = {
    "lambada/lambada_test.jsonl": "".join(
        json.dumps({"text": t}) + "\n" for t in (STORY[:90], "\u201cYes\u201d a dog the")
    ),
    "cbt-cn/cbtest_CN_valid_2000ex.txt": cbt_item() * 2,
    "cbt-ne/cbtest_NE_valid_2000ex.txt": cbt_item() * 2,
    "cbt-cn-test/cbtest_CN_test_2500ex.txt": cbt_item() * 2,
    "cbt-ne-test/cbtest_NE_test_2500ex.txt": cbt_item() * 2,
    "wikitext2/wiki.test.tokens": ARTICLES,
    "wikitext103/wiki.test.tokens": ARTICLES,
    "wikitext2-raw/wiki.test.raw": ARTICLES,
    "ptb/ptb.test.txt": PTB,
    "lm1b/news.en.heldout-00000-of-00050": SENTENCES,
    "enwik8/enwik8": WORDS * 10 + "x" * 10,
    "text8/text8": WORDS * 10 + "x" * 10,
    "cola/dev.tsv": COLA_LINES,
    "cola/train.tsv": COLA_LINES * 2,
    "dprd/test.c.txt": "Tom saw a dog as it ran on.\nit\nTom,a dog\na dog\n\n",
    "copa/copa-test.xml": copa_file("Tom fell."),
    "copa/copa-dev.xml": copa_file("Ann sat."),
    "race/race-test.jsonl": race_line("high/1.txt") + race_line("middle/2.txt"),
    "race/race-dev.jsonl": race_line("high/3.txt"),
    "sst2/stsa.binary.dev": "1 a good film .\n0 a bad film .\n",
    "sst2/stsa.binary.train": "1 one more good film .\n0 one more bad film .\n",
    "story-cloze/cloze_test_test__spring2016 - cloze_test_ALL_test.csv": story_file("Tom"),
    "story-cloze/cloze_test_val__spring2016 - cloze_test_ALL_val.csv": story_file("Ann"),
    "natural-questions/NQ-open.dev.jsonl": questions_file("tom"),
    "natural-questions/NQ-open.train.jsonl": questions_file("ann"),
    "coqa/coqa-dev-v1.0.json": coqa_file("Tom"),
    "coqa/coqa-train-v1.0.json": coqa_file("Ann"),
    "wmt14/newstest2014.en": "Good night.\nThe dog.\n",
    "wmt14/newstest2014.fr": "Bonne nuit.\nLe chien.\n",
    "wmt14/newstest2013-src.en.sgm": segments("English"),
    "wmt14/newstest2013-src.fr.sgm": segments("Francais"),
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> UPath:
    """A storage with a small file for each file of each benchmark."""
    folder = tmp_path_factory.mktemp("versions")
    winograd = "\n".join((shared / "benchmarks/wsc273/wsc273.txt").read_text().split("\n")[:20]) + "\n"
    for path, content in (TEXTS | {"winograd/" + BENCHMARKS["winograd"].files[0].name: winograd}).items():
        file = folder / "benchmarks" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode())
    articles = {"article": [STORY, STORY[::-1]], "highlights": ["Tom saw a dog.", "A dog ran."]}
    for name in ("test", "validation"):
        path = folder / "benchmarks" / "cnn-dailymail" / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.table(articles), path)
    return UPath(folder)


class Watched(Protocol):
    """A protocol that notes what of it is read."""

    def __getattribute__(self, name: str) -> Any:
        object.__getattribute__(self, "__dict__").setdefault("seen", set()).add(name)
        return object.__getattribute__(self, name)


@pytest.fixture
def setting(storage: UPath, small_corpus: Corpus) -> Setting:
    return make_setting(
        GPT2(parse_size("2x32h2", context=128, vocabulary=257), seed=1),
        load_tokenizer("bytes"),
        storage=storage,
        corpus=small_corpus,
        device="cpu",
        precision="fp32",
        protocol=Watched(heldout_tokens=500, limits=Limits(pages=3, last_word_items=4, cloze_items=3), shots=1),
    )


@pytest.fixture
def asked(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the model, in order."""
    asked: list[str] = []

    def watch(place: object, name: str) -> None:
        function = getattr(place, name)

        def note(*arguments: Any, **options: Any) -> Any:
            given = arguments[1:] if name == "generate" else arguments  # the first is the model
            options_said = {key: value for key, value in options.items() if not callable(value)}
            asked.append(f"{name} {as_lists(given)} {as_lists(options_said)}")
            return function(*arguments, **options)

        monkeypatch.setattr(place, name, note)

    for name in ("loglikelihood", "rolling"):
        watch(setting.scorer, name)
    watch(generation, "generate")
    return asked


def as_lists(value: Any) -> Any:
    """A value in words that are the same in every process."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [as_lists(part) for part in value]
    return {key: as_lists(part) for key, part in value.items()} if isinstance(value, dict) else value


@dataclass(frozen=True)
class Scored:
    name: str
    asked: str
    scores: dict[str, float]
    read: set[str]


@pytest.fixture(params=sorted(BENCHMARKS))
def scored(request: pytest.FixtureRequest, setting: Setting, asked: list[str]) -> Scored:
    """What a benchmark asked, gave and read of the setting."""
    seen = vars(setting.protocol)["seen"]
    seen.clear()
    score = SMALL.get(request.param, BENCHMARKS[request.param].score)
    scores = {item.metric: item.measure().value for item in score(setting)}
    digest = hashlib.sha256("\n".join(asked).encode()).hexdigest()[:12]
    return Scored(request.param, digest, scores, set(seen))


def test_a_version_stands_for_its_scores(scored: Scored) -> None:
    version, asked, scores = PINNED[scored.name]
    assert BENCHMARKS[scored.name].version == version
    assert scored.scores == pytest.approx(scores, rel=1e-4, abs=1e-6)
    assert scored.asked == asked


def test_a_benchmark_reads_the_settings_that_it_says(scored: Scored) -> None:
    choices = {"limit", "shots", "seed", "window", "stride", "heldout_tokens", "limits"}
    assert scored.read & choices == BENCHMARKS[scored.name].reads
