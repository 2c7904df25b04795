"""Actions as numbers that a model regresses, where they are not tokens.

The numbers of an action are its fields' elements in order: for RT-1's fields thirteen, since the
one-hot mode takes three. A continuous element is -1 at its lower bound and 1 at its upper; the
gripper is given as log-odds of closing, as BC-Z (Jang et al. 2021) has it; a one-hot field as
logits.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.actions import ActionError, ActionField, ActionSpec


def output_count(spec: ActionSpec) -> int:
    """Numbers that an action takes (13 for RT-1's fields)."""
    return sum(field.size for field in spec.fields)


def is_odds(field: ActionField) -> bool:
    """Whether a field's number is the log-odds of its upper bound."""
    return field.name.startswith("gripper")


def split_outputs(outputs: jax.Array, spec: ActionSpec) -> dict[str, jax.Array]:
    """``[..., outputs]`` to ``{field: [..., size]}``, as the model gave them.

    Raises:
      ActionError: the last axis is not the spec's.
    """
    if outputs.shape[-1] != output_count(spec):
        raise ActionError(
            f"action spec {spec.name!r}: an action takes {output_count(spec)} numbers, the model "
            f"gives {outputs.shape[-1]}"
        )
    ends = np.cumsum([field.size for field in spec.fields])[:-1]
    parts = jnp.split(outputs, ends, axis=-1)
    return dict(zip(spec.field_names, parts, strict=True))


def normalize(action: Mapping[str, jax.Array], field: ActionField) -> jax.Array:
    """A field's recorded values, clipped to its bounds, in -1..1."""
    low, high = _bounds(field)
    return (jnp.clip(action[field.name], low, high) - low) / (high - low) * 2 - 1


def decode_outputs(outputs: jax.Array, spec: ActionSpec) -> dict[str, jax.Array]:
    """The action that a model's numbers mean: ``[..., outputs]`` to ``{field: [..., size]}``.

    Float32 in the field's unit and within its bounds; int32 for one-hot fields, the most probable.
    """
    action = {}
    for field, raw in zip(spec.fields, split_outputs(outputs, spec).values(), strict=True):
        if field.kind == "one_hot":
            best = raw.argmax(-1)[..., None]
            action[field.name] = (best == np.arange(field.size)).astype(jnp.int32)
            continue
        low, high = _bounds(field)
        value = jnp.tanh(raw / 2) if is_odds(field) else jnp.clip(raw, -1, 1)
        action[field.name] = low + (value + 1) / 2 * (high - low)
    return action


def _bounds(field: ActionField) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(field.low, np.float32), np.asarray(field.high, np.float32)
