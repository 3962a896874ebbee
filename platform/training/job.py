"""What a worker does with one run: train it from where it stands, score it, and leave a result.

Plain PyTorch and files, started by Ray or by a test. Starting it at the end of a run is harmless: it trains nothing and
scores only what is not scored yet.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import torch
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import open_corpus
from ladder.platform.evaluation.checkpoints.score import Outcome, ScoringTask, score_checkpoint
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.evaluation.own.file import OwnFile
from ladder.platform.evaluation.protocol import Protocol
from ladder.platform.evaluation.registry import definitions
from ladder.platform.processes import keep_large_buffers, yield_to_training
from ladder.platform.runs.attempt import RESULT, Attempt, newest_step
from ladder.platform.runs.checkpoints import new_checkpoint, newest_intact, publish_checkpoint, read_mark
from ladder.platform.runs.curve import read_curve
from ladder.platform.runs.status import missing_benchmarks
from ladder.platform.storage import open_storage, persistently, read_json, run_folder, write_json
from ladder.platform.tracking.records import TrackedSweep
from ladder.platform.tracking.sender import Sender
from ladder.platform.training.checkpoint import Snapshot, read_state, write_checkpoint
from ladder.platform.training.train import Diverged, Metrics, Trainer
from ladder.platform.training.worker import Worker
from ladder.sweeps.trunks import Relative
from ladder.sweeps.words import Execution, Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to do, with all that a worker needs to know; it travels to the worker as it is."""

    run: Run
    """What to train."""
    execution: Execution
    """How."""
    sweep: str
    """Name of the sweep that the run belongs to."""
    storage: str
    """Storage root, a path or URI."""
    tracking: TrackedSweep
    """The sweep in MLflow."""
    benchmarks: tuple[str, ...]
    """What to score at the end, besides held-out loss."""
    own: tuple[OwnFile, ...] = ()
    """The files that define the user's own benchmarks among them."""
    heldout_tokens: int
    """Held-out tokens to measure the held-out loss on, at most."""
    relatives: tuple[Relative, ...] = ()
    """Runs of the sweep that begin as this one does."""

    @property
    def definitions(self) -> dict[str, str]:
        """The benchmarks by name, with the hash of what defines each; empty for those of ladder."""
        return definitions(self.benchmarks, self.own)

    @property
    def folder(self) -> UPath:
        """Where the run's claims, curve, checkpoints and result are kept."""
        return self.folder_of(self.run.key)

    def folder_of(self, key: str) -> UPath:
        """The folder of a run of the sweep."""
        return run_folder(open_storage(self.storage), self.sweep, key)


def run_job(job: Job, worker: Worker, attempt: Attempt | None) -> None:
    """Train a run from its newest intact checkpoint, and score it; every worker of the run calls this, the first one
    with the attempt that it works under.

    Of several workers none scores: they leave the trained checkpoint to a process of its own, so that their GPUs are
    free for the next run. A run that diverges is marked as failed and not raised, since every try would end the same
    way. Anything else that goes wrong is raised, here and so for all workers by whoever started them.
    """
    assert worker.first == (attempt is not None), "the first worker holds the lease"
    torch.set_num_threads(job.execution.cpus_per_worker)
    keep_large_buffers()
    trained = _train(job, worker, attempt)
    if attempt is None or not trained:
        return
    if worker.world_size > 1:
        attempt.end("trained")
    else:
        score_job(job, attempt, worker.device)


