import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import logging
import shutil
import ssl
import subprocess
import threading
import time

import numpy as np
import pytest
import served
from served import bare_actions, frames, instruction, serving
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.sync.client import connect

from rt1_jax.actions import TABLETOP
from rt1_jax.serving import protocol
from rt1_jax.serving.client import PolicyClient, PolicyServerError


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


def run_episode(client, robot, steps, **first):
    replies = [
        client.step(image, instruction=instruction(robot), **(first if t == 0 else {}))
        for t, image in enumerate(frames(robot, steps))
    ]
    return np.concatenate([reply["actions"] for reply in replies]), replies


def test_the_handshake_tells_all_that_a_client_needs(server):
    with server.client() as client:
        told = client.metadata
    assert told["protocol_version"] == 1
    assert (told["architecture"], told["checkpoint_step"], told["control_rate_hz"]) == ("rt1", 7, 3)
    assert told["image"] == {"height": 16, "width": 16, "dtype": "uint8", "channels": "RGB"}
    assert told["history_frames"] == served.FRAMES
    assert told["encoder"] == {
        "name": "stored:hash",
        "dimensions": 512,
        "embeds_instructions": True,
    }
    assert type(TABLETOP).from_json(told["action_spec"]) == TABLETOP
    assert len(told["action_names"]) == 13
    json.dumps(told)  # plain values, whatever the client is written in


def test_a_served_episode_is_the_bare_policys(server):
    with server.client() as client:
        actions, replies = run_episode(client, robot=1, steps=5)
    np.testing.assert_allclose(actions, bare_actions(1, 5), atol=1e-5)
    assert [reply["step"] for reply in replies] == [1, 2, 3, 4, 5]
    for reply in replies:
        fields = reply["fields"]
        assert list(fields) == list(TABLETOP.field_names)
        assert all(value.dtype == np.float32 for value in fields.values())
        assert {name: value.shape for name, value in fields.items()} == {
            field.name: (1, field.size) for field in TABLETOP.fields
        }
        flat = np.concatenate(list(fields.values()), axis=-1)
        np.testing.assert_array_equal(reply["actions"], flat)
        timing = reply["server_timing"]
        assert timing["batch_size"] == 1
        assert 0 < timing["infer_ms"] <= timing["total_ms"]
        assert timing["queue_ms"] + timing["infer_ms"] <= timing["total_ms"]
        assert reply["policy_timing"]["infer_ms"] == timing["infer_ms"]


def test_an_embedding_does_what_its_instruction_does(server):
    embedding = served.small_policy().embed([instruction(2)])[0]
    with server.client() as client:
        replies = [client.step(image, embedding=embedding) for image in frames(2, 3)]
    actions = np.concatenate([reply["actions"] for reply in replies])
    np.testing.assert_allclose(actions, bare_actions(2, 3), atol=1e-5)


def test_a_reset_begins_an_episode_and_so_does_a_connection(server):
    with server.client() as client:
        first, _ = run_episode(client, 3, 4)
        unreset, _ = run_episode(client, 3, 4)
        again, replies = run_episode(client, 3, 4, reset=True)
        client.reset()
        alone, _ = run_episode(client, 3, 4)
    with server.client() as client:
        fresh, _ = run_episode(client, 3, 4)
    assert np.abs(unreset - first).max() > 1e-4  # the history matters ...
    for other in (again, alone, fresh):  # ... and is gone
        np.testing.assert_allclose(other, first, atol=1e-5)
    assert replies[0]["step"] == 1


def test_many_robots_at_once_act_as_if_alone(server):
    robots, steps = 10, 6

    def robot(i):
        with server.client() as client:
            return run_episode(client, i, steps)

    with concurrent.futures.ThreadPoolExecutor(robots) as pool:
        results = list(pool.map(robot, range(robots)))
    for i, (actions, _) in enumerate(results):
        np.testing.assert_allclose(actions, bare_actions(i, steps), atol=1e-5)
    sizes = [r["server_timing"]["batch_size"] for _, replies in results for r in replies]
    assert 1 < max(sizes) <= served.MAX_BATCH


def test_a_refusal_leaves_the_episode_and_the_connection(server):
    steps = 5
    with server.client() as client:
        actions = []
        for t, image in enumerate(frames(4, steps)):
            with pytest.raises(PolicyServerError, match=r"^image: expected uint8 .* got float32"):
                client.step(image.astype(np.float32), instruction="x", reset=t == 3)
            with pytest.raises(PolicyServerError, match="embedding: .* not finite"):
                client.step(image, embedding=np.full(512, np.nan, np.float32), reset=True)
            actions.append(client.step(image, instruction=instruction(4))["actions"])
    np.testing.assert_allclose(np.concatenate(actions), bare_actions(4, steps), atol=1e-5)


