"""The loss on held-out windows, shared among the processes of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rt1_jax.data.windows import WindowSource
from rt1_jax.training import hosts
from rt1_jax.training.program import Program
from rt1_jax.training.sharding import put_batch
from rt1_jax.training.step import Batch


def mean_metrics(
    program: Program,
    variables: Any,
    windows: WindowSource,
    config: Any,
    meet_as: str | None,
    doing: Callable[[str], None],
) -> dict[str, float]:
    """Means over whole batches of the held-out windows; every process must call it.

    Args:
      program: its `eval_step` is called.
      variables: {"params", "batch_stats"}.
      windows: the held-out ones.
      config: the run's.
      meet_as: where these windows' step is new, a name for the meeting of the processes that have
        compiled it, see `hosts.compile_together`.
      doing: told what is waited for, see `Watchdog.doing`.

    Returns:
      {metric: mean}.
    """
    parts = program.mesh.size
    size = max(min(config.batch_size, len(windows)) // parts, 1) * parts
    sums: dict[str, float] = {}
    # Every k-th window: neighbours share all frames but one.
    order = np.arange(0, len(windows), config.model.frames)
    order = order if len(order) >= size else np.arange(len(windows))
    missing = size - len(order)  # fewer windows than devices: the rest counts for nothing
    order = np.concatenate([order, np.full(max(missing, 0), -1)])
    count = len(order) // size
    share = size // jax.process_count()
    for i in range(count):
        first = i * size + jax.process_index() * share
        rows = [_window(windows, int(w)) for w in order[first : first + share]]
        batch = put_batch(program.mesh, jax.tree.map(lambda *leaves: np.stack(leaves), *rows))
        if i or meet_as is None:
            doing(f"batch {i + 1} of {count} of the validation")
        else:
            doing("")  # compiling may take as long as it takes
            hosts.compile_together(meet_as, program.eval_step, variables, batch)
        metrics = jax.device_get(program.eval_step(variables, batch))
        for key, value in metrics.items():
            sums[key] = sums.get(key, 0.0) + float(value)
    return {key: value / count for key, value in sums.items()}


def _window(windows: WindowSource, number: int) -> Batch:
    window = windows[max(number, 0)]
    return window if number >= 0 else {**window, "mask": np.zeros_like(window["mask"])}
