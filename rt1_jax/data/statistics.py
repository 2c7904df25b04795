"""Running statistics of actions, mergeable over shards."""

from __future__ import annotations

from typing import Any

import numpy as np


class ActionMoments:
    """Count, sum, sum of squares, minimum and maximum per action field, in float64."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[str, np.ndarray]] = {}
        self._count = 0

    def add(self, actions: dict[str, np.ndarray]) -> None:
        """Adds an episode's actions: {field: [t, size]}."""
        steps = 0
        for name, value in actions.items():
            x = np.asarray(value, np.float64)
            steps = x.shape[0]
            part = {
                "sum": x.sum(0),
                "square": (x * x).sum(0),
                "min": x.min(0),
                "max": x.max(0),
            }
            self._combine(name, part)
        self._count += steps

    def merge(self, other: ActionMoments) -> None:
        for name, part in other._fields.items():
            self._combine(name, part)
        self._count += other._count

    def summary(self) -> dict[str, dict[str, list[float]]]:
        """{field: {mean, std, min, max}}, each a list of `size` numbers."""
        found = {}
        for name, part in self._fields.items():
            mean = part["sum"] / self._count
            std = np.sqrt(np.maximum(part["square"] / self._count - mean**2, 0.0))
            rows = {"mean": mean, "std": std, "min": part["min"], "max": part["max"]}
            found[name] = {
                key: [round(float(v), 8) for v in row] for key, row in rows.items()
            }
        return found

    def to_json(self) -> dict[str, Any]:
        fields = {
            name: {key: value.tolist() for key, value in part.items()}
            for name, part in self._fields.items()
        }
        return {"count": self._count, "fields": fields}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ActionMoments:
        moments = cls()
        moments._count = int(data["count"])
        moments._fields = {
            name: {key: np.asarray(value, np.float64) for key, value in part.items()}
            for name, part in data["fields"].items()
        }
        return moments

    def _combine(self, name: str, part: dict[str, np.ndarray]) -> None:
        if name not in self._fields:
            self._fields[name] = {key: value.copy() for key, value in part.items()}
            return
        mine = self._fields[name]
        mine["sum"] = mine["sum"] + part["sum"]
        mine["square"] = mine["square"] + part["square"]
        mine["min"] = np.minimum(mine["min"], part["min"])
        mine["max"] = np.maximum(mine["max"], part["max"])
