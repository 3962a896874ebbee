"""What workers hold follows from what fits them, the cheapest way first."""

from dataclasses import replace

import pytest

from ladder.models.errors import InputError
from ladder.models.memory import Training, peak_bytes
from ladder.models.sizes import PAPER_SIZES
from ladder.platform.training.strategy import MEMORY_SHARE, check_shares, choose_strategy
from ladder.sweeps.words import Execution

XL = PAPER_SIZES["1542M"]


def choose(execution: Execution, *, memory_bytes: float) -> Training:
    return choose_strategy(XL, execution, share=32, precision="bf16", device="cuda", memory_bytes=memory_bytes)


@pytest.mark.parametrize(
    ("gigabytes", "workers", "wanted"),
    [
        (80, 8, ("ddp", False)),
        (24, 8, ("fsdp2", False)),
        (16, 64, ("fsdp2", False)),
        (80, 1, ("ddp", False)),
        (24, 1, ("ddp", True)),
        (1, 8, ("fsdp2", True)),
    ],
)
def test_auto_is_the_cheapest_way_that_fits(gigabytes: int, workers: int, wanted: tuple[str, bool]) -> None:
    """GPT-2's largest takes 25 GB of weights, gradients and moments; where nothing fits, the least is chosen."""
    chosen = choose(Execution(workers=workers), memory_bytes=gigabytes * 1e9)
    assert (chosen.strategy, chosen.checkpointing) == wanted


def test_activation_checkpointing_begins_where_the_activations_no_longer_fit() -> None:
    execution = Execution(workers=8, strategy="fsdp2")
    kept = peak_bytes(XL, choose(execution, memory_bytes=80e9))
    assert not choose(execution, memory_bytes=1.001 * kept / MEMORY_SHARE).checkpointing
    assert choose(execution, memory_bytes=0.999 * kept / MEMORY_SHARE).checkpointing


def test_what_is_asked_for_is_done() -> None:
    asked = Execution(workers=8, strategy="ddp", activation_checkpointing=False)
    assert choose(asked, memory_bytes=1e9) == replace(choose(asked, memory_bytes=1e12), checkpointing=False)
    chosen = choose(Execution(workers=8, strategy="fsdp2", activation_checkpointing=True), memory_bytes=1e12)
    assert (chosen.strategy, chosen.checkpointing) == ("fsdp2", True)


def test_one_worker_has_nothing_to_share_out() -> None:
    assert choose(Execution(strategy="fsdp2"), memory_bytes=1e12).strategy == "ddp"


def test_under_fsdp2_the_workers_must_divide_the_batch() -> None:
    execution = Execution(workers=3, strategy="fsdp2")
    with pytest.raises(InputError, match="batch of 8 sequences for 3 workers with strategy fsdp2.* multiple of"):
        check_shares(execution, choose(execution, memory_bytes=1e12), 8)
    check_shares(execution, choose(execution, memory_bytes=1e12), 9)
    check_shares(replace(execution, strategy="ddp"), choose(replace(execution, strategy="ddp"), memory_bytes=1e12), 8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strategy": "zero3"}, "strategy: got .?zero3.*ddp.*fsdp2"),
        ({"activation_checkpointing": "yes"}, "activation_checkpointing: got 'yes', wanted True, False or None"),
    ],
)
def test_an_unknown_way_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Execution(**given)  # type: ignore[arg-type]
