"""Running statistics of actions, mergeable over shards."""

from __future__ import annotations

from typing import Any

import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.data.quantiles import QuantileSketch

QUANTILES = (0.01, 0.5, 0.99)
_PENDING_STEPS = 50_000
"""Episodes are counted in heaps of so many steps: one by one takes ten times as long."""


class ActionMoments:
    """Count, sum, sum of squares, minimum, maximum, quantiles and clipping per field, in float64.

    Args:
      spec: its bounds say what is clipped; without it clipping is not counted.
    """

    def __init__(self, spec: ActionSpec | None = None) -> None:
        self._fields: dict[str, dict[str, np.ndarray]] = {}
        self._sketches: dict[str, list[QuantileSketch]] = {}
        self._count = 0
        self._pending: list[dict[str, np.ndarray]] = []
        self._pending_steps = 0
        fields = () if spec is None else spec.fields
        self._bounds = {f.name: (f.low, f.high) for f in fields if f.kind != "one_hot"}

    def add(self, actions: dict[str, np.ndarray]) -> None:
        """Adds an episode's actions: {field: [t, size]}."""
        self._pending.append(actions)
        self._pending_steps += max((len(value) for value in actions.values()), default=0)
        if self._pending_steps >= _PENDING_STEPS:
            self._flush()

    def merge(self, other: ActionMoments) -> None:
        """Adds what another one has seen."""
        self._flush()
        other._flush()
        if not other._count:
            return
        for name, part in other._fields.items():
            self._combine(name, part)
        if not self._count:
            self._sketches = {
                name: [QuantileSketch() for _ in s] for name, s in other._sketches.items()
            }
        # A shard of an older version has no sketches: then there are no quantiles for the whole.
        self._sketches = {k: s for k, s in self._sketches.items() if k in other._sketches}
        for name, sketches in self._sketches.items():
            for mine, its in zip(sketches, other._sketches[name], strict=True):
                mine.merge(its)
        self._count += other._count

    def clipped_share(self) -> dict[str, float]:
        """{field: the largest share among its numbers of those beyond the bounds}."""
        self._flush()
        return {
            name: float(part["clipped"].max() / max(self._count, 1))
            for name, part in self._fields.items()
            if "clipped" in part
        }

    def summary(self) -> dict[str, dict[str, list[float]]]:
        """{field: {mean, std, min, max, q01, q50, q99, clipped}}, each a list of `size` numbers.

        Quantiles are within 1% of their value; `clipped` is the share beyond the bounds. Shards of
        older versions have neither.
        """
        self._flush()
        found = {}
        for name, part in self._fields.items():
            mean = part["sum"] / self._count
            std = np.sqrt(np.maximum(part["square"] / self._count - mean**2, 0.0))
            rows = {"mean": mean, "std": std, "min": part["min"], "max": part["max"]}
            for q in QUANTILES if name in self._sketches else ():
                values = np.asarray([sketch.quantile(q) for sketch in self._sketches[name]])
                rows[f"q{round(100 * q):02d}"] = np.clip(values, part["min"], part["max"])
            if "clipped" in part:
                rows["clipped"] = part["clipped"] / self._count
            found[name] = {key: [round(float(v), 8) for v in row] for key, row in rows.items()}
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything, for :meth:`from_json`."""
        self._flush()
        fields = {
            name: {key: value.tolist() for key, value in part.items()}
            for name, part in self._fields.items()
        }
        sketches = {name: [s.to_json() for s in row] for name, row in self._sketches.items()}
        return {"count": self._count, "fields": fields, "sketches": sketches}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ActionMoments:
        """What :meth:`to_json` wrote, of this or an older version."""
        moments = cls()
        moments._count = int(data["count"])
        moments._fields = {
            name: {key: np.asarray(value, np.float64) for key, value in part.items()}
            for name, part in data["fields"].items()
        }
        moments._sketches = {
            name: [QuantileSketch.from_json(sketch) for sketch in row]
            for name, row in data.get("sketches", {}).items()
        }
        return moments

    def _flush(self) -> None:
        pending, self._pending, self._pending_steps = self._pending, [], 0
        if pending:
            self._add({name: np.concatenate([a[name] for a in pending]) for name in pending[0]})

    def _add(self, actions: dict[str, np.ndarray]) -> None:
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
            if name in self._bounds:
                # Bounds as float32, like the values: a value on its bound is not beyond it.
                low, high = (np.asarray(bound, np.float32) for bound in self._bounds[name])
                part["clipped"] = ((x < low) | (x > high)).sum(0)
            self._combine(name, part)
            sketches = self._sketches.setdefault(name, [QuantileSketch() for _ in x[0]])
            for column, sketch in enumerate(sketches):
                sketch.add(x[:, column])
        self._count += steps

    def _combine(self, name: str, part: dict[str, np.ndarray]) -> None:
        if name not in self._fields:
            self._fields[name] = {key: value.copy() for key, value in part.items()}
            return
        mine = self._fields[name]
        mine["sum"] = mine["sum"] + part["sum"]
        mine["square"] = mine["square"] + part["square"]
        mine["min"] = np.minimum(mine["min"], part["min"])
        mine["max"] = np.maximum(mine["max"], part["max"])
        if "clipped" in mine and "clipped" in part:
            mine["clipped"] = mine["clipped"] + part["clipped"]
        else:
            mine.pop("clipped", None)
