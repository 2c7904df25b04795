"""ResNet of basic blocks (He et al. 2016), with FiLM in every block where an instruction steers it.

Layers, padding and normalisation are those of torchvision's ResNet-18, so that its weights fit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from rt1_jax.models.batch_norm import BatchNorm
from rt1_jax.models.convolution import PointwiseConv, StemConv
from rt1_jax.models.film import FiLM
from rt1_jax.models.json_config import ConfigError, JsonConfig

_KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_Modulate = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class ResNetConfig(JsonConfig):
    """The backbone; the default is ResNet-18 without its pooling and classifier.

    Attributes:
      stages: blocks of each stage; every stage but the first halves the map and doubles channels.
      filters: channels of the stem and the first stage.
      stem_kernel: size of the first convolution, odd.
      stem_stride: its stride.
      max_pool: whether a 3x3 max-pool of stride 2 follows it; small images need it less.
      film: whether the instruction modulates every block.
      batch_norm_momentum: share of the old running statistics kept at each step.
      batch_norm_epsilon: added to the variance.
      batch_norm_unbiased: whether the running variance takes the unbiased estimate (PyTorch).
    """

    stages: tuple[int, ...] = (2, 2, 2, 2)
    filters: int = 64
    stem_kernel: int = 7
    stem_stride: int = 2
    max_pool: bool = True
    film: bool = False
    batch_norm_momentum: float = 0.9
    batch_norm_epsilon: float = 1e-5
    batch_norm_unbiased: bool = True

    def __post_init__(self) -> None:
        if not self.stages or min(self.stages) < 1:
            raise ConfigError(f"ResNetConfig.stages: each needs a block, got {self.stages}")
        if self.stem_kernel % 2 == 0:
            raise ConfigError(f"ResNetConfig.stem_kernel must be odd, got {self.stem_kernel}")

    @property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """(channels, stride) of every block in order."""
        return tuple(
            (self.filters * 2**stage, 2 if stage > 0 and block == 0 else 1)
            for stage, count in enumerate(self.stages)
            for block in range(count)
        )

    @property
    def features(self) -> int:
        """Channels of the feature map."""
        return self.blocks[-1][0]

    def output_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the feature map for an image of that size."""
        strides = [self.stem_stride, 2 if self.max_pool else 1]
        strides += [stride for _, stride in self.blocks]
        height, width = image_size
        for stride in strides:  # an odd kernel, padded by its half on both sides, rounds up
            height, width = -(-height // stride), -(-width // stride)
        return height, width


class ResNet(nn.Module):
    """Normalised images and instruction embeddings to a feature map.

    Block b's parameters are ``block_<b>``, those of the FiLM layer in it ``film_<b>``.
    """

    config: ResNetConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, embeddings: jax.Array, train: bool = False) -> jax.Array:
        """Images ``[n, h, w, c]`` and embeddings ``[m, e]`` (m divides n) to ``[n, h', w', f]``.

        Without ``config.film`` the embeddings are not looked at.
        """
        config = self.config
        x = StemConv(
            config.filters,
            config.stem_kernel,
            config.stem_stride,
            "symmetric",
            dtype=self.dtype,
            name="stem_conv",
        )(images)
        x = nn.relu(batch_norm(config, self.dtype, "stem_bn")(x, train))
        if config.max_pool:
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))  # pads with -inf
        for index, (filters, stride) in enumerate(config.blocks):
            modulate = self._film(index, embeddings)
            block = BasicBlock(config, filters, stride, self.dtype, name=f"block_{index:02d}")
            x = block(x, modulate, train)
        return x

    def _film(self, index: int, embeddings: jax.Array) -> _Modulate:
        if not self.config.film:
            return lambda x: x
        film = FiLM(self.dtype, name=f"film_{index:02d}")
        return lambda x: film(x, embeddings)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, fig. 5 left; shortcuts: option B)."""

    config: ResNetConfig
    filters: int
    stride: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, modulate: _Modulate, train: bool = False) -> jax.Array:
        """``[n, h, w, c]`` to ``[n, h', w', filters]``.

        ``modulate`` acts between the second normalisation and the addition, where FiLM's own
        network (Perez et al. 2018, fig. 3) has it, and the released BC-Z code for this kind of
        block.
        """
        config, dtype = self.config, self.dtype
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.filters:
            kept = x[:, :: self.stride, :: self.stride]
            shortcut = PointwiseConv(self.filters, dtype=dtype, name="shortcut_conv")(kept)
            shortcut = batch_norm(config, dtype, "shortcut_bn")(shortcut, train)
        y = self._conv("conv_1", self.stride)(x)
        y = nn.relu(batch_norm(config, dtype, "bn_1")(y, train))
        y = self._conv("conv_2", 1)(y)
        y = modulate(batch_norm(config, dtype, "bn_2")(y, train))
        return nn.relu(y + shortcut)

    def _conv(self, name: str, stride: int) -> nn.Conv:
        return nn.Conv(
            self.filters,
            (3, 3),
            stride,
            ((1, 1), (1, 1)),
            use_bias=False,
            kernel_init=_KERNEL_INIT,
            dtype=self.dtype,
            name=name,
        )


def batch_norm(config: ResNetConfig, dtype: jnp.dtype, name: str) -> BatchNorm:
    """The backbone's batch normalisation under that name."""
    return BatchNorm(
        config.batch_norm_momentum,
        config.batch_norm_epsilon,
        config.batch_norm_unbiased,
        dtype,
        name=name,
    )
