"""How tasks of lm-evaluation-harness are named among benchmarks: `harness-arc_easy`, or a task's own YAML file."""

from ladder.models.errors import InputError

PREFIX = "harness-"
"""Begins the name of a benchmark that is a task of the harness."""

FILE_SUFFIX = ".yaml"
"""Ends the path of a task's own file."""


def is_harness_name(word: str) -> bool:
    """Whether a word names a task, a group or a tag of the harness."""
    return word.startswith(PREFIX)


def as_benchmark_word(task: str) -> str:
    """A task of the harness, or its file, as it is named among benchmarks."""
    return task if task.endswith(FILE_SUFFIX) or is_harness_name(task) else PREFIX + task


def require_harness() -> None:
    """InputError, with the remedy, where lm-evaluation-harness is not installed."""
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"tasks of lm-evaluation-harness want the package lm-eval ({error}): pip install 'ladder[harness]'"
        ) from error
