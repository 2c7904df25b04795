"""Training processes started by tests."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
from typing import Any

from rt1_jax.training.libtpu_environment import restore_scheduling

SUPPORT = pathlib.Path(__file__).parent
ROOT = SUPPORT.parents[1]


def start(
    script: str,
    *arguments: Any,
    devices: int = 1,
    cache: Any = None,
    alone: bool = False,
    **environment: str,
) -> subprocess.Popen[str]:
    """A script of `tests/support` with so many virtual CPU devices, output by pipes.

    With `alone` it leads a group of processes of its own.
    """
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{SUPPORT}",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        **environment,
    }
    if cache is not None:  # so that a process that is started again need not compile again
        env |= {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    restore_scheduling()  # which children inherit: a test may have had libtpu in this process
    command = [sys.executable, str(SUPPORT / script), *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=env,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=alone,
    )


def start_training(
    dataset: Any,
    workdir: Any,
    changes: dict[str, Any],
    *,
    cluster: tuple[str, int, int] | None = None,
    **options: Any,
) -> subprocess.Popen[str]:
    """`run_training.py`, see there."""
    return start(
        "run_training.py", dataset, workdir, json.dumps(changes), *(cluster or ()), **options
    )


def finish(process: subprocess.Popen[str], seconds: float = 300) -> str:
    """The output of a process that must end well."""
    out, error = process.communicate(timeout=seconds)
    assert process.returncode == 0, error[-3000:]
    return out


def coordinator() -> str:
    """HOST:PORT on which nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{server.getsockname()[1]}"
