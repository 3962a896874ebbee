"""COPA (Roemmele et al. 2011): which of two sentences is the cause or the effect of another.

The premise without its full stop, "because" for a cause or "so" for an effect, and the sentence: the ending of the
higher average token log-probability is chosen, as GPT-1's zero-shot heuristics choose. Scored is the test split of 500,
all of it public; SuperGLUE's validation split is 100 of the dev split.
"""

from dataclasses import dataclass, field
from xml.parsers import expat

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting, benchmark_folder
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.item_scores import ItemScores
from ladder.platform.evaluation.kinds.choice import (
    Choice,
    Question,
    ask,
    mean_nats,
    name_shots,
    score_accuracy,
    score_choices,
)
from ladder.platform.evaluation.text.lines import read_text_lines

FILE = BenchmarkFile(
    name="copa-test.xml",
    sha256="640824681bde78a7592726504d7d9bab294e5de26072d973307fa80d34919d92",
    address="https://raw.githubusercontent.com/drwiner/COPA/"
    "0d59e0efc834004be53ba7569a7793ea8fb13741/datasets/copa-test.xml",
)

EXAMPLES = BenchmarkFile(
    name="copa-dev.xml",
    sha256="6251d7d99de4cbc6a2c3323923213e5e73071d286039b97a0908736e2be093bc",
    address="https://raw.githubusercontent.com/drwiner/COPA/"
    "0d59e0efc834004be53ba7569a7793ea8fb13741/datasets/copa-dev.xml",
)

CONNECTIVES = {"cause": "because", "effect": "so"}
"""The word between premise and ending, by what is asked for."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item as the file has it."""

    line: int
    """Its first line in the file."""
    attributes: dict[str, str]
    """What is asked for, and which alternative is right."""
    texts: dict[str, str] = field(default_factory=dict)
    """Premise `p` and alternatives `a1`, `a2`."""


def read_questions(path: UPath) -> list[Question]:
    """The questions of a file; InputError names the line that is wrong."""
    items = _read_items(path, "\n".join(read_text_lines(path)))
    if not items:
        raise InputError(f"{path}: wanted <item> elements, got none")
    return [_make_question(path, item) for item in items]


def _read_items(path: UPath, content: str) -> list[Item]:
    items: list[Item] = []
    pieces: list[str] = []
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        pieces.clear()
        if name == "item":
            items.append(Item(line=parser.CurrentLineNumber, attributes=attributes))

    def end(name: str) -> None:
        if items and name in ("p", "a1", "a2"):
            items[-1].texts[name] = "".join(pieces).strip()

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, pieces.append
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise InputError(f"{path}, line {error.lineno}: not XML: {expat.ErrorString(error.code)}") from error
    return items


def _make_question(path: UPath, item: Item) -> Question:
    asked, answer = item.attributes.get("asks-for"), item.attributes.get("most-plausible-alternative")
    if asked not in CONNECTIVES or answer not in ("1", "2"):
        wanted = "wanted asks-for cause or effect and most-plausible-alternative 1 or 2"
        raise InputError(f"{path}, line {item.line}: {wanted}, got {item.attributes}")
    absent = [name for name in ("p", "a1", "a2") if not item.texts.get(name)]
    if absent:
        raise InputError(f"{path}, line {item.line}: wanted text in <p>, <a1> and <a2>, got none in <{absent[0]}>")
    endings = tuple(Choice(text=" " + begin_small(item.texts[name])) for name in ("a1", "a2"))
    context = f"{item.texts['p'].rstrip('. ')} {CONNECTIVES[asked]}"
    return Question(context=context, choices=endings, answer=int(answer) - 1)


def begin_small(sentence: str) -> str:
    """A sentence as it is written after another word: its first letter small, but for the word I."""
    first = sentence.split()[0]
    return sentence if first.split("'")[0] == "I" else sentence[0].lower() + sentence[1:]


def read_texts(storage: UPath, corpus: Corpus | None) -> list[str]:
    """Premise and right ending of each item."""
    return [question.solved for question in read_questions(benchmark_folder(storage, "copa") / FILE.name)]


def score(setting: Setting) -> list[ItemScores]:
    """The accuracy over the questions."""
    folder = benchmark_folder(setting.storage, "copa")
    questions = ask(setting, read_questions(folder / FILE.name), lambda: read_questions(folder / EXAMPLES.name))
    return [
        score_accuracy(
            questions,
            score_choices(setting, questions),
            compared=mean_nats,
            benchmark="copa",
            protocol=f'premise, "because" or "so", ending; average token log-probability, {name_shots(setting, "dev")}',
            description="the right ending has the higher average log-probability of its tokens",
        )
    ]


COPA = Benchmark(
    name="copa",
    source="Choice of Plausible Alternatives, test split: 500 questions of two endings",
    score=score,
    reads=frozenset({"limit", "shots", "seed"}),
    version=2,
    texts=read_texts,
    citation="Roemmele et al. 2011, Choice of plausible alternatives; heuristic: Radford et al. 2018, Improving "
    "language understanding by generative pre-training, section 5",
    files=(FILE,),
    example_files=(EXAMPLES,),
)
