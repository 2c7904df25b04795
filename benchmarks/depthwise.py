"""Depthwise convolution: XLA's grouped lowering against shifted multiply-adds, in one run.

    python benchmarks/depthwise.py [--repeats 5]

Shapes are those of EfficientNet-B3 at 300x300 (one frame) and of the small tabletop model (96
frames of 64x64). On a CPU `auto` means `shifted`, elsewhere `grouped`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.models import depthwise

# (images, size, channels, kernel, stride)
SHAPES = (
    (1, 150, 40, 3, 1),
    (1, 75, 192, 3, 1),
    (1, 38, 288, 5, 1),
    (1, 19, 576, 5, 1),
    (1, 10, 1392, 5, 1),
    (96, 32, 16, 3, 1),
    (96, 32, 64, 3, 2),
    (96, 16, 96, 3, 1),
    (96, 16, 96, 5, 1),
    (96, 8, 192, 3, 1),
)


def best_ms(function: Callable[..., Any], *arguments: Any, repeats: int) -> float:
    """The shortest of several runs, compilation not counted."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def measure(
    shape: tuple[int, int, int, int, int],
    lowering: Literal["grouped", "shifted"],
    repeats: int,
) -> tuple[float, float]:
    """(forward, forward and both gradients) in ms."""
    images, size, channels, kernel, stride = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((images, size, size, channels)).astype(np.float32)
    weights = rng.standard_normal((kernel, kernel, channels)).astype(np.float32)
    pads = depthwise.convolution_pads((size, size), kernel, stride, "same")

    def forward(x: jax.Array, weights: jax.Array) -> jax.Array:
        return depthwise.depthwise_convolution(
            x, weights, stride=stride, pads=pads, lowering=lowering
        )

    def loss(x: jax.Array, weights: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(forward(x, weights)))

    gradients = jax.value_and_grad(loss, argnums=(0, 1))
    return (
        best_ms(forward, x, weights, repeats=repeats),
        best_ms(gradients, x, weights, repeats=repeats),
    )


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"{jax.default_backend()}, {jax.device_count()} device(s), best of {repeats}\n")
    print("| shape, kernel, stride | forward: grouped, shifted ms | ratio | ", end="")
    print("with gradients: grouped, shifted ms | ratio |\n| --- | --- | --- | --- | --- |")
    for shape in SHAPES:
        images, size, channels, kernel, stride = shape
        (f1, g1), (f2, g2) = (measure(shape, kind, repeats) for kind in ("grouped", "shifted"))
        print(
            f"| {images}x{size}x{size}x{channels}, {kernel}, {stride} | {f1:.1f}, {f2:.1f} | "
            f"{f1 / f2:.0f} | {g1:.1f}, {g2:.1f} | {g1 / g2:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
