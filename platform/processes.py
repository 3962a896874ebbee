"""Processes on this machine: how many cores there are for them, how they keep memory and end with their parent."""

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import sys
import threading

# malloc.h: parameters of mallopt.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3


WAIT_POLICY = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
"""How long an idle thread of OpenMP looks for work before it sleeps: some 50 us for GNU's, 1 ms for LLVM's, where their
defaults are milliseconds. As long as the gap between two operations, and no longer: with another process on one of two
cores, threads that spin keep those off that they wait for. Scoring 2,048 tokens of 4x128 then took 1.6 to 3.2 s by
default and .10 to .42 s with this (.43 to .57 s on one thread)."""


def count_cores() -> int:
    """Cores that this process may use, where the system can tell (macOS cannot), otherwise all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_wait_policy() -> None:
    """Has this process' OpenMP threads, and those of its children, sleep soon when they wait; where the user's
    environment says how they wait, it stays. OpenMP reads it when it is loaded, so before torch is imported."""
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in WAIT_POLICY.items():
            os.environ.setdefault(name, value)


def keep_large_buffers() -> bool:
    """Keep freed buffers of up to 1 GiB in the process; returns whether the C library could be told so.

    By default glibc gives every buffer over 32 MiB back and asks for it anew, page fault by page fault. With 50,257
    classes the loss makes such buffers at every step: kept, a step of 4x128 took half the time (547 ms after 1,137).
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, 2**30) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def yield_to_training() -> None:
    """Give this thread the lowest priority, so that it works where the training's threads leave a core idle.

    Two cores that compute one step in parts wait for each other: a third thread on one of them would halve both.
    Only Linux has priorities of threads.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def end_with_parent() -> None:
    """Makes this worker process end when its parent is gone: one that was killed cannot tell its workers to stop."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
