"""Model configs: frozen dataclasses that become plain JSON values and are read back strictly."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Self


class ConfigError(ValueError):
    """A model config that cannot be: the message names the field."""


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raises :class:`ConfigError` where ``value`` is none of ``allowed``."""
    if value not in allowed:
        raise ConfigError(f"model config: {name} must be one of {allowed}, got {value!r}")


def newer(default: Any) -> Any:
    """A field that checkpoints were written without at first: its default is how things were."""
    return dataclasses.field(default=default, metadata={"newer": True})


class JsonConfig:
    """Strict conversion of nested frozen dataclasses to and from plain JSON values."""

    def to_json(self) -> dict[str, Any]:
        """The config as plain JSON values; :meth:`from_json` gives an equal config back."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what :meth:`to_json` wrote.

        Raises:
          ConfigError: naming a key that is unknown, or missing and not :func:`newer`.
        """
        return _build(cls, values, cls.__name__)


def _plain(value: Any) -> Any:
    if isinstance(value, JsonConfig):
        return value.to_json()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _build(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _build(next(t for t in typing.get_args(hint) if t is not type(None)), value, where)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_build(item, entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if not (isinstance(hint, type) and issubclass(hint, JsonConfig)):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a mapping, got {type(value).__name__}")
    hints = typing.get_type_hints(hint)
    names = [field.name for field in dataclasses.fields(hint)]  # type: ignore[arg-type]
    if unknown := sorted(set(value) - set(names)):
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known are {names}")
    given = [name for name in names if name in value]
    fields = {field.name: field for field in dataclasses.fields(hint)}  # type: ignore[arg-type]
    missing = [n for n in names if n not in value and not fields[n].metadata.get("newer")]
    if missing:
        raise ConfigError(f"{where}: key {missing[0]!r} is missing")
    return hint(**{name: _build(hints[name], value[name], f"{where}.{name}") for name in given})
