"""Sizes: the counts of the paper's four, of torch and of the formulas agree, and names are what they say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import PAPER_SIZES, RUNGS, Size, parse_size

EXACT = {"117M": 124_439_808, "345M": 354_823_168, "762M": 774_030_080, "1542M": 1_557_611_200}


def torch_counts(size: Size) -> dict[str, int]:
    """Parameters by group as torch has them."""
    with torch.device("meta"):
        model = GPT2(size)
    groups = {"wte": "token_embedding", "wpe": "position_embedding", "h": "blocks", "ln_f": "final_norm"}
    counts = dict.fromkeys(groups.values(), 0)
    for name, parameter in model.named_parameters():
        counts[groups[name.split(".")[0]]] += parameter.numel()
    return counts


@pytest.mark.parametrize("name", EXACT)
def test_the_papers_sizes_have_their_exact_parameter_counts(name: str) -> None:
    assert parse_size(name).params_total == EXACT[name]
    assert PAPER_SIZES[name] == parse_size(name)


@pytest.mark.parametrize("size", [*PAPER_SIZES.values(), *RUNGS], ids=lambda size: size.name)
def test_parameter_groups_are_torchs(size: Size) -> None:
    assert size.parameter_counts() == torch_counts(size)
    assert sum(size.parameter_counts().values()) == size.params_total


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 33), st.integers(1, 70))
def test_parameter_groups_are_torchs_for_any_shape(n_layer: int, d_model: int, context: int, vocabulary: int) -> None:
    size = parse_size(f"{n_layer}x{d_model}", context=context, vocabulary=vocabulary)
    assert size.parameter_counts() == torch_counts(size)


def test_flops_of_117m_are_three_forward_passes_summed_by_hand() -> None:
    blocks = 2 * 12 * (768 * 2304 + 768 * 768 + 2 * 768 * 3072)
    attention = 12 * 2 * (2 * 1024 * 768)
    projection = 2 * 768 * 50257
    size = parse_size("117M")
    assert size.flops_per_token == 3 * (blocks + attention + projection)
    assert size.flops_exact(10) == 10 * size.flops_per_token
    assert size.flops_6nd(10) == 60 * 124_439_808


def test_flops_are_what_torch_counts_in_a_training_step() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    size = parse_size("2x64", context=16, vocabulary=50)
    model = GPT2(size, attention="reference")
    tokens = torch.zeros(3, 16, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model(tokens).sum().backward()
    assert counter.get_total_flops() == size.flops_exact(tokens.numel())


def test_rungs_grow_and_stay_below_the_paper() -> None:
    counts = [size.params_non_embedding for size in (*RUNGS, PAPER_SIZES["117M"])]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize(
    ("name", "canonical", "n_head"),
    [
        ("4x128", "4x128", 2),
        ("4x128h2", "4x128", 2),
        ("4x128h4", "4x128h4", 4),
        ("2x32", "2x32", 1),
        ("1x200", "1x200", 2),
        ("12x768", "117M", 12),
        ("12x768h12", "117M", 12),
        ("48x1600", "1542M", 25),
        ("12x768h6", "12x768h6", 6),
    ],
)
def test_shapes_are_named_canonically(name: str, canonical: str, n_head: int) -> None:
    size = parse_size(name, context=256, vocabulary=512)
    assert (size.name, size.n_head, size.context, size.vocabulary) == (canonical, n_head, 256, 512)
    assert parse_size(size.name, context=256, vocabulary=512) == size


@pytest.mark.parametrize("name", ["118M", "4x", "x128", "4x128h", "4 x 128", "", "0x128", "4x0", "-4x128", "4x128h0"])
def test_an_unknown_size_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputError) as error:
        parse_size(name)
    assert repr(name) in str(error.value) or name in str(error.value)


def test_the_refusal_names_the_known_sizes_and_the_shape_form() -> None:
    with pytest.raises(InputError, match=r"117M, 345M, 762M, 1542M.*4x128"):
        parse_size("gpt3")


def test_heads_that_do_not_divide_the_width_are_refused_with_a_number_that_does() -> None:
    with pytest.raises(InputError, match=r"3 heads do not divide the width 128.*4x128h2"):
        parse_size("4x128h3")


def test_a_context_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="context is 0"):
        parse_size("4x128", context=0)
