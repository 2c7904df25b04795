"""Deterministic weights by tensor name, so that no large file is needed to compare numbers.

The reference implementations' fixtures were made with these. Every tensor is standard normal noise
seeded by its name, scaled by a rule that keeps activations in range through the whole network.
"""

from __future__ import annotations

import zlib

import numpy as np


def noise(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal float64, the same for the same name, shape and seed."""
    generator = np.random.PCG64(zlib.crc32(f"{seed}:{name}".encode()))
    return np.random.Generator(generator).standard_normal(shape)


def tf_value(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A tensor of the TensorFlow original by its name in a training checkpoint."""
    leaf = name.rpartition("/")[2]
    constants = {"mean": (0.485, 0.456, 0.406), "variance": (0.229, 0.224, 0.225)}
    if leaf in constants:
        return np.array(constants[leaf], np.float32)
    if leaf == "count":
        return np.zeros(shape, np.int64)
    z = noise(name, shape, seed)
    offsets = {
        "gamma": lambda: 1.0 + 0.1 * z,
        "beta": lambda: 0.05 * z,
        "bias": lambda: 0.05 * z,
        "moving_mean": lambda: 0.1 * z,
        "moving_variance": lambda: 1.0 + 0.5 * np.tanh(z),
    }
    if leaf in offsets:
        return offsets[leaf]().astype(np.float32)
    return (z * _tf_kernel_std(name, leaf, shape)).astype(np.float32)


def _tf_kernel_std(name: str, leaf: str, shape: tuple[int, ...]) -> float:
    fan_in = int(np.prod(shape[:-1]))
    if leaf == "depthwise_kernel":
        return np.sqrt(1.7 / (shape[0] * shape[1]))
    rules = (
        ("/_projection_add/", 0.05),
        ("/_projection_mult/", 0.2),
        ("/_position_emb/", 1.0),
    )
    for part, std in rules:
        if part in name:
            return std
    if len(shape) == 4:
        return np.sqrt(1.7 / fan_in)
    gains = (
        ("/_query_dense/", 3.0, shape[0]),
        ("/_key_dense/", 3.0, shape[0]),
        ("/_value_dense/", 1.0, shape[0]),
        ("/_token_learner/", 9.0, fan_in),
        ("/_output_tokens/", 0.25, fan_in),
    )
    for part, gain, fan in gains:
        if part in name:
            return np.sqrt(gain / fan)
    return np.sqrt(1.0 / fan_in)
