"""A sweep with folders as workers leave them, and MLflow servers that can be killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from ladder.platform.runs.curve import Curve, CurvePoint, read_curve
from ladder.platform.runs.lease import Lease, Outcome, acquire
from ladder.platform.storage import read_json, run_folder, write_json
from ladder.platform.tracking.database import open_tracking, tracking_uri
from ladder.platform.tracking.records import TrackedSweep, open_sweep
from ladder.platform.tracking.sender import Sender
from ladder.platform.tracking.sync import sync_runs
from ladder.sweeps.expand import CorpusFacts, expand
from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Run, Sweep, grid

SWEEP = Sweep(
    name="mine",
    corpus="c",
    context=32,
    points=grid(sizes=("2x32", "2x64"), tokens=(1024,)),
    recipe=small_recipe,
    question="What is asked.",
)
RUNS = expand(SWEEP, CorpusFacts(name="c", vocabulary=257, fingerprint="f"), precision="fp32")
EXECUTION = {"precision": "fp32", "device": "cpu"}
SCORES_MS = 1_700_000_900_000


def point(step: int, time_ms: int | None = None) -> CurvePoint:
    """A point of a curve, made at a time of its own."""
    at = 1_700_000_000_000 + 1000 * step if time_ms is None else time_ms
    return {"step": step, "time_ms": at, "train/loss": 5.0 - step / 1000, "train/tokens": 512.0 * step}


def score(benchmark: str, value: float) -> dict[str, Any]:
    """A measurement as a result holds it."""
    return {"benchmark": benchmark, "metric": "loss", "value": value, "unit": "nats", "direction": "lower"}


class Folder:
    """A run's folder, written as its workers write it."""

    def __init__(self, storage: UPath, sweep: Sweep, run: Run) -> None:
        self.run, self.path = run, run_folder(storage, sweep.name, run.key)

    def take_up(self) -> tuple[Lease, Curve]:
        """The lease and the curve of a new attempt."""
        lease = acquire(self.path, "worker")
        assert lease is not None
        return lease, Curve(self.path, lease.epoch)

    def attempt(self, steps: range, outcome: Outcome | None, reason: str | None = None) -> Lease:
        """An attempt from its first step to its end; None: its worker was killed."""
        lease, curve = self.take_up()
        for step in steps:
            curve.add(point(step))
        curve.publish()
        if outcome is None:
            kill(lease)
        else:
            lease.end(outcome, reason)
        return lease

    def finish(self, steps: range = range(1, 11), *scores: dict[str, Any]) -> None:
        """An attempt that ends with a result."""
        lease, curve = self.take_up()
        for step in steps:
            curve.add(point(step))
        curve.publish()
        measurements = list(scores) or [score("heldout", 2.5)]
        result = {"run": self.run.key, "step": 10, "execution": EXECUTION, "measurements": measurements}
        write_json(self.path / "result.json", result | {"time_ms": SCORES_MS})
        lease.end("finished")

    @property
    def spool(self) -> Counter[tuple[Any, ...]]:
        """The multiset of (metric, step, time, value) that the folder holds."""
        points = [
            (name, int(p["step"]), int(p["time_ms"]), value)
            for p in read_curve(self.path)
            for name, value in p.items()
            if name not in ("step", "time_ms")
        ]
        result = read_json(self.path / "result.json") or {"measurements": []}
        scores = [
            (f"{m['benchmark']}/{m['metric']}", result["step"], result["time_ms"], m["value"])
            for m in result["measurements"]
        ]
        charts = [
            (name, step, result["time_ms"], m["value"])
            for m in result["measurements"]
            if m["benchmark"] == "heldout"
            for name, step in (
                ("scaling/loss_over_params", self.run.size.params_total),
                ("scaling/loss_over_megaflops", round(6 * self.run.size.params_total * self.run.recipe.tokens / 1e6)),
            )
        ]
        return Counter(points + scores + charts)


def kill(lease: Lease) -> None:
    """Leave a claim as a worker that was killed leaves it: open, its process gone."""
    path = lease.folder / "claims" / f"{lease.epoch:06d}.json"
    write_json(path, json.loads(path.read_text()) | {"process_started": 0.0})


