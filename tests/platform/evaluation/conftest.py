"""A model with known probabilities, a small random GPT-2, and a small corpus of bytes."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from upath import UPath

from ladder.models.gpt2 import GPT2
from ladder.models.sizes import Size, parse_size
from ladder.platform.corpus.build import build_corpus
from ladder.platform.corpus.store import Corpus


class Bigram(nn.Module):
    """p(next | token) is a table: the hidden state is the row of ln p and the head the identity."""

    def __init__(self, probabilities: Tensor, *, context: int) -> None:
        super().__init__()
        classes = probabilities.shape[0]
        self.size = Size(name="fake", n_layer=1, d_model=classes, n_head=1, context=context, vocabulary=classes)
        self.log_probabilities = probabilities.log()
        self.wte = nn.Embedding.from_pretrained(torch.eye(classes), freeze=False)
        self.seen = 0
        self.longest = 0

    def hidden(self, tokens: Tensor) -> Tensor:
        self.seen += tokens.numel()
        self.longest = max(self.longest, tokens.shape[1])
        return self.log_probabilities[tokens]


@pytest.fixture
def bigram() -> Callable[..., Bigram]:
    """Makes a model of random known probabilities."""

    def make(*, classes: int, context: int, seed: int = 0) -> Bigram:
        scores = torch.randn(classes, classes, generator=torch.Generator().manual_seed(seed))
        return Bigram(scores.softmax(1), context=context)

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny_gpt2() -> GPT2:
    """A GPT-2 of 64 classes and context 16, with weights ten times larger than at the start, so that scores differ."""
    model = GPT2(parse_size("2x32h2", context=16, vocabulary=64), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 if parameter.ndim == 1 else 10)
    return model


@pytest.fixture
def byte_gpt2() -> GPT2:
    """A GPT-2 of bytes with context 64."""
    return GPT2(parse_size("2x32h2", context=64, vocabulary=257), seed=1)


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus of bytes whose pages repeat words of six letters, so that the length of a word tells nothing."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(0)
    documents = []
    for _ in range(30):
        words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(30)]
        sentences = [" ".join(draw.choices(words, k=10)) + "." for _ in range(30)]
        documents.append({"text": " ".join(sentences)})
    source = Path(folder / "pages.jsonl")
    source.write_text("".join(json.dumps(document) + "\n" for document in documents))
    storage = UPath(folder / "storage")
    return build_corpus(storage, "pages", [source], tokenizer="bytes", heldout=0.5, workers=1, progress=False)
