"""Training frames/s on this machine, and what each lever gives, all in one run.

python benchmarks/training.py [--steps=8] [--json=FILE]

Times the real training step of configs/tabletop.py on made-up frames, then again with one lever
taken away at a time, and with all of them. Ratios count; absolute numbers follow the load.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import runpy
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rt1_jax.actions import TABLETOP
from rt1_jax.files import write_atomically
from rt1_jax.models import batch_norm, depthwise, registry
from rt1_jax.training.optimizer import make_optimizer
from rt1_jax.training.state import TrainState
from rt1_jax.training.step import make_train_step

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main() -> None:
    """Prints a table, and writes it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each variant")
    parser.add_argument("--json", help="write the numbers here")
    options = parser.parse_args()
    variants: dict[str, Callable[[Any], contextlib.AbstractContextManager[None]]] = {
        "all levers": lambda config: contextlib.nullcontext(),
        "grouped depthwise convolution (XLA's)": _grouped,
        "dense layers' gradient over several axes": lambda config: _dot_general(),
        "batch normalisation's gradient by autodiff": lambda config: _autodiff_batch_norm(),
        "windows of 6 re-encoded, last step trained": _reencoded,
        "none of the four": _none,
    }
    rows = []
    for name, lever in variants.items():
        config = runpy.run_path(str(ROOT / "configs" / "tabletop.py"))["get_config"]()
        with lever(config):
            seconds, predictions = _time_step(config, options.steps)
        rows.append(
            {"variant": name, "ms": seconds * 1e3, "frames_per_second": predictions / seconds}
        )
        first = rows[0]["frames_per_second"]
        print(
            f"{name:45s} {rows[-1]['ms']:8.0f} ms a step {rows[-1]['frames_per_second']:8.0f} "
            f"frames/s   {first / rows[-1]['frames_per_second']:5.1f} x slower",
            flush=True,
        )
    if options.json:
        write_atomically(options.json, json.dumps(rows, indent=1))


def _time_step(config: Any, steps: int) -> tuple[float, int]:
    """Median seconds of a step, and how many frames' actions it learns from."""
    frames, batch = config.model.frames, config.batch_size
    height, width = config.model.image_tokenizer.image_size
    rng = np.random.default_rng(0)
    model = registry.build(config.architecture, config.model.to_dict())
    data = {
        "images": rng.integers(0, 255, (batch, frames, height, width, 3), np.uint8),
        "embedding": rng.normal(size=(batch, config.model.embedding_size)).astype(np.float32),
        "mask": np.ones((batch, frames), np.float32),
        "actions": {
            f.name: rng.uniform(f.low, f.high, (batch, frames, f.size)).astype(np.float32)
            for f in TABLETOP.fields
        },
    }
    if config.get("train_last_step_only"):
        data["mask"][:, :-1] = 0
    optimizer = make_optimizer(config.optimizer)
    variables = model.init(jax.random.key(0), data["images"][:1], data["embedding"][:1])
    state = TrainState.create(variables, optimizer)
    step = jax.jit(
        make_train_step(model, TABLETOP, optimizer, statistics=None, average_decay=0.99),
        donate_argnums=0,
    )
    times = []
    for i in range(steps + 2):
        started = time.perf_counter()
        state, metrics = step(state, data, jax.random.key(i))
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - started)
    return float(np.median(times[2:])), int(data["mask"].sum())


@contextlib.contextmanager
def _grouped(config: Any) -> Iterator[None]:
    config.model.image_tokenizer.efficientnet.depthwise = "grouped"
    yield


@contextlib.contextmanager
def _reencoded(config: Any) -> Iterator[None]:
    """One prediction a window: what a loader gives that yields every window by itself."""
    config.model.frames = 6
    config.train_last_step_only = True
    yield


@contextlib.contextmanager
def _dot_general() -> Iterator[None]:
    def plain(lhs: jax.Array, rhs: jax.Array, numbers: Any, *args: Any, **kwargs: Any) -> jax.Array:
        return lax.dot_general(lhs, rhs, numbers, *args)

    def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))

    models = "rt1_jax.models"
    with contextlib.ExitStack() as stack:
        for module in ("transformer", "token_learner"):
            stack.enter_context(mock.patch(f"{models}.{module}.flat_dot_general", plain))
        stack.enter_context(mock.patch(f"{models}.convolution.matrix_product", product))
        yield


@contextlib.contextmanager
def _autodiff_batch_norm() -> Iterator[None]:
    def normalize(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> Any:
        axes = tuple(range(x.ndim - 1))
        mean = jnp.mean(x, axes)
        var = jnp.mean(jnp.square(x - mean), axes)
        multiplier = scale * lax.rsqrt(var + epsilon)
        y = x * multiplier + (bias - mean * multiplier)
        return y, lax.stop_gradient(mean), lax.stop_gradient(var)

    with mock.patch.object(batch_norm, "_normalize", normalize):
        yield


@contextlib.contextmanager
def _none(config: Any) -> Iterator[None]:
    with _grouped(config), _dot_general(), _autodiff_batch_norm(), _reencoded(config):
        yield


if __name__ == "__main__":
    if depthwise.resolve_lowering("auto") != "shifted":
        raise SystemExit("this benchmark is for CPU")
    main()
