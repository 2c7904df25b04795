"""Which entries of a LeRobot dataset's `action` vector are which field of an action.

A mapping is one of

* JSON: `{FIELD: ENTRIES}`, where ENTRIES is an entry's place or name, a list of them, or

      {"index": 6, "scale": -1, "offset": 0, "low": -1, "high": 1, "unit": "-1 opens, +1 closes",
       "feature": "action"}

  with `value = scale * entry + offset`. Fields of the spec that `"spec"` names ("rt1" unless it is
  given) have its bounds and units; a field of another name must bring `low` and `high`. Fields of
  the spec that are not mapped are zero.
* a Python file with `ACTION_SPEC` and `actions(action, state) -> {field: [t, size]}`, where
  `action` is float32 [t, n], and `state` (`observation.state`) float32 [t, m] or None.
* `own`: the dataset was exported by this package.
* `names`: its entries' names say x, y, z, roll, pitch, yaw, gripper.
* nothing: `own` where it fits, else `names`.

`terminate_episode`, where nothing maps it, says "terminate" at an episode's last step.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from rt1_jax.actions import OXE_RT1, RT1, RT1_X, TABLETOP, ActionError, ActionField, ActionSpec
from rt1_jax.data.lerobot.layout import OURS, LeRobotError, feature_names
from rt1_jax.data.lerobot.source import LeRobotSource

SPECS = {spec.name: spec for spec in (RT1, OXE_RT1, RT1_X, TABLETOP)}
OWN, BY_NAMES = "own", "names"
STATE = "observation.state"
TERMINATE = "terminate_episode"
_KEYS = {"index", "scale", "offset", "low", "high", "unit", "feature"}
_EXAMPLE = (
    '{"world_vector": [0, 1, 2], "rotation_delta": [3, 4, 5], '
    '"gripper_closedness_action": {"index": 6, "scale": -1}}'
)
_NAMES = {
    "world_vector": (("x", "y", "z"), ("dx", "dy", "dz")),
    "rotation_delta": (("roll", "pitch", "yaw"), ("rx", "ry", "rz"), ("droll", "dpitch", "dyaw")),
    "gripper_closedness_action": (("gripper",),),
}


@dataclasses.dataclass(frozen=True)
class ActionMapping:
    """From a LeRobot dataset's vectors to actions.

    Attributes:
      spec: what the actions mean.
      features: keys of the vectors that `__call__` wants.
      text: where it comes from, for people.
      recipe: what an import depends on, JSON-able.
      zero: fields that nothing maps.
    """

    spec: ActionSpec
    features: tuple[str, ...]
    text: str
    recipe: Any
    zero: tuple[str, ...]
    _function: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]

    def __call__(self, vectors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{feature: [t, n]} -> {field: float32 [t, size]}, every field of the spec.

        Raises:
          LeRobotError: the mapping gives fields or shapes that do not fit its spec.
        """
        steps = len(vectors["action"])
        actions = {
            name: np.asarray(value, np.float32) for name, value in self._function(vectors).items()
        }
        if TERMINATE in self.spec.field_names and TERMINATE not in actions:
            actions[TERMINATE] = end_of_episode(steps, self.spec.field(TERMINATE).size)
        for name in self.zero:
            actions[name] = np.zeros((steps, self.spec.field(name).size), np.float32)
        expected = {field.name: (steps, field.size) for field in self.spec.fields}
        found = {name: value.shape for name, value in actions.items()}
        if expected != found:
            raise LeRobotError(f"{self.text} gives fields of shapes {found}, expected {expected}")
        return {field.name: actions[field.name] for field in self.spec.fields}


def end_of_episode(steps: int, size: int) -> np.ndarray:
    """float32 [steps, size], one-hot: "continue" (1) everywhere, "terminate" (0) at the end."""
    flags = np.zeros((steps, size), np.float32)
    flags[:, 1], flags[-1] = 1, np.eye(size)[0]
    return flags


def load_mapping(given: str | os.PathLike[str] | None, source: LeRobotSource) -> ActionMapping:
    """The mapping of a file (`.json`, `.py`) or a name, or the one that the data ask for.

    Raises:
      LeRobotError: it cannot be read or does not fit; the data's names are in the message.
    """
    if given is None or str(given) in ("", OWN, BY_NAMES):
        if source.ours is not None and given != BY_NAMES:
            return _own_mapping(source)
        if given == OWN:
            raise LeRobotError(
                f"--actions={OWN}: {source.root} was not exported by this package (it has no "
                f"{OURS}); {_names_in(source)}"
            )
        return _named_mapping(source)
    path = pathlib.Path(given)
    if path.suffix not in (".json", ".py") or not path.is_file():
        raise LeRobotError(
            f"--actions={given}: expected an existing .json or .py file, {OWN!r} or {BY_NAMES!r}"
        )
    if path.suffix == ".py":
        return _python_mapping(path, source)
    try:
        entries = json.loads(path.read_text())
    except ValueError as error:
        raise LeRobotError(f"{path} is not JSON ({error})") from error
    if not isinstance(entries, dict):
        raise LeRobotError(f"{path}: expected an object like {_EXAMPLE}")
    return table_mapping(entries, source, str(path))


