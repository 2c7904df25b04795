"""The server as users start it: a process of its own, driven by the public client."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

import rt1_jax
from rt1_jax.serving import protocol
from rt1_jax.serving.client import PolicyClient

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ROBOT = pathlib.Path(__file__).with_name("openpi_robot.py")
STEPS = 4
TOKEN = "a-token-of-the-test"


@pytest.fixture(scope="module")
def openpi_python():
    """The interpreter of the environment that has openpi-client."""
    path = os.environ.get("RT1_JAX_OPENPI_PYTHON", ROOT / ".venv/openpi-client/bin/python")
    if not pathlib.Path(path).exists():
        pytest.skip(f"no openpi-client at {path}: scripts/setup.sh makes that environment")
    return path


def start(*flags, **environment):
    command = [sys.executable, "-m", "rt1_jax.serving.server", *flags]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def served():
    """(process, port, status of /healthz before it was warm)."""
    process = start("--checkpoint=tabletop-small", "--port=0", "--max-batch=2", RT1_JAX_TOKEN=TOKEN)
    line = process.stdout.readline()
    assert line.startswith("listening: ws://127.0.0.1:"), line + process.stderr.read()
    port = int(line.split(",")[0].rsplit(":", 1)[1])
    before = health(port)
    assert process.stdout.readline() == "ready\n"
    yield process, port, before
    process.kill()
    process.communicate()


def health(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def bare_actions():
    policy = rt1_jax.load_policy("tabletop-small")
    images = np.random.default_rng(0).integers(0, 255, (STEPS, 64, 64, 3), np.uint8)
    embedding = policy.embed(["pick up the red block"])
    state, actions = policy.initial_state(1), []
    for image in images:
        state, action = policy.step(state, image[None], embedding)
        fields = [np.asarray(action[f])[0] for f in policy.action_spec.field_names]
        actions.append(np.concatenate(fields))
    return np.asarray(actions)


def test_the_public_client_drives_it_unchanged(served, openpi_python):
    _, port, before = served
    assert (before, health(port)) == (503, 200)
    done = subprocess.run(
        [openpi_python, ROBOT, str(port), str(STEPS), TOKEN],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["numpy"].startswith("1.")
    assert seen["metadata"]["architecture"] == "rt1"
    assert seen["metadata"]["image"]["height"] == 64
    assert seen["metadata"]["encoder"]["embeds_instructions"] is True
    want = bare_actions()
    np.testing.assert_allclose(seen["actions"], want, atol=1e-5)
    np.testing.assert_allclose(seen["broker"], want, atol=1e-5)  # after the reset
    spec = rt1_jax.load_policy("tabletop-small").action_spec
    assert seen["fields"] == {field.name: [field.size] for field in spec.fields}
    assert "observation/image: expected uint8" in seen["refusal"]
    assert "Traceback" not in seen["refusal"]
    assert seen["timing"]["batch_size"] == 1


def test_the_process_never_loads_tensorflow(served):
    process, port, _ = served
    with PolicyClient(f"ws://127.0.0.1:{port}", token=TOKEN) as client:
        reply = client.step(np.zeros((64, 64, 3), np.uint8), instruction="go")
    assert reply["step"] == 1
    maps = pathlib.Path(f"/proc/{process.pid}/maps").read_text()
    assert "jaxlib" in maps
    assert "tensorflow" not in maps


def test_a_signal_ends_it_well(served):
    """Last of those that share the process."""
    process, port, _ = served
    with PolicyClient(f"ws://127.0.0.1:{port}", token=TOKEN) as client:
        message = protocol.pack({"image": np.zeros((64, 64, 3), np.uint8), "prompt": "go"})
        client._connection.send(message)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert protocol.unpack(client._connection.recv(timeout=30))["step"] == 1
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == "stopped\n"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--checkpoint=nothing-here"], "nothing-here"),
        (["--checkpoint=tabletop-small", "--host=0.0.0.0"], "lets other computers drive"),
        (["--checkpoint=tabletop-small", "--token-file=/nothing/here"], "cannot read"),
        (["--checkpoint=tabletop-small", "--tls-cert=cert.pem"], "go together"),
        (["--checkpoint=tabletop-small", "--max-batch=0"], "expected 1 to 1024"),
        (["--checkpoint=tabletop-small", "--idle-timeout=nan"], "expected seconds above 0"),
        (["--checkpoint=tabletop-small", "--embeddings=nothing.npz"], "nothing.npz"),
    ],
)
def test_flags_that_do_not_fit_are_named(flags, words, capsys, monkeypatch):
    from rt1_jax.serving.server import main

    monkeypatch.delenv("RT1_JAX_TOKEN", raising=False)
    try:
        status = main(flags)
    except SystemExit as exit_:  # argparse's own
        status = exit_.code
    assert status == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_a_port_that_is_taken_is_named(capsys):
    import socket

    from rt1_jax.serving.server import main

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--checkpoint=tabletop-small", f"--port={port}"]) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_the_client_needs_no_jax():
    code = "import rt1_jax.serving.client, sys; print({'jax', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
