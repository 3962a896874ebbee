"""Generation: neither the cache nor the company changes a text, and each way of drawing keeps its promise."""

import copy
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import transformers

from ladder.models.cache import position_bytes
from ladder.models.errors import InputError
from ladder.models.generation import GREEDY, Sampling, draw, generate
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.weights import save_weights

SIZE = parse_size("2x64h2", context=24, vocabulary=60)

RAGGED = [[(7 * i + 3 * n) % SIZE.vocabulary for i in range(n)] for n in (5, 1, 20, 3, 24, 12, 50, 5, 23, 2, 17)]
"""Prompts of many lengths: of one token, of the context, of one less and of more."""

WAYS = (GREEDY, Sampling(), Sampling(temperature=0.8, top_k=5), Sampling(top_p=0.7), Sampling(top_k=7, top_p=0.9))


@pytest.fixture(scope="module")
def model() -> GPT2:
    """Weights ten times as wide as at the start, so that some tokens are far likelier than others."""
    model = GPT2(SIZE, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.dim() == 2 else 1)
    return model


@torch.no_grad()
def recompute(
    model: GPT2, prompt: Sequence[int], *, n_tokens: int, sampling: Sampling, seed: int
) -> tuple[list[int], float]:
    """The same draws with a full pass over the last `context` tokens each time, and their -ln p in nats."""
    draws, tokens, nats = random.Random(seed), list(prompt), 0.0
    for _ in range(n_tokens):
        logits = model(torch.tensor([tokens[-SIZE.context :]]))[0, -1:]
        uniforms = [draws.random()] if sampling.temperature else []
        tokens.append(int(draw(logits, sampling, uniforms)))
        nats -= logits[0].log_softmax(0)[tokens[-1]].item()
    return tokens[len(prompt) :], nats


def continuations(model: GPT2, prompts: Sequence[Sequence[int]], **options) -> list[list[int]]:
    """The tokens written after each prompt."""
    return [list(continuation.tokens) for continuation in generate(model, prompts, **options)]


@pytest.mark.parametrize("sampling", WAYS, ids=str)
@pytest.mark.parametrize("attention", ["sdpa", "blocked", "reference"])
def test_a_ragged_batch_has_every_token_that_recomputing_has(model: GPT2, attention: str, sampling: Sampling) -> None:
    twin = GPT2(SIZE, attention=attention)
    twin.load_state_dict(model.state_dict())
    seeds = [7 * index for index in range(len(RAGGED))]
    for n_tokens in (1, 9, 30):  # 30: the cache fills and the text slides
        got = generate(twin, RAGGED, n_tokens=n_tokens, sampling=sampling, seeds=seeds)
        for prompt, seed, continuation in zip(RAGGED, seeds, got, strict=True):
            tokens, nats = recompute(model, prompt, n_tokens=n_tokens, sampling=sampling, seed=seed)
            assert list(continuation.tokens) == tokens
            assert continuation.nats == pytest.approx(nats, rel=1e-4)
            assert not continuation.ended


def test_the_likeliest_tokens_are_those_of_transformers(model: GPT2, tmp_path: Path) -> None:
    save_weights(model, tmp_path, tokenizer=None)
    reference = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    prompts = [prompt for prompt in RAGGED if len(prompt) < 12]
    for prompt, tokens in zip(prompts, continuations(model, prompts, n_tokens=12, sampling=GREEDY), strict=True):
        inputs = torch.tensor([prompt])
        options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        wanted = reference.generate(inputs, attention_mask=torch.ones_like(inputs), **options)
        assert tokens == wanted[0, len(prompt) :].tolist()


@pytest.mark.parametrize("sampling", WAYS, ids=str)
def test_a_prompt_alone_and_in_any_batch_has_the_same_text(model: GPT2, sampling: Sampling) -> None:
    seeds = [index % 3 for index in range(len(RAGGED))]
    together = continuations(model, RAGGED, n_tokens=12, sampling=sampling, seeds=seeds)
    for prompt, seed, tokens in zip(RAGGED, seeds, together, strict=True):
        assert continuations(model, [prompt], n_tokens=12, sampling=sampling, seeds=[seed]) == [tokens]
    backwards = continuations(model, RAGGED[::-1], n_tokens=12, sampling=sampling, seeds=seeds[::-1])
    assert backwards[::-1] == together


