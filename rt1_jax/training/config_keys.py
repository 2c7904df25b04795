"""Configs of one run before and after a key was added: which are the same run."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

NEWER_KEYS: dict[str, Any] = {
    "data": {
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
    },
    "mesh": {"data": -1, "fsdp": 1, "shard_from": 65_536, "rules": ()},
    "step": {
        "accumulate": 1,
        "remat": "none",
        "batch_statistics": "global",
        "packed_images": 1,
        "compute": "",
        "tpu_compiler_options": (),
    },
    "loss": {"label_smoothing": 0.0, "field_weights": ()},
    "frozen": (),
    "start": {"checkpoint": "", "reset_optimizer": True},
    "keep_best": 0,
    "guards": {"max_skipped": 0, "stall_seconds": 0.0},
}
"""Keys that earlier configs did not have, with the values that change nothing."""


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
    return flatten(with_newer(config))


def with_newer(config: dict[str, Any]) -> dict[str, Any]:
    """A config with every key that there is."""
    return _filled(config, NEWER_KEYS)


def complete(config: ConfigDict) -> ConfigDict:
    """For the files of `configs/`: the same config, and every key that it does not set."""
    return ConfigDict(with_newer(config.to_dict()))


def without_newer(config: dict[str, Any]) -> dict[str, Any]:
    """A config without the keys that earlier ones did not have, where they change nothing.

    A run is found again by the name that it had before they came. Of the keys of `data` each is
    left out for itself, the other groups came whole.
    """
    found = {
        key: value
        for key, value in config.items()
        if key == "data" or key not in NEWER_KEYS or not _same(value, NEWER_KEYS[key])
    }
    if isinstance(found.get("data"), dict):
        newer = NEWER_KEYS["data"]
        found["data"] = {
            key: value
            for key, value in found["data"].items()
            if key not in newer or not _same(value, newer[key])
        }
    return found


def data_with_newer(data: dict[str, Any]) -> dict[str, Any]:
    """A config's `data` with every key that there is."""
    return _filled(data, NEWER_KEYS["data"])


def _filled(config: dict[str, Any], newer: dict[str, Any]) -> dict[str, Any]:
    found = dict(config)
    for key, neutral in newer.items():
        if isinstance(neutral, dict):
            found[key] = _filled(found.get(key) or {}, neutral)
        else:
            found.setdefault(key, neutral)
    return found


def _same(value: Any, neutral: Any) -> bool:
    return flatten({"": value}) == flatten({"": neutral})


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
