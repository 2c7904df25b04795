"""Reads ``policy_specs.pbtxt`` beside the original's checkpoints: bounds and frame size.

TF-Agents writes there what a policy observes and does, as a ``StructuredValue`` in protobuf's text
format. A checkpoint without the file is taken to be of RT-1's own conventions.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np

from rt1_jax.actions import RT1, ActionField, ActionSpec
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.checkpoints.tf_bundle import import_tensorflow

FILE_NAME = "policy_specs.pbtxt"


@dataclasses.dataclass(frozen=True)
class PolicySpecs:
    """What is known of a policy's inputs and outputs beside its weights.

    Attributes:
      action_spec: RT-1's fields in RT-1's order, with the file's bounds.
      image_size: (height, width) of the camera's frames.
    """

    action_spec: ActionSpec
    image_size: tuple[int, int]


DEFAULT = PolicySpecs(RT1, (256, 320))
"""The released models', which all three say the same."""


def find_policy_specs(prefix: pathlib.Path) -> pathlib.Path | None:
    """The file that belongs to a checkpoint prefix: beside it, or above its ``variables``."""
    above = [prefix.parent.parent] if prefix.name == "variables" else []
    places = [prefix.parent, *above]
    return next((p / FILE_NAME for p in places if (p / FILE_NAME).is_file()), None)


def read_policy_specs(path: pathlib.Path) -> PolicySpecs:
    """Reads the file.

    Raises:
      CheckpointError: it is no such file, or its action is not RT-1's: another field, size or kind.
    """
    import_tensorflow()  # quietly, before its protocol buffers
    from google.protobuf import text_format
    from tensorflow.core.protobuf import struct_pb2

    try:
        tree = _plain(text_format.Parse(path.read_text(), struct_pb2.StructuredValue()))
        collect = tree["collect_data_spec"]
        found, image = collect["action"], collect["observation"]["image"]
        height, width, _ = image.shape
    except (text_format.ParseError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: expected the specs of a TF-Agents policy with collect_data_spec, its action "
            f"and observation.image; cannot be read ({error})"
        ) from error
    names = {field.name for field in RT1.fields}
    if set(found) != names:
        raise CheckpointError(
            f"{path}: the action has fields {sorted(found)}, expected RT-1's {sorted(names)}"
        )
    fields = tuple(_field(field, found[field.name], path) for field in RT1.fields)
    return PolicySpecs(dataclasses.replace(RT1, fields=fields), (height, width))


@dataclasses.dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    bounds: tuple[np.ndarray, np.ndarray] | None = None


def _field(ours: ActionField, found: Any, path: pathlib.Path) -> ActionField:
    if not isinstance(found, _Tensor) or found.shape != (ours.size,) or found.bounds is None:
        raise CheckpointError(
            f"{path}: action field {ours.name!r} is {found}, expected {ours.size} bounded numbers"
        )
    # One bound may stand for all numbers of a field.
    low, high = (
        tuple(float(v) for v in np.broadcast_to(np.ravel(bound), (ours.size,)))
        for bound in found.bounds
    )
    if any(a >= b for a, b in zip(low, high, strict=True)):
        raise CheckpointError(f"{path}: action field {ours.name!r} has bounds {low} to {high}")
    if np.array_equal(np.array([low, high], "f4"), np.array([ours.low, ours.high], "f4")):
        return ours  # the file has float32's pi / 2
    return dataclasses.replace(ours, low=low, high=high)


def _plain(value: Any) -> Any:
    """StructuredValue to dicts, and `_Tensor`s at the leaves; anything else becomes None."""
    kind = value.WhichOneof("kind")
    if kind == "dict_value":
        return {key: _plain(item) for key, item in value.dict_value.fields.items()}
    if kind == "named_tuple_value":
        return {pair.key: _plain(pair.value) for pair in value.named_tuple_value.values}
    if kind in ("tensor_spec_value", "bounded_tensor_spec_value"):
        spec = getattr(value, kind)
        shape = tuple(int(dim.size) for dim in spec.shape.dim)
        if kind == "tensor_spec_value":
            return _Tensor(shape)
        to_numpy = import_tensorflow().make_ndarray
        return _Tensor(shape, (to_numpy(spec.minimum), to_numpy(spec.maximum)))
    return None
