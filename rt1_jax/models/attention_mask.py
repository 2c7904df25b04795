"""Who may look at whom in RT-1's sequence of image tokens and action slots."""

from __future__ import annotations

import numpy as np


def attention_mask(
    frames: int,
    image_tokens: int,
    action_tokens: int,
    images_see_past_actions: bool,
    *,
    own_actions: bool = False,
    past_actions: bool = False,
) -> np.ndarray:
    """The transformer's attention mask.

    The sequence is, for each step, its image tokens and then its action slots. Attention is
    causal, except that in RT-1 action queries look at no action slot (their own included): actions
    are predicted from images alone. Image queries look at earlier steps' action slots in the
    TensorFlow original and not in the RT-1-X code; the slots hold zeros in both.

    Args:
      frames: steps in the history.
      image_tokens: image tokens a step.
      action_tokens: action slots a step; with none, a step's tokens all see each other.
      images_see_past_actions: whether image queries look at earlier steps' action slots.
      own_actions: whether an action query looks at its step's slots up to its own, as
        autoregressive decoding does.
      past_actions: whether action queries look at earlier steps' action slots.

    Returns:
      bool ``[sequence, sequence]``, queries by keys, True where looking is allowed;
      ``sequence = frames * (image_tokens + action_tokens)``.
    """
    step_tokens = image_tokens + action_tokens
    position = np.arange(frames * step_tokens)
    step = position // step_tokens
    is_action = position % step_tokens >= image_tokens
    if action_tokens == 0:
        return step[:, None] >= step[None, :]
    causal = position[:, None] >= position[None, :]
    own_step = step[:, None] == step[None, :]
    by_actions = np.where(own_step, own_actions, past_actions)
    seen = np.where(is_action[:, None], by_actions, images_see_past_actions)
    return causal & (seen | ~is_action[None, :])
