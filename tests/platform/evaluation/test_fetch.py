"""Fetching installs whole files with the right content, or nothing."""

from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmark import sha256_of
from ladder.platform.evaluation.fetch import fetch
from ladder.platform.evaluation.registry import BENCHMARKS


def test_all_real_files_are_installed_and_a_second_time_left_alone(shared: Path, tmp_path: Path) -> None:
    storage = UPath(tmp_path)
    installed = fetch(["all"], storage=storage, source_dir=shared / "benchmarks")
    assert sorted(str(path.relative_to(storage)) for path in installed) == [
        "benchmarks/lambada/lambada_test.jsonl",
        "benchmarks/wikitext2/wiki.test.tokens",
    ]
    assert sha256_of(installed[0]) == BENCHMARKS["lambada"].files[0].sha256
    stamps = [path.stat().st_mtime_ns for path in installed]
    fetch(["lambada", "wikitext2"], storage=storage, source_dir=shared / "benchmarks")
    assert [path.stat().st_mtime_ns for path in installed] == stamps
    assert not list(tmp_path.rglob("*.partial"))


def test_a_wrong_checksum_or_an_absent_file_installs_nothing(shared: Path, tmp_path: Path) -> None:
    source, storage = tmp_path / "copies", UPath(tmp_path) / "storage"
    source.mkdir()
    good = BENCHMARKS["lambada"].files[0].name
    (source / good).write_bytes((shared / "benchmarks" / "lambada" / good).read_bytes())
    with pytest.raises(InputError, match="wikitext2: no wiki.test.tokens, looked at"):
        fetch(["lambada", "wikitext2"], storage=storage, source_dir=source)
    (source / "wiki.test.tokens").write_text("cut short")
    with pytest.raises(InputError, match="is not the published wiki.test.tokens of wikitext2: sha256"):
        fetch(["lambada", "wikitext2"], storage=storage, source_dir=source)
    assert not storage.exists()


def test_what_cannot_be_fetched_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="heldout has no files"):
        fetch(["heldout"], storage=UPath(tmp_path), source_dir=tmp_path)
    with pytest.raises(InputError, match="wanted --from DIR"):
        fetch(["lambada"], storage=UPath(tmp_path), source_dir=None)
    with pytest.raises(InputError, match="unknown benchmark lamda"):
        fetch(["lamda"], storage=UPath(tmp_path), source_dir=tmp_path)
