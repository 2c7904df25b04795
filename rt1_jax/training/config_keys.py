"""Configs of one run before and after a key was added: which are the same run."""

from __future__ import annotations

from typing import Any

NEWER_DATA_KEYS: dict[str, Any] = {
    "augment_per_frame": False,
    "jitter": {"brightness": 0.0, "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": 0.0},
    "chunk": 1,
    "mixture": (),
    "image_size": (),
    "rlds": {
        "builder_dir": "",
        "dataset": "",
        "actions": "physical",
        "split": "train",
        "encoder": "",
        "registry": "",
    },
}
"""Keys of `data` that earlier configs did not have, with the values that change nothing."""


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": x}} -> {"a.b": x}; tuples become lists, as they come back from JSON."""
    if isinstance(tree, dict):
        found: dict[str, Any] = {}
        for key, value in tree.items():
            found.update(flatten(value, f"{prefix}.{key}" if prefix else key))
        return found
    return {prefix: _listed(tree)}


def flatten_with_newer(config: dict[str, Any]) -> dict[str, Any]:
    """As `flatten`, and keys that an earlier config lacks have the values that change nothing."""
    return flatten({"data": NEWER_DATA_KEYS}) | flatten(config)


def without_newer(config: dict[str, Any]) -> dict[str, Any]:
    """A config without the keys that earlier ones did not have, where they change nothing.

    A run is found again by the name that it had before they came.
    """
    if not isinstance(config.get("data"), dict):
        return config
    data = dict(config["data"])
    for key, neutral in NEWER_DATA_KEYS.items():
        if key in data and flatten({key: data[key]}) == flatten({key: neutral}):
            del data[key]
    return {**config, "data": data}


def data_with_newer(data: dict[str, Any]) -> dict[str, Any]:
    """A config's `data` with every key that there is."""
    found = dict(data)
    for key, neutral in NEWER_DATA_KEYS.items():
        if isinstance(neutral, dict):
            found[key] = {**neutral, **(found.get(key) or {})}
        else:
            found.setdefault(key, neutral)
    return found


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
