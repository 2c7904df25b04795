"""Processes that disagree or stand still."""

import threading
import time

import pytest

from rt1_jax.training import hosts
from rt1_jax.training.hosts import HostsError
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


@pytest.mark.parametrize(
    "given", [("host:1", 0, -1), ("", 2, 0), ("host:1", 2, 2), ("host:1", 2, -1)]
)
def test_flags_that_say_half(given):
    with pytest.raises(HostsError, match="expected HOST:PORT of process 0"):
        hosts.initialize(*given)


def test_a_process_alone(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "SLURM_NTASKS", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hosts.jax.distributed, "initialize", lambda *a, **k: pytest.fail("joined"))
    hosts.initialize()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    hosts.initialize()
    assert hosts.gather_json({"a": 1}) == [{"a": 1}]
    hosts.check_agreement({"a": 1})


def test_what_differs_is_named(monkeypatch):
    both = [{"config.seed": 0, "checkpoint": 4}, {"config.seed": 0, "checkpoint": None}]
    monkeypatch.setattr(hosts, "gather_json", lambda _: both)
    with pytest.raises(HostsError, match=r"checkpoint is 4 on process 0 and None on process 1"):
        hosts.check_agreement(both[1])
