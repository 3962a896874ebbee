"""A sweep on an S3 server that refuses a share of the requests, and all of them for a minute: nothing is lost."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from upath import UPath

from ladder.platform.storage import open_storage
from tests.platform.launching.harness import Sweep, undisturbed, wait_for

pytest.importorskip("moto", reason="moto, an S3 server, is not installed")
PORT = 25055


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UPath]:
    """A storage in a bucket; the server's port is closed for N seconds by writing N to `away` beside it."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
    }.items():
        monkeypatch.setenv(name, value)
    script = Path(__file__).with_name("flaky_s3.py")
    with (tmp_path / "s3.log").open("w") as log:
        server = subprocess.Popen([sys.executable, script, str(PORT), "0.05", str(tmp_path)], stdout=log, stderr=log)
    root = open_storage("s3://bucket/ladder")

    def made() -> bool:
        try:
            root.fs.mkdir("bucket")
        except Exception as error:
            logging.info("not up yet: %s", error)
            return root.fs.exists("bucket")
        return True

    wait_for("S3 server", 60, made)
    yield root
    server.kill()
    server.wait()


@pytest.mark.endurance
@pytest.mark.timeout(900)
def test_refusals_of_an_object_store_lose_nothing(
    bucket: UPath, tmp_path: Path, storage: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Path(os.path.realpath(str(storage / "corpora" / "small")))
    for file in corpus.iterdir():
        (bucket / "corpora" / "small" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("LADDER_CACHE", str(tmp_path / "cache"))
    sweep = Sweep(tmp_path, bucket, tokens=(4_096_000,))
    sweep.file.write_text(sweep.file.read_text().replace("checkpoint_seconds=0.5", "checkpoint_seconds=4.0"))
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    driver = sweep.start("--tracking", tracking)
    wait_for(
        "two runs that train", 240, lambda: len([c for c in sweep.claims().values() if c.progress.get("step")]) > 1
    )
    before = {key: claim.expires for key, claim in sweep.claims().items()}
    (tmp_path / "away").write_text("60")
    wait_for("end of the minute", 120, lambda: not (tmp_path / "away").exists())
    wait_for("answer", 60, bucket.exists)
    assert driver.wait(500) == 0, sweep.said()
    claims = sweep.claims()
    assert {claim.epoch for claim in claims.values()} == {1}, "nobody was thought dead"
    assert all(claims[key].expires > before[key] for key in claims), "the heartbeat went on"
    local = Sweep(tmp_path / "local", storage, tokens=(4_096_000,))
    twin = undisturbed(local, tmp_path)
    assert sweep.results() == twin.results() and sweep.losses() == twin.losses()
    sweep.assert_tracked_exactly(tracking)
