"""The training step of the full RT-1 on this machine, against the same with grouped convolutions.

GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python benchmarks/full_step.py [--windows=2] [--repeats=3]

Both steps compute the same numbers, taking turns in one process; see `rt1_jax.models.depthwise`.
What `configs/rt1.py` sets for TPUs is left out of both: bfloat16, packed images, recomputation.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import numpy as np

from configs import rt1
from rt1_jax.actions import RT1
from rt1_jax.models.depthwise import automatic_lowering
from rt1_jax.training.program import make_program
from rt1_jax.training.sharding import make_mesh


def main() -> None:
    """Compiles both steps, times them in turns and prints the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    steps = {name: compiled(name, options.windows) for name in ("shifted", "grouped")}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    losses = {}
    for _ in range(options.repeats + 1):  # the first one is not counted
        for name, (step, state, batch) in steps.items():
            start = time.perf_counter()
            state, metrics = step(state, batch, jax.random.key(0))
            losses[name] = float(metrics["loss"])
            seconds[name].append(time.perf_counter() - start)
            steps[name] = step, state, batch
    print(f"{jax.default_backend()}, {options.windows} windows of 6 frames, float32")
    print(f"{'depthwise':10} {'median s':>9} {'least':>7} {'most':>7} {'loss':>9}")
    for name, all_of in seconds.items():
        times = all_of[1:]
        print(
            f"{name:10} {np.median(times):9.2f} {min(times):7.2f} {max(times):7.2f} "
            f"{losses[name]:9.5f}"
        )
    ratios = np.asarray(seconds["grouped"][1:]) / np.asarray(seconds["shifted"][1:])
    print(
        f"grouped over shifted: {np.median(ratios):.1f} ({ratios.min():.1f} to {ratios.max():.1f})"
    )


def compiled(lowering: str, windows: int) -> tuple[Any, Any, Any]:
    """The step with one lowering, a state and a batch."""
    config = rt1.get_config()
    config.batch_size = windows
    config.step.compute, config.step.packed_images, config.step.remat = "", 1, "none"
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    program = make_program(config, mesh, action_spec=RT1, image_size=(256, 320))
    start = time.perf_counter()
    with automatic_lowering("grouped" if lowering == "grouped" else "shifted"):
        step = program.lower().compile()
    print(f"{lowering}: compiled in {time.perf_counter() - start:.0f} s", flush=True)
    rng = np.random.default_rng(0)
    batch = jax.tree.map(lambda a: rng.random(a.shape, np.float32), program.abstract_batch)
    shape = program.abstract_batch["images"].shape
    batch["images"] = rng.integers(0, 256, shape, np.uint8)
    state = program.init()
    return step, state, jax.device_put(batch, program.abstract_batch["images"].sharding)


if __name__ == "__main__":
    main()