def table_mapping(entries: dict[str, Any], source: LeRobotSource, text: str) -> ActionMapping:
    """The mapping that JSON's `{FIELD: ENTRIES}` describes; LeRobotError if it does not fit."""
    fields = dict(entries)
    base = fields.pop("spec", "rt1")
    if base not in SPECS:
        raise LeRobotError(f"{text}: unknown spec {base!r}: expected one of {', '.join(SPECS)}")
    known = {field.name: field for field in SPECS[base].fields}
    columns = {name: _Entries.parse(name, value, source, text) for name, value in fields.items()}
    if not columns:
        raise LeRobotError(f"{text} maps nothing; {_names_in(source)}. For example: {_EXAMPLE}")
    new = [name for name in columns if name not in known]
    spec_fields = [
        columns[field.name].field(field, text) if field.name in columns else field
        for field in SPECS[base].fields
    ] + [columns[name].field(None, text) for name in new]
    try:
        spec = dataclasses.replace(
            SPECS[base],
            name=base if tuple(spec_fields) == SPECS[base].fields else f"{base}_of_lerobot",
            fields=tuple(spec_fields),
        )
    except ActionError as error:
        raise LeRobotError(f"{text}: {error}") from error

    def convert(vectors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: column(vectors) for name, column in columns.items()}

    zero = tuple(name for name in known if name not in columns and name != TERMINATE)
    features = tuple(dict.fromkeys(["action", *(c.feature for c in columns.values())]))
    return ActionMapping(spec, features, text, entries, zero, convert)


@dataclasses.dataclass(frozen=True)
class _Entries:
    """One field's entries in a vector, and what is done to them."""

    name: str
    feature: str
    columns: tuple[int, ...]
    scale: np.ndarray
    offset: np.ndarray
    given: dict[str, Any]

    @classmethod
    def parse(cls, name: str, value: Any, source: LeRobotSource, text: str) -> _Entries:
        where = f"{text}: field {name!r}"
        given = value if isinstance(value, dict) else {"index": value}
        if unknown := sorted(set(given) - _KEYS):
            raise LeRobotError(f"{where}: unknown key {unknown[0]!r}; known are {sorted(_KEYS)}")
        if "index" not in given:
            raise LeRobotError(f"{where} lacks 'index'; {_names_in(source)}")
        feature = given.get("feature", "action")
        if feature not in source.features or source.features[feature]["dtype"] in _NO_NUMBERS:
            raise LeRobotError(f"{where}: the data have no vector {feature!r}; {_vectors(source)}")
        size, names = _size(source, feature), feature_names(source.features[feature])
        places = given["index"] if isinstance(given["index"], list) else [given["index"]]
        columns = []
        for place in places:
            if isinstance(place, str) and place in names:
                columns.append(names.index(place))
            elif isinstance(place, int) and not isinstance(place, bool) and 0 <= place < size:
                columns.append(place)
            else:
                raise LeRobotError(f"{where}: no entry {place!r}; {_names_in(source, feature)}")
        try:
            scale = np.broadcast_to(np.float32(given.get("scale", 1)), len(columns))
            offset = np.broadcast_to(np.float32(given.get("offset", 0)), len(columns))
        except (ValueError, TypeError) as error:
            raise LeRobotError(
                f"{where}: scale and offset must be a number or {len(columns)} numbers ({error})"
            ) from error
        return cls(name, feature, tuple(columns), scale, offset, given)

    def __call__(self, vectors: dict[str, np.ndarray]) -> np.ndarray:
        values = vectors[self.feature][:, list(self.columns)] * self.scale + self.offset
        if self.name == TERMINATE and len(self.columns) == 1:  # a flag
            flag = values > 0.5
            return np.concatenate([flag, ~flag, np.zeros_like(flag)], axis=-1)
        return values

    def field(self, known: ActionField | None, text: str) -> ActionField:
        """The field in the spec, `known` being the one of this name in the spec asked for."""
        where, size = f"{text}: field {self.name!r}", len(self.columns)
        if self.name == TERMINATE and known is not None and size in (1, known.size):
            return known
        if known is not None and size != known.size:
            raise LeRobotError(f"{where} takes {known.size} entries, got {size}")
        low, high = (self.given.get(key) for key in ("low", "high"))
        if known is None and (low is None or high is None):
            raise LeRobotError(f"{where} is none of the spec's: it needs 'low' and 'high'")
        try:
            bounds: dict[str, Any] = {
                key: tuple(np.broadcast_to(np.float64(value), size).tolist())
                for key, value in (("low", low), ("high", high))
                if value is not None
            }
        except (ValueError, TypeError) as error:
            raise LeRobotError(
                f"{where}: low and high must be a number or {size} numbers ({error})"
            ) from error
        unit = str(self.given.get("unit", known.unit if known else "as recorded"))
        try:
            if known is not None:
                return dataclasses.replace(known, unit=unit, **bounds)
            return ActionField(self.name, size, bounds["low"], bounds["high"], unit)
        except ActionError as error:
            raise LeRobotError(f"{text}: {error}") from error


