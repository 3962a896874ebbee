"""The rule that takes what a search found: winners as measured, the law between and beyond them, and its source."""

from dataclasses import asdict, replace

import pytest

from ladder.models.errors import InputError
from ladder.models.sizes import parse_size
from ladder.sweeps.rules import small_recipe
from ladder.sweeps.tuned import Found, Winner, describe_rule, fit_power_law, tuned
from ladder.sweeps.words import Run


def size(name: str):  # type: ignore[no-untyped-def]
    return parse_size(name, context=64, vocabulary=257)


def winner(name: str, lr: float, **changes: object) -> Winner:
    made = Winner(
        size=name, params_non_embedding=size(name).params_non_embedding, tokens=10_000, lr=lr, batch_tokens=1024,
        loss=3.0, run=name, edge=None,
    )  # fmt: skip
    return replace(made, **changes)


def found(*winners: Winner, searched_batch: bool = False) -> Found:
    return Found(
        sweep="demo", corpus="pydocs", corpus_fingerprint="f", date="2026-11-21", searched_batch=searched_batch,
        winners=winners,
    )  # fmt: skip


TWO = found(winner("2x32", 8e-3), winner("3x64", 2e-3))


def test_a_line_through_planted_points_is_found_exactly() -> None:
    law = fit_power_law([(n, 0.5 * n**-0.25) for n in (1e4, 1e5, 1e7)])
    assert law is not None and law(1e6) == pytest.approx(0.5 * 1e6**-0.25, rel=1e-12)
    assert (law.coefficient, law.exponent) == (pytest.approx(0.5), pytest.approx(-0.25))
    assert fit_power_law([(1e4, 1.0)]) is None and fit_power_law([(1e4, 1.0), (1e4, 2.0)]) is None


def test_a_searched_size_gets_its_winner_and_all_else_from_the_base() -> None:
    rule = replace(tuned("demo", small_recipe), found=TWO)
    assert rule(size("3x64"), 50_000, 2) == replace(small_recipe(size("3x64"), 50_000, 2), lr_peak=2e-3)


def test_another_size_gets_the_law_through_the_winners() -> None:
    rule = replace(tuned("demo", small_recipe), found=TWO)
    low, middle, high = (rule(size(name), 50_000, 0).lr_peak for name in ("3x64", "2x48", "2x32"))
    assert low < middle < high
    assert rule(size("4x128"), 50_000, 0).lr_peak < low


def test_a_searched_batch_is_taken_too_in_whole_batches() -> None:
    rule = replace(tuned("demo", small_recipe), found=found(*TWO.winners[:1], searched_batch=True))
    recipe = rule(size("2x32"), 50_000, 0)
    assert recipe.batch_tokens == 1024 and recipe.tokens == 51_200
    batches = found(winner("2x32", 8e-3), winner("3x64", 2e-3, batch_tokens=4096), searched_batch=True)
    between = replace(tuned("demo", small_recipe), found=batches)(size("2x48"), 50_000, 0)
    assert 1024 < between.batch_tokens < 4096 and between.batch_tokens % 64 == 0


def test_a_winner_at_the_edge_of_the_search_is_in_no_law() -> None:
    edge = found(winner("2x32", 8e-3, edge="high"), winner("3x64", 2e-3))
    rule = replace(tuned("demo", small_recipe), found=edge)
    assert "2x32 (at the edge of the search), 3x64 as measured, no other size" in edge.provenance
    assert edge.lr_law is None and rule(size("2x32"), 50_000, 0).lr_peak == 8e-3
    with pytest.raises(InputError, match=r"size 4x128 was not searched by `ladder tune demo`.*wants two sizes"):
        rule(size("4x128"), 50_000, 0)


def test_the_rule_names_where_its_numbers_come_from() -> None:
    rule = tuned("demo", small_recipe)
    assert describe_rule(rule) == "small_recipe, tuned by `ladder tune demo`"
    told = describe_rule(replace(rule, found=TWO))
    assert "`ladder tune demo` of 2026-11-21 on corpus pydocs: 2x32, 3x64 as measured" in told and "lr = " in told


def test_a_key_depends_on_the_numbers_alone() -> None:
    recipe = replace(tuned("demo", small_recipe), found=TWO)(size("3x64"), 50_000, 0)
    plain = replace(small_recipe(size("3x64"), 50_000, 0), lr_peak=2e-3)
    keys = {
        Run(size=size("3x64"), recipe=replace(made, precision="fp32"), corpus="a", corpus_fingerprint="f").key
        for made in (recipe, plain)
    }
    assert len(keys) == 1


def test_without_a_storage_the_rule_says_what_is_missing() -> None:
    with pytest.raises(InputError, match="read from the storage"):
        tuned("demo", small_recipe)(size("2x32"), 50_000, 0)


def test_what_is_written_is_read_again_and_anything_else_refused() -> None:
    assert Found.from_json(asdict(TWO) | {"trials": []}, "tuned.json") == TWO
    with pytest.raises(InputError, match=r"x/tuned.json is not what `ladder tune` writes \(at 'winners'\)"):
        Found.from_json({"sweep": "demo"}, "x/tuned.json")
