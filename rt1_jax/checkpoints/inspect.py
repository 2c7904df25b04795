"""Says what a checkpoint is: ``python -m rt1_jax.checkpoints.inspect PATH``."""

from __future__ import annotations

import argparse
import collections
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rt1_jax.checkpoints import formats, native, tf_reader
from rt1_jax.checkpoints.adam import AdamMoments
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.checkpoints.tf_bundle import TFBundle


def describe(path: str | os.PathLike[str]) -> list[str]:
    """Format, model config, parameter counts, step and anything suspicious, as lines of text.

    Args:
      path: a checkpoint of any supported format, or the name of a shipped policy.

    Raises:
      CheckpointError: there is no checkpoint, or not even its index can be read.
    """
    kind = formats.detect_format(path)
    if kind == "native":
        checkpoint = native.find_checkpoint(path)
        description = native.read_description(checkpoint)
        lines = [f"format: {kind} ({checkpoint})", f"step: {description.step}"]
        lines += _config_lines(description.model)
        lines.append(f"action spec: {description.action_spec.name}")
        lines.append(f"language encoder: {description.encoder.name}")
        lines += _moment_lines(native.load_adam_moments(checkpoint))
        return lines + _variable_lines(native.load_variables(checkpoint))
    try:
        loaded = formats.read(path)
    except CheckpointError as error:
        if not kind.startswith("tf_"):
            raise
        return [*_index_lines(path), f"PROBLEM: {error}"]
    lines = [f"format: {loaded.format} ({loaded.path})", f"step: {loaded.step}"]
    lines += _config_lines(loaded.model_config.to_json())
    lines.append(f"action spec: {loaded.action_spec.name}, {loaded.action_spec.bins} bins")
    lines += _ignored_lines(loaded.ignored)
    lines += _moment_lines(loaded.optimizer_moments)
    return lines + _variable_lines(loaded.variables)


def suspicious(variables: Mapping[str, Any]) -> list[str]:
    """Non-finite tensors, impossible variances, and weights that are one constant."""
    problems = []
    for name, value in _leaves(variables):
        bad = value.size - int(np.isfinite(value).sum())
        if bad:
            problems.append(f"{name}: {bad} of {value.size} values are not finite")
        elif name.endswith("/var") and value.min() < 0:
            problems.append(f"{name}: a variance is negative ({value.min():g})")
        elif name.endswith("/kernel") and value.size > 1 and np.ptp(value) == 0:
            film = " (a FiLM layer that was never trained is zero)" if "film" in name else ""
            problems.append(f"{name}: every value is {value.flat[0]:g}{film}")
    return problems


def main(arguments: list[str] | None = None) -> int:
    """Prints what :func:`describe` says; returns 1 where the checkpoint cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m rt1_jax.checkpoints.inspect")
    parser.add_argument("path", help="a checkpoint of any format, or a shipped policy")
    path = parser.parse_args(arguments).path
    try:
        lines = describe(path)
    except CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return int(any(line.startswith("PROBLEM") for line in lines))


def _index_lines(path: str | os.PathLike[str]) -> list[str]:
    """What a TensorFlow index alone says."""
    import pathlib

    prefix = tf_reader.find_prefix(pathlib.Path(path))
    if prefix is None:
        raise CheckpointError(f"{path} is no TensorFlow checkpoint")
    inventory = tf_reader.take_inventory(TFBundle(prefix))
    lines = [f"format: {inventory.format} ({prefix})"]
    lines += _config_lines(inventory.config.to_json())
    lines.append(f"network tensors: {len(inventory.network)}, all names and shapes fit")
    lines.append(f"optimiser slots: {inventory.moments}")
    return lines + _ignored_lines(inventory.ignored)


def _config_lines(config: Mapping[str, Any]) -> list[str]:
    flat = "; ".join(f"{name}={value}" for name, value in _flat(config) if "stages" not in name)
    return [f"model: {flat}"]


def _ignored_lines(ignored: Mapping[str, str]) -> list[str]:
    by_reason = collections.defaultdict(list)
    for name, reason in ignored.items():
        by_reason[reason].append(name)
    return [
        f"{'SUSPICIOUS' if reason == tf_reader.UNKNOWN else 'ignored'}: {len(names)} x {reason} "
        f"(e.g. {names[0]})"
        for reason, names in by_reason.items()
    ]


def _moment_lines(moments: AdamMoments | None) -> list[str]:
    if moments is None:
        return ["Adam's moments: none"]
    rate = "" if moments.learning_rate is None else f", learning rate {moments.learning_rate:g}"
    lines = [f"Adam's moments: present, after {moments.iterations:,} iterations{rate}"]
    for moment, tree in (("first", moments.first), ("second", moments.second)):
        for name, value in _leaves(tree):
            if not np.isfinite(value).all():
                lines.append(f"SUSPICIOUS: Adam's {moment} moment of {name} is not finite")
            elif moment == "second" and value.min() < 0:
                lines.append(f"SUSPICIOUS: Adam's second moment of {name} is negative")
    return lines


def _variable_lines(variables: Mapping[str, Any]) -> list[str]:
    counts: dict[str, int] = collections.Counter()
    for name, value in _leaves(variables):
        collection, *modules = name.split("/")
        part = "/".join(modules[:2]) if modules[0] == "image_tokenizer" else modules[0]
        counts[part if collection == "params" else collection] += value.size
    total = sum(n for part, n in counts.items() if part != "batch_stats")
    lines = [f"parameters: {total:,}"]
    lines += [f"  {part}: {count:,}" for part, count in sorted(counts.items())]
    return lines + [f"SUSPICIOUS: {problem}" for problem in suspicious(variables)]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for key, value in tree.items():
        name = f"{prefix}/{key}" if prefix else key
        if isinstance(value, Mapping):
            yield from _leaves(value, name)
        else:
            yield name, np.asarray(value)


def _flat(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield name, value


if __name__ == "__main__":
    sys.exit(main())
