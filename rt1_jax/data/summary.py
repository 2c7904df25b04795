"""What is in a dataset, as numbers: `summary.json` of `python -m rt1_jax.data.inspect`.

format         "rt1_jax.dataset_summary"       version   1
dataset, episodes, steps, hours (null where the frame rate is not known), frame_rate,
image_size, image_format, encoder {name, dimensions}, source, shards, bytes (of the shards,
with the files that they link to)
action_spec    its name
lengths        {min, q01, median, q99, max, mean}, steps an episode; histogram {edges, counts}
fields         {name: {unit, kind, low, high, elements {name: {mean, std, min, max, q01, q50,
               q99, clipped, histogram {edges, counts}}}}}; clipped is the share of steps
               beyond the bounds, and of numbers that are bounded alone
from_sample    which of these numbers are of the sampled steps, not of all
sample         {steps, of, seed}: the steps that histograms are drawn of
instructions   {distinct, once, most_common [[text, episodes]]}
oddities       [{kind, text, examples}]: see `rt1_jax.data.oddities`
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from rt1_jax.actions import ActionField
from rt1_jax.data.oddities import find_oddities
from rt1_jax.data.statistics import QUANTILES
from rt1_jax.data.step_sample import sample_actions
from rt1_jax.data.store import StepStore

FORMAT = "rt1_jax.dataset_summary"
VERSION = 1
DEFAULT_SAMPLE = 10_000
DEFAULT_TOP = 20
_BARS = 40


def summarise(
    store: StepStore, *, sample: int = DEFAULT_SAMPLE, seed: int = 0, top: int = DEFAULT_TOP
) -> dict[str, Any]:
    """Summarises a dataset; its memory does not grow with the number of steps.

    Args:
      store: a whole dataset, as opened.
      sample: steps read for histograms, and for numbers that an older dataset does not hold.
      seed: of the steps' choice.
      top: instructions listed.

    Returns:
      JSON-able, as the module's text says.

    Raises:
      DatasetError: a record that cannot be read.
    """
    description = store.description
    actions = sample_actions(store, sample, seed)
    steps = int(description["steps"])
    rate = float(description["frame_rate"])
    missing: set[str] = set()
    fields = {
        field.name: {
            "unit": field.unit,
            "kind": field.kind,
            "low": list(field.low),
            "high": list(field.high),
            "elements": _elements(
                field, description["action_statistics"][field.name], actions[field.name], missing
            ),
        }
        for field in store.action_spec.fields
    }
    content = {
        "format": FORMAT,
        "version": VERSION,
        "dataset": os.fspath(store.directory),
        "episodes": len(store),
        "steps": steps,
        "hours": steps / rate / 3600 if rate > 0 else None,
        "frame_rate": rate,
        "image_size": list(store.image_size),
        "image_format": description["image_format"],
        "encoder": {"name": store.encoder.name, "dimensions": store.encoder.dimensions},
        "source": description["source"],
        "shards": len(description["shards"]),
        "bytes": _shard_bytes(store),
        "action_spec": store.action_spec.name,
        "lengths": _lengths(store.lengths),
        "fields": fields,
        "from_sample": sorted(missing | {"histogram"}),
        "sample": {"steps": len(next(iter(actions.values()))), "of": steps, "seed": seed},
        "instructions": _instructions(store, top),
    }
    return {**content, "oddities": find_oddities(store, content)}


def element_names(field: ActionField) -> tuple[str, ...]:
    """A name for each number of a field; its tokens' names where it is not one-hot."""
    if field.kind == "one_hot" and field.size > 1:
        return tuple(f"{field.name}/{i}" for i in range(field.size))
    return field.token_names


def _elements(
    field: ActionField,
    recorded: dict[str, list[float]],  # of all steps, by `rt1_jax.data.statistics`
    sampled: np.ndarray,  # [n, size]
    missing: set[str],
) -> dict[str, dict[str, Any]]:
    found = {}
    low, high = np.asarray(field.low, np.float32), np.asarray(field.high, np.float32)
    for i, name in enumerate(element_names(field)):
        values = sampled[:, i]
        numbers: dict[str, Any] = {key: row[i] for key, row in recorded.items()}
        for q in QUANTILES:
            key = f"q{round(100 * q):02d}"
            if key not in numbers:
                numbers[key] = float(np.quantile(values, q))
                missing.add(key)
        if field.kind == "one_hot":
            numbers["clipped"] = None
        elif "clipped" not in numbers:
            numbers["clipped"] = float(((values < low[i]) | (values > high[i])).mean())
            missing.add("clipped")
        ends = min(numbers["min"], float(values.min())), max(numbers["max"], float(values.max()))
        if ends[0] == ends[1]:  # it never moves
            ends = min(ends[0], field.low[i]), max(ends[1], field.high[i])
        found[name] = {**numbers, "histogram": _histogram(values, *ends)}
    return found


def _histogram(values: np.ndarray, low: float, high: float) -> dict[str, list[float]]:
    counts, edges = np.histogram(values, _BARS, (low, high))
    return {"edges": [float(f"{e:.7g}") for e in edges], "counts": counts.tolist()}


def _lengths(lengths: np.ndarray) -> dict[str, Any]:
    low, high = int(lengths.min()), int(lengths.max())
    width = -(-(high - low + 1) // _BARS)  # whole steps a bar
    edges = np.arange(low, high + width + 1, width)
    counts, _ = np.histogram(lengths, edges)
    q01, median, q99 = (float(np.quantile(lengths, q)) for q in QUANTILES)
    return {
        "min": low,
        "q01": q01,
        "median": median,
        "q99": q99,
        "max": high,
        "mean": float(lengths.mean()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _instructions(store: StepStore, top: int) -> dict[str, Any]:
    counts = np.bincount(store.instruction_ids, minlength=len(store.instructions))
    order = np.argsort(-counts, kind="stable")[:top]
    return {
        "distinct": int((counts > 0).sum()),
        "once": int((counts == 1).sum()),
        "most_common": [
            [store.instructions[int(row)], int(counts[row])] for row in order if counts[row]
        ],
    }


def _shard_bytes(store: StepStore) -> int:
    paths = (pathlib.Path(store.directory) / name for name in store.description["shards"])
    linked = store.description.get("linked", {"bytes": []})["bytes"]
    return sum(path.stat().st_size for path in paths) + sum(linked)
