"""The prediction of memory follows what is really kept."""

from dataclasses import replace

import pytest
import torch

from ladder.models import blocked_attention, loss, memory
from ladder.models.memory import Training, largest_divisor, largest_micro_batch, peak_bytes
from ladder.models.sizes import PAPER_SIZES, parse_size

SIZE = PAPER_SIZES["117M"]
GPU = Training(sequences=8, precision="bf16", device="cuda")


def test_the_prediction_cuts_the_logits_as_the_loss_does() -> None:
    assert (memory.CHUNK_LOGITS, memory.MOST_CHUNKS) == (loss.CHUNK_LOGITS, loss.MOST_CHUNKS)
    assert memory.FEWEST_CLASSES == loss.FEWEST_CLASSES
    assert (memory.BLOCK, memory.BF16_BLOCK) == (blocked_attention.BLOCK, blocked_attention.BF16_BLOCK)


def test_more_at_once_takes_more_and_less_with_checkpointing_and_shards() -> None:
    assert peak_bytes(SIZE, GPU) < peak_bytes(SIZE, replace(GPU, sequences=16))
    assert peak_bytes(SIZE, replace(GPU, checkpointing=True)) < peak_bytes(SIZE, GPU)
    assert peak_bytes(SIZE, replace(GPU, workers=8, strategy="fsdp2")) < peak_bytes(SIZE, replace(GPU, workers=8))
    assert peak_bytes(SIZE, replace(GPU, precision="fp32")) > peak_bytes(SIZE, GPU)
    assert peak_bytes(SIZE, GPU) > 16 * SIZE.params_total


def test_gpt2_xl_fits_a_gpu_of_80_gigabytes_and_not_one_of_24() -> None:
    one = replace(GPU, sequences=1)
    assert 24e9 < peak_bytes(PAPER_SIZES["1542M"], one) < 80e9


def test_the_largest_micro_batch_fits_divides_the_share_and_the_next_does_not_fit() -> None:
    found = largest_micro_batch(SIZE, GPU, memory_bytes=20e9, share=96)
    assert 96 % found == 0 and found > 1
    assert peak_bytes(SIZE, replace(GPU, sequences=found, accumulates=True)) <= 20e9
    larger = next(n for n in range(found + 1, 97) if 96 % n == 0)
    assert peak_bytes(SIZE, replace(GPU, sequences=larger, accumulates=larger < 96)) > 20e9
    assert largest_micro_batch(SIZE, GPU, memory_bytes=1e9, share=96) == 0


@pytest.mark.parametrize(
    ("share", "limit", "wanted"), [(8, 3, 2), (8, 8, 8), (8, 100, 8), (7, 6, 1), (12, 5, 4), (8, 0, 1)]
)
def test_the_largest_divisor(share: int, limit: int, wanted: int) -> None:
    assert largest_divisor(share, limit) == wanted


def test_the_loss_is_small_beside_the_logits() -> None:
    size = parse_size("2x64", context=1024)
    whole = Training(sequences=16, precision="bf16", device="cuda")
    assert memory._loss_bytes(size, whole) - memory.activation_bytes(size, whole) < 2**30
    assert torch.finfo(torch.float32).bits // 8 * 16 * 1024 * 50257 > 3 * 2**30
