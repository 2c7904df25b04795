"""One control step at a time: what a robot needs of a sequence model, and no more."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rt1_jax.models.sequence import SequenceModel
from rt1_jax.models.transformer import Cache


class SteppingModel(SequenceModel):
    """A sequence model that also decodes the newest step of a history alone.

    Positions are learned, so that a window that has moved on has to be computed anew. While it
    fills, frames stand where they stood: keys and values can be kept (:meth:`decode_next`).
    """

    def decode_newest(
        self, image_tokens: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, list[Cache]]:
        """Of one step, what :meth:`decode_tokens` gives for all; not for autoregressive decoding.

        Rows that nobody looks at are left out: the action slots of other steps, where images do
        not look at them, and all but the wanted rows of the last layer.

        Args:
          image_tokens: ``[b, t, tokens, size]``; those after ``step`` are not looked at.
          step: int ``[b]``, in 0..t-1.

        Returns:
          float32 ``[b, action_tokens, bins]`` or ``[b, outputs]``; and each layer's keys and values
          for :meth:`decode_next`, right up to ``step`` (none with the readout "mean").
        """
        config = self.config
        b, _, n, size = self._check_tokens(image_tokens)
        if config.readout == "mean":
            return outputs_of_step(self.decode_tokens(image_tokens), step), []
        count = config.action_tokens
        tokens, mask = self._sequence(image_tokens, None)
        kept = kept_positions(config, len(mask))
        seen = jnp.asarray(mask[:, kept])  # [s, kept]
        read = step[:, None] * config.step_tokens + n - 1 + np.arange(count)  # [b, count]
        if len(kept) == len(mask):
            states, caches = self.transformer.prefill(
                tokens, kept, len(kept), mask, read, seen[read]
            )
            return self._newest_outputs(states), caches
        # The first token is read at the frame's last image token, the others at slots that nobody
        # looks at.
        slots = jnp.zeros((b, count - 1, size), tokens.dtype)
        states, caches = self.transformer.prefill(
            jnp.concatenate([tokens[:, kept], slots], axis=1),
            jnp.concatenate([jnp.broadcast_to(kept, (b, len(kept))), read[:, 1:]], axis=1),
            len(kept),
            (mask[np.ix_(kept, kept)], seen[read[:, 1:]]),
            jnp.concatenate(
                [
                    step[:, None] * n + n - 1,
                    jnp.broadcast_to(len(kept) + np.arange(count - 1), (b, count - 1)),
                ],
                axis=1,
            ),
            seen[read],
        )
        return self._newest_outputs(states), caches

    def decode_next(
        self, frame_tokens: jax.Array, step: jax.Array, caches: list[Cache]
    ) -> tuple[jax.Array, list[Cache]]:
        """The step after those whose keys and values are kept; what :meth:`decode_newest` gives.

        Args:
          frame_tokens: ``[b, tokens, size]`` of the newest frame.
          step: int ``[b]``, its place in the window.
          caches: from :meth:`decode_newest`, from here, or :func:`empty_caches`.

        Returns:
          outputs as :meth:`decode_newest`, and the caches with this step's.
        """
        config = self.config
        n, count = config.frame_shape[0], config.action_tokens
        length = config.sequence_length
        kept = kept_positions(config, length)
        keys = len(kept) // config.frames  # of a step
        rows = max(keys, n + count - 1)
        room = [(0, 0), (0, rows - n), (0, 0)]
        positions = step[:, None] * config.step_tokens + np.arange(rows)  # [b, rows]
        seen = jnp.asarray(self._mask(config.frames)[:, kept])
        states, caches = self.transformer.extend(
            jnp.pad(frame_tokens, room), positions, caches, step * keys, keys, seen[positions]
        )
        return self._newest_outputs(states[:, n - 1 : n - 1 + count]), caches

    def decode_actions(
        self, image_tokens: jax.Array, step: jax.Array, action_tokens: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The most probable action of one step, token after token, each given those before it.

        Keys and values of what came before are computed once and kept: each further token is one
        row of each layer. Gives what :meth:`decode_tokens` gives for the tokens chosen.

        Args:
          image_tokens: ``[b, t, tokens, size]``; those after ``step`` are not looked at.
          step: int ``[b]``, the step to act in, in 0..t-1.
          action_tokens: int ``[b, t, action_tokens]``, actions of the steps before, looked at only
            where ``config.past_actions``.

        Returns:
          int32 ``[b, action_tokens]`` and float32 logits ``[b, action_tokens, bins]``.
        """
        config = self.config
        b, _, n, _ = self._check_tokens(image_tokens)
        if config.decoding != "autoregressive":
            raise ValueError(f"decode_actions: decoding is {config.decoding!r}")
        count = config.action_tokens
        tokens, mask = self._sequence(image_tokens, action_tokens)
        kept = kept_positions(config, len(mask))  # what the first token is predicted from
        states, caches = self.transformer.prefill(
            tokens[:, kept], kept, len(kept), mask[np.ix_(kept, kept)]
        )
        room = [(0, 0), (0, count), (0, 0), (0, 0)]
        caches = jax.tree.map(lambda x: jnp.pad(x, room), caches)
        start = step * config.step_tokens + n - 1  # [b], where the first token is read
        row = jnp.argmax(kept == start[:, None], axis=1)
        state = jnp.take_along_axis(states, row[:, None, None], axis=1)[:, 0]
        past = jnp.asarray(mask)[:, kept][start] & (kept <= start[:, None])  # [b, kept]

        transformer, variables = self.transformer.unbind()
        table = self.action_embedding.embedding

        def choose(state: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits: Any = transformer.apply(variables, state, method="logits")
            return logits.argmax(-1).astype(jnp.int32), logits

        def next_token(carry: Any, k: Any) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            state, caches = carry
            token, logits = choose(state)
            own = jnp.broadcast_to(jnp.arange(count) <= k, (b, count))
            looked_at = jnp.concatenate([past, own], axis=1)
            states, caches = transformer.apply(
                variables,
                table[token][:, None],
                start[:, None] + 1 + k,
                caches,
                len(kept) + k,
                1,
                looked_at[:, None],
                method="extend",
            )
            return (states[:, 0], caches), (token, logits)

        (state, _), (tokens, logits) = lax.scan(next_token, (state, caches), np.arange(count - 1))
        last, last_logits = choose(state)
        tokens = jnp.concatenate([tokens, last[None]]).swapaxes(0, 1)
        return tokens, jnp.concatenate([logits, last_logits[None]]).swapaxes(0, 1)

    def _newest_outputs(self, states: jax.Array) -> jax.Array:
        """``[b, action_tokens, d]`` to logits or, with continuous decoding, numbers."""
        if self.config.decoding == "continuous":
            return self.values(states.reshape(states.shape[0], -1)).astype(jnp.float32)
        return self.transformer.logits(states)


def outputs_of_step(outputs: jax.Array, step: jax.Array) -> jax.Array:
    """Each window's outputs ``[b, t, ...]`` of its own step, int ``[b]``: ``[b, ...]``."""
    index = step.reshape(-1, *(1,) * (outputs.ndim - 1))
    return jnp.take_along_axis(outputs, index, axis=1)[:, 0]


def kept_positions(config: Any, length: int) -> np.ndarray:
    """The places among the first ``length`` of the sequence that later steps look at."""
    positions = np.arange(length)
    autoregressive = config.decoding == "autoregressive"
    if config.past_actions or (config.transformer.images_see_past_actions and not autoregressive):
        return positions
    return positions[positions % config.step_tokens < config.frame_shape[0]]


def keeps_caches(config: Any) -> bool:
    """Whether a model of that config has :meth:`SteppingModel.decode_next`."""
    return hasattr(config, "transformer") and (
        config.decoding != "autoregressive" and config.readout == "slots"
    )


def empty_caches(config: Any, batch_size: int) -> list[Cache]:
    """The caches before an episode's first frame: zeros ``[b, kept positions, heads, key_dim]``."""
    kept = len(kept_positions(config, config.sequence_length))
    shape = (batch_size, kept, config.transformer.heads, config.transformer.key_dim)
    dtype = jnp.dtype(config.dtype)
    return [
        Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
        for _ in range(config.transformer.layers)
    ]
