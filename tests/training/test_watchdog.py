"""A run that stands still."""

import threading
import time

from rt1_jax.training.watchdog import Watchdog


def test_a_run_that_stands_still():
    said, told = [], threading.Event()

    def stop(message):
        said.append(message)
        told.set()

    watchdog = Watchdog(0.2, stop)
    watchdog.doing("the next batch of the data")
    assert told.wait(10)
    watchdog.close()
    assert "while waiting for the next batch of the data" in said[0]
    assert "guards.stall_seconds is 0.2" in said[0]


def test_signs_of_life_and_what_may_take_long():
    said = []
    watchdog = Watchdog(0.3, said.append)
    for step in range(8):
        watchdog.doing(f"step {step}")
        time.sleep(0.1)
    watchdog.doing("")  # compiling
    time.sleep(0.8)
    watchdog.close()
    assert not said
    off = Watchdog(0.0, said.append)
    off.doing("anything")
    off.close()
