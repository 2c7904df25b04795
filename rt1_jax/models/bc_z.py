"""BC-Z (Jang et al. 2021): one image and an instruction to a continuous action.

A ResNet-18 with FiLM in every block, its feature map averaged, and a small network for each part
of the action (section 5 and fig. 3 there). It has no history. Facts that the paper leaves open are
the released code's (tensor2robot, research/bcz): (1 + gamma) x + beta, linear in the embedding;
heads of two hidden layers of 256 with ReLU; 200x200 pixels for the language-conditioned policy.
Differences: that code's ResNet is of the second kind (pre-activation) and starts FiLM at random
values; here, both are as elsewhere in this project. It predicts ten future waypoints, of which the
first is executed; here, one action.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from rt1_jax import preprocessing
from rt1_jax.models.batch_norm import BatchNorm
from rt1_jax.models.convolution import PointwiseConv
from rt1_jax.models.inputs import check_frames, check_history
from rt1_jax.models.json_config import ConfigError, JsonConfig, one_of
from rt1_jax.models.matrix_product import flat_dot_general
from rt1_jax.models.resnet import ResNet, ResNetConfig, batch_norm

_FILM_RESNET_18 = ResNetConfig(film=True)


@dataclasses.dataclass(frozen=True)
class BCZConfig(JsonConfig):
    """A whole BC-Z.

    Attributes:
      resnet: the backbone.
      image_size: (height, width) in pixels that images are resized to.
      head_hidden: width of the two hidden layers of each head.
      head_sizes: outputs of each head: a number for each element of an action's continuous
        fields, logits for its one-hot field, in the order of the action's fields.
      embedding_size: channels of an instruction's embedding.
      coordinate_channels: 0, or 2 to append each position's x and y to the normalised image and to
        the feature map, where a 1x1 convolution with ReLU joins them with what is seen there
        before all positions are averaged. The paper has none.
      frames: images in a training window; each is looked at alone.
      action_tokens: tokens an action takes where it is compared with models that predict tokens.
      bins: values such a token can take.
      dtype: what is computed in, ``"float32"`` or ``"bfloat16"``; parameters, normalisation
        statistics and outputs are float32 in either case.
    """

    resnet: ResNetConfig = _FILM_RESNET_18
    image_size: tuple[int, int] = (200, 200)
    head_hidden: int = 256
    head_sizes: tuple[int, ...] = (3, 3, 3, 1, 1, 2)
    embedding_size: int = 512
    coordinate_channels: int = 0
    frames: int = 1
    action_tokens: int = 11
    bins: int = 256
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("float32", "bfloat16"))
        one_of("coordinate_channels", self.coordinate_channels, (0, 2))
        if not self.head_sizes or min(self.head_sizes) < 1:
            raise ConfigError(f"BCZConfig.head_sizes must be positive, got {self.head_sizes}")
        if self.frames < 1:
            raise ConfigError(f"BCZConfig.frames must be positive, got {self.frames}")

    @property
    def decoding(self) -> str:
        """How outputs become actions: they are the action's numbers."""
        return "continuous"

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(tokens, features) of what a frame is encoded to."""
        return 1, self.resnet.features

    @property
    def outputs(self) -> int:
        """Numbers that describe an action, over all heads."""
        return sum(self.head_sizes)


def bc_z_config() -> BCZConfig:
    """BC-Z with the paper's ResNet-18: 14,332,493 parameters."""
    return BCZConfig()


def bc_z_xl_config() -> BCZConfig:
    """BC-Z widened to RT-1's size, the "BC-Z XL" of Brohan et al. 2022: 34,372,373 parameters."""
    return BCZConfig(resnet=ResNetConfig(filters=104, film=True))


def bc_z_tabletop_config() -> BCZConfig:
    """For the tabletop benchmark: 64 x 64 pixels to 8 x 8 positions, 237,613 parameters."""
    resnet = ResNetConfig(
        stages=(2, 2), filters=32, stem_kernel=5, stem_stride=4, max_pool=False, film=True
    )
    return BCZConfig(
        resnet=resnet,
        image_size=(64, 64),
        head_hidden=64,
        embedding_size=24,
        coordinate_channels=2,
    )


