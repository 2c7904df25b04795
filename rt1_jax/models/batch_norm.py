"""Batch normalisation with either reference's running variance."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.models.frozen_statistics import has_frozen_statistics
from rt1_jax.models.reductions import channel_sums
from rt1_jax.models.training_options import training_options
from rt1_jax.platforms import platform


class BatchNorm(nn.Module):
    """Normalises each channel over all other axes: ``[..., c]`` to ``[..., c]``.

    Flax's own module always feeds the running variance with the biased estimate, TensorFlow's
    fused kernel with the unbiased one; hence this one. Statistics are float32. Over a sharded
    batch under ``jit`` they are those of the whole batch.

    Attributes:
      momentum: share of the old running statistics kept at each training step.
      epsilon: added to the variance.
      unbiased: whether the running variance takes the unbiased estimate.
      dtype: of the result.
      packed: images whose channels lie side by side, see `rt1_jax.models.packing`.
    """

    momentum: float
    epsilon: float
    unbiased: bool
    dtype: jnp.dtype = jnp.float32
    packed: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        channels = x.shape[-1] // self.packed
        if not (train or self.is_initializing() or self.has_variable("params", "scale")):
            folded: Any = self.get_variable("params", "bias")  # see fold_batch_norm
            return x + jnp.tile(folded.astype(self.dtype), self.packed)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        if not train or has_frozen_statistics(self.path):
            multiplier = scale * jax.lax.rsqrt(running_var.value + self.epsilon)
            offset = bias - running_mean.value * multiplier
            multiplier, offset = (
                jnp.tile(of.astype(self.dtype), self.packed) for of in (multiplier, offset)
            )
            return x * multiplier + offset
        groups = training_options().statistics_groups
        if groups == self.packed == 1 and platform() == "cpu":
            y, mean, var = _normalize(x, scale, bias, self.epsilon)
        else:
            y, mean, var = _normalize_groups(x, scale, bias, self.epsilon, groups, self.packed)
        if not self.is_initializing():
            count = x.size // channels // groups
            new_var = var * (count / max(count - 1, 1)) if self.unbiased else var
            running_mean.value += (1 - self.momentum) * (mean - running_mean.value)
            running_var.value += (1 - self.momentum) * (new_var - running_var.value)
        return y.astype(self.dtype)


def _normalize_groups(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, groups: int, packed: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `_normalize`, each group of the batch by its own statistics; returns their means.

    For compilers that fuse sums into what makes their operand: both sums are taken in one pass, and
    the gradient is left to differentiation, so that nothing stands between two convolutions. In
    float32, as a bfloat16 operand is exact in it.
    """
    if x.shape[0] % groups:
        raise ValueError(
            f"{x.shape[0]} rows of {packed} images are not divided by {groups} groups of statistics"
        )
    # Rows and columns stay axes of their own: merged, the array would have to be moved in memory.
    split = x.reshape(groups, x.shape[0] // groups, *x.shape[1:]).astype(jnp.float32)
    axes = tuple(range(1, split.ndim - 1))
    count = split.size // groups // x.shape[-1] * packed
    # [groups, channels], of all images that lie side by side
    sums = [
        of.sum(axes).reshape(groups, packed, -1).sum(1) / count for of in (split, split * split)
    ]
    mean, var = sums[0], jnp.maximum(sums[1] - sums[0] * sums[0], 0.0)
    multiplier = scale * jax.lax.rsqrt(var + epsilon)
    offset = bias - mean * multiplier
    multiplier, offset = (
        jnp.expand_dims(jnp.tile(of, (1, packed)), axes) for of in (multiplier, offset)
    )
    y = (split * multiplier + offset).astype(x.dtype).reshape(x.shape)
    return y, jax.lax.stop_gradient(mean.mean(0)), jax.lax.stop_gradient(var.mean(0))


def fold_batch_norm(variables: Mapping[str, Any], epsilon: float) -> dict[str, Any]:
    """Variables of the same model for inference: each normalisation's scale is in its convolution.

    A layer ``X_bn`` belongs to ``X_conv`` beside it (``bn_1`` to ``conv_1``). Its parameters are
    the bias alone then, by which :class:`BatchNorm` knows that it has nothing to normalise; there
    are no running statistics left. Such variables cannot be trained.

    Raises:
      ValueError: a normalisation without its convolution.
    """
    kept = {name: of for name, of in variables.items() if name != "batch_stats"}
    kept["params"] = _fold(variables["params"], variables.get("batch_stats", {}), epsilon, "")
    return kept


def _fold(
    params: Mapping[str, Any], stats: Mapping[str, Any], epsilon: float, path: str
) -> dict[str, Any]:
    folded = {
        name: _fold(of, stats.get(name, {}), epsilon, f"{path}{name}/")
        if isinstance(of, Mapping)
        else of
        for name, of in params.items()
    }
    for name, statistics in stats.items():
        if "mean" not in statistics:
            continue
        conv = name.replace("bn", "conv")
        if conv == name or "kernel" not in params.get(conv, {}):
            raise ValueError(f"the normalisation {path}{name} has no convolution beside it")
        # NumPy stays NumPy: nothing is to be compiled for this.
        multiplier = params[name]["scale"] / (statistics["var"] + np.float32(epsilon)) ** 0.5
        # The last axis of every kernel is its outputs (depthwise: its channels).
        folded[conv] = {**params[conv], "kernel": params[conv]["kernel"] * multiplier}
        folded[name] = {"bias": params[name]["bias"] - statistics["mean"] * multiplier}
    return folded


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises by the batch's own statistics; also returns its mean and (biased) variance.

    Its gradient is written out since it needs two sums over the batch, and nothing else, if the
    normalised input is taken from ``x`` again; derived automatically it took three times as long
    on CPU. No gradient flows through the returned statistics.
    """
    return _normalize_forward(x, scale, bias, epsilon)[0]


def _normalize_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
    count = x.size // x.shape[-1]
    mean = channel_sums(x) / count
    var = channel_sums(jnp.square(x.astype(jnp.float32) - mean)) / count
    inverse = jax.lax.rsqrt(var + epsilon)
    multiplier = scale * inverse
    y = x * multiplier.astype(x.dtype) + (bias - mean * multiplier).astype(x.dtype)
    return (y, mean, var), (x, scale, mean, inverse)


def _normalize_backward(
    epsilon: float, residuals: tuple[jax.Array, ...], cotangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, mean, inverse = residuals
    dy, count = cotangents[0], x.size // x.shape[-1]
    # Kept whole: fused into each of its three uses, what made dy would be computed three times.
    dy = jax.lax.optimization_barrier(dy).astype(jnp.float32)
    centred = x.astype(jnp.float32) - mean
    dbias = channel_sums(dy)
    dscale = channel_sums(dy * centred) * inverse
    dx = scale * inverse * (dy - dbias / count - centred * (inverse * dscale / count))
    return dx.astype(x.dtype), dscale, dbias


_normalize.defvjp(_normalize_forward, _normalize_backward)
