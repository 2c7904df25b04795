"""What each lever gives the full RT-1's training step on a TPU slice, compiled without a TPU.

python benchmarks/pod_levers.py [--topology=v5e:4x4] [--per_device_batch=8] [--levers=all,float32]

Needs `pip install '.[fit]'`. Each row is a compile of its own, some ten minutes on two cores; the
rows that are done are printed as they come.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

LEVERS: dict[str, list[str]] = {
    "all": [],
    "with prefetching": ["step.tpu_compiler_options=()"],
    "images not packed": ["step.packed_images=1"],
    "statistics of the whole batch": ["step.batch_statistics=global"],
    "blocks computed again": ["step.remat=blocks"],
    "float32": ["step.compute=float32"],
}


def main() -> None:
    """Compiles row after row and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--topology", default="v5e:4x4")
    parser.add_argument("--per_device_batch", type=int, default=8)
    parser.add_argument("--levers", default=",".join(LEVERS), help="rows, by name")
    options = parser.parse_args()
    if importlib.util.find_spec("libtpu") is None:
        print("skipped: libtpu is not installed (pip install '.[fit]')")
        return
    print(f"{'row':32} {'temp GB':>8} {'traffic GB':>11} {'TFLOP':>6} {'all-reduces':>12} {'s':>5}")
    for name in options.levers.split(","):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "fit.json"
            command = [
                sys.executable,
                *("-m", "rt1_jax.training.fit", "--config=configs/rt1.py"),
                f"--topology={options.topology}",
                f"--per_device_batch={options.per_device_batch}",
                f"--json={path}",
                *(f"--config.{change}" for change in LEVERS[name]),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if not path.exists():
                print(f"{name:32} {(done.stderr.splitlines() or ['failed'])[-1]}", flush=True)
                continue
            found = json.loads(path.read_text())
        reduces = found["collectives"].get("all-reduce", {}).get("executions", 0)
        print(
            f"{name:32} {found['temp_bytes'] / 1e9:8.2f} {found['traffic_bytes'] / 1e9:11.2f} "
            f"{found['flops'] / 1e12:6.2f} {reduces:12} {found['compile_seconds']:5.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
