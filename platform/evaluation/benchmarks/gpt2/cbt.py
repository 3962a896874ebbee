"""Children's Book Test (Hill et al. 2015): which of ten words fills the gap of a sentence after twenty others.

The probability of the candidate and of the rest of the sentence decides, as in the GPT-2 paper, which scores the
validation split of common nouns and named entities, since a book of the test split is in WebText. The tokenized text is
de-tokenized line by line (`CBT`), the last line with each candidate in its place, so that each is written as its
surroundings ask; the sentences are joined by spaces. There is no prompt, so shots asked for do not apply.
"""

from collections.abc import Iterator, Sequence

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.kinds.choice import Choice, Question, total_nats
from ladder.platform.evaluation.kinds.choice_task import ChoiceTask, Rule
from ladder.platform.evaluation.text.detokenizer import CBT
from ladder.platform.evaluation.text.lines import read_text_lines

GAP = "XXXXX"
"""What stands for the missing word."""

CANDIDATES = 10

LINES = 21
"""Lines of an item: twenty sentences, and the one with the gap."""

ADDRESS = "http://parl.ai/downloads/cbt/cbt.tar.gz"
ARCHIVE_SHA256 = "932df0cadc1337b2a12b4c696b1041c1d1c6d4b6bd319874c6288f02e4a61e92"
"""As ParlAI and Hugging Face's datasets state it, each for its own address of the same archive."""

ITEMS = {"valid": 2000, "test": 2500}
"""Items of each split, which the files' names give too."""


def read_questions(path: UPath) -> list[Question]:
    """The questions of a file of the data set; InputError names the line that is wrong."""
    return [_read_item(path, item) for item in _items(read_text_lines(path))]


def _items(lines: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """Items as (line number, line), apart where an empty line is."""
    item: list[tuple[int, str]] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            item.append((number, line))
        elif item:
            yield item
            item = []
    if item:
        yield item


def _read_item(path: UPath, item: Sequence[tuple[int, str]]) -> Question:
    texts = []
    for index, (number, line) in enumerate(item[:LINES], start=1):
        label, _, text = line.partition(" ")
        if label != str(index):
            raise InputError(f"{path}, line {number}: wanted sentence {index} of an item, got {line!r:.60}")
        texts.append(text)
    if len(item) != LINES:
        where = f"{path}, line {item[-1][0]}: the item from line {item[0][0]} on"
        raise InputError(f"{where} has {len(item)} lines, wanted {LINES} and then an empty line")
    query, answer, candidates = _read_query(f"{path}, line {item[-1][0]}", texts[-1])
    sentences = [CBT.join(_tokens(text)) for text in texts[:-1]]
    return make_question(sentences, query, candidates, answer)


def _read_query(where: str, text: str) -> tuple[str, str, list[str]]:
    """(query, answer, candidates) of an item's last line."""
    fields = text.split("\t")
    if len(fields) != 4:
        wanted = "wanted 4: query, answer, nothing, candidates"
        raise InputError(f"{where}: got {len(fields)} fields apart by tabs, {wanted}")
    query, answer, _, listed = (field.strip() for field in fields)
    candidates = [candidate for candidate in listed.split("|") if candidate]
    if GAP not in query:
        raise InputError(f"{where}: wanted a query with {GAP} for the missing word, got {query!r:.80}")
    if len(candidates) != CANDIDATES:
        raise InputError(f"{where}: wanted {CANDIDATES} candidates apart by |, got {len(candidates)}: {listed!r:.120}")
    if answer not in candidates:
        raise InputError(f"{where}: wanted one of the candidates as the answer, got {answer!r:.40}: {listed!r:.120}")
    return query, answer, candidates


def make_question(sentences: Sequence[str], query: str, candidates: Sequence[str], answer: str) -> Question:
    """The question of de-tokenized sentences and a tokenized query.

    Context and rest are the words that the query's last line has in common with every candidate in its place.
    """
    filled = [CBT.join(_tokens(query.replace(GAP, candidate))).split(" ") for candidate in candidates]
    shortest = min(len(words) for words in filled) - 1  # a word at least remains to each candidate
    n_before = _count_common(filled, shortest)
    n_after = _count_common([words[::-1] for words in filled], shortest - n_before)
    choices = []
    for words in filled:
        end = len(words) - n_after
        rest = "".join(" " + word for word in words[end:])
        choices.append(Choice(text="".join(" " + word for word in words[n_before:end]), rest=rest))
    context = " ".join([*sentences, *filled[0][:n_before]])
    return Question(context=context, choices=tuple(choices), answer=list(candidates).index(answer))


def _tokens(text: str) -> list[str]:
    return [token for token in text.split(" ") if token]


def _count_common(texts: Sequence[Sequence[str]], limit: int) -> int:
    """How many words, at most `limit`, all texts begin with."""
    columns = list(zip(*texts, strict=False))[:limit]
    return next((index for index, column in enumerate(columns) if len(set(column)) > 1), len(columns))


def make_benchmark(
    name: str, kind: str, *, split: str, words: str, paper_accuracies: dict[str, float] | None = None
) -> Benchmark:
    """The benchmark of one file of the data set; `kind` is CN or NE, `split` valid or test."""
    file_name = f"cbtest_{kind}_{split}_{ITEMS[split]}ex.txt"
    return ChoiceTask(
        name=name,
        source=f"Children's Book Test, {words}, {split} split: {ITEMS[split]:,} items of ten candidates",
        citation="Hill et al. 2015, The Goldilocks principle, arXiv:1511.02301",
        file=BenchmarkFile(
            name=file_name,
            sha256=None,
            address=ADDRESS,
            member=f"CBTest/data/{file_name}",
            archive_sha256=ARCHIVE_SHA256,
        ),
        read=read_questions,
        n_questions=ITEMS[split],
        manner=f"{split} split, de-tokenized, candidate and rest of the sentence",
        rules={
            "accuracy": Rule(
                compared=total_nats,
                description="the answer and the rest of its sentence are likelier than with any other candidate",
            )
        },
        paper_scores={"accuracy": paper_accuracies} if paper_accuracies else {},
        on_request=split == "test",
    ).benchmark()


CBT_CN = make_benchmark(
    "cbt-cn",
    "CN",
    split="valid",
    words="common nouns",
    paper_accuracies={"117M": 0.8765, "345M": 0.9235, "762M": 0.9345, "1542M": 0.9330},
)
CBT_NE = make_benchmark(
    "cbt-ne",
    "NE",
    split="valid",
    words="named entities",
    paper_accuracies={"117M": 0.834, "345M": 0.871, "762M": 0.880, "1542M": 0.8905},
)
CBT_CN_TEST = make_benchmark("cbt-cn-test", "CN", split="test", words="common nouns")
CBT_NE_TEST = make_benchmark("cbt-ne-test", "NE", split="test", words="named entities")
