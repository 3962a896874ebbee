"""`evaluate` leaves the model as it was, and refuses before it scores."""

from pathlib import Path

import pytest
import torch
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.protocol import Protocol
from ladder.platform.evaluation.registry import BENCHMARKS, find_benchmarks


def test_mode_gradients_and_weights_are_as_before(byte_gpt2: GPT2, small_corpus: Corpus) -> None:
    byte_gpt2.train()
    byte_gpt2.h[1].eval()
    byte_gpt2.hidden(torch.zeros(1, 3, dtype=torch.long)).sum().backward()
    before = {name: (p.clone(), p.grad.clone()) for name, p in byte_gpt2.named_parameters() if p.grad is not None}
    modes = [module.training for module in byte_gpt2.modules()]
    evaluate(
        byte_gpt2, load_tokenizer("bytes"), ["heldout", "pages-cloze"], storage=UPath("nowhere"), corpus=small_corpus,
        precision="bf16", protocol=Protocol(heldout_tokens=500),
    )  # fmt: skip
    assert [module.training for module in byte_gpt2.modules()] == modes
    for name, parameter in byte_gpt2.named_parameters():
        if name in before:
            assert torch.equal(parameter, before[name][0])
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, before[name][1])
    byte_gpt2.hidden(torch.zeros(1, 3, dtype=torch.long)).sum().backward()  # no tensor of inference mode is left in it


def test_nothing_is_scored_where_one_benchmark_has_no_data(
    byte_gpt2: GPT2, small_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_gpt2, "hidden", lambda *_: pytest.fail("scoring began"))
    options = {"storage": UPath(tmp_path), "corpus": small_corpus}
    with pytest.raises(InputError, match="ladder fetch lambada`"):
        evaluate(byte_gpt2, load_tokenizer("bytes"), ["heldout", "lambada"], **options)
    with pytest.raises(InputError, match="name a corpus with --heldout-corpus"):
        evaluate(byte_gpt2, load_tokenizer("bytes"), ["pages-words"], storage=UPath(tmp_path))
    with pytest.raises(InputError, match="unknown benchmark lambda .did you mean lambada or lm1b..: known are heldout"):
        evaluate(byte_gpt2, load_tokenizer("bytes"), ["lambda"], **options)
    with pytest.raises(InputError, match="heldout_tokens is 0"):
        Protocol(heldout_tokens=0)


def test_a_tokenizer_that_is_not_the_models_is_refused(
    byte_gpt2: GPT2, small_corpus: Corpus, gpt2_vocabulary: None, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="50257 tokens and the model only 257 classes"):
        evaluate(byte_gpt2, load_tokenizer("gpt2"), ["heldout"], storage=UPath(tmp_path), corpus=small_corpus)
    with pytest.raises(InputError, match="made by bytes, and the model's tokenizer is gpt2"):
        BENCHMARKS["heldout"].check(storage=UPath(tmp_path), corpus=small_corpus, tokenizer=load_tokenizer("gpt2"))


def test_benchmarks_are_found_once_each_and_in_order() -> None:
    assert [b.name for b in find_benchmarks(["lambada", "heldout", "lambada"])] == ["lambada", "heldout"]
    assert find_benchmarks([]) == []
