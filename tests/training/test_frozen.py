"""Frozen parts: which they are, that nothing about them changes, and that nothing is kept."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from flax import traverse_util
from ml_collections import ConfigDict

from rt1_jax.models.frozen_statistics import frozen_statistics, under
from rt1_jax.models.rt1 import RT1
from rt1_jax.training import frozen
from rt1_jax.training.optimizer import make_optimizer

IMAGES = np.random.default_rng(0).integers(0, 255, (2, 3, 16, 16, 3)).astype(np.uint8)
EMBEDDINGS = np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return RT1(small.small_model(embedding_size=8))


@pytest.fixture(scope="module")
def variables(model):
    return jax.jit(model.init)(jax.random.key(0), IMAGES, EMBEDDINGS)


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


def test_paths_are_of_whole_components():
    assert under(("image_tokenizer", "film", "add"), "image_tokenizer/film")
    assert not under(("image_tokenizer", "film_00"), "image_tokenizer/film")
    assert not under(("image_tokenizer",), "image_tokenizer/film")
    assert under(("a", "block_07", "expand_bn"), "a/block_*")
    assert not under(("a", "film_07", "add"), "a/block_*")


def test_the_mask_is_false_under_the_paths_alone(variables):
    mask = flat(frozen.trainable_mask(variables["params"], ("image_tokenizer",)))
    assert mask.keys() == flat(variables["params"]).keys()
    assert {path for path, yes in mask.items() if not yes} == {
        path for path in mask if path.startswith("image_tokenizer/")
    }


def test_two_parts_and_together_again(variables):
    params = variables["params"]
    mask = frozen.trainable_mask(params, ("transformer/layer_0", "image_tokenizer/film"))
    trained, fixed = frozen.split(params, mask)
    assert set(fixed) == {"transformer", "image_tokenizer"}
    assert set(fixed["transformer"]) == {"layer_0"}
    assert "layer_0" not in trained["transformer"]
    merged = frozen.merge(trained, fixed)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, merged, params)
    assert frozen.trained_part(params, ()) is params


def test_a_path_that_is_not_there_is_answered_with_near_ones(variables):
    params = variables["params"]
    with pytest.raises(frozen.FrozenError, match="'image_tokeniser'; did you mean 'image_tokeni"):
        frozen.trainable_mask(params, ("image_tokeniser",))
    with pytest.raises(frozen.FrozenError, match="'image_tokenizer/efficientnet'"):
        frozen.trainable_mask(params, ("efficientnet",))
    with pytest.raises(frozen.FrozenError, match="parts are image_tokenizer, transformer"):
        frozen.trainable_mask(params, ("xyz",))
    with pytest.raises(frozen.FrozenError, match="nothing is left to train"):
        frozen.trainable_mask(params, ("image_tokenizer", "transformer"))


@pytest.mark.parametrize("muon_rms", [0.0, 0.2])
def test_a_step_moves_what_is_trained_and_nothing_else(model, variables, muon_rms):
    names = ("image_tokenizer",)
    config = small.small_config("data").optimizer.to_dict()
    optimizer = make_optimizer(
        ConfigDict({**config, "warmup_steps": 0, "muon_rms": muon_rms, "weight_decay": 0.1})
    )
    trained, fixed = frozen.split(
        variables["params"], frozen.trainable_mask(variables["params"], names)
    )
    opt_state = optimizer.init(trained)
    kept = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(opt_state)]
    assert any("transformer" in path for path in kept)
    assert not any("image_tokenizer" in path for path in kept)

    @jax.jit
    def step(trained):
        def loss(trained):
            params = frozen.merge(trained, fixed)
            with frozen_statistics(names):
                out, new = model.apply(
                    {"params": params, "batch_stats": variables["batch_stats"]},
                    IMAGES,
                    EMBEDDINGS,
                    train=True,
                    mutable=["batch_stats"],
                    rngs={"dropout": jax.random.key(1), "stochastic_depth": jax.random.key(2)},
                )
            return jnp.square(out).mean(), new["batch_stats"]

        grads, stats = jax.grad(loss, has_aux=True)(trained)
        updates, _ = optimizer.update(grads, opt_state, trained)
        return optax.apply_updates(trained, updates), grads, stats

    new, grads, stats = step(trained)
    jax.tree.map(np.testing.assert_array_equal, stats, variables["batch_stats"])

    # The gradient of what is trained is what it is where everything is.
    def whole(params):
        out = model.apply({**variables, "params": params}, IMAGES, EMBEDDINGS)
        return jnp.square(out).mean()

    want = jax.jit(jax.grad(whole))(variables["params"])
    for path, value in flat(grads).items():
        np.testing.assert_allclose(value, flat(want)[path], rtol=1e-4, atol=1e-7)
    moved = [path for path, value in flat(new).items() if (value != flat(trained)[path]).any()]
    assert "transformer/output_tokens/kernel" in moved


def test_statistics_of_frozen_parts_alone_stay(model, variables):
    def statistics(names):
        with frozen_statistics(names):
            _, new = model.apply(
                variables,
                IMAGES,
                EMBEDDINGS,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1), "stochastic_depth": jax.random.key(2)},
            )
        return flat(new["batch_stats"])

    old = flat(variables["batch_stats"])
    name = "image_tokenizer/efficientnet/block_00"
    new = statistics((name,))
    for path, value in old.items():
        assert (new[path] == value).all() == path.startswith(f"{name}/"), path
    assert not any((value == old[path]).all() for path, value in statistics(()).items())


def test_the_line_for_people(variables):
    line = frozen.frozen_line(variables["params"], ("image_tokenizer",))
    numbers = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]["transformer"]))
    assert line.startswith(f"frozen: image_tokenizer; {numbers:,} parameters trained, ")
