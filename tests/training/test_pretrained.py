"""Starting from an ImageNet backbone: what is in its place, and what is refused."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import optax
import pytest

from rt1_jax.checkpoints import imagenet
from rt1_jax.checkpoints.layout import efficientnet_layout
from rt1_jax.models.config import EfficientNetConfig, ImageTokenizerConfig, RT1Config
from rt1_jax.models.rt1 import RT1
from rt1_jax.training import pretrained
from rt1_jax.training.state import TrainState

B0 = EfficientNetConfig(width_coefficient=1.0, depth_coefficient=1.0)
CONFIG = RT1Config(image_tokenizer=ImageTokenizerConfig(B0, (32, 32), token_size=8), frames=1)


@pytest.fixture(scope="module")
def backbone():
    """A backbone as `read_imagenet` gives it, of numbers that tell where they are from."""
    conventions = dataclasses.replace(B0, **imagenet.CONVENTIONS["keras"])
    variables = {"params": {}, "batch_stats": {}}
    for i, leaf in enumerate(efficientnet_layout(conventions, 1, ())):
        if "film" in leaf.path[1]:
            continue
        node = variables
        for key in leaf.path[:-1]:
            node = node.setdefault(key, {})
        node[leaf.path[-1]] = np.full(leaf.shape, 1.0 + i, np.float32)
    return imagenet.Backbone("keras", conventions, variables, {})


def test_the_backbone_is_in_place_and_nothing_else_changes(backbone, monkeypatch):
    monkeypatch.setattr(pretrained, "read_imagenet", lambda path: backbone)
    read, model = pretrained.read_backbone("weights.h5", "rt1", CONFIG.to_json())
    # Its library's conventions, or its features would change.
    efficientnet = RT1Config.from_json(model).image_tokenizer.efficientnet
    assert (efficientnet.padding, efficientnet.batch_norm_epsilon) == ("same", 1e-3)
    images = jax.ShapeDtypeStruct((1, 1, 32, 32, 3), np.uint8)
    embeddings = jax.ShapeDtypeStruct((1, 512), np.float32)
    shapes = jax.eval_shape(
        RT1(RT1Config.from_json(model)).init, jax.random.key(0), images, embeddings
    )
    fresh = TrainState.create(
        jax.tree.map(lambda s: np.full(s.shape, 0.5, np.float32), shapes), optax.sgd(0.1)
    )
    state = pretrained.with_backbone(fresh, model, read)
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    for collection in ("params", "batch_stats"):
        tree = getattr(state, collection)["image_tokenizer"]["efficientnet"]
        for path, value in jax.tree_util.tree_leaves_with_path(backbone.variables[collection]):
            found = tree
            for key in path:
                found = found[key.key]
            np.testing.assert_array_equal(found, value)
        jax.tree.map(
            np.testing.assert_array_equal, state.average[collection], getattr(state, collection)
        )
    films = state.params["image_tokenizer"]["efficientnet"]["film_00"]
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(films))
    np.testing.assert_array_equal(jax.tree.leaves(state.params["transformer"])[0], 0.5)


def test_other_architectures_have_no_place_for_it():
    with pytest.raises(ValueError, match="'bc_z' with this config has no EfficientNet"):
        pretrained.read_backbone("weights.h5", "bc_z", {})
