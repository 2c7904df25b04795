"""libtpu as a compiler alone. Imports no JAX, so that it can come before it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_OWN = (os.sched_getscheduler(0), os.sched_getparam(0)) if hasattr(os, "sched_getparam") else None
"""How this process was scheduled when nothing of libtpu had run in it."""


def set_libtpu_environment() -> None:
    """Keeps libtpu from looking for this machine's TPU and for the server that describes it.

    It asks, and complains, when JAX is imported: of use before that, and good enough after it.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nothing is run on a TPU
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")


@contextlib.contextmanager
def ordinary_scheduling() -> Iterator[None]:
    """Gives this process' threads their scheduling back after libtpu was at work.

    As root it has been seen to leave the calling thread in the real-time class, from which it
    starves all other processes, and which children inherit; not each time, and perhaps not at once.
    """
    try:
        yield
    finally:
        restore_scheduling()


def restore_scheduling() -> None:
    """Threads that are in a real-time class, where the process began in none, leave it."""
    if _OWN is not None and _OWN[0] not in (os.SCHED_FIFO, os.SCHED_RR):
        for thread in [0, *_threads()]:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if os.sched_getscheduler(thread) in (os.SCHED_FIFO, os.SCHED_RR):
                    os.sched_setscheduler(thread, *_OWN)


def _threads() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return []