class BCZ(nn.Module):
    """The whole model; ``__call__`` is :meth:`decode_tokens` of :meth:`encode_frames`.

    Variables are in two collections, as RT-1's: ``params`` and ``batch_stats``.
    """

    config: BCZConfig

    def setup(self) -> None:
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        self.resnet = ResNet(config.resnet, dtype)
        if config.coordinate_channels:
            self.projection = CoordinateProjection(config.resnet, dtype)
        self.heads = [
            ActionHead(config.head_hidden, size, dtype, name=f"head_{index}")
            for index, size in enumerate(config.head_sizes)
        ]

    def __call__(self, images: jax.Array, embeddings: jax.Array, train: bool = False) -> jax.Array:
        """The action at every step, from that step's image alone.

        Args:
          images: uint8 ``[b, t, h, w, 3]`` of any size.
          embeddings: float32 ``[b, t, e]``, or ``[b, e]`` for one instruction a window.
          train: batch statistics.

        Returns:
          float32 ``[b, t, outputs]``.

        Raises:
          ValueError: an input of another shape or dtype.
        """
        check_history("BC-Z", images, embeddings)
        b, t = images.shape[:2]
        tokens = self.encode_frames(
            images.reshape(b * t, *images.shape[2:]),
            embeddings.reshape(-1, embeddings.shape[-1]),
            train,
        )
        return self.decode_tokens(tokens.reshape(b, t, *tokens.shape[1:]), train)

    def encode_frames(
        self, images: jax.Array, embeddings: jax.Array, train: bool = False
    ) -> jax.Array:
        """uint8 ``[n, h, w, 3]`` and ``[m, e]`` (m divides n) to pooled ``[n, 1, features]``.

        Raises:
          ValueError: an input of another shape or dtype.
        """
        config = self.config
        check_frames("BC-Z", images, embeddings, config.embedding_size)
        dtype = jnp.dtype(config.dtype)
        x = preprocessing.preprocess_images(images, config.image_size)
        if config.coordinate_channels:
            x = preprocessing.append_coordinates(x)
        x = self.resnet(x.astype(dtype), embeddings.astype(dtype), train)
        if config.coordinate_channels:
            x = self.projection(preprocessing.append_coordinates(x), train)
        return jnp.mean(x, axis=(1, 2), dtype=jnp.float32).astype(dtype)[:, None]

    def decode_tokens(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        """Actions from encoded frames, each by itself.

        Args:
          tokens: ``[b, t, 1, features]``.
          train: nothing here depends on it.

        Returns:
          float32 ``[b, t, outputs]``.

        Raises:
          ValueError: an input of another shape.
        """
        shape = self.config.frame_shape
        if tokens.ndim != 4 or tokens.shape[2:] != shape:
            raise ValueError(
                f"BC-Z: expected encoded frames [b, t, {shape[0]}, {shape[1]}], got {tokens.shape}"
            )
        outputs = [head(tokens[:, :, 0]) for head in self.heads]
        return jnp.concatenate(outputs, axis=-1).astype(jnp.float32)


class CoordinateProjection(nn.Module):
    """1x1 convolution, normalisation, ReLU: a mean of its channels can tell where something is."""

    config: ResNetConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """``[n, h, w, features + 2]`` to ``[n, h, w, features]``."""
        x = PointwiseConv(self.config.features, dtype=self.dtype, name="conv")(x)
        norm: BatchNorm = batch_norm(self.config, self.dtype, "bn")
        return nn.relu(norm(x, train))


class ActionHead(nn.Module):
    """Two hidden layers with ReLU for a part of the action: ``[..., f]`` to ``[..., outputs]``."""

    hidden: int
    outputs: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, dot_general=flat_dot_general, name=name)

        x = nn.relu(dense(self.hidden, "hidden_1")(x.astype(self.dtype)))
        x = nn.relu(dense(self.hidden, "hidden_2")(x))
        return dense(self.outputs, "output")(x)
