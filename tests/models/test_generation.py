"""Generation: the cache changes nothing but the time, and each way of drawing keeps its promise."""

import pytest
import torch
from torch.nn import functional as F

from ladder.models.errors import InputError
from ladder.models.generation import generate
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size

SIZE = parse_size("2x64h2", context=24, vocabulary=60)


@pytest.fixture(scope="module")
def model() -> GPT2:
    """Weights ten times as wide as at the start, so that some tokens are far likelier than others."""
    model = GPT2(SIZE, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.dim() == 2 else 1)
    return model


@torch.no_grad()
def recompute(model: GPT2, prompt: list[int], *, n_tokens: int, temperature: float, seed: int) -> list[int]:
    """The same draws with a full pass over the last `context` tokens each time."""
    generator, tokens = torch.Generator().manual_seed(seed), list(prompt)
    for _ in range(n_tokens):
        logits = model(torch.tensor([tokens[-SIZE.context :]]))[0, -1]
        if temperature == 0:
            tokens.append(int(logits.argmax()))
        else:
            ordered, order = (logits / temperature).sort(descending=True, stable=True)
            tokens.append(int(order[torch.multinomial(F.softmax(ordered, 0), 1, generator=generator)]))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("temperature", [0, 0.8])
@pytest.mark.parametrize(("n_prompt", "n_tokens"), [(1, 10), (5, 19), (20, 12), (24, 3), (50, 8)])
@pytest.mark.parametrize("attention", ["sdpa", "blocked", "reference"])
def test_with_the_cache_every_token_is_that_of_recomputing(
    model: GPT2, attention: str, n_prompt: int, n_tokens: int, temperature: float
) -> None:
    twin = GPT2(SIZE, attention=attention)
    twin.load_state_dict(model.state_dict())
    prompt = [(7 * i) % SIZE.vocabulary for i in range(n_prompt)]
    got = generate(twin, prompt, n_tokens=n_tokens, temperature=temperature, seed=3)
    assert got == recompute(model, prompt, n_tokens=n_tokens, temperature=temperature, seed=3)
    assert len(got) == n_tokens


def test_the_cache_reads_each_token_once(model: GPT2, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    hidden = model.hidden
    monkeypatch.setattr(model, "hidden", lambda tokens, cache: lengths.append(tokens.shape[1]) or hidden(tokens, cache))
    generate(model, [1, 2, 3], n_tokens=5)
    assert lengths == [3, 1, 1, 1, 1]


def test_a_seed_repeats_its_text_and_another_does_not(model: GPT2) -> None:
    texts = [generate(model, [1], n_tokens=20, temperature=2.0, seed=seed) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_top_k_of_one_and_a_tiny_top_p_are_greedy(model: GPT2) -> None:
    greedy = generate(model, [1, 2], n_tokens=15, temperature=0)
    assert generate(model, [1, 2], n_tokens=15, top_k=1) == greedy
    assert generate(model, [1, 2], n_tokens=15, top_p=1e-6) == greedy


@torch.no_grad()
def test_draws_keep_to_the_top_k_and_the_top_p_tokens(model: GPT2) -> None:
    probabilities = model(torch.tensor([[5]]))[0, -1].softmax(0)
    order = probabilities.argsort(descending=True)
    nucleus = order[: int((probabilities[order].cumsum(0) < 0.7).sum()) + 1].tolist()
    assert 1 < len(nucleus) < SIZE.vocabulary
    by_p = {generate(model, [5], n_tokens=1, top_p=0.7, seed=seed)[0] for seed in range(60)}
    by_k = {generate(model, [5], n_tokens=1, top_k=3, seed=seed)[0] for seed in range(60)}
    assert by_p <= set(nucleus) and len(by_p) > 1
    assert by_k <= set(order[:3].tolist()) and len(by_k) > 1


def test_the_end_of_text_ends_it_and_is_kept_out(model: GPT2) -> None:
    whole = generate(model, [1, 2], n_tokens=12, temperature=0)
    end = whole[4]
    assert generate(model, [1, 2], n_tokens=12, temperature=0, end_of_text=end) == whole[: whole.index(end)]


def test_nothing_asked_for_is_nothing(model: GPT2) -> None:
    assert generate(model, [1], n_tokens=0) == []


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        ([], {}, "no tokens"),
        ([60], {}, "from 60 to 60 and the model a vocabulary of 60"),
        ([-1], {}, "from -1"),
        ([1], {"n_tokens": -1}, "n_tokens is -1; wanted 0 or more"),
        ([1], {"temperature": -0.5}, "temperature is -0.5"),
        ([1], {"temperature": float("nan")}, "temperature is nan"),
        ([1], {"top_k": 0}, "top_k is 0; wanted 1 or more"),
        ([1], {"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_what_cannot_be_generated_is_refused(model: GPT2, prompt: list[int], options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        generate(model, prompt, **{"n_tokens": 1, **options})
