"""Seconds from nothing to the first action of the full RT-1, from a native checkpoint.

    python benchmarks/first_action.py [--runs=3] [--json=FILE]

Writes a native checkpoint of RT-1 (35,120,544 parameters) with random weights, then starts fresh
processes that load it with `rt1_jax.load_policy` and take one `policy.step` of a 256x320 frame: the
first with an empty compilation cache (JAX_COMPILATION_CACHE_DIR), the others with what it left.
Every process checks that TensorFlow was not imported.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

PARTS = ("import", "load", "step", "second step", "load to action", "start to action", "CPU time")


def write_checkpoint(directory: pathlib.Path) -> int:
    """A native checkpoint of the full RT-1 with random weights; returns its parameters' number."""
    from support.random_policies import describe, parameter_count, random_variables

    from rt1_jax.checkpoints import native

    description = describe("rt1")
    variables = random_variables(description)
    native.save_checkpoint(directory, description, variables)
    return parameter_count(variables)


def measure(checkpoint: str, started: float) -> dict[str, float]:
    """What one fresh process takes, in seconds; `started` is when it was asked for."""
    import rt1_jax

    imported = time.time()
    policy = rt1_jax.load_policy(checkpoint)
    loaded = time.time()
    state = policy.initial_state()
    image = np.zeros((1, 256, 320, 3), np.uint8)
    embedding = np.zeros((1, policy.description.encoder.dimensions), np.float32)
    state, action = policy.step(state, image, embedding)
    assert all(np.isfinite(np.asarray(value)).all() for value in action.values())
    acted, busy = time.time(), time.process_time()
    _, action = policy.step(state, image, embedding)
    assert all(np.isfinite(np.asarray(value)).all() for value in action.values())
    again = time.time()
    if "tensorflow" in sys.modules:
        raise SystemExit("error: TensorFlow was imported on the way to the first action")
    times = (imported - started, loaded - imported, acted - loaded, again - acted)
    return dict(zip(PARTS, (*times, acted - imported, acted - started, busy), strict=True))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="processes with a warm cache")
    parser.add_argument("--json", type=pathlib.Path, help="write the numbers here")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.measure:
        print(json.dumps(measure(flags.measure[0], float(flags.measure[1]))))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = pathlib.Path(folder) / "rt1"
        parameters = write_checkpoint(checkpoint)
        print(f"RT-1, {parameters:,} parameters; load {os.getloadavg()[0]:.1f} before", flush=True)
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        print(
            "\n| compilation cache | " + " | ".join(PARTS) + " |\n|" + " --- |" * (len(PARTS) + 1)
        )
        for run in range(flags.runs + 1):
            command = [sys.executable, __file__, "--measure", str(checkpoint), str(time.time())]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            row = {"cache": "warm" if run else "empty", **json.loads(done.stdout.splitlines()[-1])}
            rows.append(row)
            seconds = " | ".join(f"{row[part]:.2f} s" for part in PARTS)
            print(f"| {row['cache']} | {seconds} |", flush=True)
    print(f"\nTensorFlow was imported by none of them; load {os.getloadavg()[0]:.1f} after")
    if flags.json:
        flags.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
