"""Tensor names and shapes of the released models, of both reference implementations."""

from __future__ import annotations

import json
import zlib

import golden_reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt1_jax.checkpoints import rt1_x_names, tf_names
from rt1_jax.checkpoints.layout import layout
from rt1_jax.models.rt1 import (
    RT1,
    oxe_rt1_config,
    rt1_config,
    rt1_multirobot_config,
    rt1_x_config,
)

TF_MODELS = {
    "rt1main": rt1_config(),
    "rt1simreal": rt1_config(),
    "rt1multirobot": rt1_multirobot_config(),
}
CONFIGS = {
    "rt1": (rt1_config(), 35_120_544),
    "oxe_rt1": (oxe_rt1_config(), 35_116_448),
    "rt1_x": (rt1_x_config(), 56_896_809),
    "rt1_multirobot": (rt1_multirobot_config(), 111_144_352),
}


@pytest.mark.parametrize("model", TF_MODELS)
def test_released_tensorflow_models(shared_dir, model):
    path = shared_dir / "golden" / "released" / f"mapping_{model}.json"
    released = [
        (entry["index_name"], entry["object_name"], tuple(entry["shape"]))
        for entry in json.loads(path.read_text())
    ]
    own = [
        (f"model_variables/{i}", tensor.name, tensor.shape)
        for i, tensor in enumerate(tf_names.named_tensors(TF_MODELS[model]), start=1)
    ]
    assert own == released
    assert len(own) == {"rt1multirobot": 760}.get(model, 732)


@pytest.mark.parametrize("seed", [0, 3])
def test_recipe_gives_the_fixtures_weights(shared_dir, seed):
    """The recipe's own digest, over the released names, is that of the weights tested with."""
    recipe = golden_reference.recipe(shared_dir / "golden" / "tf" / "recipe.py")
    path = shared_dir / "golden" / "released" / "mapping_rt1main.json"
    names = [(entry["object_name"], entry["shape"]) for entry in json.loads(path.read_text())]
    expected = recipe.digest(names, seed)
    assert seed != 0 or expected == 2205853329
    tensors = golden_reference.tf_tensors(shared_dir, rt1_config(), seed)
    digest = 0
    for name in sorted(tensors):
        digest = zlib.crc32(np.ascontiguousarray(tensors[name]).tobytes(), digest)
    assert digest == expected


@pytest.mark.parametrize(
    ("manifest", "config"), [("oxe_rt1", oxe_rt1_config()), ("oxe_rt1x", rt1_x_config())]
)
def test_rt1_x_manifests(shared_dir, manifest, config):
    path = shared_dir / "golden" / "oxe" / f"manifest_{manifest}.json"
    expected = {entry["path"]: tuple(entry["shape"]) for entry in json.loads(path.read_text())}
    own = rt1_x_names.named_tensors(config)
    assert {tensor.name: tensor.shape for tensor in own} == expected
    assert len(own) == len(expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_layout_is_the_model(name):
    config, parameters = CONFIGS[name]
    images = jax.ShapeDtypeStruct((1, config.frames, 300, 300, 3), jnp.uint8)
    embeddings = jax.ShapeDtypeStruct((1, 512), jnp.float32)
    shapes = jax.eval_shape(RT1(config).init, jax.random.key(0), images, embeddings)
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    own = {leaf.path: leaf.shape for leaf in layout(config)}
    assert own == {tuple(key.key for key in path): value.shape for path, value in leaves}
    assert sum(value.size for value in jax.tree.leaves(shapes["params"])) == parameters
