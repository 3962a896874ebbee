"""The scoring pair against known probabilities and against transformers."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.weights import load_weights, save_weights
from ladder.platform.evaluation.scorer import Request, Scorer, bucket, windows


def scorer(model: GPT2, **options: object) -> Scorer:
    return Scorer(model, **{"device": "cpu", "precision": "fp32", "start_token": 0, **options})


def requests_of(seed: int, n: int, classes: int, longest: int) -> list[Request]:
    draw = random.Random(seed)
    token = lambda: draw.randrange(classes)  # noqa: E731
    return [
        Request(
            context=tuple(token() for _ in range(draw.randint(0, longest))),
            continuation=tuple(token() for _ in range(draw.randint(1, 4))),
        )
        for _ in range(n)
    ]


@pytest.mark.parametrize("batch_tokens", [1, 20, 4096])
def test_nats_of_a_continuation_are_those_of_its_table_of_probabilities(
    bigram: Callable[..., GPT2], batch_tokens: int
) -> None:
    model = bigram(classes=12, context=10)
    table = model.log_probabilities
    for request, score in zip(
        (asked := requests_of(0, 40, 12, 20)),
        scorer(model, batch_tokens=batch_tokens).loglikelihood(asked),
        strict=True,
    ):
        before = [(request.context or (0,))[-1], *request.continuation]
        wanted = [-table[a, b].item() for a, b in zip(before, request.continuation, strict=False)]
        assert score.nats == pytest.approx(wanted, abs=1e-5)
        assert score.greedy.tolist() == [
            int(table[a].argmax()) == b for a, b in zip(before, request.continuation, strict=False)
        ]
        assert score.n_cut == max(0, len(request.context) + len(request.continuation) - 11)
    assert model.longest <= 10


@pytest.mark.parametrize("batch_tokens", [24, 4096])
def test_the_next_tokens_probabilities_are_those_of_transformers(
    tiny_gpt2: GPT2, reference: torch.nn.Module, batch_tokens: int
) -> None:
    groups = [((1, 2, 3), [()]), ((4,) * 20, [(5,), (6, 7)]), ((8, 9), [(10, 11, 12), (), (13,)]), ((14,), [(), (15,)])]
    found = dict(scorer(tiny_gpt2, batch_tokens=batch_tokens).next_log_probabilities(groups))
    assert sorted(found) == [0, 1, 2, 3]
    for index, (context, ends) in enumerate(groups):
        kept = context[-(16 - max(map(len, ends))) :]
        for end, log_probabilities in zip(ends, found[index], strict=True):
            with torch.no_grad():
                wanted = reference(torch.tensor([[*kept, *end]])).logits[0, -1].double().log_softmax(-1)
            assert log_probabilities.tolist() == pytest.approx(wanted.tolist(), abs=1e-4)


def test_the_next_tokens_probabilities_of_a_table_are_its_rows(bigram: Callable[..., GPT2]) -> None:
    model = bigram(classes=6, context=8)
    ((index, found),) = scorer(model).next_log_probabilities([((2,), [(), (3,), (4, 5)])])
    assert index == 0
    assert torch.allclose(found, model.log_probabilities[[2, 3, 5]], atol=1e-6)


@pytest.mark.parametrize(
    ("n", "window", "stride"), [(0, 4, 4), (3, 4, 4), (4, 4, 4), (10, 4, 4), (10, 4, 2), (11, 5, 1)]
)
def test_windows_score_every_token_once_and_never_see_more_than_the_window(n: int, window: int, stride: int) -> None:
    seen = list(windows(n, window, stride))
    scored = [token for _, scored_from, end in seen for token in range(scored_from, end)]
    assert scored == list(range(n))
    assert all(0 <= start <= scored_from and end - start <= window for start, scored_from, end in seen)
    assert all(scored_from - start == window - stride for start, scored_from, _ in seen[1:])


@pytest.mark.parametrize(("window", "stride"), [(None, None), (8, 8), (8, 3)])
def test_rolling_nats_equal_the_table_whatever_the_windows(
    bigram: Callable[..., GPT2], window: int | None, stride: int | None
) -> None:
    model = bigram(classes=9, context=10)
    draw = np.random.default_rng(0)
    texts = [draw.integers(0, 9, size=n) for n in (0, 1, 10, 11, 37)]
    for text, nats in zip(texts, scorer(model).rolling(texts, window=window, stride=stride), strict=True):
        before = np.concatenate([[0], text])[: len(text)]
        assert nats == pytest.approx(-model.log_probabilities.numpy()[before, text], abs=1e-5)


def brute_force(reference: torch.nn.Module, tokens: list[int], n_scored: int) -> list[float]:
    """-ln p of the last tokens by transformers, one text at a time."""
    with torch.no_grad():
        logits = reference(torch.tensor([tokens[:-1]])).logits[0].double().log_softmax(-1)
    return [-logits[i - 1, tokens[i]].item() for i in range(len(tokens) - n_scored, len(tokens))]


@pytest.fixture
def reference(tiny_gpt2: GPT2, tmp_path: Path) -> torch.nn.Module:
    save_weights(tiny_gpt2, tmp_path, tokenizer=None)
    return transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()


@pytest.mark.parametrize("batch_tokens", [24, 4096])
def test_continuations_score_as_in_transformers_one_by_one(
    tiny_gpt2: GPT2, reference: torch.nn.Module, batch_tokens: int
) -> None:
    asked = requests_of(1, 30, 64, 12)
    for request, score in zip(asked, scorer(tiny_gpt2, batch_tokens=batch_tokens).loglikelihood(asked), strict=True):
        tokens = [*(request.context or (0,)), *request.continuation]
        assert score.nats == pytest.approx(brute_force(reference, tokens, len(request.continuation)), abs=1e-4)


@pytest.mark.parametrize("batch_tokens", [30, 4096])
def test_candidates_that_share_a_context_score_as_in_transformers_one_by_one(
    tiny_gpt2: GPT2, reference: torch.nn.Module, batch_tokens: int
) -> None:
    draw = random.Random(5)
    asked = []
    for n_candidates, n_context in ((3, 9), (10, 6), (3, 1), (2, 14), (10, 11)):
        context = tuple(draw.randrange(64) for _ in range(n_context))
        asked += [
            Request(context=context, continuation=tuple(draw.randrange(64) for _ in range(draw.randint(1, 5))))
            for _ in range(n_candidates)
        ]
    draw.shuffle(asked)
    longest = {r.context: max(len(o.continuation) for o in asked if o.context == r.context) for r in asked}
    for request, score in zip(asked, scorer(tiny_gpt2, batch_tokens=batch_tokens).loglikelihood(asked), strict=True):
        kept = request.context[-(17 - longest[request.context]) :]
        assert score.n_cut == len(request.context) - len(kept)
        wanted = brute_force(reference, [*kept, *request.continuation], len(request.continuation))
        assert score.nats == pytest.approx(wanted, abs=1e-4)


def test_rolling_equals_transformers_in_plain_windows(tiny_gpt2: GPT2, reference: torch.nn.Module) -> None:
    text = np.random.default_rng(2).integers(0, 64, size=43).tolist()
    wanted: list[float] = []
    for start in range(0, 43, 16):
        row = [0, *text][start : start + 17]
        wanted += brute_force(reference, row, len(row) - 1)
    assert scorer(tiny_gpt2).rolling([text])[0] == pytest.approx(wanted, abs=1e-4)


def test_bf16_changes_mean_nats_by_less_than_two_percent(tiny_gpt2: GPT2) -> None:
    text = np.random.default_rng(2).integers(0, 64, size=400)
    full, half = (scorer(tiny_gpt2, precision=name).rolling([text])[0].mean() for name in ("fp32", "bf16"))
    assert half == pytest.approx(full, rel=0.02)


def test_batches_hold_each_item_once_and_no_more_tokens_than_asked() -> None:
    lengths = [5, 1, 9, 3, 30, 2, 2]
    batches = list(bucket(lengths, 12))
    assert sorted(index for batch in batches for index in batch) == list(range(7))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 12 for batch in batches)


def test_padding_is_bounded_by_bucketing(bigram: Callable[..., GPT2]) -> None:
    model = bigram(classes=5, context=64)
    asked = [Request(context=(1,) * length, continuation=(2,)) for length in range(1, 61)]
    scorer(model, batch_tokens=128).loglikelihood(asked)
    assert model.seen < 1.15 * sum(range(1, 61))


def test_a_continuation_longer_than_the_context_is_refused(bigram: Callable[..., GPT2]) -> None:
    with pytest.raises(InputError, match="continuation of 9 tokens"):
        scorer(bigram(classes=5, context=8)).loglikelihood([Request(context=(1,), continuation=(2,) * 9)])


def test_weights_that_are_not_numbers_are_named(tiny_gpt2: GPT2) -> None:
    with torch.no_grad():
        tiny_gpt2.wte.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        scorer(tiny_gpt2).rolling([[1, 2, 3]])


def test_saved_weights_score_as_the_model_in_memory(tiny_gpt2: GPT2, tmp_path: Path) -> None:
    save_weights(tiny_gpt2, tmp_path, tokenizer=None)
    loaded = load_weights(tmp_path)
    text = list(range(40))
    assert np.array_equal(scorer(loaded).rolling([text])[0], scorer(tiny_gpt2).rolling([text])[0])


@pytest.mark.parametrize(("window", "stride"), [(17, None), (0, None), (8, 9), (8, 0)])
def test_windows_that_do_not_fit_are_refused(tiny_gpt2: GPT2, window: int, stride: int | None) -> None:
    with pytest.raises(InputError, match="window|stride"):
        scorer(tiny_gpt2).rolling([[1, 2]], window=window, stride=stride)


def test_an_unknown_precision_is_refused(tiny_gpt2: GPT2) -> None:
    with pytest.raises(InputError, match="unknown precision 'fp8'"):
        scorer(tiny_gpt2, precision="fp8")


@pytest.mark.parametrize("batch_tokens", [1, 40])
def test_progress_counts_every_request_once_and_the_tokens_that_were_run(tiny_gpt2: GPT2, batch_tokens: int) -> None:
    told = {"expected": 0, "answered": 0, "tokens": 0}

    def tell(**more: int) -> None:
        told.update({name: told[name] + n for name, n in more.items()})
        assert told["answered"] <= told["expected"]

    counted = scorer(tiny_gpt2, batch_tokens=batch_tokens, progress=tell)
    counted.loglikelihood(requests_of(0, 9, 50, 10))
    assert told["expected"] == told["answered"] == 9
    counted.rolling([list(range(20)), list(range(5))], window=8)
    assert told["expected"] == told["answered"] == 9 + 3 + 1
    before = told["tokens"]
    list(counted.next_log_probabilities([((1, 2, 3), [()]), ((4,), [(5,)])]))
    assert (told["answered"], told["tokens"] - before) == (15, 4 + 2)