def _own_mapping(source: LeRobotSource) -> ActionMapping:
    """Of a dataset that this package exported: all fields one behind the other."""
    assert source.ours is not None
    try:
        spec = ActionSpec.from_json(source.ours["action_spec"])
    except (KeyError, ActionError) as error:
        raise LeRobotError(f"{source.root / OURS} cannot be read ({error})") from error
    stops = np.cumsum([field.size for field in spec.fields]).tolist()
    if _size(source, "action") != stops[-1]:
        raise LeRobotError(
            f"{source.root}: 'action' has {_size(source, 'action')} entries, the spec in "
            f"{OURS} {stops[-1]}: map them with --actions; {_names_in(source)}"
        )

    def convert(vectors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        parts = np.split(vectors["action"], stops[:-1], axis=-1)
        return dict(zip(spec.field_names, parts, strict=True))

    return ActionMapping(spec, ("action",), OURS, OWN, (), convert)


def _named_mapping(source: LeRobotSource) -> ActionMapping:
    """By the names of the entries."""
    names = [_plain(name) for name in feature_names(source.features["action"])]
    entries: dict[str, Any] = {}
    for field, choices in _NAMES.items():
        for choice in choices:
            if field not in entries and all(names.count(name) == 1 for name in choice):
                entries[field] = [names.index(name) for name in choice]
    used = {place for places in entries.values() for place in places}
    if "world_vector" not in entries or used != set(range(_size(source, "action"))):
        raise LeRobotError(
            f"{source.root}: which entries of 'action' are which cannot be told; "
            f"{_names_in(source)}. Map them with --actions=FILE.json, for example {_EXAMPLE}"
        )
    return table_mapping(entries, source, "the names in meta/info.json")


def _plain(name: str) -> str:
    """`delta_ee.X.pos` -> `x`: what a name says about the number."""
    name = name.lower().removesuffix(".pos").split("/")[-1].split(".")[-1]
    for prefix in ("delta_", "action_", "ee_", "eef_", "rot_"):
        name = name.removeprefix(prefix)
    return name.removesuffix("_delta").removesuffix("_position")


def _python_mapping(path: pathlib.Path, source: LeRobotSource) -> ActionMapping:
    module_spec = importlib.util.spec_from_file_location("lerobot_actions", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises
        raise LeRobotError(f"{path} cannot be run ({type(error).__name__}: {error})") from error
    spec, function = getattr(module, "ACTION_SPEC", None), getattr(module, "actions", None)
    if not isinstance(spec, ActionSpec) or not callable(function):
        raise LeRobotError(
            f"{path}: expected ACTION_SPEC, an rt1_jax.actions.ActionSpec, and a function "
            "actions(action, state)"
        )
    features = ("action", STATE) if STATE in source.features else ("action",)

    def convert(vectors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return dict(function(vectors["action"], vectors.get(STATE)))
        except Exception as error:  # as above
            raise LeRobotError(
                f"{path}: actions() raised {type(error).__name__}: {error}; {_names_in(source)}"
            ) from error

    return ActionMapping(spec, features, str(path), path.read_text(), (), convert)


_NO_NUMBERS = ("video", "image", "string", "language")


def _size(source: LeRobotSource, feature: str) -> int:
    shape = source.features[feature]["shape"]
    if len(shape) != 1:
        raise LeRobotError(f"{source.root}: {feature!r} has the shape {list(shape)}, expected [n]")
    return int(shape[0])


def _names_in(source: LeRobotSource, feature: str = "action") -> str:
    names = feature_names(source.features[feature]) or ["(without names)"]
    return f"{feature!r} has {_size(source, feature)} entries: {', '.join(names)}"


def _vectors(source: LeRobotSource) -> str:
    keys = [key for key, f in source.features.items() if f["dtype"] not in _NO_NUMBERS]
    return f"its vectors are {', '.join(keys)}"
