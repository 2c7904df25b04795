"""Actions as data: named fields with bounds and units, and their discrete tokens.

RT-1 describes one control step by eleven tokens of 256 bins (Brohan et al. 2022, section 5.1): a
mode and ten continuous numbers. Which number means what, in which unit, and within which bounds,
differs between data sets and releases; an :class:`ActionSpec` states it once, travels with every
data set and checkpoint, and converts both ways.

Works on NumPy arrays without touching JAX, and on ``jax.Array`` (inside ``jit`` too) through the
array's own namespace, with identical results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from rt1_jax.binning import bin_edges, bin_values

FieldKind = Literal["continuous", "one_hot"]
OutOfRangeTerminate = Literal["zero_token", "zero_vector"]

_AXES = {3: ("x", "y", "z"), 2: ("x", "y")}
_ROTATION_AXES = ("roll", "pitch", "yaw")


class ActionError(ValueError):
    """An action, token array or action spec that does not fit; the message names the field."""


@dataclasses.dataclass(frozen=True)
class ActionField:
    """One named part of an action.

    Attributes:
      name: the field's key in an action mapping, e.g. ``"world_vector"``.
      size: length of the last axis of the field's array.
      low: lower bound of each element, in ``unit``; what lies outside is clipped by the tokenizer.
      high: upper bound of each element, in ``unit``.
      unit: ``"m"``, ``"rad"`` or a sentence that says what the number means.
      kind: ``"continuous"`` takes one token an element, ``"one_hot"`` one token for the vector.
    """

    name: str
    size: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    unit: str
    kind: FieldKind = "continuous"

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", tuple(float(v) for v in self.low))
        object.__setattr__(self, "high", tuple(float(v) for v in self.high))
        if self.kind not in ("continuous", "one_hot"):
            raise ActionError(
                f"action field {self.name!r}: kind must be 'continuous' or 'one_hot', "
                f"got {self.kind!r}"
            )
        if self.size < 1 or len(self.low) != self.size or len(self.high) != self.size:
            raise ActionError(
                f"action field {self.name!r}: size {self.size} needs as many bounds, "
                f"got {len(self.low)} low and {len(self.high)} high"
            )
        bounds = np.asarray([self.low, self.high], np.float32)  # [2, size]
        if not np.all(np.isfinite(bounds)) or not np.all(bounds[0] < bounds[1]):
            raise ActionError(
                f"action field {self.name!r}: bounds must be finite with low < high, "
                f"got low {self.low} and high {self.high}"
            )

    @property
    def tokens(self) -> int:
        """How many tokens the field takes."""
        return 1 if self.kind == "one_hot" else self.size

    @property
    def token_names(self) -> tuple[str, ...]:
        """A readable name a token, e.g. ``world_vector/x``."""
        if self.tokens == 1:
            return (self.name,)
        axes = (
            _ROTATION_AXES if "rotation" in self.name and self.size == 3 else _AXES.get(self.size)
        )
        return tuple(f"{self.name}/{axes[i] if axes else i}" for i in range(self.size))


@dataclasses.dataclass(frozen=True)
class ActionSpec:
    """An ordered set of action fields and how they become tokens.

    Attributes:
      name: what the spec is called in messages and metadata.
      fields: the fields in token order.
      bins: values a token can take, ``0 .. bins - 1``; both ends lie exactly on the bounds.
      out_of_range_terminate: what a one-hot token beyond the field's size means: ``"zero_token"``
        makes it token 0, as the TensorFlow original does; ``"zero_vector"`` makes the vector all
        zeros, as the RT-1-X code does.
    """

    name: str
    fields: tuple[ActionField, ...]
    bins: int
    out_of_range_terminate: OutOfRangeTerminate = "zero_token"

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        names = [field.name for field in self.fields]
        if not names or len(set(names)) != len(names):
            raise ActionError(
                f"action spec {self.name!r}: field names must be distinct, got {names}"
            )
        if self.out_of_range_terminate not in ("zero_token", "zero_vector"):
            raise ActionError(
                f"action spec {self.name!r}: out_of_range_terminate must be 'zero_token' or "
                f"'zero_vector', got {self.out_of_range_terminate!r}"
            )
        smallest = max([2] + [field.size for field in self.fields if field.kind == "one_hot"])
        if self.bins < smallest:
            raise ActionError(
                f"action spec {self.name!r}: bins must be at least {smallest}, got {self.bins}"
            )

    @property
    def action_tokens(self) -> int:
        """Tokens an action takes (11 for RT-1)."""
        return sum(field.tokens for field in self.fields)

    @property
    def token_names(self) -> tuple[str, ...]:
        """One readable name a token, in token order."""
        return tuple(name for field in self.fields for name in field.token_names)

    @property
    def field_names(self) -> tuple[str, ...]:
        """The fields' names in token order."""
        return tuple(field.name for field in self.fields)

    def field(self, name: str) -> ActionField:
        """The field of that name; :class:`ActionError` where there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise ActionError(
            f"action spec {self.name!r} has no field {name!r}; it has {self._names()}"
        )

    def tokenize(self, action: Mapping[str, Any]) -> Any:
        """Turns an action into tokens: clip to the bounds, scale to the bins, truncate.

        Args:
          action: a mapping with every field, arrays ``[..., size]``; integers or floats.

        Returns:
          int32 ``[..., action_tokens]``, each in ``0 .. bins - 1``, of the fields' array type.

        Raises:
          ActionError: a field is missing, unknown or of another size, or (NumPy only, since traced
            values cannot be looked at) not finite.
        """
        xp = _namespace(*action.values())
        self._check_fields(action, xp)
        tokens = []
        for field in self.fields:
            value = xp.asarray(action[field.name])  # [..., size]
            if field.kind == "one_hot":
                tokens.append(xp.argmax(value, axis=-1)[..., None].astype(np.int32))
                continue
            edges = bin_edges(field.low, field.high, self.bins)  # [size, bins - 1]
            for i in range(field.size):
                token = xp.searchsorted(edges[i], value[..., i].astype(np.float32), side="right")
                tokens.append(token[..., None].astype(np.int32))
        return xp.concatenate(tokens, axis=-1)

    def detokenize(self, tokens: Any) -> dict[str, Any]:
        """Turns tokens into an action.

        Args:
          tokens: integers ``[..., action_tokens]`` in ``0 .. bins - 1``; numbers beyond are read as
            the nearest of these.

        Returns:
          ``{field: [..., size]}``; float32 in the field's unit, int32 for one-hot fields.

        Raises:
          ActionError: the last axis is not ``action_tokens``, or the tokens are not integers.
        """
        xp = _namespace(tokens)
        tokens = xp.asarray(tokens)
        if tokens.ndim < 1 or tokens.shape[-1] != self.action_tokens:
            raise ActionError(
                f"action spec {self.name!r}: tokens must be [..., {self.action_tokens}], "
                f"got shape {tuple(tokens.shape)}"
            )
        if np.dtype(tokens.dtype).kind not in "iu":
            raise ActionError(
                f"action spec {self.name!r}: tokens must be integers, got {tokens.dtype}"
            )
        action, start = {}, 0
        for field in self.fields:
            part = tokens[..., start : start + field.tokens]  # [..., field.tokens]
            start += field.tokens
            if field.kind == "one_hot":
                if self.out_of_range_terminate == "zero_token":
                    part = xp.where(part >= field.size, 0, part)
                action[field.name] = (part == np.arange(field.size)).astype(np.int32)
                continue
            values = bin_values(field.low, field.high, self.bins)  # [size, bins]
            columns = [xp.take(values[i], part[..., i], mode="clip") for i in range(field.size)]
            action[field.name] = xp.stack(columns, axis=-1)
        return action

    def validate(self, action: Mapping[str, Any]) -> None:
        """Checks one concrete action (or a batch) strictly.

        Raises:
          ActionError: naming the field, where one is missing, unknown, of another size or leading
            shape, not numeric, not finite, or (one-hot) not exactly one 1 among zeros. Continuous
            values beyond the bounds are legal: the tokenizer clips them.
        """
        self._check_fields(action, np)
        leading = {name: np.shape(action[name])[:-1] for name in self.field_names}
        first = self.field_names[0]
        for field in self.fields:
            if leading[field.name] != leading[first]:
                raise ActionError(
                    f"action field {field.name!r}: leading shape {leading[field.name]} differs "
                    f"from {leading[first]} of {first!r}"
                )
            if field.kind == "one_hot":
                rows = np.asarray(action[field.name]).reshape(-1, field.size)  # [n, size]
                wrong = ~np.all((rows == 0) | (rows == 1), -1) | (rows.sum(-1) != 1)  # [n]
                if np.any(wrong):
                    number = int(np.argmax(wrong))
                    raise ActionError(
                        f"action field {field.name!r}: every vector must hold one 1 and else 0, "
                        f"vector {number} is {rows[number].tolist()}"
                    )

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON values; :meth:`from_json` gives an equal spec back."""
        spec = dataclasses.asdict(self)
        spec["fields"] = [
            {**dataclasses.asdict(field), "low": list(field.low), "high": list(field.high)}
            for field in self.fields
        ]
        return spec

    @classmethod
    def from_json(cls, spec: Mapping[str, Any]) -> ActionSpec:
        """Reads what :meth:`to_json` wrote.

        Raises:
          ActionError: a key is missing or unknown, or a value does not fit.
        """
        _check_keys("action spec", spec, cls)
        for field in spec["fields"]:
            _check_keys("action spec's field", field, ActionField)
        fields = tuple(
            ActionField(**{**field, "low": tuple(field["low"]), "high": tuple(field["high"])})
            for field in spec["fields"]
        )
        return cls(**{**spec, "fields": fields})

    def _names(self) -> str:
        return ", ".join(self.field_names)

    def _check_fields(self, action: Mapping[str, Any], xp: Any) -> None:
        unknown = sorted(set(action) - set(self.field_names))
        if unknown:
            raise ActionError(
                f"action has the unknown field {unknown[0]!r}; spec {self.name!r} has "
                f"{self._names()}"
            )
        for field in self.fields:
            if field.name not in action:
                raise ActionError(f"action lacks the field {field.name!r} of spec {self.name!r}")
            value = action[field.name]
            shape = np.shape(value)
            if not shape or shape[-1] != field.size:
                raise ActionError(
                    f"action field {field.name!r}: expected shape [..., {field.size}], "
                    f"got {tuple(shape)}"
                )
            if xp is np:
                value = np.asarray(value)
                if value.dtype.kind not in "fiub":
                    raise ActionError(
                        f"action field {field.name!r}: expected numbers, got {value.dtype}"
                    )
                if not np.all(np.isfinite(value)):
                    raise ActionError(f"action field {field.name!r}: holds a non-finite number")


