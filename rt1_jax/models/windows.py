"""Overlapping windows of a run of frames, each frame encoded once."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import numpy as np


def gather_windows(x: jax.Array, frames: int) -> jax.Array:
    """All windows of `frames` consecutive steps, one beginning a step after the other.

    Args:
      x: ``[b, steps, ...]``.
      frames: steps a window, at most ``steps``.

    Returns:
      ``[b * (steps - frames + 1), frames, ...]``, a run's windows one after another.
    """
    windows = x.shape[1] - frames + 1
    if windows < 1:
        raise ValueError(f"{x.shape[1]} steps hold no window of {frames}")
    index = np.arange(windows)[:, None] + np.arange(frames)  # [windows, frames]
    return x[:, index].reshape(-1, frames, *x.shape[2:])


def decode_windows(
    model: nn.Module,
    images: jax.Array,
    embeddings: jax.Array,
    train: bool = False,
    action_tokens: jax.Array | None = None,
) -> jax.Array:
    """Outputs of every window of a run of frames; for ``model.apply(..., method=decode_windows)``.

    The same numbers as calling the model with each window. A frame that is in six windows passes
    the image tokenizer once, not six times; in training it counts once, too, in the statistics of
    batch normalisation, and has one draw of stochastic depth.

    Args:
      model: any of ``rt1_jax.models.registry``; windows are ``model.config.frames`` long.
      images: uint8 ``[b, steps, h, w, 3]``.
      embeddings: float32 ``[b, e]``.
      train: as for the model.
      action_tokens: int ``[b, steps, action_tokens]``, for autoregressive decoding.

    Returns:
      float32 ``[b * windows, frames, ...]``, in the order of :func:`gather_windows`.
    """
    parts: Any = model
    b, steps = images.shape[:2]
    tokens = parts.encode_frames(images.reshape(b * steps, *images.shape[2:]), embeddings, train)
    frames = parts.config.frames
    tokens = gather_windows(tokens.reshape(b, steps, *tokens.shape[1:]), frames)
    if action_tokens is None:
        return parts.decode_tokens(tokens, train)
    return parts.decode_tokens(tokens, train, gather_windows(action_tokens, frames))
