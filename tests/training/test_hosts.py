"""Several processes as one run: who they are, that they agree, that none begins too early."""

import contextlib
import http.server
import json
import threading

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import processes
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


def joined(environments, *arguments):
    """What processes with these variables say of themselves, by process."""
    started = [processes.start("join.py", *arguments, **each) for each in environments]
    return [json.loads(processes.finish(each, 120).splitlines()[-1]) for each in started]


def slurm(number, tasks, nodes, local):
    return {
        "SLURM_JOB_ID": str(threading.get_native_id()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(tasks),
        "SLURM_STEP_NUM_NODES": str(nodes),
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(local),
    }


def test_one_task_a_node_has_all_of_its_gpus():
    assert joined([slurm(number, tasks=2, nodes=2, local=0) for number in range(2)]) == [
        {"process": number, "processes": 2, "gpus": "all"} for number in range(2)
    ]


def test_several_tasks_a_node_have_one_each():
    assert joined([slurm(number, tasks=2, nodes=1, local=number) for number in range(2)]) == [
        {"process": number, "processes": 2, "gpus": str(number)} for number in range(2)
    ]


def test_which_gpus_can_be_said():
    both = [
        slurm(number, tasks=2, nodes=2, local=0) | {"JAX_LOCAL_DEVICE_IDS": "0,2"}
        for number in range(2)
    ]
    assert [each["gpus"] for each in joined(both)] == ["0,2", "0,2"]


@contextlib.contextmanager
def tpu_metadata(attributes):
    """A server that says what a Cloud TPU VM's metadata say; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = attributes.get(self.path.rsplit("/", 1)[-1])
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write((found or "").encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_hosts_of_a_tpu_slice_find_each_other_by_its_metadata():
    """Without a variable or flag; by JAX's own reading of the metadata."""
    port = processes.coordinator().split(":")[1]
    with contextlib.ExitStack() as stack:
        each = [
            {
                "GCE_METADATA_IP": stack.enter_context(
                    tpu_metadata(
                        {
                            "agent-worker-number": str(number),
                            "worker-network-endpoints": "localhost,localhost",
                            "tpu-env": "ACCELERATOR_TYPE: 'v5litepod-16'",
                        }
                    )
                ),
                "JAX_COORDINATOR_PORT": port,
                "JAX_PLATFORMS": "",
            }
            for number in range(2)
        ]
        found = joined(each, "tpu")
    assert [(each["process"], each["processes"]) for each in found] == [(0, 2), (1, 2)]


def test_a_tpu_whose_metadata_nobody_serves_is_alone():
    nowhere = processes.coordinator()
    (found,) = joined([{"GCE_METADATA_IP": nowhere, "JAX_PLATFORMS": ""}], "tpu")
    assert (found["process"], found["processes"]) == (0, 1)


def test_processes_that_were_not_told_of_each_other(monkeypatch):
    monkeypatch.setattr(hosts, "_in_a_cluster", lambda: False)
    monkeypatch.setattr(jax, "process_count", lambda *_: 4)
    with pytest.raises(HostsError, match=r"of 4 processes.*--coordinator"):
        hosts.initialize()


def test_what_differs_is_named(monkeypatch):
    both = [{"config.seed": 0, "checkpoint": 4}, {"config.seed": 0, "checkpoint": None}]
    monkeypatch.setattr(hosts, "gather_json", lambda _: both)
    with pytest.raises(HostsError, match=r"checkpoint is 4 on process 0 and None on process 1"):
        hosts.check_agreement(both[1])


class TestOneDirectoryForAll:
    def check(self, monkeypatch, directory, mine, answers):
        """As process `mine` of two; what the other says is known before."""
        monkeypatch.setattr(jax, "process_count", lambda *_: 2)
        monkeypatch.setattr(hosts, "is_first", lambda: mine == 0)
        asked = iter(answers)

        def gather(value):
            other = next(asked)
            return [value, other] if mine == 0 else [other, value]

        monkeypatch.setattr(hosts, "gather_json", gather)
        hosts.check_shared(directory, seconds=0.5)

    def test_it_is_made_and_left_empty(self, monkeypatch, tmp_path):
        self.check(monkeypatch, tmp_path / "a" / "run", 0, ["token", "", True])
        assert list((tmp_path / "a" / "run").iterdir()) == []

    def test_the_other_does_not_see_it(self, monkeypatch, tmp_path):
        with pytest.raises(HostsError, match=r"process 1 does not see.*--workdir"):
            self.check(monkeypatch, tmp_path / "run", 0, ["token", "", False])
        assert list((tmp_path / "run").iterdir()) == []

    def test_this_one_does_not_see_it(self, monkeypatch, tmp_path):
        with pytest.raises(HostsError, match=r"process 1 does not see"):
            self.check(monkeypatch, tmp_path / "run", 1, ["token", "", True])

    def test_it_cannot_be_made(self, monkeypatch, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(HostsError, match=r"process 0 cannot write .*file/run"):
            self.check(monkeypatch, tmp_path / "file" / "run", 0, ["token", "", True])
        with pytest.raises(HostsError, match=r"process 0 cannot write .*: full"):
            self.check(monkeypatch, tmp_path / "run", 1, ["token", "full", True])


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