def _namespace(*arrays: Any) -> Any:
    """``jax.numpy`` if any array is JAX's (or a tracer), else ``numpy``."""
    for array in arrays:
        if not isinstance(array, np.ndarray | np.generic) and hasattr(array, "__array_namespace__"):
            return array.__array_namespace__()
    return np


def _check_keys(what: str, given: Mapping[str, Any], cls: type) -> None:
    known = {field.name for field in dataclasses.fields(cls)}
    if unknown := sorted(set(given) - known):
        raise ActionError(f"{what}: unknown key {unknown[0]!r}; known are {sorted(known)}")
    if missing := sorted(known - set(given)):
        raise ActionError(f"{what}: key {missing[0]!r} is missing")


def _robot_spec(
    name: str,
    *,
    bins: int,
    out_of_range_terminate: OutOfRangeTerminate,
    translation: float,
    rotation: float,
    base_rotation: float,
    base_translation: float,
    translation_unit: str = "m",
    gripper_unit: str = "-1 opens, +1 closes",
) -> ActionSpec:
    def continuous(field: str, size: int, bound: float, unit: str) -> ActionField:
        return ActionField(field, size, (-bound,) * size, (bound,) * size, unit)

    return ActionSpec(
        name=name,
        fields=(
            ActionField(
                "terminate_episode",
                3,
                (0.0,) * 3,
                (1.0,) * 3,
                "one-hot: 0 terminates, 1 continues, 2 is unused",
                "one_hot",
            ),
            continuous("world_vector", 3, translation, translation_unit),
            continuous("rotation_delta", 3, rotation, "rad"),
            continuous("gripper_closedness_action", 1, 1.0, gripper_unit),
            continuous("base_displacement_vertical_rotation", 1, base_rotation, "rad"),
            continuous("base_displacement_vector", 2, base_translation, "m"),
        ),
        bins=bins,
        out_of_range_terminate=out_of_range_terminate,
    )


