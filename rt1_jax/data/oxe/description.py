"""What a dataset in RLDS calls things and what its actions mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rt1_jax.actions import RT1, ActionSpec
from rt1_jax.data.oxe.instructions import read_instruction
from rt1_jax.data.oxe.schema import OXEError, check_schema

Actions = dict[str, np.ndarray]
ActionMapping = Callable[[Mapping[str, np.ndarray]], Actions]

USE_LARGE_5 = "https://tfhub.dev/google/universal-sentence-encoder-large/5"

__all__ = ["USE_LARGE_5", "ActionMapping", "Actions", "OXEError", "RLDSDataset"]


@dataclasses.dataclass(frozen=True)
class RLDSDataset:
    """One dataset in RLDS, described once; paths are those inside a step, `"observation/image"`.

    It holds functions: give its name, not itself, to another process.

    Attributes:
      name: the TFDS name.
      image: path of the camera that RT-1 sees, uint8 [h, w, 3].
      instruction: path of the instruction: a string, or int32 [n] of UTF-8 bytes padded with zeros.
      embedding: path of the stored sentence embedding, float32 [512], or None.
      action_keys: paths that `actions` reads.
      frame_rate: steps a second.
      action_spec: RT-1's six fields with this dataset's bounds and units.
      mapping: `{path: [t, ...]}` -> `{RT-1 field: [t, size]}`, in the spec's units.
      rt1_x: what the published RT-1-X training does to these actions; None where nothing is
        published.
      rt1_x_inverse: the way back, to this dataset's units; None where there is none.
      version: the version of the public copy described here.
      embedding_encoder: whose vectors `embedding` holds; None where there are none.
      gripper: what the dataset stores for its gripper, and whether it is absolute or relative.
      sources: repository and file behind each fact.
      notes: what to know before training on it, with what could not be found out.
    """

    name: str
    image: str
    instruction: str
    embedding: str | None
    action_keys: tuple[str, ...]
    frame_rate: float
    action_spec: ActionSpec
    mapping: ActionMapping
    rt1_x: ActionMapping | None = None
    rt1_x_inverse: ActionMapping | None = None
    version: str = "0.1.0"
    embedding_encoder: str | None = None
    gripper: str = ""
    sources: tuple[str, ...] = ()
    notes: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "action_keys", tuple(self.action_keys))
        for what in ("name", "image", "instruction"):
            if not isinstance(getattr(self, what), str) or not getattr(self, what):
                raise OXEError(f"dataset {self.name!r}: {what} must be a non-empty string")
        if not self.action_keys:
            raise OXEError(f"dataset {self.name!r}: action_keys must name at least one path")
        if not self.frame_rate > 0:
            raise OXEError(
                f"dataset {self.name!r}: frame_rate must be positive, got {self.frame_rate}"
            )
        if not callable(self.mapping):
            raise OXEError(
                f"dataset {self.name!r}: mapping must be a function from "
                "{path: [t, ...]} to {RT-1 field: [t, size]}"
            )
        found = {field.name: field.size for field in self.action_spec.fields}
        expected = {field.name: field.size for field in RT1.fields}
        if found != expected:
            raise OXEError(
                f"dataset {self.name!r}: action_spec has the fields {found}, expected RT-1's "
                f"{expected}; make it with `dataset_spec`"
            )

    @property
    def keys(self) -> tuple[str, ...]:
        """Every path that an importer must read from a step."""
        embedding = () if self.embedding is None else (self.embedding,)
        return tuple(dict.fromkeys((self.image, self.instruction, *embedding, *self.action_keys)))

    def actions(self, steps: Mapping[str, np.ndarray]) -> Actions:
        """The episode's actions in RT-1's fields, physical units and sign (+1 closes the gripper).

        Args:
          steps: `{path: [t, ...]}` with all of `action_keys`; others are ignored.

        Returns:
          `{RT-1 field: float32 [t, size]}`, not clipped to the bounds. Degrees of freedom that the
          robot lacks are zero.

        Raises:
          OXEError: a path is missing, lengths differ, or the values have another shape.
        """
        check_schema(self, steps.keys(), keys=self.action_keys)
        read = {key: np.asarray(steps[key]) for key in self.action_keys}
        lengths = {key: value.shape[:1] for key, value in read.items()}
        if len(set(lengths.values())) != 1 or () in lengths.values():
            raise OXEError(
                f"dataset {self.name!r}: keys differ in their number of steps: {lengths}"
            )
        try:
            mapped = self.mapping(read)
        except (ValueError, IndexError, TypeError, KeyError) as error:
            shapes = {key: list(value.shape) for key, value in read.items()}
            raise OXEError(
                f"dataset {self.name!r}: steps of shapes {shapes} cannot be mapped: {error}"
            ) from error
        return self._checked(mapped, lengths[self.action_keys[0]][0], "mapping")

    def rt1_x_actions(self, actions: Mapping[str, np.ndarray]) -> Actions:
        """What the published RT-1-X training makes of `actions`, for `rt1_jax.actions.RT1_X`.

        Args:
          actions: what `actions` gave: `{RT-1 field: [t, size]}`.

        Returns:
          `{RT-1 field: float32 [t, size]}`. Its published oddities are kept, since the released
          weights were trained with them; `notes` names them.

        Raises:
          OXEError: nothing is published for this dataset, or a field is missing.
        """
        if self.rt1_x is None:
            raise OXEError(
                f"dataset {self.name!r} has no published RT-1-X rescaling; use `actions` with its "
                "own action_spec, or state one: dataclasses.replace(dataset, rt1_x=...)"
            )
        if missing := [name for name in self.action_spec.field_names if name not in actions]:
            raise OXEError(
                f"dataset {self.name!r}: rt1_x_actions takes what `actions` gives, which has the "
                f"field {missing[0]!r}; got {sorted(actions)}"
            )
        steps = len(actions["world_vector"])
        return self._checked(self.rt1_x(actions), steps, "rt1_x")

    def from_rt1_x(self, actions: Mapping[str, np.ndarray]) -> Actions:
        """What RT-1-X's numbers mean on this dataset's robot: undoes `rt1_x_actions`.

        Args:
          actions: what a policy of `rt1_jax.actions.RT1_X` gave: `{RT-1 field: [b, size]}`.

        Returns:
          `{RT-1 field: float32 [b, size]}` in the units of `action_spec`, for the dataset's frame,
          rate and kind of gripper; clipped where `rt1_x_actions` clips.

        Raises:
          OXEError: there is no way back for this dataset, or a field is missing.
        """
        if self.rt1_x_inverse is None:
            raise OXEError(
                f"dataset {self.name!r} has no way back from RT-1-X's numbers: its units, or how "
                "the released model was given its actions, are not published. If you know better: "
                "dataclasses.replace(dataset, rt1_x_inverse=...)"
            )
        if missing := [name for name in self.action_spec.field_names if name not in actions]:
            raise OXEError(
                f"dataset {self.name!r}: from_rt1_x takes what an RT-1-X policy gives, which has "
                f"the field {missing[0]!r}; got {sorted(actions)}"
            )
        read = {name: np.asarray(actions[name]) for name in self.action_spec.field_names}
        return self._checked(self.rt1_x_inverse(read), len(read["world_vector"]), "rt1_x_inverse")

    def read_instruction(self, value: Any) -> str:
        """The instruction of one step: bytes, a string or int [n] of UTF-8 bytes -> text.

        Raises:
          OXEError: it is none of these, or not UTF-8.
        """
        try:
            return read_instruction(value)
        except (ValueError, TypeError) as error:
            raise OXEError(f"dataset {self.name!r}: {self.instruction}: {error}") from error

    def _checked(self, actions: Mapping[str, np.ndarray], steps: int, who: str) -> Actions:
        """In the spec's order, as float32; complains about what is missing or of another shape."""
        found = {name: tuple(np.shape(value)) for name, value in actions.items()}
        expected = {field.name: (steps, field.size) for field in self.action_spec.fields}
        if found != expected:
            raise OXEError(
                f"dataset {self.name!r}: {who} gave the shapes {found}, expected {expected}"
            )
        return {name: np.asarray(actions[name], np.float32) for name in expected}
