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
from rt1_jax.models.inputs import check_frames
from rt1_jax.models.stepping import SteppingModel

__all__ = [
    "RT1",
    "RT1Config",
    "oxe_rt1_config",
    "rt1_config",
    "rt1_multirobot_config",
    "rt1_x_config",
]


class RT1(SteppingModel):
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
        check_frames("RT1", images, embeddings, self.config.embedding_size)
        return self.image_tokenizer(images, embeddings, train)

    def token_attention(self, images: jax.Array, embeddings: jax.Array) -> jax.Array:
        """Where TokenLearner looks, ``[n, tokens, positions]``; inputs as :meth:`encode_frames`."""
        check_frames("RT1", images, embeddings, self.config.embedding_size)
        return self.image_tokenizer.attention(images, embeddings)
