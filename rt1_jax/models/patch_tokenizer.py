"""Gato's image patches (Reed et al. 2022) and the instruction as tokens of one sequence.

Sections 2.1 and 2.2 and appendix C.2 there: patches in raster order, values within [-1, 1] divided
by the square root of the patch size, one residual block of the second kind with GroupNorm and
GELU, and position encodings for the row and the column within the image. The paper gives no kernel
sizes or channels of that block; those here are this project's. Its positions are intervals of 128
steps that training draws from, for images of many sizes; here all images have one size, so a row
and a column have one learned vector each.
"""

from __future__ import annotations

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from rt1_jax import preprocessing
from rt1_jax.models import depthwise
from rt1_jax.models.group_norm import GroupNorm
from rt1_jax.models.json_config import ConfigError, JsonConfig
from rt1_jax.models.matrix_product import flat_dot_general, matrix_product

_POSITION_INIT = nn.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class PatchTokenizerConfig(JsonConfig):
    """Image and instruction to tokens, with nothing shared between them.

    Attributes:
      image_size: (height, width) in pixels that images are resized to.
      patch_size: height and width of a patch.
      token_size: channels of a token.
      cell_size: height and width of the cells of a patch that its first convolution maps to one
        position each, without overlap.
      channels: of the residual block.
      groups: of its GroupNorm.
    """

    image_size: tuple[int, int] = (224, 224)
    patch_size: int = 16
    token_size: int = 512
    cell_size: int = 4
    channels: int = 64
    groups: int = 32

    def __post_init__(self) -> None:
        name = "PatchTokenizerConfig"
        if any(size % self.patch_size for size in self.image_size):
            raise ConfigError(
                f"{name}: patches of {self.patch_size} do not tile images of {self.image_size}"
            )
        if self.patch_size % self.cell_size:
            raise ConfigError(
                f"{name}: cells of {self.cell_size} do not tile patches of {self.patch_size}"
            )
        if self.channels % self.groups:
            raise ConfigError(
                f"{name}: {self.channels} channels do not divide into {self.groups} groups"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def tokens(self) -> int:
        """Tokens that each frame becomes: the instruction and the patches."""
        return 1 + math.prod(self.grid)


class PatchTokenizer(nn.Module):
    """uint8 images of any size and instruction embeddings to tokens, the instruction's first."""

    config: PatchTokenizerConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, embeddings: jax.Array, train: bool = False) -> jax.Array:
        """uint8 ``[n, h, w, 3]`` and ``[m, e]`` (m divides n) to ``[n, tokens, token_size]``."""
        config, n = self.config, images.shape[0]
        pixels = preprocessing.resize_images(preprocessing.scale_uint8(images), config.image_size)
        pixels = (2 * pixels - 1) / math.sqrt(config.patch_size)
        cells = self._cells(pixels.astype(self.dtype))
        patches = PatchEmbedding(config, self.dtype, name="patch_embedding")(cells)
        patches = patches.reshape(n, -1, config.token_size) + self._positions().astype(self.dtype)
        instruction = nn.Dense(
            config.token_size, dtype=self.dtype, dot_general=flat_dot_general, name="instruction"
        )(embeddings.astype(self.dtype))
        instruction = jnp.repeat(instruction, n // embeddings.shape[0], axis=0)[:, None]
        return jnp.concatenate([instruction, patches], axis=1)

    def _cells(self, pixels: jax.Array) -> jax.Array:
        """Patches in raster order, each a map of its cells: ``[n * patches, g, g, s * s * 3]``."""
        config = self.config
        (rows, columns), s = config.grid, config.cell_size
        g = config.patch_size // s
        x = pixels.reshape(-1, rows, g, s, columns, g, s, 3)
        return x.transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, g, g, s * s * 3)

    def _positions(self) -> jax.Array:
        """The learned position encodings: float32 ``[patches, token_size]``."""
        (rows, columns), size = self.config.grid, self.config.token_size
        row = self.param("row_embedding", _POSITION_INIT, (rows, size))
        column = self.param("column_embedding", _POSITION_INIT, (columns, size))
        return (row[:, None] + column).reshape(-1, size)


class PatchEmbedding(nn.Module):
    """One residual block on every patch by itself, then all its positions to one token."""

    config: PatchTokenizerConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, cells: jax.Array) -> jax.Array:
        """``[p, g, g, cell]`` to ``[p, token_size]``."""
        config = self.config

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, dot_general=flat_dot_general, name=name)

        x = dense(config.channels, "cells")(cells)
        y = GroupNorm(config.groups, dtype=self.dtype, name="norm_1")(x)
        y = PatchConv(self.dtype, name="conv_1")(nn.gelu(y))
        y = GroupNorm(config.groups, dtype=self.dtype, name="norm_2")(y)
        y = PatchConv(self.dtype, name="conv_2")(nn.gelu(y))
        x = x + y
        return dense(config.token_size, "output")(x.reshape(x.shape[0], -1))


class PatchConv(nn.Module):
    """3x3 convolution of many tiny maps as one matrix product: ``[p, g, g, c]`` to the same."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        init = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
        kernel = self.param("kernel", init, (3, 3, channels, channels)).astype(self.dtype)
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        views = [view for _, _, view in depthwise.shifted_views(padded, 3, 1)]
        return matrix_product(jnp.concatenate(views, axis=-1), kernel.reshape(-1, channels))