@contextlib.contextmanager
def raw(server, **arguments):
    uri = f"ws://127.0.0.1:{server.port}"
    with connect(uri, compression=None, proxy=None, **arguments) as connection:
        connection.recv()
        yield connection


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("text", "message: expected a binary frame"),
        (b"", "message: not a msgpack message"),
        (b"\xc1", "message: not a msgpack message"),
        (protocol.pack([1]), "message: expected a map"),
        (protocol.pack({}), "image: missing"),
    ],
)
def test_malformed_frames_get_an_error_frame(server, message, words):
    with raw(server) as connection:
        connection.send(message)
        reply = connection.recv()
        assert isinstance(reply, str)
        assert reply.startswith(words)
        connection.send(protocol.pack({"reset": True}))
        assert protocol.unpack(connection.recv()) == {"reset": True, "step": 0}


def test_frame_sizes_are_few():
    policy = served.small_policy()
    limits = {"max_batch": 1, "max_image_sizes": 2}
    with serving(policy, service=limits) as server, server.client() as client:
        for size in ((16, 16), (16, 20), (16, 16), (16, 20)):
            client.step(np.zeros((*size, 3), np.uint8), instruction="x")
        refusal = r"^image: 17x16 pixels; .*2 sizes .*16x16, 16x20"
        with pytest.raises(PolicyServerError, match=refusal):
            client.step(np.zeros((17, 16, 3), np.uint8), instruction="x")
        assert client.step(frames(0, 1)[0], instruction="x")["step"] == 5


def test_failures_inside_are_told_without_a_traceback(caplog):
    class Broken(served.HashPolicy):
        def embed(self, instructions):
            if instructions == ["boom"]:
                raise RuntimeError("secret detail")
            return super().embed(instructions)

    small = served.small_policy()
    broken = Broken(small.model, small.variables, small.description)
    with serving(broken, service={"max_batch": 1}) as server, server.client() as client:
        with caplog.at_level(logging.ERROR), pytest.raises(PolicyServerError) as caught:
            client.step(frames(0, 1)[0], instruction="boom")
        assert str(caught.value).startswith("internal error [")
        assert "secret" not in str(caught.value)
        assert "secret detail" in caplog.text  # the log has it
        number = str(caught.value).split("[")[1].split("]")[0]
        assert number in caplog.text
        assert client.step(frames(0, 1)[0], instruction="x")["step"] == 1
        assert 'rt1_requests_total{outcome="failed"} 1.0' in server.get("/metrics")[1]


def test_not_ready_before_it_is_warm():
    with serving(warm=False) as server:
        assert server.get("/healthz") == (503, "warming up\n")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            early = pool.submit(server.client)
            with connect(f"ws://127.0.0.1:{server.port}", proxy=None):
                pass  # a robot that does not wait
            assert not early.done()
            server.warm()
            with early.result(30) as client:
                assert client.step(frames(0, 1)[0], instruction="x")["step"] == 1
        assert server.get("/healthz") == (200, "ok\n")


def test_pages(server):
    with server.client() as client:
        client.step(frames(0, 1)[0], instruction="pages")
        client.step(frames(0, 1)[0], instruction="pages")
        with pytest.raises(PolicyServerError):
            client.step(frames(0, 1)[0])
        status, page = server.get("/metrics")
    assert status == 200
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")
    assert float(lines["rt1_ready"]) == 1
    assert float(lines["rt1_connections"]) == 1
    assert float(lines['rt1_requests_total{outcome="ok"}']) >= 2
    assert float(lines['rt1_requests_total{outcome="refused"}']) >= 1
    assert float(lines['rt1_instructions_total{cache="known"}']) >= 1
    assert float(lines["process_resident_memory_bytes"]) > 1e7
    assert float(lines["rt1_batch_requests_sum"]) == float(lines["rt1_request_seconds_count"])
    assert server.get("/nothing-here")[0] == 404
    assert server.get("/")[0] == 426


def test_metrics_can_be_left_out():
    with serving(warm=False, show_metrics=False) as server:
        assert server.get("/metrics")[0] == 404


def test_a_token_opens_and_nothing_else_does():
    with serving(token="s3cret", service={"max_batch": 1}) as server:
        with server.client(token="s3cret") as client:
            assert client.metadata["server"] == "rt1_jax"
        bearer = {"Authorization": "Bearer s3cret"}
        with raw(server, additional_headers=bearer):
            pass
        for headers in (
            {},
            {"Authorization": "Api-Key s3cre"},
            {"Authorization": "Basic s3cret"},
            {"Authorization": "s3cret"},
            [("Authorization", "Api-Key s3cret"), ("Authorization", "Api-Key x")],
        ):
            with pytest.raises(InvalidStatus) as caught, raw(server, additional_headers=headers):
                pass
            assert caught.value.response.status_code == 401
        assert server.get("/metrics")[0] == 401
        assert server.get("/metrics", bearer)[0] == 200
        assert server.get("/healthz")[0] == 200


