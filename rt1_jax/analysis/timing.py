"""How long a policy takes for a step."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np


def step_milliseconds(policy: Any, steps: int = 50) -> float:
    """Median milliseconds of `policy.step` with one robot, once compiled.

    Args:
      policy: from `rt1_jax.load_policy`.
      steps: how many are timed.
    """
    rng = np.random.default_rng(0)
    size = policy.description.image_size
    images = rng.integers(0, 256, (1, *size, 3)).astype(np.uint8)
    embeddings = np.zeros((1, policy.description.encoder.dimensions), np.float32)
    state, _ = jax.block_until_ready(policy.step(policy.initial_state(1), images, embeddings))
    times = []
    for _ in range(steps):
        started = time.perf_counter()
        state, _ = jax.block_until_ready(policy.step(state, images, embeddings))
        times.append(time.perf_counter() - started)
    return 1e3 * float(np.median(times))