class World:
    """A storage with the folders of a sweep, and MLflow beside it or on a server."""

    sweep, runs, execution = SWEEP, RUNS, EXECUTION
    point, score = staticmethod(point), staticmethod(score)

    def __init__(self, storage: UPath, uri: str) -> None:
        self.storage, self.uri = storage, uri
        self.folders = [Folder(storage, SWEEP, run) for run in RUNS]
        self.client = open_tracking(uri)
        self.tracked: TrackedSweep

    @staticmethod
    def wait_for(what: Callable[[], bool]) -> None:
        """Wait until something is so; the test's own time limit ends it."""
        wait_for(what)

    def open(self) -> TrackedSweep:
        """Open the sweep as a driver does."""
        self.tracked = open_sweep(self.client, SWEEP, RUNS, self.storage)
        return self.tracked

    def sync(self, client: Any = None, files: Mapping[str, Collection[str]] | None = None) -> None:
        """Bring MLflow to what the folders say."""
        sync_runs(client or self.client, self.tracked, SWEEP, RUNS, self.storage, files)

    def sender(self, lease: Lease, curve: Curve, number: int = 0) -> Sender:
        """A sender of a run that looks for points all the time."""
        sender = Sender(self.tracked, RUNS[number], curve, lease, params=EXECUTION)
        sender.pause = 0.05
        return sender

    def experiment(self) -> str:
        """MLflow's id of the sweep's experiment."""
        found = self.client.get_experiment_by_name(SWEEP.name)
        assert found is not None
        return str(found.experiment_id)

    def parents(self) -> list[Any]:
        """MLflow's runs of the experiment that are no run's, deleted ones left out."""
        found = self.client.search_runs([self.experiment()])
        return [record for record in found if "ladder.run" not in record.data.tags]

    def records(self, number: int = 0) -> list[Any]:
        """MLflow's records of a run, deleted ones left out."""
        return list(self.client.search_runs([self.experiment()], f"tags.`ladder.run` = '{RUNS[number].key}'"))

    def record(self, number: int = 0) -> Any:
        """MLflow's record of a run, of which there is one."""
        (record,) = self.records(number)
        return record

    def history(self, number: int = 0) -> Counter[tuple[Any, ...]]:
        """The multiset of (metric, step, time, value) that MLflow holds of a run."""
        record = self.record(number)
        return Counter(
            (name, m.step, m.timestamp, m.value)
            for name in record.data.metrics
            for m in self.client.get_metric_history(record.info.run_id, name)
        )


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with MLflow's tables, to be copied: to make them takes seconds."""
    folder = tmp_path_factory.mktemp("database")
    open_tracking(tracking_uri(None, UPath(folder)))
    return folder / "mlflow.db"


@pytest.fixture
def world(tmp_path: Path, database: Path) -> World:
    """A sweep tracked in an SQLite file."""
    storage = tmp_path / "storage"
    storage.mkdir()
    shutil.copy(database, storage)
    return World(UPath(storage), tracking_uri(None, UPath(storage)))


@pytest.fixture
def served(server: "Server", tmp_path: Path) -> World:
    """A sweep tracked on a server."""
    return World(UPath(tmp_path / "storage"), server.uri)


def wait_for(what: Callable[[], bool]) -> None:
    """Wait until something is so; the test's own time limit ends it."""
    while not what():
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """An MLflow server on a database, as a process group that can be killed."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.database, self.port = folder, database, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)),
            *("--backend-store-uri", self.database, "--artifacts-destination", str(self.folder / "artifacts")),
        ]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers)

    def kill(self) -> None:
        """End it and its workers at once, as a lost machine does."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.folder / "server.log").read_text()
        with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False


class Sqlite:
    """Databases in files."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.path, self.template = folder / "mlflow.db", template
        self.uri = f"sqlite:///{self.path}"
        self.renew()

    def renew(self) -> None:
        """Replace the database by an empty one."""
        self.path.unlink(missing_ok=True)
        shutil.copy(self.template, self.path)


class Postgres:
    """Databases in a PostgreSQL server of our own, which refuses to run as root."""

    def __init__(self, binaries: Path, driver: Any) -> None:
        self.driver = driver
        self.folder = Path(tempfile.mkdtemp(prefix="ladder-postgres-"))
        self.options: dict[str, Any] = {}
        if os.getuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
            self.options = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        self.binaries, self.port, self.number = binaries, free_port(), 0
        self._call("initdb", "--auth=trust", "--username=ladder", "--no-sync", str(self.folder / "data"))
        settings = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -F"
        self._call("pg_ctl", "-w", "-D", str(self.folder / "data"), "-o", settings, "-l", str(self.log), "start")
        self.renew()

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def uri(self) -> str:
        # The driver by name: that of SQLAlchemy 2.1 is another.
        return f"postgresql+psycopg2://ladder@127.0.0.1:{self.port}/mlflow"

    def renew(self) -> None:
        """Replace the database by an empty one."""
        connection = self.driver.connect(f"postgresql://ladder@127.0.0.1:{self.port}/postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("DROP DATABASE IF EXISTS mlflow WITH (FORCE)")
            cursor.execute("CREATE DATABASE mlflow")
        connection.close()

    def stop(self) -> None:
        self._call("pg_ctl", "-m", "immediate", "-D", str(self.folder / "data"), "stop")
        shutil.rmtree(self.folder)

    def _call(self, name: str, *arguments: str) -> None:
        command = [str(self.binaries / name), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, **self.options)
        assert done.returncode == 0, f"{done.stderr}\n{self.log.read_text() if self.log.exists() else ''}"


def postgres_binaries() -> Path:
    """The folder of PostgreSQL's programs; skips where there is none."""
    found = [path.resolve().parent for path in (Path(shutil.which("initdb") or ""),) if path.is_file()]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("PostgreSQL is not installed: no initdb in PATH or in /usr/lib/postgresql/*/bin")
    return found[0]


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path, database: Path) -> Iterator[Sqlite | Postgres]:
    """Where the MLflow server keeps its data: `sqlite` or `postgres`."""
    if request.param == "sqlite":
        yield Sqlite(tmp_path, database)
        return
    postgres = Postgres(postgres_binaries(), pytest.importorskip("psycopg2"))
    yield postgres
    postgres.stop()


@pytest.fixture
def server(backend: Sqlite | Postgres, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, backend.uri)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def away_seconds() -> float:
    """How long a killed server stays away."""
    return float(os.environ.get("LADDER_TEST_AWAY_SECONDS", "3"))
