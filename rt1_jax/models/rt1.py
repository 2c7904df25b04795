"""RT-1 (Brohan et al. 2022): a history of images and an instruction to logits of action tokens."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rt1_jax.models.config import (
    RT1Config,
    oxe_rt1_config,
    rt1_config,
    rt1_multirobot_config,
    rt1_x_config,
)
from rt1_jax.models.image_tokenizer import ImageTokenizer
from rt1_jax.models.sequence import SequenceModel

__all__ = [
    "RT1",
    "RT1Config",
    "oxe_rt1_config",
    "rt1_config",
    "rt1_multirobot_config",
    "rt1_x_config",
]


class RT1(SequenceModel):
    """The whole model: FiLM-EfficientNet and TokenLearner, then :class:`SequenceModel`."""

    config: RT1Config

    def setup(self) -> None:
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        self.image_tokenizer = ImageTokenizer(config.image_tokenizer, dtype)
        self.setup_decoder()

    def encode_frames(
        self, images: jax.Array, embeddings: jax.Array, train: bool = False
    ) -> jax.Array:
        """Image tokens of single frames.

        Args:
          images: uint8 ``[n, h, w, 3]``, of any size.
          embeddings: float32 ``[n, e]``, or ``[m, e]`` with m a divisor of n: each embedding then
            serves ``n / m`` consecutive frames.
          train: batch statistics and stochastic depth.

        Returns:
          ``[n, tokens, token_size]``.

        Raises:
          ValueError: an input of another shape or dtype.
        """
        self._check_frames(images, embeddings)
        return self.image_tokenizer(images, embeddings, train)

    def token_attention(self, images: jax.Array, embeddings: jax.Array) -> jax.Array:
        """Where TokenLearner looks, ``[n, tokens, positions]``; inputs as :meth:`encode_frames`."""
        self._check_frames(images, embeddings)
        return self.image_tokenizer.attention(images, embeddings)

    def _check_frames(self, images: jax.Array, embeddings: jax.Array) -> None:
        if images.dtype != jnp.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(
                f"RT1: expected uint8 images [n, h, w, 3], got {images.dtype} {images.shape}"
            )
        size = self.config.embedding_size
        if (
            embeddings.ndim != 2
            or embeddings.shape[1] != size
            or embeddings.shape[0] == 0
            or images.shape[0] % embeddings.shape[0]
        ):
            raise ValueError(
                f"RT1: expected embeddings [m, {size}] with m a divisor of {images.shape[0]} "
                f"images, got {embeddings.shape}"
            )
