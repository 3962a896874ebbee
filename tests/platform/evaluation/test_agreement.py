"""The same checkpoint and text scored by lm-evaluation-harness and by transformers alone give the same numbers."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import GPT2LMHeadModel
from upath import UPath

from bench.harness import choice_task, last_word_task, open_peer, rolling_task, run_peer, wikitext_task
from ladder.models.gpt2 import GPT2
from ladder.models.loss import next_token_nats
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.models.weights import load_weights, save_weights
from ladder.platform.evaluation.benchmark import Setting
from ladder.platform.evaluation.benchmarks.gpt2.lambada import LAMBADA
from ladder.platform.evaluation.benchmarks.gpt2.wikitext2_raw import WIKITEXT2_RAW, read_pages
from ladder.platform.evaluation.evaluate import make_setting, measure
from ladder.platform.evaluation.kinds.choice import Choice, Question, score_choices, total_nats
from ladder.platform.evaluation.protocol import Protocol

PASSAGES = 32
CONTEXT = 1024
END_OF_TEXT = 50256


@pytest.fixture(scope="module")
def texts(shared: Path) -> list[str]:
    """The ends of the first passages of LAMBADA."""
    lines = (shared / "benchmarks" / "lambada" / LAMBADA.files[0].name).read_text().splitlines()
    return [" ".join(json.loads(line)["text"].split(" ")[-16:]) for line in lines[:PASSAGES]]


@pytest.fixture(scope="module", autouse=True)
def vocabulary(shared: Path) -> Iterator[None]:
    """`gpt2_vocabulary` for the whole module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(shared / "tiktoken"))
        yield


