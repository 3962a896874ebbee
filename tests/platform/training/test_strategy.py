"""What workers hold follows from what fits them, the cheapest way first."""

from dataclasses import replace

import pytest

from ladder.models.errors import InputError
from ladder.models.memory import Training, peak_bytes
from ladder.models.sizes import PAPER_SIZES
from ladder.platform.training.strategy import MEMORY_SHARE, check_sharing, choose_strategy, plan_training
from ladder.sweeps.words import Execution, Recipe, Run

XL = PAPER_SIZES["1542M"]
RECIPE = Recipe(tokens=256 * 1024, batch_tokens=256 * 1024, lr_peak=1e-4, precision="bf16")
RUN = Run(size=XL, recipe=RECIPE, corpus="web", corpus_fingerprint="0")


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


def test_under_fsdp2_each_worker_has_as_many_sequences() -> None:
    with pytest.raises(InputError, match="batch of 256 sequences with strategy fsdp2 on 3 workers.*--strategy ddp"):
        check_sharing(RUN, "fsdp2", 3)
    check_sharing(RUN, "fsdp2", 4)
    check_sharing(RUN, "ddp", 3)


def test_muon_takes_whole_matrices() -> None:
    muon = replace(RUN, recipe=replace(RUN.recipe, optimizer="muon"))
    with pytest.raises(InputError, match="got fsdp2 with the optimizer muon, wanted ddp"):
        check_sharing(muon, "fsdp2", 4)
    planned = [
        plan_training(run, Execution(workers=4), precision="bf16", device="cuda", memory_bytes=24e9).strategy
        for run in (RUN, muon)
    ]
    assert planned == ["fsdp2", "ddp"]


def test_the_micro_batch_is_larger_where_less_is_held() -> None:
    found = [
        plan_training(RUN, Execution(workers=8, **way), precision="bf16", device="cuda", memory_bytes=40e9).sequences  # type: ignore[arg-type]
        for way in ({"strategy": "ddp"}, {"strategy": "fsdp2"}, {"strategy": "fsdp2", "activation_checkpointing": True})
    ]
    assert found == sorted(set(found)) and all(32 % sequences == 0 for sequences in found)


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
