"""Ends a run that stands still, and says where it stood."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

from rt1_jax.training.preemption import RESTART_CODE


class Watchdog:
    """A thread that ends the process when nothing has happened for too long.

    A collective that waits for a host that is gone waits for ever, and so does an input whose
    file system hangs; neither raises anything.

    Args:
      seconds: without a sign; 0 is no watchdog.
      stop: called with the message in place of ending the process.
    """

    def __init__(self, seconds: float, stop: Callable[[str], None] | None = None) -> None:
        self._seconds = seconds
        self._stop = stop or _end_process
        self._doing = ""
        self._since = time.monotonic()
        self._closed = threading.Event()
        if seconds > 0:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def doing(self, what: str) -> None:
        """A sign of life: what is waited for from now on; "" is nothing that can be too long."""
        self._doing, self._since = what, time.monotonic()

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(self._seconds / 4, 5.0)):
            doing, waited = self._doing, time.monotonic() - self._since
            if doing and waited > self._seconds:
                self._stop(
                    f"nothing has happened for {waited:.0f} s (guards.stall_seconds is "
                    f"{self._seconds:g}) while waiting for {doing}"
                )
                return


def _end_process(message: str) -> None:
    print(f"\ntrain.py: {message}; where each thread stands:", file=sys.stderr, flush=True)
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    os._exit(RESTART_CODE)  # exit handlers would wait for what stands still