@pytest.fixture(scope="module", params=["random", "trained"])
def checkpoint(
    request: pytest.FixtureRequest, texts: list[str], vocabulary: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A small GPT-2 as it starts, and one that has learned a dozen of the passages by heart."""
    torch.set_num_threads(1)
    model = GPT2(parse_size("2x64"), seed=0)
    if request.param == "trained":
        learn(model, texts[:12])
    folder = tmp_path_factory.mktemp(request.param)
    save_weights(model, folder, tokenizer="gpt2")
    return folder


def learn(model: GPT2, texts: list[str]) -> None:
    """Trains on the texts until their last words are known."""
    rows = load_tokenizer("gpt2").encode_batch(texts)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        for row in rows:
            tokens = torch.tensor([row])
            nats = next_token_nats(model.hidden(tokens[:, :-1]), model.wte.weight, tokens[:, 1:])
            (nats / len(rows)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def open_setting(checkpoint: Path, storage: Path) -> Setting:
    return make_setting(
        load_weights(str(checkpoint)).eval(),
        load_tokenizer("gpt2"),
        storage=UPath(storage),
        corpus=None,
        device="cpu",
        precision="fp32",
        protocol=Protocol(),
    )


def test_lambada_is_the_harness_number_to_four_digits(checkpoint: Path, texts: list[str], tmp_path: Path) -> None:
    file = tmp_path / "benchmarks" / "lambada" / LAMBADA.files[0].name
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    ours = {m.metric: m.value for m in measure(LAMBADA, open_setting(checkpoint, tmp_path))}
    theirs = run_peer(open_peer(checkpoint, dtype=torch.float32, batch_size=4), last_word_task(texts))
    assert ours["perplexity"] == pytest.approx(theirs["perplexity"], rel=5e-5)
    assert ours["accuracy"] == pytest.approx(theirs["acc"], abs=1e-9)
    assert (ours["accuracy"] > 0.2) == ("trained" in checkpoint.name)


def test_wikitext2_is_the_nats_of_transformers_to_six_digits(checkpoint: Path, shared: Path, tmp_path: Path) -> None:
    setting = open_setting(checkpoint, tmp_path)
    text = read_wikitext2(shared)
    tokens = setting.tokenizer.encode(text)
    ours = setting.scorer.rolling([tokens])[0].sum(dtype=np.float64)
    model = GPT2LMHeadModel.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        theirs = [exact_nats(model(inputs[None]).logits[0], targets) for inputs, targets in cut_windows(tokens)]
    assert ours == pytest.approx(sum(theirs), rel=1e-6)


def test_wikitext2_is_the_nats_of_the_harness_within_the_rounding_of_its_sum(
    checkpoint: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = open_setting(checkpoint, tmp_path)
    text = read_wikitext2(shared)
    windows = cut_windows(setting.tokenizer.encode(text))
    ours = setting.scorer.rolling([setting.tokenizer.encode(text)])[0].sum(dtype=np.float64)
    peer = open_peer(checkpoint, dtype=torch.float32, batch_size=1)
    exact = []
    answer = peer._model_call

    def watch(inputs: torch.Tensor) -> torch.Tensor:
        """The peer's own logits, whose nats are also summed in float64."""
        logits = answer(inputs)
        (targets,) = [targets for window, targets in windows if torch.equal(window, inputs[0])]
        exact.append(exact_nats(logits[0], targets))
        return logits

    monkeypatch.setattr(peer, "_model_call", watch)
    theirs = run_peer(peer, rolling_task(text))
    assert len(exact) == len(windows)
    assert ours == pytest.approx(sum(exact), rel=1e-6)
    # The harness adds the nats of a window in fp32, in an order that the processor's vector width decides. All are of
    # one sign, so in any order each term meets at most CONTEXT - 1 roundings (Higham 2002, section 4.2), of half a unit
    # of 2^-23 each; one more is that of the term itself.
    assert np.log(theirs["byte_perplexity"]) * len(text.encode()) == pytest.approx(sum(exact), rel=CONTEXT * 2**-24)


def test_wikitext_of_the_harness_is_its_number_to_five_digits(checkpoint: Path, shared: Path, tmp_path: Path) -> None:
    """Pages of two windows and a part, in which the last one reaches back, and pages shorter than a window."""
    lines = (shared / "benchmarks" / "wikitext2" / "wiki.test.tokens").read_text().split("\n")
    starts = [index for index, line in enumerate(lines) if line.startswith(" = ") and not line.startswith(" = = ")]
    pages = ["\n".join(lines[start:][:length]) for start, length in zip(starts, (20, 4, 6), strict=False)]
    pages[1] += " The 's ( or [ a ] { b } ' c ' \" d \" e ) ; 1 @,@ 5 @.@ 2 @-@ 3 \u00b0 N : f ? g ! , h . \n"
    pages[2] += "\n"
    file = tmp_path / "benchmarks" / "wikitext2-raw" / "wiki.test.raw"
    file.parent.mkdir(parents=True)
    file.write_text(" \n" + "\n".join(pages))
    setting = open_setting(checkpoint, tmp_path)
    assert read_pages(UPath(file)) == pages
    assert max(len(setting.tokenizer.encode(page)) for page in pages) > 1.2 * CONTEXT
    ours = {m.metric: m.value for m in measure(WIKITEXT2_RAW, setting)}
    theirs = run_peer(open_peer(checkpoint, dtype=torch.float32, batch_size=1), wikitext_task(pages))
    assert set(ours) == {"word_perplexity", "byte_perplexity", "bits_per_byte"}
    for metric, value in ours.items():
        assert value == pytest.approx(theirs[metric], rel=1e-5)


def read_wikitext2(shared: Path) -> str:
    """The beginning of the test text, two windows long: the harness would cut a last, shorter one in its own way."""
    text = (shared / "benchmarks" / "wikitext2" / "wiki.test.tokens").read_text()[:20_000]
    tokenizer = load_tokenizer("gpt2")
    text = tokenizer.decode(tokenizer.encode(text)[: 2 * CONTEXT])
    assert len(tokenizer.encode(text)) == 2 * CONTEXT
    return text


def cut_windows(tokens: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs and targets of each window: every token once, each after the token before it."""
    stream = torch.tensor([END_OF_TEXT, *tokens])
    starts = range(0, len(tokens), CONTEXT)
    return [(stream[start : start + CONTEXT], stream[start + 1 : start + 1 + CONTEXT]) for start in starts]


def exact_nats(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Nats of the targets, with every step after the logits in float64."""
    return F.cross_entropy(logits.double(), targets, reduction="sum").item()


def test_multiple_choice_takes_the_choices_that_the_harness_takes(
    checkpoint: Path, texts: list[str], tmp_path: Path
) -> None:
    words = [text.rpartition(" ")[2] for text in texts]
    questions = [
        Question(
            context=text.rpartition(" ")[0],
            choices=tuple(Choice(text=" " + word, rest=" again.") for word in words[index : index + 4]),
            answer=0,
        )
        for index, text in enumerate(texts[: PASSAGES - 4])
    ]
    scored = score_choices(open_setting(checkpoint, tmp_path), questions)
    hits = [min(range(4), key=lambda i: total_nats(options[i])) == 0 for options in scored]  # noqa: B023
    documents = [
        {"context": q.context, "choices": [c.text + c.rest for c in q.choices], "answer": 0} for q in questions
    ]
    theirs = run_peer(open_peer(checkpoint, dtype=torch.float32, batch_size=4), choice_task(documents))
    assert np.mean(hits) == pytest.approx(theirs["acc"], abs=1e-9)
