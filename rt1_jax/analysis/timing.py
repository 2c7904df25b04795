"""How long policies take for a step, with one robot."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def step_milliseconds(policy: Any, steps: int = 50) -> float:
    """Median milliseconds of `policy.step` with one robot, once compiled."""
    return interleaved_milliseconds({"policy": policy}, steps)["policy"]


def interleaved_milliseconds(policies: Mapping[str, Any], steps: int = 50) -> dict[str, float]:
    """As `step_milliseconds` of several policies that take turns, so that noise hits them alike."""
    return interleaved({name: _stepper(policy) for name, policy in policies.items()}, steps)


def interleaved(
    calls: Mapping[str, Callable[[], Any]], repeats: int, warm: int = 2
) -> dict[str, float]:
    """Median milliseconds of calls that take turns; each gives arrays, which are waited for."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + warm):
        for name, call in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(call())
            if repeat >= warm:
                times[name].append(time.perf_counter() - started)
    return {name: 1e3 * float(np.median(of)) for name, of in times.items()}


def _stepper(policy: Any) -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    size = policy.description.image_size
    images = rng.integers(0, 256, (1, *size, 3)).astype(np.uint8)
    embeddings = np.zeros((1, policy.description.encoder.dimensions), np.float32)
    state = policy.initial_state(1)

    def step() -> Any:
        nonlocal state
        state, action = policy.step(state, images, embeddings)
        return action

    return step
