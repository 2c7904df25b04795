"""RT-1's action fields with a dataset's own bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from rt1_jax.actions import RT1, RT1_X, ActionField, ActionSpec

Bounds = tuple[float | Sequence[float], float | Sequence[float]]


def symmetric(bound: float) -> Bounds:
    """(-bound, bound)."""
    return -bound, bound


# What RT-1-X's tokens can say at all: for data that reach it unscaled and whose range is nowhere
# published.
RT1_X_TRANSLATION = symmetric(RT1_X.field("world_vector").high[0])
RT1_X_ROTATION = symmetric(RT1_X.field("rotation_delta").high[0])


NO_ROTATION = "none: always 0"


def dataset_spec(
    name: str,
    *,
    world_vector: Bounds,
    rotation_delta: Bounds | None = None,
    translation_unit: str = "m",
    rotation_unit: str = "rad",
    gripper_unit: str = "-1 opens, +1 closes",
) -> ActionSpec:
    """RT-1's six fields and 256 bins with the bounds of one dataset.

    Args:
      name: the dataset's.
      world_vector: (low, high), each one number or three, in `translation_unit`.
      rotation_delta: the same in `rotation_unit`; None for a robot without, which keeps
        RT-1's bounds.
      translation_unit: unit of `world_vector`.
      rotation_unit: unit of `rotation_delta`.
      gripper_unit: what the gripper's number means.

    The base's fields keep RT-1's bounds.
    """
    changes = {
        "world_vector": _field("world_vector", world_vector, translation_unit),
        "gripper_closedness_action": dataclasses.replace(
            RT1.field("gripper_closedness_action"), unit=gripper_unit
        ),
    }
    if rotation_delta is None:
        rotation = dataclasses.replace(RT1.field("rotation_delta"), unit=NO_ROTATION)
    else:
        rotation = _field("rotation_delta", rotation_delta, rotation_unit)
    changes["rotation_delta"] = rotation
    fields = tuple(changes.get(field.name, field) for field in RT1.fields)
    return ActionSpec(name, fields, RT1.bins, RT1.out_of_range_terminate)


def _field(name: str, bounds: Bounds, unit: str) -> ActionField:
    low, high = (tuple(np.broadcast_to(bound, 3).tolist()) for bound in bounds)
    return ActionField(name, 3, low, high, unit)
