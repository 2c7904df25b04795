"""The reference fixtures: weights by recipe, in this project's variables."""

from __future__ import annotations

import functools
import importlib.util
import pathlib
from typing import Any

import numpy as np

from rt1_jax.checkpoints import rt1_x_names, tf_names
from rt1_jax.checkpoints.assemble import assemble
from rt1_jax.models.config import RT1Config


def recipe(path: pathlib.Path) -> Any:
    """A fixture's recipe file as a module, which has ``value(name, shape, seed)``."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tf_tensors(shared: pathlib.Path, config: RT1Config, seed: int) -> dict[str, np.ndarray]:
    """Every tensor of the original's network by its training checkpoint's name."""
    value = recipe(shared / "golden" / "tf" / "recipe.py").value
    return {t.name: value(t.name, t.shape, seed) for t in tf_names.named_tensors(config)}


@functools.cache
def tf_variables(shared: pathlib.Path, config: RT1Config, seed: int = 0) -> dict[str, Any]:
    """The recipe's weights of the original as this project's variables."""
    tensors = tf_tensors(shared, config, seed)
    return assemble(tf_names.named_tensors(config), tensors.__getitem__, "recipe")


def rt1_x_tensors(shared: pathlib.Path, config: RT1Config, seed: int) -> dict[str, np.ndarray]:
    """Every tensor of the RT-1-X code's model by its path."""
    value = recipe(shared / "golden" / "oxe" / "recipe_flax.py").value
    return {t.name: value(t.name, t.shape, seed) for t in rt1_x_names.named_tensors(config)}


@functools.cache
def rt1_x_variables(shared: pathlib.Path, config: RT1Config, seed: int = 0) -> dict[str, Any]:
    """The recipe's weights of the RT-1-X code as this project's variables."""
    tensors = rt1_x_tensors(shared, config, seed)
    return assemble(rt1_x_names.named_tensors(config), tensors.__getitem__, "recipe")


def at(tree: Any, path: tuple[str, ...]) -> np.ndarray:
    """The leaf at a path of nested mappings."""
    for key in path:
        tree = tree[key]
    return np.asarray(tree)