def score_job(job: Job, attempt: Attempt, device: torch.device) -> None:
    """Score the trained checkpoint of a run on what it has no score of, and leave the result in its folder.

    Raises InputError where a benchmark cannot be scored.
    """
    attempt.say(phase="scoring", step=job.run.recipe.steps, tokens=job.run.recipe.tokens)
    started = time.perf_counter()
    with newest_intact(job.folder) as checkpoint:
        state = None if checkpoint is None else read_state(checkpoint, runs=(job.run.key,))
        if checkpoint is None or state is None or state.step < job.run.recipe.steps:
            attempt.say(phase="training")
            attempt.end("released", "the trained checkpoint is damaged; the run is trained again from the one before")
            return
        result = persistently(lambda: read_json(job.folder / RESULT)) or {}
        task = ScoringTask(
            checkpoint=str(checkpoint),
            benchmarks=tuple(persistently(lambda: missing_benchmarks(job.folder, job.definitions))),
            own=job.own,
            storage=job.storage,
            corpus=job.run.corpus,
            device=device.type,
            precision=state.precision,
            protocol=Protocol(heldout_tokens=job.heldout_tokens),
        )
        # What was scored before a refusal is in the cache.
        measurements = persistently(lambda: [m for outcome in score_checkpoint(task) for m in _scores(outcome)])
        execution = read_mark(UPath(checkpoint))["execution"]
    persistently(attempt.lease.check)
    done = {
        "run": job.run.key,
        "step": state.step,
        "time_ms": result.get("time_ms", int(time.time() * 1000)),
        "execution": result.get("execution", execution),
        "measurements": _joined(result.get("measurements", []), measurements),
        "seconds_training": result.get("seconds_training", state.seconds_training),
        "seconds_scoring": result.get("seconds_scoring", 0.0) + time.perf_counter() - started,
    }
    persistently(lambda: write_json(job.folder / RESULT, done))
    attempt.say(phase="done", seconds_left=0.0)
    attempt.end("finished")


