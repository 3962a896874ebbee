"""Rules: whole batches, what papers print, and a batch that suits each rung."""

import pytest

from ladder.analysis.laws.law import KAPLAN_BATCH
from ladder.analysis.laws.surfaces import KAPLAN
from ladder.models.sizes import parse_size
from ladder.sweeps.expand import CorpusFacts, expand
from ladder.sweeps.load import load_sweep
from ladder.sweeps.rules import (
    batch_deepseek,
    batch_kaplan,
    batch_porian,
    batch_step_law,
    ceil_to_multiple,
    gpt2_batch_sequences,
    gpt2_recipe,
    lr_deepseek,
    lr_kaplan,
    lr_porian,
    lr_step_law,
    share_of_tokens,
    small_recipe,
    transferring,
)


def test_rules_round_up_to_whole_batches() -> None:
    assert ceil_to_multiple(1001, 500) == 1500
    size = parse_size("4x128", context=128, vocabulary=257)
    small = small_recipe(size, 1_000_000, seed=3)
    assert 1_000_000 <= small.tokens < 1_000_000 + small.batch_tokens and small.seed == 3


def test_a_share_of_the_tokens_is_whole_batches_and_never_less() -> None:
    assert share_of_tokens(0.05, 100 * 1024, 1024) == 5 * 1024
    assert share_of_tokens(0.05, 101 * 1024, 1024) == 6 * 1024


def test_the_paper_sizes_get_the_batch_of_the_paper_and_the_rates_of_gpt3() -> None:
    paper = gpt2_recipe(parse_size("117M"), 10**9, seed=0)
    assert paper.batch_tokens == 512 * 1024 and paper.lr_peak == 6e-4


@pytest.mark.parametrize(("layers", "width", "lr", "sequences"), [(30, 4096, 4.2e-4, 2304), (95, 8192, 3.2e-4, 4608)])
def test_deepseeks_rules_give_what_they_trained_with(layers: int, width: int, lr: float, sequences: int) -> None:
    # Bi et al. 2024, table 2: DeepSeek LLM 7B and 67B, 2T tokens, context 4096; M by their eq. 2.
    compute = (72 * layers * width**2 + 12 * layers * width * 4096) * 2e12
    assert lr_deepseek(compute) == pytest.approx(lr, rel=0.03)
    assert batch_deepseek(compute) == pytest.approx(sequences * 4096, rel=0.1)  # they rounded


def test_the_other_rules_give_the_numbers_of_their_papers() -> None:
    # Kaplan et al. 2020, by the laws that the analysis has of them; eq. D.1 worked out by hand.
    assert batch_kaplan(1e8, 2e9) == pytest.approx(KAPLAN_BATCH.tokens(KAPLAN.score(N=1e8, D=2e9)))
    assert lr_kaplan(1e9) == pytest.approx(3.5e-4, rel=0.01)
    # Porian et al. 2024: 160 sequences of 2048 and 0.0047 at 108M parameters.
    assert batch_porian(108e6) == pytest.approx(160 * 2048, rel=0.03)
    assert lr_porian(108e6) == pytest.approx(0.0047, rel=0.02)
    # Li et al. 2025, eq. 1, worked out by hand at 1B parameters and 25B tokens.
    assert batch_step_law(25e9) == pytest.approx(0.5e6, rel=0.1)
    assert lr_step_law(1e9, 25e9) == pytest.approx(1.07e-3, rel=0.03)


def test_no_rung_of_gpt2_is_left_with_a_few_hundred_steps() -> None:
    corpus = CorpusFacts(name="any", vocabulary=50257, fingerprint=None)
    runs = expand(load_sweep("gpt2"), corpus, precision="bf16")
    assert min(run.recipe.steps for run in runs) > 950
    batches = {run.size.name: run.batch_sequences for run in runs}
    assert list(batches.values()) == sorted(batches.values())
    assert batches["6x384"] == 128 and {batches[name] for name in ("117M", "345M", "762M", "1542M")} == {512}


def test_the_batch_of_a_small_rung_is_whole_sequences_at_any_context() -> None:
    for context in (512, 1024, 4096):
        sequences = gpt2_batch_sequences(parse_size("6x384", context=context))
        assert sequences * context == pytest.approx(batch_porian(30e6), rel=0.42)  # the root of two


def test_a_transferring_rule_keeps_batch_and_schedule_and_one_learning_rate() -> None:
    rule = transferring(small_recipe, base="2x64", lr_peak=0.01)
    for name in ("2x64", "6x256"):
        size = parse_size(name, context=128, vocabulary=257)
        made, plain = rule(size, 10**6, 3), small_recipe(size, 10**6, 3)
        assert (made.lr_peak, made.base_width, made.base_layers) == (0.01, 64, 2)
        assert (made.tokens, made.batch_tokens, made.warmup_tokens, made.seed) == (
            plain.tokens,
            plain.batch_tokens,
            plain.warmup_tokens,
            plain.seed,
        )