def test_rows_that_end_make_way_and_change_nothing(model: GPT2, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [[index, 59 - index] for index in range(40)]
    seeds = list(range(40))
    whole = continuations(model, prompts, n_tokens=15, sampling=Sampling(), seeds=seeds)
    widths: list[int] = []
    hidden = model.hidden
    monkeypatch.setattr(
        model, "hidden", lambda tokens, *place: widths.append(tokens.shape[0]) or hidden(tokens, *place)
    )
    room = 8 * 16 * position_bytes(SIZE, torch.float32)  # eight rows of 16 positions
    stopped = generate(
        model,
        prompts,
        n_tokens=15,
        sampling=Sampling(),
        seeds=seeds,
        stop=lambda tokens: tokens[-1] % 4 == 0,
        cache_bytes=room,
    )
    assert len({len(continuation.tokens) for continuation in stopped}) > 3
    for tokens, continuation in zip(whole, stopped, strict=True):
        ends = [index for index, token in enumerate(tokens) if token % 4 == 0]
        assert list(continuation.tokens) == (tokens[: ends[0] + 1] if ends else tokens)
        assert continuation.ended == bool(ends)
    assert max(widths) <= 8
    assert sum(widths) == sum(len(continuation.tokens) for continuation in stopped)  # no pass over what is done


def test_the_cache_reads_each_token_once(model: GPT2, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    hidden = model.hidden
    monkeypatch.setattr(
        model, "hidden", lambda tokens, place: shapes.append(tuple(tokens.shape)) or hidden(tokens, place)
    )
    generate(model, [[1, 2, 3], [4]], n_tokens=5, sampling=GREEDY)
    assert shapes == [(2, 3), (2, 1), (2, 1), (2, 1), (2, 1)]


def test_what_other_prompts_begin_with_is_read_once(model: GPT2, monkeypatch: pytest.MonkeyPatch) -> None:
    document = [(11 * i) % SIZE.vocabulary for i in range(20)]
    prompts = [document[:n] for n in (9, 20, 14, 9)] + [[5], [5, 6]]
    sampling, seeds = Sampling(temperature=2), list(range(6))
    pairs = zip(prompts, seeds, strict=True)
    wanted = [continuations(model, [p], n_tokens=4, sampling=sampling, seeds=[s])[0] for p, s in pairs]
    assert wanted[0] != wanted[3]  # the same prompt with another seed
    read: list[int] = []
    hidden = model.hidden
    monkeypatch.setattr(
        model, "hidden", lambda tokens, place: read.append(tokens.shape[1] > 1) or hidden(tokens, place)
    )
    for cache_bytes in (None, 2 * 23 * position_bytes(SIZE, torch.float32)):  # at once, and two rows at a time
        read.clear()
        options = {"n_tokens": 4, "sampling": sampling, "seeds": seeds, "cache_bytes": cache_bytes}
        assert continuations(model, prompts, **options) == wanted
        assert sum(read) == (2 if cache_bytes is None else 3)


def test_a_text_longer_than_the_bound_on_the_cache_is_written_alone(model: GPT2) -> None:
    prompts = [[1, 2], [3], [4, 5, 6]]
    wanted = continuations(model, prompts, n_tokens=6, sampling=GREEDY)
    assert continuations(model, prompts, n_tokens=6, sampling=GREEDY, cache_bytes=1) == wanted


def test_a_seed_repeats_its_text_and_another_does_not(model: GPT2) -> None:
    texts = continuations(model, [[1]] * 3, n_tokens=20, sampling=Sampling(temperature=2.0), seeds=["a", "a", "b"])
    assert texts[0] == texts[1] != texts[2]


def test_top_k_of_one_a_tiny_top_p_and_a_tiny_temperature_are_greedy(model: GPT2) -> None:
    greedy = continuations(model, [[1, 2]], n_tokens=15, sampling=GREEDY)
    for sampling in (Sampling(top_k=1), Sampling(top_p=1e-6), Sampling(temperature=1e-300)):
        assert continuations(model, [[1, 2]], n_tokens=15, sampling=sampling, seeds=[0]) == greedy


def test_draws_have_the_probabilities_of_the_tokens_kept() -> None:
    logits = torch.tensor([0.5, 0.05, 0.3, 0.15]).log()
    uniforms = [(index + 0.5) / 1000 for index in range(1000)]
    for sampling, wanted in (
        (Sampling(), [500, 50, 300, 150]),
        (Sampling(top_k=2), [625, 0, 375, 0]),
        (Sampling(top_p=0.6), [625, 0, 375, 0]),
        (Sampling(top_k=3, top_p=0.9), [526, 0, 316, 158]),  # top_p counts among the three: .526, .842, then over .9
        (Sampling(temperature=0.5), [685, 7, 247, 62]),
    ):
        drawn = draw(logits.expand(1000, 4), sampling, uniforms)
        counts = torch.bincount(drawn, minlength=4).tolist()
        assert counts == pytest.approx(wanted, abs=1)


def test_top_p_among_many_tokens_keeps_the_fewest_that_reach_it() -> None:
    logits = torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    logits[0] *= 6  # reached by a few tokens, the others by thousands
    uniforms = [(index + 0.5) / 200 for index in range(200)]
    for row in logits:
        order = row.argsort(descending=True)
        sums = row.softmax(0)[order].cumsum(0, dtype=torch.float64)
        nucleus = set(order[: int((sums < 0.8).sum()) + 1].tolist())
        alone = draw(row.expand(200, -1), Sampling(top_p=0.8), uniforms)
        assert set(alone.tolist()) <= nucleus
        assert len(set(alone.tolist())) > min(len(nucleus), 200) // 4
        in_company = draw(torch.cat([row.expand(200, -1), logits]), Sampling(top_p=0.8), [*uniforms, 0.1, 0.2, 0.3])
        assert alone.tolist() == in_company[:200].tolist()


def test_the_largest_uniform_number_draws_no_token_that_was_cut() -> None:
    logits = torch.linspace(3, -3, 50).expand(2, 50)
    for sampling in (Sampling(top_p=0.5), Sampling(top_k=4)):
        kept = set(draw(logits[:1].expand(999, 50), sampling, [i / 999 for i in range(999)]).tolist())
        assert int(draw(logits, sampling, [math.nextafter(1, 0), 0.0])[0]) == max(kept)


def test_the_end_token_ends_it_and_is_kept_out(model: GPT2) -> None:
    whole = continuations(model, [[1, 2]], n_tokens=12, sampling=GREEDY)[0]
    end = whole[4]
    (ended,) = generate(model, [[1, 2]], n_tokens=12, sampling=GREEDY, end_token=end)
    assert list(ended.tokens) == whole[: whole.index(end)]
    assert ended.ended
    _, nats = recompute(model, [1, 2], n_tokens=whole.index(end) + 1, sampling=GREEDY, seed=0)
    assert ended.nats == pytest.approx(nats, rel=1e-4)  # the end's own probability is counted


def test_tokens_are_told_as_they_are_written(model: GPT2) -> None:
    told: list[int] = []
    (written,) = generate(model, [[1]], n_tokens=6, sampling=GREEDY, on_token=told.append)
    assert told == list(written.tokens)


def test_under_autocast_the_cache_is_bf16_and_texts_are_written(model: GPT2) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        written = continuations(model, RAGGED, n_tokens=8, sampling=GREEDY)
    assert all(len(tokens) == 8 for tokens in written)


def test_under_autocast_what_is_written_does_not_depend_on_where_the_logits_lie(model: GPT2) -> None:
    """All logits moved by -110, as GPT-2's lie: the final norm gives a constant and each class's row reads it."""
    far = copy.deepcopy(model)
    with torch.no_grad():
        far.ln_f.weight[0], far.ln_f.bias[0] = 0.0, 4.0
        near = copy.deepcopy(far)
        far.wte.weight[:, 0] -= 110 / 4
        # The blocks read the embedding as well: they get the same input as before.
        far.wpe.weight[:, 0] += 110 / 4
    asked = {"n_tokens": 12, "sampling": GREEDY, "seeds": None}
    prompts = [row for row in RAGGED if len(row) < 10]
    exact = generate(far, prompts, **asked)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, wanted = generate(far, prompts, **asked), generate(near, prompts, **asked)
    assert [row.tokens for row in rounded] == [row.tokens for row in wanted]
    assert sum(row.nats for row in rounded) == pytest.approx(sum(row.nats for row in wanted), rel=1e-3)
    in_fp32 = generate(near, prompts, **asked)
    assert sum(row.nats for row in exact) == pytest.approx(sum(row.nats for row in in_fp32), rel=1e-5)


def test_nothing_asked_for_is_nothing(model: GPT2) -> None:
    assert continuations(model, [[1]], n_tokens=0, sampling=GREEDY) == [[]]
    assert generate(model, [], n_tokens=3, sampling=GREEDY) == []


def test_a_broken_model_is_said_to_be_broken() -> None:
    broken = GPT2(SIZE, seed=1)
    with torch.no_grad():
        broken.ln_f.weight.fill_(float("nan"))
    for sampling in (GREEDY, Sampling()):
        with pytest.raises(InputError, match="not finite"):
            generate(broken, [[1]], n_tokens=1, sampling=sampling, seeds=[0])


@pytest.mark.parametrize(
    ("prompt", "n_tokens", "said"),
    [
        ([], 1, "no tokens"),
        ([60], 1, "from 60 to 60 and the model a vocabulary of 60"),
        ([-1], 1, "from -1"),
        ([1], -1, "n_tokens is -1; wanted 0 or more"),
    ],
)
def test_what_cannot_be_generated_is_refused(model: GPT2, prompt: list[int], n_tokens: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        generate(model, [[1], prompt], n_tokens=n_tokens, sampling=GREEDY)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -0.5}, "temperature is -0.5"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0; wanted 1 or more"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_a_sampling_that_chooses_nothing_is_refused(options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Sampling(**options)
