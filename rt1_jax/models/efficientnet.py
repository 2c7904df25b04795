"""EfficientNet (Tan & Le 2019) with FiLM after every MBConv block, by Keras' conventions."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rt1_jax.models.batch_norm import BatchNorm
from rt1_jax.models.config import BlockConfig, EfficientNetConfig
from rt1_jax.models.convolution import DepthwiseConv, PointwiseConv, StemConv
from rt1_jax.models.film import FiLM
from rt1_jax.models.packing import pack, pack_rows, unpack
from rt1_jax.models.training_options import training_options

_MANY_CHANNELS = 288
"""From so many on images are not packed: a multiple of 128 is near."""


class EfficientNet(nn.Module):
    """Normalised images and instruction embeddings to a feature map.

    Block b's parameters are ``block_<b>``, those of the FiLM layer after it ``film_<b>``; with
    ``film=False`` there is none, and the embeddings are not looked at.
    """

    config: EfficientNetConfig
    dtype: jnp.dtype = jnp.float32
    film: bool = True

    @nn.compact
    def __call__(self, images: jax.Array, embeddings: jax.Array, train: bool = False) -> jax.Array:
        """Images ``[n, h, w, c]`` and embeddings ``[m, e]`` (m divides n) to ``[n, h', w', f]``."""
        config = self.config
        options = training_options()
        packed = options.packed_images if train else 1
        again = _blocks_again(config, options.remat, images.shape[1:3]) if train else set()
        x = pack(images, packed)
        x = StemConv(
            config.scaled(config.stem_filters),
            config.stem_kernel,
            config.stem_stride,
            config.padding,
            config.depthwise,
            self.dtype,
            packed,
            name="stem_conv",
        )(x)
        x = nn.swish(batch_norm(config, self.dtype, "stem_bn", packed)(x, train))
        for index, block in enumerate(config.blocks):
            if packed > 1 and block.filters_in * block.expand_ratio > _MANY_CHANNELS:
                x, packed = unpack(x, packed), 1
            kind: Any = nn.remat(MBConv, static_argnums=(2,)) if index in again else MBConv
            x = kind(config, block, self.dtype, packed, name=f"block_{index:02d}")(x, train)
            if self.film:
                x = FiLM(self.dtype, True, packed, name=f"film_{index:02d}")(x, embeddings)
        x = unpack(x, packed)
        if config.head_filters:
            filters = config.scaled(config.head_filters)
            x = PointwiseConv(filters, dtype=self.dtype, name="head_conv")(x)
            x = nn.swish(batch_norm(config, self.dtype, "head_bn")(x, train))
        return x


def _blocks_again(config: EfficientNetConfig, remat: str, size: tuple[int, ...]) -> set[int]:
    """Numbers of the blocks that are computed again for the gradient."""
    if remat != "largest":
        return set(range(len(config.blocks))) if remat == "blocks" else set()
    positions = math.prod(size) / config.stem_stride**2
    kept = []
    for block in config.blocks:
        # Outputs of the expanding and the depthwise convolution; the projection's is small.
        expanded = positions if block.expand_ratio != 1 else 0.0
        positions /= block.stride**2
        kept.append((expanded + positions) * block.filters_in * block.expand_ratio)
    return {kept.index(max(kept))}


class MBConv(nn.Module):
    """Inverted residual block: expand, depthwise, squeeze-and-excite, project."""

    config: EfficientNetConfig
    block: BlockConfig
    dtype: jnp.dtype = jnp.float32
    packed: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """``[n, h, w, filters_in]`` to ``[n, h', w', filters_out]``."""
        config, block, packed = self.config, self.block, self.packed
        inputs, filters = x, block.filters_in * block.expand_ratio
        if block.expand_ratio != 1:
            x = PointwiseConv(filters, False, self.dtype, packed, name="expand_conv")(x)
            x = nn.swish(batch_norm(config, self.dtype, "expand_bn", packed)(x, train))
        x = DepthwiseConv(
            block.kernel,
            block.stride,
            config.padding,
            config.depthwise,
            self.dtype,
            packed,
            name="depthwise_conv",
        )(x)
        x = nn.swish(batch_norm(config, self.dtype, "depthwise_bn", packed)(x, train))
        if block.se_ratio > 0:
            squeezed = max(1, int(block.filters_in * block.se_ratio))
            x = SqueezeExcite(squeezed, self.dtype, packed, name="squeeze_excite")(x)
        x = PointwiseConv(block.filters_out, False, self.dtype, packed, name="project_conv")(x)
        x = batch_norm(config, self.dtype, "project_bn", packed)(x, train)
        if block.residual:
            x = StochasticDepth(block.stochastic_depth_rate, packed)(x, train) + inputs
        return x


class SqueezeExcite(nn.Module):
    """Scales channels by what their means say (Hu et al. 2018): ``[n, h, w, c]`` to the same."""

    filters: int
    dtype: jnp.dtype = jnp.float32
    packed: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1] // self.packed
        y = jnp.mean(x, axis=(1, 2), dtype=jnp.float32).astype(self.dtype)
        y = y.reshape(-1, channels)  # [n, c], of each image
        y = nn.swish(PointwiseConv(self.filters, True, self.dtype, name="reduce")(y))
        y = nn.sigmoid(PointwiseConv(channels, True, self.dtype, name="expand")(y))
        return x * pack_rows(y, self.packed)


class StochasticDepth(nn.Module):
    """Drops a residual branch for a whole image (Huang et al. 2016); rng ``stochastic_depth``."""

    rate: float
    packed: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        if not train or self.rate == 0:
            return x
        key = self.make_rng("stochastic_depth")
        images, channels = x.shape[0] * self.packed, x.shape[-1] // self.packed
        keep = jax.random.bernoulli(key, 1 - self.rate, (images, 1, 1, 1))
        if self.packed > 1:
            keep = pack_rows(jnp.repeat(keep.reshape(images, 1), channels, axis=1), self.packed)
        return jnp.where(keep, x / (1 - self.rate), 0)


def batch_norm(
    config: EfficientNetConfig, dtype: jnp.dtype, name: str, packed: int = 1
) -> BatchNorm:
    """The backbone's batch normalisation under that name."""
    return BatchNorm(
        config.batch_norm_momentum,
        config.batch_norm_epsilon,
        config.batch_norm_unbiased,
        dtype,
        packed,
        name=name,
    )
