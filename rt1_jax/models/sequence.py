"""From the tokens of a history of frames to actions: what RT-1 and Gato have in common."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.models.attention_mask import attention_mask
from rt1_jax.models.inputs import check_history
from rt1_jax.models.transformer import Transformer


class SequenceModel(nn.Module):
    """A transformer over frames' tokens and action slots; ``__call__`` decodes encoded frames.

    A subclass says how a frame becomes tokens, in :meth:`encode_frames`, and calls
    :meth:`setup_decoder` in its ``setup``. Its config has the attributes of ``RT1Config``:
    ``transformer``, ``frames``, ``frame_shape``, ``slots``, ``step_tokens``, ``sequence_length``,
    ``action_tokens``, ``bins``, ``decoding``, ``readout``, ``outputs``, ``past_actions`` and
    ``dtype``.

    Variables are in two collections: ``params``, and ``batch_stats`` with the running statistics
    of batch normalisation, which is to be mutable while training. With ``train=True`` it draws
    from the rngs ``stochastic_depth`` and ``dropout``.
    """

    config: Any

    def setup_decoder(self) -> None:
        """Makes the submodules of decoding; for ``setup``."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        self.transformer = Transformer(
            config.transformer, config.bins, config.sequence_length, dtype
        )
        if config.decoding == "autoregressive":
            self.action_embedding = nn.Embed(config.bins, config.frame_shape[1], dtype=dtype)
        if config.decoding == "continuous":
            self.values = nn.Dense(config.outputs, dtype=dtype)
        elif config.readout == "mean":
            self.heads = nn.DenseGeneral((config.action_tokens, config.bins), dtype=dtype)

    def encode_frames(
        self, images: jax.Array, embeddings: jax.Array, train: bool = False
    ) -> jax.Array:
        """Tokens of single frames: uint8 ``[n, h, w, 3]``, ``[m, e]`` to ``[n, tokens, size]``."""
        raise NotImplementedError

    def __call__(
        self,
        images: jax.Array,
        embeddings: jax.Array,
        train: bool = False,
        action_tokens: jax.Array | None = None,
    ) -> jax.Array:
        """Logits of every step's action tokens, or with continuous decoding its numbers.

        Args:
          images: uint8 ``[b, t, h, w, 3]``, oldest first, of any size; t at most ``config.frames``.
          embeddings: float32 ``[b, t, e]``, or ``[b, e]`` for one instruction a history, which
            computes the instruction's part once.
          train: batch statistics, stochastic depth and dropout.
          action_tokens: as :meth:`decode_tokens`.

        Returns:
          float32 ``[b, t, action_tokens, bins]``, or ``[b, t, outputs]``.

        Raises:
          ValueError: an input of another shape or dtype.
        """
        check_history(type(self).__name__, images, embeddings)
        b, t = images.shape[:2]
        tokens = self.encode_frames(
            images.reshape(b * t, *images.shape[2:]),
            embeddings.reshape(-1, embeddings.shape[-1]),
            train,
        )
        return self.decode_tokens(tokens.reshape(b, t, *tokens.shape[1:]), train, action_tokens)

    def decode_tokens(
        self,
        image_tokens: jax.Array,
        train: bool = False,
        action_tokens: jax.Array | None = None,
    ) -> jax.Array:
        """Logits of every step's action tokens from its frames' tokens, or its numbers.

        Args:
          image_tokens: ``[b, t, tokens, size]``, oldest first; t at most ``config.frames``.
          train: dropout.
          action_tokens: int ``[b, t, action_tokens]``, the actions taken, for autoregressive
            decoding: the logits of a token depend on those before it.

        Returns:
          float32 ``[b, t, action_tokens, bins]``, or ``[b, t, outputs]``. Token k of a step is read
          one position before its slot; the last layer computes no other positions.

        Raises:
          ValueError: an input of another shape, or action tokens missing.
        """
        config = self.config
        b, t, n, _ = self._check_tokens(image_tokens)
        if config.readout == "mean":
            states = self.transformer.states(*self._sequence(image_tokens, None), None, train)
            pooled = states.reshape(b, t, n, -1).mean(2)  # [b, t, d]
            last = self.values if config.decoding == "continuous" else self.heads
            return last(pooled).astype(jnp.float32)
        steps = np.arange(t)[:, None] * config.step_tokens
        rows = (steps + n - 1 + np.arange(config.action_tokens)).reshape(-1)
        tokens, mask = self._sequence(image_tokens, action_tokens)
        states = self.transformer.states(tokens, mask, rows, train)  # [b, t * action_tokens, d]
        if config.decoding == "continuous":
            return self.values(states.reshape(b, t, -1)).astype(jnp.float32)
        logits = self.transformer.logits(states)
        return logits.reshape(b, t, config.action_tokens, config.bins)

    def decode_all(self, image_tokens: jax.Array, train: bool = False) -> jax.Array:
        """Logits at every position of the sequence: float32 ``[b, t * step_tokens, bins]``."""
        self._check_tokens(image_tokens)
        return self.transformer(*self._sequence(image_tokens, None), None, train)

    def _sequence(
        self, image_tokens: jax.Array, action_tokens: jax.Array | None
    ) -> tuple[jax.Array, np.ndarray]:
        """The transformer's input ``[b, s, size]`` and its mask ``[s, s]``."""
        config = self.config
        b, t, _, size = image_tokens.shape
        mask = self._mask(t)
        if config.decoding == "autoregressive":
            slots = self._embed_actions(action_tokens, (b, t))
            tokens = jnp.concatenate([image_tokens, slots.astype(image_tokens.dtype)], axis=2)
        else:
            # Action slots enter as zeros, in the reference implementations too.
            tokens = jnp.pad(image_tokens, ((0, 0), (0, 0), (0, config.slots), (0, 0)))
        return tokens.reshape(b, -1, size), mask

    def _mask(self, frames: int) -> np.ndarray:
        """Who may look at whom in that many steps, ``[s, s]``."""
        config = self.config
        autoregressive = config.decoding == "autoregressive"
        return attention_mask(
            frames,
            config.frame_shape[0],
            config.slots,
            # What is in the slots is known after the step only; zeros do not matter.
            config.past_actions if autoregressive else config.transformer.images_see_past_actions,
            own_actions=autoregressive,
            past_actions=config.past_actions,
        )

    def _embed_actions(self, action_tokens: jax.Array | None, lead: tuple[int, int]) -> jax.Array:
        expected = (*lead, self.config.action_tokens)
        if action_tokens is None or action_tokens.shape != expected:
            raise ValueError(
                f"{type(self).__name__}: autoregressive decoding needs action_tokens int "
                f"{list(expected)}, got "
                + ("none" if action_tokens is None else str(action_tokens.shape))
            )
        return self.action_embedding(action_tokens)

    def _check_tokens(self, image_tokens: jax.Array) -> tuple[int, ...]:
        tokens, size = self.config.frame_shape
        shape = image_tokens.shape
        if (
            len(shape) != 4
            or not 1 <= shape[1] <= self.config.frames
            or shape[2:] != (tokens, size)
        ):
            raise ValueError(
                f"{type(self).__name__}: expected image tokens [b, t, {tokens}, {size}] with t "
                f"at most {self.config.frames}, got {shape}"
            )
        return shape
