"""RT-1 (Brohan et al. 2022): a history of images and an instruction to logits of action tokens."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.models.attention_mask import attention_mask
from rt1_jax.models.config import (
    RT1Config,
    oxe_rt1_config,
    rt1_config,
    rt1_multirobot_config,
    rt1_x_config,
)
from rt1_jax.models.image_tokenizer import ImageTokenizer
from rt1_jax.models.transformer import Transformer

__all__ = [
    "RT1",
    "RT1Config",
    "oxe_rt1_config",
    "rt1_config",
    "rt1_multirobot_config",
    "rt1_x_config",
]


class RT1(nn.Module):
    """The whole model; ``__call__`` is :meth:`decode_tokens` of :meth:`encode_frames`.

    Variables are in two collections: ``params``, and ``batch_stats`` with the running statistics
    of batch normalisation, which is to be mutable while training. With ``train=True`` it draws
    from the rngs ``stochastic_depth`` and ``dropout``.
    """

    config: RT1Config

    def setup(self) -> None:
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        self.image_tokenizer = ImageTokenizer(config.image_tokenizer, dtype)
        self.transformer = Transformer(
            config.transformer, config.bins, config.sequence_length, dtype
        )

    def __call__(self, images: jax.Array, embeddings: jax.Array, train: bool = False) -> jax.Array:
        """Logits of every step's action tokens.

        Args:
          images: uint8 ``[b, t, h, w, 3]``, oldest first, of any size; t at most ``config.frames``.
          embeddings: float32 ``[b, t, e]``, or ``[b, e]`` for one instruction a history, which
            computes the FiLM projections once.
          train: batch statistics, stochastic depth and dropout.

        Returns:
          float32 ``[b, t, action_tokens, bins]``.

        Raises:
          ValueError: an input of another shape or dtype.
        """
        if images.ndim != 5 or embeddings.shape[:-1] not in (images.shape[:1], images.shape[:2]):
            raise ValueError(
                "RT1: expected images [b, t, h, w, 3] with embeddings [b, t, e] or [b, e], got "
                f"images {images.shape} and embeddings {embeddings.shape}"
            )
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

    def decode_tokens(self, image_tokens: jax.Array, train: bool = False) -> jax.Array:
        """Logits of every step's action tokens from image tokens.

        Args:
          image_tokens: ``[b, t, tokens, token_size]``, oldest first; t at most ``config.frames``.
          train: dropout.

        Returns:
          float32 ``[b, t, action_tokens, bins]``. Token k of a step is read one position before its
          slot; the last layer computes no other positions.

        Raises:
          ValueError: an input of another shape.
        """
        config = self.config
        b, t, n, _ = self._check_tokens(image_tokens)
        steps = np.arange(t)[:, None] * config.step_tokens
        rows = (steps + n - 1 + np.arange(config.action_tokens)).reshape(-1)
        logits = self._decode(image_tokens, rows, train)  # [b, t * action_tokens, bins]
        return logits.reshape(b, t, config.action_tokens, config.bins)

    def decode_all(self, image_tokens: jax.Array, train: bool = False) -> jax.Array:
        """Logits at every position of the sequence: float32 ``[b, t * step_tokens, bins]``."""
        self._check_tokens(image_tokens)
        return self._decode(image_tokens, None, train)

    def _decode(self, image_tokens: jax.Array, rows: np.ndarray | None, train: bool) -> jax.Array:
        config = self.config
        b, t, n, size = image_tokens.shape
        # Action slots enter as zeros, in the reference implementations too.
        tokens = jnp.pad(image_tokens, ((0, 0), (0, 0), (0, config.action_tokens), (0, 0)))
        mask = attention_mask(
            t, n, config.action_tokens, config.transformer.images_see_past_actions
        )
        return self.transformer(tokens.reshape(b, -1, size), mask, rows, train)

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

    def _check_tokens(self, image_tokens: jax.Array) -> tuple[int, ...]:
        config = self.config.image_tokenizer
        shape = image_tokens.shape
        if (
            len(shape) != 4
            or not 1 <= shape[1] <= self.config.frames
            or shape[2:] != (config.tokens, config.token_size)
        ):
            raise ValueError(
                f"RT1: expected image tokens [b, t, {config.tokens}, {config.token_size}] with t "
                f"at most {self.config.frames}, got {shape}"
            )
        return shape
