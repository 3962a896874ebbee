"""The attention of a run is the fastest that is right for its shape, and says what it dispatches to."""

import importlib
import logging
import unittest.mock
from collections.abc import Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ladder.models import attention_choice
from ladder.models.attention_choice import AttentionShape, choose_attention, compare_backends, find_operator
from ladder.models.sizes import PAPER_SIZES

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = AttentionShape(sequences=2, length=32, heads=2, width=16)


def time_as(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    monkeypatch.setattr(attention_choice, "time_attention", lambda backend, *_: seconds[backend])


@pytest.mark.parametrize(("sdpa", "blocked", "kept"), [(1.0, 0.5, "blocked"), (1.0, 0.99, "sdpa"), (1.0, 2.0, "sdpa")])
def test_the_faster_is_kept_and_the_first_unless_it_is_clearly_slower(
    sdpa: float, blocked: float, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_as(monkeypatch, sdpa=sdpa, blocked=blocked)
    backend, reason = compare_backends(("sdpa", "blocked"), SMALL, CPU, torch.float32)
    assert backend == kept
    assert f"sdpa {sdpa * 1000:.3g} ms" in reason and f"blocked {blocked * 1000:.3g} ms" in reason
    assert "2 x 32 x 2 x 16" in reason


def test_one_that_is_fast_and_wrong_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    time_as(monkeypatch, sdpa=1.0, blocked=0.1)
    attend = attention_choice.self_attend

    def wrong(heads, *, backend):  # type: ignore[no-untyped-def]
        return attend(heads, backend=backend) * (1.1 if backend == "blocked" else 1.0)

    monkeypatch.setattr(attention_choice, "self_attend", wrong)
    with caplog.at_level(logging.WARNING):
        backend, reason = compare_backends(("sdpa", "blocked"), SMALL, CPU, torch.float32)
    assert backend == "sdpa" and "blocked differs from the plain attention by 0.21" in reason
    assert "blocked is not used" in caplog.text


def test_time_is_measured_forward_and_backward() -> None:
    short = attention_choice.time_attention("sdpa", SMALL, CPU, torch.float32)
    longer = AttentionShape(sequences=8, length=256, heads=4, width=64)
    assert 0 < short < attention_choice.time_attention("sdpa", longer, CPU, torch.float32)


def test_on_cuda_auto_compares_for_the_run_s_own_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[AttentionShape] = []

    def compare(backends: tuple[str, ...], shape: AttentionShape, *_: object) -> tuple[str, str]:
        assert backends == ("xformers", "sdpa")
        asked.append(shape)
        return "sdpa", "sdpa 1 ms"

    monkeypatch.setattr(attention_choice, "choose_backend", lambda *_, **__: ("xformers", "its preflight passed"))
    monkeypatch.setattr(attention_choice, "compare_backends", compare)
    monkeypatch.setattr(attention_choice, "find_operator", lambda *_: "FLASH_ATTENTION")
    shape = AttentionShape.of(PAPER_SIZES["1542M"], 8)
    choice = choose_attention("auto", shape, CUDA, torch.bfloat16)
    assert (choice.backend, choice.operator, choice.reason) == ("sdpa", "FLASH_ATTENTION", "sdpa 1 ms")
    assert asked == [AttentionShape(sequences=8, length=1024, heads=25, width=64)]


def test_by_name_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_choice, "compare_backends", None)
    assert choose_attention("sdpa", SMALL, CPU, torch.float32).reason == "asked for by name"
    assert choose_attention("auto", SMALL, CPU, torch.float32).backend == "blocked"


def test_auto_keeps_what_the_run_had_before_where_it_can(caplog: pytest.LogCaptureFixture) -> None:
    kept = choose_attention("auto", SMALL, CPU, torch.float32, before="sdpa")
    assert (kept.backend, kept.reason) == ("sdpa", "the run had it before")
    assert choose_attention("reference", SMALL, CPU, torch.float32, before="sdpa").backend == "reference"
    assert not caplog.records
    assert choose_attention("auto", SMALL, CPU, torch.float32, before="xformers").backend == "blocked"
    assert "the run had xformers before, and attention xformers cannot run here" in caplog.text


@pytest.fixture
def gpu_of_capability() -> Iterator[unittest.mock.Mock]:
    """xformers as if it were on a GPU whose capability is the mock's return value; fake tensors are its memory."""
    if importlib.util.find_spec("xformers") is None:
        pytest.skip("xformers is not installed here")
    with unittest.mock.patch("torch.version.cuda", "12.8"):
        fmha = importlib.import_module("xformers.ops.fmha")
        with (
            unittest.mock.patch.object(fmha.common, "_built_with_cuda", True),
            unittest.mock.patch("torch.cuda.get_device_capability") as capability,
            FakeTensorMode(),
        ):
            yield capability


@pytest.mark.parametrize("name", list(PAPER_SIZES))
@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16), ((9, 0), torch.float32), ((7, 5), torch.float32)],
)
def test_xformers_dispatches_for_every_size_of_the_paper(
    name: str, capability: tuple[int, int], dtype: torch.dtype, gpu_of_capability: unittest.mock.Mock
) -> None:
    gpu_of_capability.return_value = capability
    operator = find_operator("xformers", AttentionShape.of(PAPER_SIZES[name], 8), CUDA, dtype)
    forward, backward = operator.split("/")
    # Without its own extension, as here, the operator that PyTorch brings is left; GPU nodes have fa2 or fa3 too.
    assert forward.startswith(("fa3F", "fa2F", "cutlassF")) and backward.startswith(("fa3B", "fa2B", "cutlassB"))


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.bfloat16), ((10, 0), torch.float32)])
def test_xformers_has_nothing_for_bf16_before_ampere_and_fp32_on_blackwell(
    capability: tuple[int, int], dtype: torch.dtype, gpu_of_capability: unittest.mock.Mock
) -> None:
    gpu_of_capability.return_value = capability
    with pytest.raises(NotImplementedError, match="No operator found"):
        find_operator("xformers", AttentionShape.of(PAPER_SIZES["117M"], 8), CUDA, dtype)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", list(PAPER_SIZES))
def test_on_a_gpu_the_choice_names_what_ran(name: str) -> None:
    choice = choose_attention("auto", AttentionShape.of(PAPER_SIZES[name], 4), CUDA, torch.bfloat16)
    assert choice.backend in ("xformers", "sdpa") and choice.operator and choice.reason
