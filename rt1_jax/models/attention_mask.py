"""Who may look at whom in RT-1's sequence of image tokens and action slots."""

from __future__ import annotations

import numpy as np


def attention_mask(
    frames: int, image_tokens: int, action_tokens: int, images_see_past_actions: bool
) -> np.ndarray:
    """The transformer's attention mask.

    The sequence is, for each step, its image tokens and then its action slots. Attention is
    causal, except that action queries look at no action slot (their own included): actions are
    predicted from images alone. Image queries look at earlier steps' action slots in the
    TensorFlow original and not in the RT-1-X code; the slots hold zeros in both.

    Args:
      frames: steps in the history.
      image_tokens: image tokens a step.
      action_tokens: action slots a step.
      images_see_past_actions: whether image queries look at earlier steps' action slots.

    Returns:
      bool ``[sequence, sequence]``, queries by keys, True where looking is allowed;
      ``sequence = frames * (image_tokens + action_tokens)``.
    """
    length = frames * (image_tokens + action_tokens)
    position = np.arange(length)
    is_action = position % (image_tokens + action_tokens) >= image_tokens
    causal = position[:, None] >= position[None, :]
    hidden = is_action[None, :] & (is_action[:, None] | (not images_see_past_actions))
    return causal & ~hidden