def _joined(before: Sequence[dict[str, Any]], measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """A result's measurements with new ones; those that take another's place have a time of their own."""
    new = {measurement.benchmark for measurement in measurements}
    replaced = {measurement["benchmark"] for measurement in before} & new
    time_ms = {"time_ms": int(time.time() * 1000)}
    return [m for m in before if m["benchmark"] not in new] + [
        m.to_json() | (time_ms if m.benchmark in replaced else {}) for m in measurements
    ]


def _scores(outcome: Outcome) -> tuple[Measurement, ...]:
    if outcome.problem is not None:
        raise InputError(f"scoring {outcome.benchmark or 'the checkpoint'}: {outcome.problem}")
    return outcome.measurements


def _train(job: Job, worker: Worker, attempt: Attempt | None) -> bool:
    """Train to the end of the recipe; False where the run diverged, which is noted."""
    shared = {job.folder_of(relative.run): relative.shared_steps for relative in job.relatives}
    with newest_intact(job.folder, shared) if worker.first else contextlib.nullcontext() as resume:
        keys = (job.run.key, *(relative.run for relative in job.relatives))
        begun = read_state(resume, runs=keys) if resume is not None else None
        if worker.from_first(begun is not None and begun.step == job.run.recipe.steps):
            return True
        corpus = persistently(lambda: open_corpus(open_storage(job.storage), job.run.corpus))
        if corpus.fingerprint != job.run.corpus_fingerprint:
            raise InputError(f"corpus {corpus.name} is no longer the one that the sweep was started on")
        trainer = Trainer(
            job.run, job.execution, stream=corpus.train, worker=worker, resume=resume, relatives=job.relatives
        )
    if attempt is None:
        return _finishes(lambda: trainer.train(log=lambda metrics: None, save=lambda snapshot: None))
    params = _execution_params(job, trainer, corpus.tokenizer)
    if begun is not None and begun.run != job.run.key:
        _copy_curve(attempt, job.folder_of(begun.run), steps=begun.step)
    saved = persistently(lambda: newest_step(job.folder))
    attempt.say(phase="training", step=trainer.step, steps=job.run.recipe.steps, saved=saved)
    sender = Sender(job.tracking, job.run, attempt.curve, attempt.lease, params=params)
    saver = CheckpointSaver(attempt, trainer, tokenizer=corpus.tokenizer, params=params)
    sender.start()
    diverged: Diverged | None = None
    try:
        with saver:
            trainer.train(log=lambda metrics: _log(attempt, job.run, metrics), save=saver.save)
    except Diverged as error:
        diverged = error
    finally:
        sender.close()  # before the attempt ends: what the driver then says in MLflow is the last word
        attempt.say(tracked=sender.acknowledged)  # what the driver need not send again
    if diverged is not None:
        attempt.end("failed", f"{diverged} of {job.run.recipe.steps}; last good checkpoint: {saver.last or 'none'}")
    return diverged is None


def _copy_curve(attempt: Attempt, relative: UPath, *, steps: int) -> None:
    """Take over the points of the steps that a relative trained; they were published before its checkpoint."""
    for point in persistently(lambda: read_curve(relative)):
        if point["step"] <= steps:
            attempt.curve.add(point)


def _finishes(train: Callable[[], None]) -> bool:
    """Whether training comes to its end, as all workers of a run see alike."""
    try:
        train()
    except Diverged:
        return False
    return True


class CheckpointSaver:
    """Saves checkpoints while training goes on, one at a time: the loop waits for the copy of the tensors only."""

    def __init__(self, attempt: Attempt, trainer: Trainer, *, tokenizer: str, params: dict[str, str]) -> None:
        self.attempt, self.trainer, self.tokenizer, self.params = attempt, trainer, tokenizer, params
        self.last: str | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=yield_to_training)
        self._saving: Future[None] | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Save a snapshot, after the one before. Raises what went wrong with that one, such as LeaseLost.

        The last one is saved at once: no training is left to go on meanwhile, and the thread, which yields to whatever
        else the machine does, would keep the run waiting on a busy one.
        """
        self.wait()
        if snapshot.state.step == self.trainer.run.recipe.steps:
            self._write(snapshot)
        else:
            self._saving = self._thread.submit(self._write, snapshot)

    def wait(self) -> None:
        """Wait for the checkpoint that is being written, if any; raises what went wrong with it."""
        if self._saving is not None:
            self._saving.result()

    def _write(self, snapshot: Snapshot) -> None:
        attempt, step = self.attempt, snapshot.state.step
        with new_checkpoint(attempt.folder, step=step, epoch=attempt.lease.epoch) as folder:
            mark = write_checkpoint(folder, snapshot, tokenizer=self.tokenizer)
            persistently(attempt.curve.publish)  # a checkpoint never has steps that the curve lacks
            kept = publish_checkpoint(
                folder,
                attempt.folder,
                {**mark, "execution": self.params, "recipe": asdict(self.trainer.run.recipe)},
                keep=self.trainer.execution.keep_checkpoints,
                check=attempt.lease.check,
                keep_steps=self.trainer.branch_steps,
            )
        self.last = kept.name
        attempt.say(saved=step)
        persistently(attempt.renew)  # those who wait to branch off read it

    def __enter__(self) -> "CheckpointSaver":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.wait()
        except Exception:
            if kind is None:
                raise
            logger.exception("the last checkpoint of %s could not be saved", self.attempt.folder)
        finally:
            self._thread.shutdown()


def _log(attempt: Attempt, run: Run, metrics: Metrics) -> None:
    rate = metrics["train/tokens_per_second"]
    attempt.say(
        step=int(metrics["step"]),
        tokens=int(metrics["train/tokens"]),
        loss=metrics["train/loss"],
        tokens_per_second=rate,
        seconds_left=(run.recipe.tokens - metrics["train/tokens"]) / rate,
    )
    attempt.log(metrics)


def _execution_params(job: Job, trainer: Trainer, tokenizer: str) -> dict[str, str]:
    device = trainer.worker.device
    params = {
        "tokenizer": tokenizer,
        "precision": trainer.precision,
        "attention": trainer.attention.backend,
        "attention_operator": trainer.attention.operator,
        "attention_reason": trainer.attention.reason,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "peak_flops": f"{trainer.peak:.4g}",
        "peak_flops_source": trainer.peak_source,
        "workers": job.execution.workers,
        "cpus_per_worker": job.execution.cpus_per_worker,
        "strategy": trainer.engine.strategy,
        "activation_checkpointing": trainer.engine.activation_checkpointing,
        "micro_batch_sequences": trainer.micro,
        "compile": job.execution.compile,
        "shared_steps": trainer.shared_steps,
    }
    return {key: str(value) for key, value in params.items()}