def test_web_pages_may_not_connect(server):
    with pytest.raises(InvalidStatus) as caught, raw(server, origin="http://example.org"):
        pass
    assert caught.value.response.status_code == 403


def test_connections_are_limited():
    with serving(max_connections=2, service={"max_batch": 1}) as server:
        with server.client(), server.client():
            with pytest.raises(InvalidStatus) as caught:
                server.client()
            assert caught.value.response.status_code == 503
            assert server.get("/healthz")[0] == 200
        deadline = time.monotonic() + 10
        while "rt1_connections 0.0" not in server.get("/metrics")[1]:
            assert time.monotonic() < deadline
        with server.client() as client:
            assert client.step(frames(0, 1)[0], instruction="x")["step"] == 1


def test_oversized_messages_end_the_connection():
    with serving(max_message_bytes=4096, service={"max_batch": 1}) as server:
        client = server.client()
        with raw(server) as connection, client as other:
            connection.send(b"x" * 5000)
            with pytest.raises(ConnectionClosed) as caught:
                connection.recv()
            assert caught.value.rcvd.code == 1009
            assert other.step(frames(0, 1)[0], instruction="x")["step"] == 1


def test_idle_connections_are_closed():
    limits = {"idle_timeout": 0.3, "service": {"max_batch": 1}}
    with serving(**limits) as server, raw(server) as connection:
        with pytest.raises(ConnectionClosed) as caught:
            connection.recv(timeout=20)
        assert caught.value.rcvd.code == 1001
        assert caught.value.rcvd.reason == "no message for 0.3 s"


def test_slow_handshakes_are_cut_off():
    with serving(warm=False, handshake_timeout=0.3) as server:
        slow = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        slow.connect()
        slow.sock.send(b"GET / HTTP/1.1\r\n")
        assert slow.sock.recv(100) == b""
        slow.close()


class Gated(served.HashPolicy):
    """Holds its steps back."""

    gate, entered = threading.Event(), threading.Event()

    def step(self, state, images, embeddings):
        self.entered.set()
        assert self.gate.wait(20)
        return super().step(state, images, embeddings)


def test_stopping_sends_the_replies_that_are_due():
    small = served.small_policy()
    policy = Gated(small.model, small.variables, small.description)
    policy.gate.set()
    with (
        serving(policy, service={"max_batch": 1}) as server,
        raw(server) as busy,
        raw(server) as idle,
    ):
        policy.gate.clear()
        policy.entered.clear()
        busy.send(protocol.pack({"image": frames(5, 1)[0], "instruction": instruction(5)}))
        assert policy.entered.wait(20)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        with pytest.raises(ConnectionClosed) as caught:
            idle.recv(timeout=20)
        assert caught.value.rcvd.code == 1001
        with pytest.raises(ConnectionRefusedError):
            server.client()
        policy.gate.set()
        reply = protocol.unpack(busy.recv(timeout=20))
        np.testing.assert_allclose(reply["actions"], bare_actions(5, 1), atol=1e-5)
        with pytest.raises(ConnectionClosed) as caught:
            busy.recv(timeout=20)
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (
            1001,
            "the server is stopping",
        )
        stopping.join(20)
        assert not stopping.is_alive()


def test_stopping_while_it_warms_up():
    with (
        serving(warm=False) as server,
        connect(f"ws://127.0.0.1:{server.port}", compression=None, proxy=None) as waiting,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        stopping = pool.submit(server.stop)
        with pytest.raises(ConnectionClosed) as caught:
            waiting.recv(timeout=20)
        stopping.result(20)
        assert caught.value.rcvd.code == 1001


def test_tls(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate with the command openssl, which is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    from rt1_jax.serving.access import tls_context

    context = tls_context(str(certificate), str(key))
    with serving(tls=context, service={"max_batch": 1}) as server:
        trusted = ssl.create_default_context(cafile=str(certificate))
        with server.client(tls=trusted) as client:
            assert client.step(frames(0, 1)[0], instruction="x")["step"] == 1
        with pytest.raises(ssl.SSLError):
            server.client()
        with pytest.raises((InvalidMessage, OSError)):
            PolicyClient(f"ws://127.0.0.1:{server.port}")


def test_the_event_loop_is_free_while_the_model_runs():
    small = served.small_policy()
    policy = Gated(small.model, small.variables, small.description)
    policy.gate.set()
    with serving(policy, service={"max_batch": 1}) as server, raw(server) as busy:
        policy.gate.clear()
        policy.entered.clear()
        busy.send(protocol.pack({"image": frames(5, 1)[0], "instruction": instruction(5)}))
        assert policy.entered.wait(20)
        assert server.get("/healthz") == (200, "ok\n")
        with server.client() as client:
            client.reset()
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0), server.loop).result(5) is None
        policy.gate.set()
        assert protocol.unpack(busy.recv(timeout=20))["step"] == 1
