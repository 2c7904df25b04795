"""Several processes as one run: who they are, that they agree, that none begins too early."""

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest

from rt1_jax.training import hosts
from rt1_jax.training.hosts import HostsError


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


@pytest.fixture
def compilations():
    """One entry for each time that XLA compiles."""
    found = []

    def listen(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_all_have_compiled_before_one_begins(monkeypatch, compilations):
    """And what is called then is what was compiled."""
    at_barrier = []

    def wait(key, timeout_ms):
        at_barrier.append((key, len(compilations), timeout_ms))

    monkeypatch.setattr(jax, "process_count", lambda *_: 2)
    monkeypatch.setattr(ocp.multihost, "get_barrier_sync_fn", lambda **_: wait)
    x = jnp.arange(4.0)
    step = jax.jit(lambda x: jnp.sin(x) @ x)
    compilations.clear()
    hosts.compile_together("step", step, x)
    (key, compiled, timeout_ms), *others = at_barrier
    assert "step" in key
    assert compiled == 1
    assert timeout_ms > 60_000
    assert not others
    step(x)
    assert len(compilations) == 1


def test_one_alone_compiles_when_it_calls():
    step = jax.jit(lambda x: pytest.fail("traced"))
    hosts.compile_together("step", step, 1.0)
