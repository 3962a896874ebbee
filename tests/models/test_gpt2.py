"""The network: its scales at the start, its loss at the start, and that compiling and wrapping leave it whole."""

import math

import pytest
import torch
from torch import Tensor, nn

from ladder.models.gpt2 import GPT2, POSITION_STD, WEIGHT_STD
from ladder.models.loss import next_token_nats
from ladder.models.sizes import parse_size

SIZE = parse_size("3x96h3", context=40, vocabulary=120)


class Step(nn.Module):
    """What a worker wraps for data parallelism: the whole of forward and loss."""

    def __init__(self, model: GPT2) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return next_token_nats(self.model.hidden(tokens[:, :-1]), self.model.wte.weight, tokens[:, 1:])


def some_tokens(length: int = 41) -> Tensor:
    return torch.randint(SIZE.vocabulary, (4, length), generator=torch.Generator().manual_seed(1))


def test_initial_scales_are_those_of_the_table() -> None:
    size = parse_size("6x256", context=512, vocabulary=1000)
    for name, parameter in GPT2(size, seed=3).named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif ".ln_" in name or name.startswith("ln_f"):
            assert (parameter == 1).all(), name
        else:
            wanted = {"wpe.weight": POSITION_STD}.get(name, WEIGHT_STD)
            if name.endswith("c_proj.weight"):
                wanted = WEIGHT_STD / math.sqrt(12)
            # The standard error of a standard deviation of n numbers is 1 / sqrt(2 n); five of them, over 26 tensors.
            assert abs(parameter.std() / wanted - 1) < 5 / math.sqrt(2 * parameter.numel()), name
            assert abs(parameter.mean()) < 5 * wanted / math.sqrt(parameter.numel()), name


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before() -> None:
    one = GPT2(SIZE, seed=5).state_dict()
    torch.rand(3)
    again, other = GPT2(SIZE, seed=5).state_dict(), GPT2(SIZE, seed=6).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["wte.weight"], other["wte.weight"])


def test_building_a_model_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    GPT2(SIZE)
    assert torch.equal(state, torch.get_rng_state())


def test_the_first_loss_is_that_of_guessing() -> None:
    tokens = some_tokens()
    nats = Step(GPT2(SIZE))(tokens) / tokens[:, 1:].numel()
    assert abs(nats.item() - math.log(SIZE.vocabulary)) < 0.05


def test_logits_are_those_of_hidden_and_the_tied_head() -> None:
    model, tokens = GPT2(SIZE), some_tokens(13)
    torch.testing.assert_close(model(tokens), model.hidden(tokens) @ model.wte.weight.T)
    assert len([name for name, _ in model.named_parameters() if "head" in name]) == 0


@pytest.mark.parametrize("backend", ["sdpa", "blocked"])
def test_back_ends_train_alike(backend: str) -> None:
    tokens, gradients = some_tokens(), {}
    for name in (backend, "reference"):
        model = GPT2(SIZE, attention=name, seed=2)
        Step(model)(tokens).backward()
        gradients[name] = {key: parameter.grad for key, parameter in model.named_parameters()}
    for key, got in gradients[backend].items():
        torch.testing.assert_close(got, gradients["reference"][key], atol=2e-4, rtol=1e-3, msg=key)


def test_bf16_autocast_moves_the_loss_by_less_than_a_hundredth_of_a_nat() -> None:
    step, tokens = Step(GPT2(SIZE, attention="blocked")), some_tokens()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = step(tokens)
    rounded.backward()
    assert abs(rounded - step(tokens)) / tokens[:, 1:].numel() < 0.01
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in step.parameters())


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("backend", ["sdpa", "blocked"])
def test_activation_checkpointing_keeps_less_and_changes_no_bit_of_the_gradients(backend: str, autocast: bool) -> None:
    tokens, gradients, kept = some_tokens(), {}, {}
    for recomputes in (False, True):
        model, sizes = GPT2(SIZE, attention=backend, seed=2, activation_checkpointing=recomputes), []
        keep = torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        )  # type: ignore[misc]
        with keep, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            nats = Step(model)(tokens)
        nats.backward()
        gradients[recomputes] = {name: parameter.grad for name, parameter in model.named_parameters()}
        kept[recomputes] = sum(sizes)
    assert all(torch.equal(gradients[True][name], gradient) for name, gradient in gradients[False].items())
    assert kept[True] < 0.5 * kept[False]


def test_activation_checkpointing_computes_a_block_twice_in_training_and_once_otherwise() -> None:
    model, calls = GPT2(SIZE, activation_checkpointing=True), []
    model.h[1].register_forward_pre_hook(lambda *_: calls.append(1))
    Step(model)(some_tokens()).backward()
    assert len(calls) == 2
    with torch.no_grad():
        Step(model)(some_tokens())
    assert len(calls) == 3


def test_more_tokens_than_the_context_are_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="41 positions do not fit the context of 40"):
        GPT2(SIZE).hidden(some_tokens(41))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch's own compiler
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("recomputes", [False, True])
def test_forward_and_loss_compile_into_one_graph(autocast: bool, recomputes: bool) -> None:
    step, tokens = Step(GPT2(SIZE, activation_checkpointing=recomputes)), some_tokens()
    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got, wanted = compiled(tokens), step(tokens)
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=0)
    parameters = list(step.parameters())
    gradients = torch.autograd.grad(got, parameters), torch.autograd.grad(wanted, parameters)
    for one, other in zip(*gradients, strict=True):
        assert (one - other).norm() <= 0.02 * other.norm() + 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_step_on_cuda_waits_for_nothing() -> None:
    step, tokens = Step(GPT2(SIZE)).cuda(), some_tokens().cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", torch.bfloat16):
            nats = step(tokens)
        nats.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert nats.isfinite()
