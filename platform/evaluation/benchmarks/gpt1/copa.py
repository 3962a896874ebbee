"""COPA (Roemmele et al. 2011): which of two sentences is the cause or the effect of another.

The premise without its full stop, "because" for a cause or "so" for an effect, and the sentence: the ending of the
higher average token log-probability is chosen, as GPT-1's zero-shot heuristics choose. Scored is the test split of 500,
all of it public; SuperGLUE's validation split is 100 of the dev split.
"""

from dataclasses import replace

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.kinds.choice import Choice, Question, mean_nats
from ladder.platform.evaluation.kinds.choice_task import ChoiceTask, Rule
from ladder.platform.evaluation.text.elements import read_elements

ADDRESS = "https://raw.githubusercontent.com/drwiner/COPA/0d59e0efc834004be53ba7569a7793ea8fb13741/datasets/"

FILE = BenchmarkFile(
    name="copa-test.xml",
    sha256="640824681bde78a7592726504d7d9bab294e5de26072d973307fa80d34919d92",
    address=ADDRESS + "copa-test.xml",
)

EXAMPLES = replace(
    FILE,
    name="copa-dev.xml",
    sha256="6251d7d99de4cbc6a2c3323923213e5e73071d286039b97a0908736e2be093bc",
    address=ADDRESS + "copa-dev.xml",
)

CONNECTIVES = {"cause": "because", "effect": "so"}
"""The word between premise and ending, by what is asked for."""


def read_questions(path: UPath) -> list[Question]:
    """The questions of a file; InputError names the line that is wrong."""
    questions = []
    for item in read_elements(path, "item", ("p", "a1", "a2")):
        asked, answer = item.attributes.get("asks-for"), item.attributes.get("most-plausible-alternative")
        if asked not in CONNECTIVES or answer not in ("1", "2"):
            wanted = "wanted asks-for cause or effect and most-plausible-alternative 1 or 2"
            raise InputError(f"{item.where}: {wanted}, got {item.attributes}")
        endings = tuple(Choice(text=" " + begin_small(item.texts[name])) for name in ("a1", "a2"))
        context = f"{item.texts['p'].rstrip('. ')} {CONNECTIVES[asked]}"
        questions.append(Question(context=context, choices=endings, answer=int(answer) - 1))
    return questions


def begin_small(sentence: str) -> str:
    """A sentence as it is written after another word: its first letter small, but for the word I."""
    first = sentence.split()[0]
    return sentence if first.split("'")[0] == "I" else sentence[0].lower() + sentence[1:]


COPA = ChoiceTask(
    name="copa",
    source="Choice of Plausible Alternatives, test split: 500 questions of two endings",
    citation="Roemmele et al. 2011, Choice of plausible alternatives; heuristic: Radford et al. 2018, Improving "
    "language understanding by generative pre-training, section 5",
    file=FILE,
    examples=EXAMPLES,
    examples_split="dev",
    read=read_questions,
    manner='premise, "because" or "so", ending; average token log-probability',
    rules={
        "accuracy": Rule(
            compared=mean_nats, description="the right ending has the higher average log-probability of its tokens"
        )
    },
    version=2,
).benchmark()
