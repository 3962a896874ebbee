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


def count_cores() -> int:
    """Cores that this process may use, where the system can tell (macOS cannot), otherwise all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
