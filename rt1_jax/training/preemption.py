"""Being told to go: SIGTERM, or what the cluster's own service makes of it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import jax

RESTART_CODE = 75
"""What the process exits with when it should be started again (EX_TEMPFAIL of sysexits.h)."""


class Preemption:
    """Notices SIGTERM while a run is going on, and at which step all processes stop for it.

    One process catches the signal itself. Of several, JAX's preemption service does, on any of
    them, and makes them stop at one step. Use it as a context; the former handler is put back.
    """

    def __init__(self) -> None:
        self._told = False
        self._former: Any = None
        # Only the main thread may set handlers; elsewhere, in a notebook's thread, there is none.
        self._own = (
            jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
        )

    def __enter__(self) -> Preemption:
        if self._own:
            self._former = signal.signal(signal.SIGTERM, self._tell)
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            signal.signal(signal.SIGTERM, self._former)

    def reached(self, step: int) -> bool:
        """Whether to save now and go; to be asked after every step, by every process."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._told

    def _tell(self, signum: int, frame: FrameType | None) -> None:
        self._told = True
