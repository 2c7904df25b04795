"""Augmentation of a training batch: what colour jitter adds to the crop, in one run.

    python benchmarks/augmentation.py [--repeats 5]

Batches of 32 windows of two 64x64 frames, the small model's, and of two windows of six 256x320
frames, the paper's size.
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np

from rt1_jax.data.augmentation import Augmentation, augment

# (name, shape, max_shift)
BATCHES = (
    ("32 x 2 x 64x64", (32, 2, 64, 64, 3), (3, 3)),
    ("2 x 6 x 256x320", (2, 6, 256, 320, 3), (20, 50)),
)
COLOURS = {"brightness": 0.1, "contrast": (0.8, 1.2), "saturation": (0.7, 1.3), "hue": 0.05}


def best_ms(images: np.ndarray, augmentation: Augmentation, repeats: int) -> float:
    """The shortest of several runs, compilation not counted."""
    compiled = jax.jit(augment, static_argnums=2)
    key, on_device = jax.random.key(0), jax.device_put(images)
    jax.block_until_ready(compiled(key, on_device, augmentation))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(key, on_device, augmentation))
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"{jax.default_backend()}, {jax.device_count()} device(s), best of {repeats}\n")
    print("| windows x frames x size | augmentation | ms a batch | times the crop |")
    print("| --- | --- | --- | --- |")
    for name, shape, shift in BATCHES:
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        variants = {
            "crop": Augmentation(shift),
            "jitter": Augmentation(**COLOURS),
            "crop and jitter": Augmentation(shift, **COLOURS),
            "crop and jitter, frames apart": Augmentation(shift, per_frame=True, **COLOURS),
        }
        crop = None
        for variant, augmentation in variants.items():
            ms = best_ms(images, augmentation, repeats)
            crop = crop or ms
            print(f"| {name} | {variant} | {ms:.2f} | {ms / crop:.1f} |", flush=True)


if __name__ == "__main__":
    main()