RT1 = _robot_spec(
    "rt1",
    bins=256,
    out_of_range_terminate="zero_token",
    translation=1.0,
    rotation=float(np.pi / 2),
    base_rotation=float(np.pi),
    base_translation=1.0,
)
"""The released TensorFlow RT-1 models (their ``policy_specs.pbtxt``)."""

OXE_RT1 = dataclasses.replace(RT1, name="oxe_rt1", out_of_range_terminate="zero_vector")
"""The RT-1-X code in its RT-1 setting: RT-1's bounds, another reading of bad terminate tokens."""

RT1_X = _robot_spec(
    "rt1_x",
    bins=512,
    out_of_range_terminate="zero_vector",
    translation=2.0,
    rotation=float(np.pi / 2),
    base_rotation=float(np.pi),
    base_translation=1.0,
    translation_unit="normalised per data set",
)
"""The released RT-1-X model: 512 bins and ``world_vector`` within ±2."""

TABLETOP = _robot_spec(
    "tabletop",
    bins=256,
    out_of_range_terminate="zero_token",
    translation=0.05,
    rotation=float(np.pi / 4),
    base_rotation=float(np.pi / 4),
    base_translation=0.05,
    gripper_unit="absolute command: -1 open, +1 closed",
)
"""The built-in tabletop benchmark: deltas a control step at 3 Hz."""
