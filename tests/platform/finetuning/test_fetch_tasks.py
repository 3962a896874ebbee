"""`ladder fetch --tasks` installs what `ladder finetune` reads, and nothing that is not what was published."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.finetuning import published
from ladder.platform.finetuning.fetch import fetch_tasks
from ladder.platform.finetuning.published import PUBLISHED
from ladder.platform.finetuning.registry import TASKS
from ladder.platform.finetuning.task import find_files, read_split


def test_every_task_has_files_for_each_of_its_splits() -> None:
    assert PUBLISHED.keys() == TASKS.keys()
    for name, files in PUBLISHED.items():
        assert all(file.sha256 or file.archive_sha256 or not file.downloadable for file in files), name


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_task_finds_its_splits_among_what_is_fetched(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    for file in PUBLISHED[name]:
        path = tmp_path / task.folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert all(find_files(task, UPath(tmp_path), split) for split in ("train", *task.scored_splits))


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small SST-2.zip in a folder, taken for the published one."""
    folder = tmp_path / "copies"
    folder.mkdir()
    with zipfile.ZipFile(folder / "SST-2.zip", "w") as packed:
        packed.writestr("SST-2/train.tsv", "sentence\tlabel\ngood\t1\nbad\t0\n")
        packed.writestr("SST-2/dev.tsv", "sentence\tlabel\nfine\t1\n")
    digest = hashlib.sha256((folder / "SST-2.zip").read_bytes()).hexdigest()
    known = tuple(replace(file, archive_sha256=digest) for file in PUBLISHED["sst2"])
    monkeypatch.setitem(published.PUBLISHED, "sst2", known)
    return folder


def test_what_is_fetched_is_read_by_the_task(archive: Path, tmp_path: Path) -> None:
    storage = UPath(tmp_path / "storage")
    paths = fetch_tasks(["sst2"], storage=storage, source_dir=archive)
    assert [path.name for path in paths] == ["train.tsv", "dev.tsv"]
    examples = read_split(TASKS["sst2"], storage / "tasks", "train")
    assert [(one.texts, one.label) for one in examples] == [(("good",), 1), (("bad",), 0)]


def test_another_archive_is_refused_and_nothing_is_installed(archive: Path, tmp_path: Path) -> None:
    (archive / "SST-2.zip").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"task sst2: train.tsv was not installed.*ladder fetch --tasks sst2 --from"):
        fetch_tasks(["sst2"], storage=UPath(tmp_path / "storage"), source_dir=archive)
    assert not list((tmp_path / "storage").rglob("*.tsv"))
