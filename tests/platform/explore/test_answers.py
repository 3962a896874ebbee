"""What the page shows equals the model's own numbers."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.models.weights import load_weights
from ladder.platform.explore import answers
from ladder.platform.explore.endings import continued
from ladder.platform.explore.reading import MOST_CHARACTERS, read, tokenize, write
from ladder.platform.explore.shelf import Opened, Shelf

LONG = "a long prompt " * 30
TEXTS = ["", "The animal didn't cross", "emoji \U0001f600 and \u00e9", LONG, "a\x00\x07\ud800b", "half \udcc3"]


def opened_model(tokenizer: str) -> Opened:
    words = load_tokenizer(tokenizer)
    model = GPT2(parse_size("2x32h2", context=64, vocabulary=words.vocabulary), attention="blocked").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return Opened(model=model.requires_grad_(False), tokenizer=words)


@pytest.fixture(params=["bytes", "gpt2"])
def opened(request: pytest.FixtureRequest) -> Opened:
    if request.param == "gpt2":
        request.getfixturevalue("gpt2_vocabulary")
    return opened_model(request.param)


def softmax_after(opened: Opened, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return opened.model(torch.tensor([tokens]))[0, -1].double().softmax(-1)


def plain_tokens(opened: Opened, text: str) -> list[int]:
    """The tokens by the tokenizer alone; texts with halves of characters are bytes."""
    raw = text.encode("utf-8", "surrogateescape") if "\udcc3" in text else text.replace("\ud800", "\ufffd").encode()
    if opened.tokenizer.name == "bytes":
        tokens = list(raw)
    elif "\udcc3" in text:
        tokens = [*opened.tokenizer.encode("half "), opened.tokenizer.encoding.encode_single_token(b"\xc3")]
    else:
        tokens = opened.tokenizer.encode(raw.decode())
    return (tokens or [opened.tokenizer.end_of_text])[-opened.model.size.context :]


@pytest.mark.parametrize("text", TEXTS)
def test_percentages_equal_softmax_of_the_logits(opened: Opened, text: str) -> None:
    answer = answers.next_token(opened, text, top_k=20)
    right = softmax_after(opened, plain_tokens(opened, text))
    likeliest = right.topk(20)
    assert [option["p"] for option in answer["options"]] == pytest.approx(likeliest.values.tolist(), abs=1e-5)
    assert {option["token"]: option["p"] for option in answer["options"]} == {
        option["token"]: pytest.approx(float(right[option["token"]]), abs=1e-5) for option in answer["options"]
    }
    rung = answers.rung(opened, text, (" wide", ""))
    assert rung["top"]["p"] == pytest.approx(float(likeliest.values[0]), abs=1e-5)
    assert rung["candidates"][1] is None


def test_a_long_text_is_cut_on_the_left_and_says_so(opened: Opened) -> None:
    text = "a long prompt " * 30
    answer = answers.next_token(opened, text)
    n_tokens = len(opened.tokenizer.encode(text))
    assert answer["cut"] == n_tokens - 64 > 0 and len(answer["read"]) == 64 and not answer["started"]
    assert text.endswith("".join(answer["read"]))
    assert answers.rung(opened, text, ())["cut"] == answer["cut"]


@pytest.mark.parametrize("text", ["", "because it was too"])
def test_the_probability_of_a_candidate_is_that_of_its_tokens_in_turn(opened: Opened, text: str) -> None:
    word = " tired and"
    tokens, log_p = plain_tokens(opened, text), 0.0
    for token in opened.tokenizer.encode(word):
        log_p += math.log(float(softmax_after(opened, tokens)[token]))
        tokens = [*tokens, token]
    own = answers.next_token(opened, text, own=word)["own"]
    assert own["p"] == pytest.approx(math.exp(log_p), rel=1e-4)
    assert answers.rung(opened, text, (" x", word))["candidates"][1] == pytest.approx(math.exp(log_p), rel=1e-4)
    assert math.prod(token["p"] for token in own["tokens"]) == pytest.approx(own["p"], rel=1e-6)


def test_a_text_makes_room_for_its_candidate(opened: Opened) -> None:
    """One pass over the end of the text and the candidate, at the positions that they then have."""
    text, word = "a long prompt " * 30, " tired and"
    tokens, wanted = opened.tokenizer.encode(text), opened.tokenizer.encode(word)
    with torch.no_grad():
        log_p = opened.model(torch.tensor([[*tokens, *wanted[:-1]][-64:]]))[0, -len(wanted) :].log_softmax(-1)
    right = math.exp(sum(float(row[token]) for row, token in zip(log_p, wanted, strict=True)))
    assert answers.rung(opened, text, (word,))["candidates"] == [pytest.approx(right, rel=1e-4)]


def test_temperature_divides_the_logits(opened: Opened) -> None:
    with torch.no_grad():
        logits = opened.model(torch.tensor([plain_tokens(opened, "it was")]))[0, -1].double()
    for temperature in (0.5, 3.0):
        found = answers.next_token(opened, "it was", temperature=temperature)["options"]
        right = (logits / temperature).softmax(-1).topk(10).values
        assert [option["p"] for option in found] == pytest.approx(right.tolist(), abs=1e-5)
    assert answers.next_token(opened, "it was", temperature=0)["options"][0]["p"] == 1.0


@pytest.mark.parametrize("text", ["", "a", "The animal didn't", "x " * 100])
def test_surprise_is_minus_log2_p_of_each_token(opened: Opened, text: str) -> None:
    answer = answers.surprise(opened, text)
    tokens = [opened.tokenizer.end_of_text, *opened.tokenizer.encode(text)]
    kept = tokens[-64:]
    with torch.no_grad():
        log_p = opened.model(torch.tensor([kept]))[0].log_softmax(-1)
    right = [-float(log_p[i, token]) / math.log(2) for i, token in enumerate(kept[1:])]
    if answer["cut"]:
        assert answer["bits"][0] is None and not answer["started"]
    bits = [b for b in answer["bits"] if b is not None]
    assert bits == pytest.approx(right, abs=1e-5) and len(answer["bits"]) == len(answer["read"])
    assert answer["mean_nats"] == (pytest.approx(sum(right) / len(right) * math.log(2), abs=1e-5) if right else None)


def test_attention_equals_the_plain_implementation(opened: Opened) -> None:
    text = "The animal didn't cross"
    tokens = plain_tokens(opened, text)
    probabilities = plain_attention(opened.model, tokens)
    for position in (0, 3, len(tokens) - 1):
        found = torch.tensor(answers.attention(opened, text, position)["weights"])
        right = torch.stack([layer[:, position, : position + 1] for layer in probabilities])
        assert found.shape == right.shape
        torch.testing.assert_close(found, right, atol=1e-5, rtol=0)
    assert answers.attention(opened, text, None)["position"] == len(tokens) - 1


def plain_attention(model: GPT2, tokens: list[int]) -> list[torch.Tensor]:
    """Each layer's probabilities [H, T, T], read off a whole pass at c_attn."""
    seen: list[torch.Tensor] = []
    hooks = [block.attn.c_attn.register_forward_hook(lambda _m, _i, y: seen.append(y[0])) for block in model.h]  # type: ignore[union-attr]
    with torch.no_grad():
        model(torch.tensor([tokens]))
    for hook in hooks:
        hook.remove()
    found = []
    for y in seen:
        q, k, _ = (part.view(len(tokens), model.size.n_head, -1).transpose(0, 1) for part in y.chunk(3, -1))
        scores = (q @ k.transpose(1, 2)) / math.sqrt(q.shape[-1])
        found.append(scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf).softmax(-1))
    return found


