"""A sweep as a job of a running Ray cluster: the code and the sweep's file travel, the cluster's head runs them."""

import shlex
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

import ladder
from ladder.models.errors import InputError
from ladder.platform.evaluation.own.file import is_own_file
from ladder.platform.launching.display import TO_DO
from ladder.platform.provenance import write_commit
from ladder.sweeps.load import load_sweep

AGENT_SECONDS = 90.0
"""How long a job agent may take to come up."""

START_SECONDS = 60.0
"""How long a submission is watched for a mistake that the cluster finds: a size that no node holds, above all."""

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


def submit(sweep_file: Path, options: Sequence[str], *, address: str) -> str:
    """Submit `ladder run` of a sweep's file, with further options for it, to the job server at `address`.

    Returns the job's id. Raises InputError where no job server answers.
    """
    with tempfile.TemporaryDirectory(prefix="ladder-submit-") as folder:
        stage(sweep_file, Path(folder))
        run = ["run", f"submitted/{sweep_file.name}", "--address", "auto", *options]
        entrypoint = ["python", "-m", "ladder.platform.launching.supervisor", *run]
        return _submit(_client(address), shlex.join(entrypoint), folder, address)


def _submit(client: JobSubmissionClient, entrypoint: str, folder: str, address: str) -> str:
    """Submit, waiting for a cluster whose head has just come up and whose job agent has not."""
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            return str(client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": folder}))
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise InputError(f"the job server at {address} did not take the job: {error}") from error
            time.sleep(2)


def stage(sweep_file: Path, folder: Path) -> None:
    """Lay out what the cluster needs: the package `ladder` as it is here, and the sweep's file."""
    package = Path(ladder.__file__).parent
    # The areas are links here; what travels are the folders themselves.
    shutil.copytree(package, folder / "ladder", symlinks=False, ignore=shutil.ignore_patterns("__pycache__"))
    write_commit(folder / "ladder")
    (folder / "submitted").mkdir()
    shutil.copyfile(sweep_file, folder / "submitted" / sweep_file.name)
    for benchmark in load_sweep(str(sweep_file)).benchmarks:
        if is_own_file(benchmark):
            _stage_beside(sweep_file, Path(benchmark), folder / "submitted")


def _stage_beside(sweep_file: Path, benchmark: Path, folder: Path) -> None:
    """Put a benchmark's file where the sweep's file finds it on the cluster."""
    if not benchmark.is_file() or not benchmark.resolve().is_relative_to(sweep_file.parent.resolve()):
        raise InputError(f"benchmark file {benchmark}: to be submitted it must stand beside {sweep_file} or below")
    target = folder / benchmark.resolve().relative_to(sweep_file.parent.resolve())
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(benchmark, target)


def exit_code(job_id: str, *, address: str) -> int | None:
    """A job's exit code, 1 where it was stopped or never had one; None while it goes on."""
    info = _client(address).get_job_info(job_id)
    if info.status.value not in ENDED:
        return None
    return 0 if info.status.value == "SUCCEEDED" else info.driver_exit_code or 1


def wait(job_id: str, *, address: str, until_begun: bool = False) -> int | None:
    """Wait for a job to end; its exit code.

    `until_begun` waits only until its driver has looked at the sweep and the cluster and refused nothing, or for
    `START_SECONDS`, and gives None then.
    """
    deadline = time.monotonic() + START_SECONDS
    while (code := exit_code(job_id, address=address)) is None:
        if until_begun and (TO_DO in logs(job_id, address=address) or time.monotonic() > deadline):
            return None
        time.sleep(1)
    return code


def logs(job_id: str, *, address: str) -> str:
    """What a job has printed so far."""
    return str(_client(address).get_job_logs(job_id))


def _client(address: str) -> JobSubmissionClient:
    wanted = "Wanted its dashboard's address, such as http://127.0.0.1:8265 after `ray dashboard cluster.yaml`."
    if not address.startswith(("http://", "https://")):  # Ray would look for a cluster there, for minutes
        raise InputError(f"{address} is no address of a Ray job server. {wanted}")
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise InputError(
            f"the job server at {address} wants a token, or another one than this: `export RAY_AUTH_MODE=token`, with "
            "the cluster's token in ~/.ray/auth_token."
        ) from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"no Ray job server answers at {address}: {str(error).rstrip('.')}. {wanted}") from error
