"""The words check what they are given, and a run's key follows its identity and nothing else."""

from dataclasses import MISSING, dataclass, fields, replace

import pytest

from ladder.models.errors import InputError
from ladder.models.sizes import Size, parse_size
from ladder.sweeps.load import load_sweep
from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import BF16_GPUS, KEY_DIGITS, OLDER_GPUS, SCHEMA, Execution, Point, Recipe, Run, Sweep, grid


def recipe(**changes: object) -> Recipe:
    return replace(Recipe(tokens=4096, batch_tokens=1024, lr_peak=1e-3, precision="fp32"), **changes)  # type: ignore[arg-type]


def run(**changes: object) -> Run:
    size = parse_size("2x64", context=128, vocabulary=257)
    return replace(Run(size=size, recipe=recipe(), corpus="c", corpus_fingerprint="f"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": -1},
        {"tokens": 0},
        {"tokens": 4097},
        {"batch_tokens": 0},
        {"lr_peak": 0.0},
        {"warmup_tokens": -1024},
        {"warmup_tokens": 1000},
        {"warmup_tokens": 5120},
        {"decay_tokens": 1024},
        {"decay_tokens": 1025, "schedule": "wsd"},
        {"decay_tokens": 0, "schedule": "wsd"},
        {"decay_tokens": 4096, "warmup_tokens": 1024, "schedule": "wsd"},
        {"schedule": "linear"},
        {"precision": "fp8"},
        {"optimizer": "sgd"},
        {"parametrization": "ntk"},
        {"base_width": 64},
        {"base_layers": 2},
        {"base_width": 0, "base_layers": 2, "parametrization": "completep"},
        {"base_layers": None, "base_width": 64, "parametrization": "completep"},
    ],
)
def test_a_recipe_refuses_what_cannot_be_trained(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        recipe(**wrong)


PINNED = {
    1: {
        "size": {"context": 1024, "vocabulary": 50257},
        "recipe": {
            "warmup_tokens": 0,
            "schedule": "cosine",
            "decay_tokens": 0,
            "lr_final_fraction": 0.1,
            "weight_decay": 0.1,
            "beta1": 0.9,
            "beta2": 0.95,
            "clip_norm": 1.0,
            "seed": 0,
            "precision": "auto",
            "optimizer": "adamw",
            "parametrization": "standard",
            "base_width": None,
            "base_layers": None,
        },
        "key": "2x64-4.1K-s0-f36df6979220",
        "identity": {
            "schema": 1,
            "size": {"n_layer": 2, "d_model": 64, "n_head": 1, "context": 128, "vocabulary": 257},
            "recipe": {"tokens": 4096, "batch_tokens": 1024, "lr_peak": 0.001, "precision": "fp32"},
            "corpus_fingerprint": "f",
        },
    }
}
"""Of each schema version the defaults, and the identity and key of `run()`. To change a default or what is hashed,
raise SCHEMA and add a version; to add a field whose default is what was done before, add the field to the newest."""


def defaults(words: type) -> dict[str, object]:
    return {f.name: f.default for f in fields(words) if f.default is not MISSING}


def test_the_defaults_of_a_schema_version_never_change() -> None:
    pinned = PINNED[SCHEMA]
    assert defaults(Size) == pinned["size"], "raise SCHEMA: every key without this field would mean another run"
    assert defaults(Recipe) == pinned["recipe"], "raise SCHEMA: every key without this field would mean another run"


def test_what_the_key_of_a_schema_version_hashes_never_changes() -> None:
    assert run().identity == PINNED[SCHEMA]["identity"]
    assert run().key == PINNED[SCHEMA]["key"], "raise SCHEMA: every finished run would be trained again"


def test_a_new_field_with_a_default_changes_no_key() -> None:
    @dataclass(frozen=True, kw_only=True)
    class WiderRecipe(Recipe):
        dropout: float = 0.0

    made = {f.name: getattr(recipe(), f.name) for f in fields(Recipe)}
    assert run(recipe=WiderRecipe(**made)).key == run().key
    assert run(recipe=WiderRecipe(**made, dropout=0.1)).key != run().key


def test_the_key_follows_the_shape_and_the_fingerprint_and_no_name() -> None:
    paper = run(size=parse_size("117M"), corpus="c")
    shape = replace(paper.size, name="mine")
    assert run(size=parse_size("12x768")).key == paper.key == run(size=shape, corpus="renamed").key
    assert paper.key.startswith("117M-")


def test_a_whole_number_is_the_same_however_it_is_written() -> None:
    assert run(recipe=recipe(lr_peak=1.0)).key == run(recipe=recipe(lr_peak=1)).key


def test_bf16_and_fp32_are_two_runs_and_auto_is_none() -> None:
    assert run(recipe=recipe(precision="bf16")).key != run(recipe=recipe(precision="fp32")).key
    with pytest.raises(InputError, match="has the precision auto, wanted bf16 or fp32"):
        _ = run(recipe=recipe(precision="auto")).key


def test_two_of_many_runs_of_a_sweep_meet_in_less_than_one_sweep_of_a_thousand() -> None:
    assert 50_000**2 / 2 / 16**KEY_DIGITS < 1e-3


def test_the_key_changes_with_everything_that_defines_the_result() -> None:
    keys = {
        run().key,
        run(recipe=recipe(seed=1)).key,
        run(recipe=recipe(lr_peak=2e-3)).key,
        run(corpus_fingerprint="g").key,
        run(size=parse_size("2x64", context=64, vocabulary=257)).key,
    }
    assert len(keys) == 5


def test_the_key_is_readable_and_the_same_in_every_process() -> None:
    assert run().key == "2x64-4.1K-s0-" + run().key[-KEY_DIGITS:]
    assert run().key == run().key


def test_a_batch_must_be_whole_sequences() -> None:
    with pytest.raises(InputError, match="whole number of sequences"):
        run(size=parse_size("2x64", context=100, vocabulary=257))


def test_a_grid_has_every_combination_and_grids_add_up() -> None:
    points = grid(sizes=("2x64", "4x128"), tokens=(1000, 2000), seeds=(0, 1))
    assert len(set(points)) == 8
    more = points + grid(sizes=("117M",), tokens_per_parameter=(20,))
    assert more[-1] == Point(size="117M", tokens_per_parameter=20)


def test_a_grid_without_sizes_or_budgets_is_refused() -> None:
    with pytest.raises(InputError, match="without sizes"):
        grid(sizes=(), tokens=(1,))
    with pytest.raises(InputError, match="without budgets"):
        grid(sizes=("2x64",))


def test_a_point_wants_one_budget() -> None:
    with pytest.raises(InputError, match="either tokens or tokens_per_parameter"):
        Point(size="2x64", tokens=1, tokens_per_parameter=2)
    with pytest.raises(InputError, match="above 0"):
        Point(size="2x64", tokens=-5)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b"])
def test_a_sweep_name_must_be_a_folder_name(name: str) -> None:
    with pytest.raises(InputError, match="sweep name"):
        Sweep(name=name, corpus="c", points=grid(sizes=("2x64",), tokens=(1,)), recipe=small_recipe)


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"attention": "flash"},
        {"gpus_per_worker": 2},
        {"gpus_per_worker": 1.5},
        {"gpus_per_worker": -1},
        {"gpus_per_worker": 0.25, "workers": 2},
        {"accelerator_type": "H1000"},
        {"accelerator_type": "H100", "gpus_per_worker": 0},
        {"checkpoint_seconds": -1.0},
        {"keep_checkpoints": 0},
    ],
)
def test_an_execution_refuses_what_cannot_be_carried_out(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        replace(Execution(), **wrong)  # type: ignore[arg-type]


def test_the_accelerators_are_rays() -> None:
    from ray.util.accelerators import accelerators

    known = {value for name, value in vars(accelerators).items() if name.isupper()}
    assert {*BF16_GPUS, *OLDER_GPUS} <= known


def test_an_execution_asks_for_gpus_by_their_number_or_their_type() -> None:
    assert Execution(gpus_per_worker=0.25).asks_for_gpus and Execution(accelerator_type="A100").asks_for_gpus
    assert not Execution().asks_for_gpus and not Execution(gpus_per_worker=0).asks_for_gpus


def sweep(**changes: object) -> Sweep:
    made = Sweep(name="s", corpus="c", points=grid(sizes=("2x64",), tokens=(1,)), recipe=small_recipe)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_an_execution_is_the_same_for_all_sizes_or_a_rule_of_the_size() -> None:
    small, large = parse_size("2x64"), parse_size("117M")
    same = sweep(execution=Execution(workers=2))
    assert same.execution_for(small) == same.execution_for(large) == Execution(workers=2)
    ruled = sweep(execution=lambda size: Execution(workers=size.n_layer))
    assert (ruled.execution_for(small).workers, ruled.execution_for(large).workers) == (2, 12)


def test_a_rule_that_returns_no_execution_is_refused() -> None:
    with pytest.raises(InputError, match="sweep s: the execution of size 2x64 is a int, wanted an Execution"):
        sweep(execution=lambda size: 3).execution_for(parse_size("2x64"))


def test_gpt2_asks_for_as_many_gpus_as_its_sizes_are_worth() -> None:
    asked = {size: load_sweep("gpt2").execution_for(parse_size(size)) for size in ("6x384", "117M", "345M", "1542M")}
    gpus = {size: execution.workers * (execution.gpus_per_worker or 0) for size, execution in asked.items()}
    assert gpus == {"6x384": 0.25, "117M": 1, "345M": 2, "1542M": 8}
    assert asked["6x384"].micro_batch_tokens, "runs that share a GPU must not each take the memory that is free"
