"""Small labelled tasks in the form of the published files, and small checkpoints of bytes."""

import random
from pathlib import Path

import pytest
import torch

from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.weights import save_weights

GOOD = ("splendid", "moving", "clever")
BAD = ("dreary", "clumsy", "hollow")
WORDS = ("the", "film", "story", "cast", "scene", "end", "of", "a", "with", "and")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def phrases(n: int, *, seed: int, shuffled: bool = False) -> list[tuple[str, int]]:
    """Phrases with one word that tells the label; with shuffled labels it tells nothing."""
    draw = random.Random(seed)
    made = []
    for number in range(n):
        label = number % 2
        words = draw.choices(WORDS, k=3)
        words.insert(draw.randrange(4), draw.choice((BAD, GOOD)[label]))
        made.append((" ".join(words), draw.randrange(2) if shuffled else label))
    return made


def write_sst2(data: Path, *, train: int, dev: int, shuffled: bool = False) -> Path:
    """The folder SST-2 in `data`, with phrases in the form of GLUE's files."""
    folder = data / "SST-2"
    folder.mkdir(parents=True, exist_ok=True)
    for name, n, seed in (("train", train, 0), ("dev", dev, 1)):
        rows = [f"{text} \t{label}\n" for text, label in phrases(n, seed=seed, shuffled=shuffled)]
        (folder / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(rows))
    return data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of tasks with a small SST-2."""
    return write_sst2(tmp_path / "data", train=96, dev=40)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of bytes, 2x32 with a context of 48, as it is drawn."""
    folder = tmp_path / "checkpoint"
    save_weights(GPT2(parse_size("2x32h2", context=48, vocabulary=257), seed=7), folder, tokenizer="bytes")
    return folder
