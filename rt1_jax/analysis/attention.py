"""Where a policy looks while it drives: TokenLearner's maps, and the transformer's attention."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_LARGEST_SCORES = 2**25
"""Attention weights of one layer that are held at once (128 MiB)."""


class NoSuchPartError(ValueError):
    """A policy without the part that is asked for."""


@dataclasses.dataclass(frozen=True)
class Looks:
    """Where a policy looks at every step of an episode, told one instruction.

    The transformer's window is filled as on the robot: from its oldest place, the newest frame at
    `position`. Action rows are the positions that the newest step's action tokens are read from.

    Attributes:
      maps: [t, tokens, positions], each sums to one; None without a TokenLearner.
      attention: [t, layers, action_tokens, frames, tokens], mean over the heads, on image tokens;
        what is missing from a sum of one lies on action slots. None without such a transformer.
      rollout: [t, action_tokens, frames, tokens], attention through all layers at once.
      position: int [t], place of the newest frame in the window.
    """

    maps: np.ndarray | None
    attention: np.ndarray | None
    rollout: np.ndarray | None
    position: np.ndarray

    def on_newest(self, weights: np.ndarray) -> np.ndarray:
        """The newest frame's part of weights [t, ..., frames, tokens]: [t, ..., tokens]."""
        return np.stack([w[..., p, :] for w, p in zip(weights, self.position, strict=True)])


class Looker:
    """Reads maps and attention out of a policy.

    Attributes:
      maps_problem: why there are no maps, or None.
      attention_problem: why there is no attention, or None.

    Args:
      policy: from `rt1_jax.load_policy`.
      name: what the checkpoint is called in messages.

    Raises:
      NoSuchPartError: the policy turns no image into tokens, so there is nothing to look at.
    """

    def __init__(self, policy: Any, name: str) -> None:
        config = policy.config
        tokenizer = getattr(config, "image_tokenizer", None)
        if tokenizer is None or not hasattr(policy.model, "encode_frames"):
            raise NoSuchPartError(
                f"checkpoint {name} has no TokenLearner (architecture "
                f"{policy.description.architecture!r} has no image tokenizer): token maps cannot "
                "be drawn, nor attention to image tokens"
            )
        self.maps_problem = self.attention_problem = None
        if getattr(tokenizer, "token_learner", None) is None:
            self.maps_problem = (
                f"checkpoint {name} has no TokenLearner (its {tokenizer.tokens} image tokens are "
                "the positions of the feature grid): token maps cannot be drawn; the "
                "transformer's attention is"
            )
        if not hasattr(config, "transformer") or not hasattr(policy.model, "decode_tokens"):
            self.attention_problem = (
                f"checkpoint {name} has no transformer over image tokens and action slots: "
                "attention from actions to the image cannot be drawn; the token maps are"
            )
        if self.maps_problem and self.attention_problem:
            raise NoSuchPartError(f"{self.maps_problem}; {self.attention_problem}")
        self._policy = policy
        self._encode = jax.jit(functools.partial(_encode, policy.model, self.maps_problem is None))
        self._attend = jax.jit(functools.partial(_attend, policy.model))

    def look(self, images: np.ndarray, embedding: np.ndarray) -> Looks:
        """Looks at every step of an episode.

        Args:
          images: uint8 [t, h, w, 3].
          embedding: float32 [d], of the instruction, by the policy's encoder.
        """
        policy = self._policy
        told = policy.condition(np.asarray(embedding, np.float32)[None])  # [1, d]
        found = [self._encode(policy.variables, chunk, told) for chunk in _chunks(images, 16)]
        count = len(images)
        tokens = np.concatenate([np.asarray(f[0], np.float32) for f in found])[:count]
        maps = None
        if self.maps_problem is None:
            maps = np.concatenate([np.asarray(f[1], np.float32) for f in found])[:count]
        frames = policy.config.frames
        position = np.minimum(np.arange(count), frames - 1)
        if self.attention_problem is not None:
            return Looks(maps, None, None, position)
        config = policy.config
        scores = config.transformer.heads * config.sequence_length**2
        size = int(np.clip(_LARGEST_SCORES // scores, 1, 16))
        looked = [
            self._attend(policy.variables, windows, places)
            for windows, places in zip(
                _chunks(_windows(tokens, frames), size), _chunks(position, size), strict=True
            )
        ]
        attention, rollout = (
            np.concatenate([np.asarray(part[i], np.float32) for part in looked])[:count]
            for i in range(2)
        )
        return Looks(maps, attention, rollout, position)


def _chunks(values: np.ndarray, size: int) -> list[np.ndarray]:
    """Equal parts along the first axis, the last filled up, so that one program serves all."""
    missing = -len(values) % size
    filled = np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])
    return np.split(filled, len(filled) // size)


def _windows(tokens: np.ndarray, frames: int) -> np.ndarray:
    """Tokens [t, n, c] as the policy's history at each step: [t, frames, n, c]."""
    windows = np.zeros((len(tokens), frames, *tokens.shape[1:]), tokens.dtype)
    for step in range(len(tokens)):
        history = tokens[max(0, step - frames + 1) : step + 1]
        windows[step, : len(history)] = history
    return windows


def _encode(
    model: Any, with_maps: bool, variables: Any, images: jax.Array, embeddings: jax.Array
) -> tuple[Any, Any]:
    """Image tokens [n, tokens, c] and maps [n, tokens, positions] (XLA shares the backbone)."""
    tokens = model.apply(variables, images, embeddings, method="encode_frames")
    if not with_maps:
        return tokens, None
    return tokens, model.apply(variables, images, embeddings, method="token_attention")


def _attend(
    model: Any, variables: Any, windows: jax.Array, position: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Attention of the action rows: windows [b, frames, n, c], place of the newest frame [b].

    Returns:
      float32 [b, layers, action_tokens, frames, n] and [b, action_tokens, frames, n].
    """
    config = model.config
    _, state = model.apply(variables, windows, method="decode_tokens", mutable=["intermediates"])
    layers = state["intermediates"]["transformer"]
    weights = [
        layers[f"layer_{i}"]["attention"]["attention"][0].astype(jnp.float32).mean(1)
        for i in range(config.transformer.layers)
    ]  # [b, s, s]; of the last layer the action rows only, [b, frames * action_tokens, s]
    b, frames, n, _ = windows.shape
    s = frames * config.step_tokens
    # Token k of a step is read one position before its slot.
    rows = position[:, None] * config.step_tokens + n - 1 + jnp.arange(config.action_tokens)
    last = position[:, None] * config.action_tokens + jnp.arange(config.action_tokens)

    def take(matrix: jax.Array, index: jax.Array) -> jax.Array:
        return jnp.take_along_axis(matrix, index[:, :, None], axis=1)

    picked = [take(w, rows) for w in weights[:-1]] + [take(weights[-1], last)]  # [b, actions, s]
    # Attention rollout (Abnar and Zuidema 2020): the residual path counts as much as attention.
    through = jnp.broadcast_to(jnp.eye(s), (b, s, s))
    for w in weights[:-1]:
        through = 0.5 * (w @ through + through)
    rollout = 0.5 * (picked[-1] @ through + take(through, rows))

    def on_images(matrix: jax.Array) -> jax.Array:
        return matrix.reshape(*matrix.shape[:-1], frames, config.step_tokens)[..., :n]

    return jnp.stack([on_images(p) for p in picked], axis=1), on_images(rollout)
