"""Options of a run's config that came after the first runs, with what their absence means.

A config without them, of an older run or a file of one's own, trains as it always did; and where
they have these values a run is the same run as one whose config lacks them.
"""

from __future__ import annotations

from typing import Any

LATER_OPTIONS: dict[str, Any] = {
    "data.mixture": (),
    "data.chunk": 1,
    "data.image_size": None,
    "data.rlds": None,
}


def without_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """A nested config without the later options that have their default."""
    found = _without(config, "")
    assert isinstance(found, dict)
    return found


def with_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """The config's `data` group with every later option of it."""
    defaults = {
        key.removeprefix("data."): value
        for key, value in LATER_OPTIONS.items()
        if key.startswith("data.")
    }
    return {**defaults, **data}


def _without(value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, inner in value.items():
        name = f"{path}{key}"
        if name in LATER_OPTIONS and _plain(inner) == _plain(LATER_OPTIONS[name]):
            continue
        kept[key] = _without(inner, f"{name}.")
    return kept


def _plain(value: Any) -> Any:
    """Tuples are lists once they have been JSON."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
