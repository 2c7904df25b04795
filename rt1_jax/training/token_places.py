"""Adapting tensors that tell places of the sequence, or tokens of the action, apart.

A step takes places in the transformer's sequence: its image tokens, then its action's slots. Frames
are matched from the oldest, since an episode's first frame is at place 0 in training and in use;
frames beyond the checkpoint's take the places of its newest. Image tokens are matched by their
number, or without TokenLearner by the nearest place of the feature map. The logits of token k are
read one place before slot k: that place is matched by the token's name ("world_vector/x"), and
where the checkpoint has no token of that name it is fresh.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.checkpoints.native import PolicyDescription

Side = tuple[Any, PolicyDescription]
"""A model's config, and what is said of its policy."""


def adapt(
    path: tuple[str, ...], stored: Any, fresh: Any, old: Side, new: Side
) -> tuple[Any, str] | None:
    """The adapted tensor and how, or None where it is to be reused as it is or cannot be adapted.

    Args:
      path: such as ("params", "transformer", "position_embedding", "kernel").
      stored: the checkpoint's tensor, or None.
      fresh: the new model's.
      old, new: the checkpoint and the run.
    """
    if stored is None:
        return None
    names = [side[1].action_spec.token_names for side in (old, new)]
    if path[-2:] == ("position_embedding", "kernel") and stored.shape[1:] == fresh.shape[1:]:
        rows = place_rows(old, new)
        if stored.shape == fresh.shape and (rows == np.arange(len(rows))).all():
            return None
        return _taken(stored, fresh, rows, 0), _told(old, new, rows)
    if path[1] == "heads" and names[0] != names[1]:  # kernel [d, tokens, bins], bias [tokens, bins]
        if stored.shape[:-2] != fresh.shape[:-2] or stored.shape[-1] != fresh.shape[-1]:
            return None
        rows = np.asarray([_index(names[0], name) for name in names[1]])
        if (rows < 0).all():
            return None
        return _taken(stored, fresh, rows, -2), f"{(rows >= 0).sum()} of {len(rows)} tokens by name"
    return None


def place_rows(old: Side, new: Side) -> np.ndarray:
    """For each place of the new sequence the checkpoint's, or -1: int [sequence_length]."""
    before, now = old[0], new[0]
    slots = _step_rows(old, new)  # [step_tokens]
    frames = np.minimum(np.arange(now.frames), before.frames - 1)[:, None]
    return np.where(slots < 0, -1, frames * before.step_tokens + slots).reshape(-1)


def spec_notes(old: ActionSpec, new: ActionSpec) -> list[str]:
    """What differs in the meaning of tokens, a sentence a field."""
    notes = []
    there = {field.name: field for field in old.fields}
    for field in new.fields:
        before = there.get(field.name)
        if before is None:
            notes.append(f"action field {field.name!r} is not the checkpoint's")
            continue
        for what in ("kind", "size", "low", "high", "unit"):
            a, b = getattr(before, what), getattr(field, what)
            if a != b:
                notes.append(f"{field.name}: {what} is {_shown(a)} there, {_shown(b)} here")
    for name in there.keys() - set(new.field_names):
        notes.append(f"action field {name!r} of the checkpoint is not this run's")
    if notes and old.bins == new.bins:
        notes.append("logits are reused as they are, so they mean other actions at first")
    if old.bins != new.bins:
        notes.append(f"{old.bins} bins there, {new.bins} here: the logits are learned anew")
    elif old.token_names != new.token_names and set(old.token_names) & set(new.token_names):
        notes.append("the tokens' names or order differ: their places are matched by name")
    return notes


def _step_rows(old: Side, new: Side) -> np.ndarray:
    """For each place of a step the checkpoint's, or -1."""
    before, now = old[0], new[0]
    images = _image_rows(before, now)
    if not now.slots or not before.slots:
        return np.concatenate([images, np.full(now.slots, -1)])
    names = [side[1].action_spec.token_names for side in (old, new)]
    first = before.frame_shape[0]
    # Slot k - 1 is where token k is read; the last slot is read by none.
    slots = [_index(names[0], name) for name in names[1][1:]]
    rows = [first + k - 1 if k > 0 else -1 for k in slots]
    return np.concatenate([images, rows, [first + before.slots - 1]]).astype(int)


def _image_rows(before: Any, now: Any) -> np.ndarray:
    old, new = before.frame_shape[0], now.frame_shape[0]
    grids = [_grid(config) for config in (before, now)]
    if grids[0] and grids[1]:
        (h, w), (height, width) = grids[0], grids[1]
        y = (np.arange(height) + 0.5) * h // height
        x = (np.arange(width) + 0.5) * w // width
        grid = (y[:, None] * w + x).reshape(-1).astype(int)
        # An instruction's token, where there is one, is before the image's.
        lead_old, lead_new = old - h * w, new - height * width
        lead = np.where(np.arange(lead_new) < lead_old, np.arange(lead_new), -1)
        return np.concatenate([lead, grid + lead_old])
    return np.where(np.arange(new) < old, np.arange(new), -1)


def _grid(config: Any) -> tuple[int, int] | None:
    """(height, width) of a feature map all of whose positions are tokens."""
    tokenizer = getattr(config, "image_tokenizer", None)
    if tokenizer is None or tokenizer.token_learner is not None:
        return None
    return tokenizer.feature_size


def _taken(stored: Any, fresh: Any, rows: np.ndarray, axis: int) -> Any:
    """Rows of the checkpoint along an axis; those of `fresh` where there is none."""
    value = np.take(np.asarray(stored), np.maximum(rows, 0), axis=axis).astype(fresh.dtype)
    if (rows >= 0).all():
        return value
    shape = [1] * value.ndim
    shape[axis] = len(rows)
    return jnp.where((rows >= 0).reshape(shape), value, fresh)


def _told(old: Side, new: Side, rows: np.ndarray) -> str:
    a, b = old[0], new[0]
    parts = [
        f"{x} {what} there, {y} here"
        for what, x, y in (
            ("frames", a.frames, b.frames),
            ("image tokens", a.frame_shape[0], b.frame_shape[0]),
            ("action slots", a.slots, b.slots),
        )
        if x != y
    ]
    if missing := int((rows < 0).sum()):
        parts.append(f"{missing} of {len(rows)} places fresh")
    return ", ".join(parts) or "places of tokens by their names"


def _index(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1


def _shown(value: Any) -> Any:
    if not isinstance(value, tuple):
        return repr(value)
    short = value[:1] if len(set(value)) == 1 else value
    return ", ".join(f"{v:g}" for v in short)
