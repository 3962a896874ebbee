"""Which optimizer takes which parameters, and at what rate."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.platform.training.optimizer import build_optimizer, set_learning_rate
from ladder.sweeps.words import Optimizer, Recipe

SIZE = parse_size("4x32h2", context=16, vocabulary=50)
HIDDEN = {"attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"}


def recipe(optimizer: Optimizer = "adamw", **changes: object) -> Recipe:
    return Recipe(tokens=64, batch_tokens=64, lr_peak=1e-3, weight_decay=0.2, optimizer=optimizer, **changes)  # type: ignore[arg-type]


def completep(optimizer: Optimizer = "adamw") -> Recipe:
    return recipe(optimizer, parametrization="completep", base_width=16, base_layers=2)


def groups_by_name(model: GPT2, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, float]]:
    """The group of each parameter; every parameter is in exactly one."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {names[p]: group for group in optimizer.param_groups for p in group["params"]}
    assert len(found) == len(names) == sum(len(group["params"]) for group in optimizer.param_groups)
    return found


def test_adamw_has_one_rate_for_all_and_decays_matrices_only() -> None:
    model = GPT2(SIZE)
    optimizer = build_optimizer(model, recipe())
    assert isinstance(optimizer, torch.optim.AdamW) and len(optimizer.param_groups) == 2
    for name, group in groups_by_name(model, optimizer).items():
        assert (group["lr"], group["eps"]) == (1e-3, 1e-8)
        assert group["weight_decay"] == (0.2 if name.endswith("weight") and "ln_" not in name else 0.0), name


def test_muon_takes_the_matrices_of_blocks_and_adamw_the_rest() -> None:
    model = GPT2(SIZE)
    for name, group in groups_by_name(model, build_optimizer(model, recipe("muon"))).items():
        in_block = name.split(".", 2)[-1] in HIDDEN
        assert ("momentum" in group, "betas" in group) == (in_block, not in_block), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_rates_follow_the_schedule_by_their_factors_and_all_matrices_decay_alike(optimizer: Optimizer) -> None:
    model = GPT2(SIZE)
    made = build_optimizer(model, completep(optimizer))
    first = {name: group["lr"] for name, group in groups_by_name(model, made).items()}
    assert first["wte.weight"] == 1e-3 and first["ln_f.weight"] == pytest.approx(1e-3 / 2)
    hidden = 1e-3 / 2 if optimizer == "adamw" else 1e-3 / 2**0.5
    assert first["h.3.mlp.c_fc.weight"] == pytest.approx(hidden)
    assert first["h.3.mlp.c_proj.weight"] == pytest.approx(hidden / 2)
    for name, group in groups_by_name(model, made).items():
        decay = 0.2 * 1e-3 if name.endswith("weight") and "ln_" not in name else 0.0
        assert group["lr"] * group["weight_decay"] == pytest.approx(decay), name
    set_learning_rate(made, 1e-4)
    assert all(group["lr"] == pytest.approx(first[n] / 10) for n, group in groups_by_name(model, made).items())


def test_a_step_of_muon_has_the_root_mean_square_of_one_of_adamw() -> None:
    model = GPT2(SIZE)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, recipe("muon"))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    set_learning_rate(optimizer, 1.0)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    optimizer.step()
    for name, parameter in model.named_parameters():
        moved = float((parameter.detach() - before[name].detach()).square().mean().sqrt())
        # Newton-Schulz leaves singular values between 0.7 and 1.2; Adam's first step is the sign of the gradient.
        assert moved == pytest.approx(0.2 if name.split(".", 2)[-1] in HIDDEN else 1.0, rel=0.3), name


def test_both_optimizers_keep_their_state_and_gradients_in_one_place() -> None:
    model = GPT2(SIZE)
    optimizer = build_optimizer(model, recipe("muon"))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert set(optimizer.state) == set(model.parameters())
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_muon_refuses_sharded_parameters(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        model = GPT2(SIZE)
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(InputError, match="got muon with sharded parameters"):
            build_optimizer(model, recipe("muon"))
    finally:
        dist.destroy_process_group()