def test_the_last_row_of_the_lens_is_the_model_and_each_row_its_own_norm(opened: Opened) -> None:
    text = "because it was too"
    tokens = torch.tensor([plain_tokens(opened, text)])
    layers = answers.lens(opened, text)["layers"]
    assert len(layers) == 1 + opened.model.size.n_layer
    with torch.no_grad():
        right = opened.model(tokens)[0].softmax(-1).max(-1).values
        state = opened.model.wte(tokens) + opened.model.wpe.weight[: tokens.shape[1]]
        normed = (state - state.mean(-1, keepdim=True)) / (state.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        head = (normed * opened.model.ln_f.weight + opened.model.ln_f.bias) @ opened.model.wte.weight.T
    assert [cell["p"] for cell in layers[-1]] == pytest.approx(right.tolist(), abs=1e-5)
    assert [cell["p"] for cell in layers[0]] == pytest.approx(head[0].softmax(-1).max(-1).values.tolist(), abs=1e-5)


def test_strings_to_the_next_space_have_their_probabilities() -> None:
    opened = opened_model("bytes")
    found = continued(opened, "The")
    assert 1 <= len(found) <= 10 and found == sorted(found, key=lambda string: -string["p"])
    for string in found:
        raw = string["text"].encode("utf-8", "surrogateescape")
        assert len(raw) <= 12
        tokens, p = list(b"The"), 1.0
        for byte in raw if raw[-1:].isspace() or not string["ended"] else [*raw, 256]:
            p *= float(softmax_after(opened, tokens)[byte])
            tokens.append(byte)
        assert string["p"] == pytest.approx(p, rel=1e-4)


def test_bytes_that_come_one_by_one_make_a_character() -> None:
    words = load_tokenizer("bytes")
    halves = [write(words, byte) for byte in "\u00e9".encode()]
    assert halves == ["\udcc3", "\udca9"]
    assert tokenize(words, "".join(halves)) == list("\u00e9".encode())
    assert tokenize(words, "\ud800") == list("\ufffd".encode()), "a half that no byte stands for"


def test_a_text_of_a_megabyte_is_refused_with_a_message() -> None:
    with pytest.raises(ValueError, match="1,000,000 characters; wanted at most 20,000"):
        tokenize(load_tokenizer("bytes"), "x" * 1_000_000)
    assert read(load_tokenizer("bytes"), "x" * MOST_CHARACTERS, context=64).cut == MOST_CHARACTERS - 64


def test_the_models_of_a_sweep_answer_as_their_folders_do(shelf: Shelf, swept: Any) -> None:
    name, entry = next(iter(shelf.entries.items()))
    model = load_weights(Path(entry.folder.path))
    with torch.no_grad():
        right = model(torch.tensor([list(b"it was")]))[0, -1].softmax(-1).max()
    found = shelf.compute(name, lambda opened: answers.next_token(opened, "it was"))
    assert found["options"][0]["p"] == pytest.approx(float(right), abs=1e-5)
