"""`load_policy` on whole checkpoints of every published form, of the fixtures' and another seed."""

from __future__ import annotations

import functools

import golden_reference
import jax
import numpy as np
import pytest
import recipe_checkpoints

import rt1_jax
from rt1_jax import actions
from rt1_jax.models.rt1 import RT1, oxe_rt1_config, rt1_config, rt1_x_config

OTHER_SEED = 3
TF_SCHEMES = ("tf_checkpoint", "tf_saved_model")


@pytest.fixture(scope="module")
def golden(shared_dir):
    return np.load(shared_dir / "golden" / "tf" / "golden_tf_seed0.npz")


@pytest.fixture(scope="module")
def load(shared_dir, tmp_path_factory):
    """load(form, config, seed): a policy from a checkpoint written for the purpose."""

    @functools.lru_cache(maxsize=1)  # one policy at a time in memory
    def from_file(form, config, seed):
        folder = tmp_path_factory.mktemp(f"{form}_{seed}")
        path = recipe_checkpoints.write(shared_dir, folder, form, config, seed)
        return rt1_jax.load_policy(path)

    return from_file


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.mark.parametrize("scheme", TF_SCHEMES)
def test_the_originals_logits(load, golden, scheme):
    policy = load(scheme, rt1_config(), 0)
    assert policy.config == rt1_config()
    assert policy.action_spec == actions.RT1
    logits = policy.logits(golden["images"], golden["embeddings"])
    np.testing.assert_allclose(logits, golden["action_logits"], atol=5e-4)
    np.testing.assert_array_equal(np.argmax(logits, axis=-1), golden["predicted_tokens"])


def test_the_originals_rollout(load, golden):
    policy = load("tf_saved_model", rt1_config(), 0)
    state, embedding = policy.initial_state(), golden["rollout/embedding"][None]
    assert len(golden["rollout/images"]) == 9
    for step, image in enumerate(golden["rollout/images"]):
        state, action, logits = policy.step_with_logits(state, image[None], embedding)
        np.testing.assert_allclose(logits[0], golden["rollout/logits"][step], atol=5e-4)
        tokens = np.argmax(logits[0], axis=-1)
        np.testing.assert_array_equal(tokens, golden["rollout/tokens"][step])
        for name, value in action.items():
            np.testing.assert_array_equal(value[0], golden[f"rollout/action/{name}"][step])
    final = golden["rollout/state_image_tokens_final"].reshape(state.tokens.shape)
    np.testing.assert_allclose(state.tokens, final, atol=5e-4)


@pytest.mark.parametrize(
    ("form", "setting", "config", "spec"),
    [
        ("rt1_x_msgpack", "oxe_rt1x", rt1_x_config(), actions.RT1_X),
        ("rt1_x_orbax", "oxe_rt1x", rt1_x_config(), actions.RT1_X),
        ("rt1_x_msgpack", "oxe_rt1", oxe_rt1_config(), actions.OXE_RT1),
    ],
)
def test_the_rt1_x_codes_logits(shared_dir, load, form, setting, config, spec):
    golden = np.load(shared_dir / "golden" / "oxe" / f"golden_{setting}_seed0.npz")
    policy = load(form, config, 0)
    assert policy.config == config
    assert policy.action_spec.to_json() == spec.to_json()
    logits = policy.logits(golden["image"], golden["natural_language_embedding"])
    np.testing.assert_allclose(logits, golden["action_logits"], atol=1e-4)
    np.testing.assert_array_equal(np.argmax(logits, axis=-1), golden["predicted_tokens"])


def test_another_seed_in_both_name_schemes(shared_dir, load, golden):
    """No reference numbers are at hand: the recipe's very weights, and the model's own logits."""
    config, images, embeddings = rt1_config(), golden["images"], golden["embeddings"]
    recipe = golden_reference.tf_variables(shared_dir, config, OTHER_SEED)
    logits = []
    for scheme in TF_SCHEMES:
        policy = load(scheme, config, OTHER_SEED)
        assert_same(policy.variables, recipe)
        logits.append(np.asarray(policy.logits(images, embeddings)))
    np.testing.assert_array_equal(*logits)
    # By another way: frames first, then histories, as test_tf_parity compiles them.
    model = RT1(config)
    encode = jax.jit(
        lambda v, i, e: model.apply(v, i, e, method="encode_frames", capture_intermediates=True)
    )
    tokens = np.stack([encode(recipe, images[i], embeddings[i])[0] for i in range(len(images))])
    decode = jax.jit(lambda v, t: model.apply(v, t, method="decode_tokens"))
    np.testing.assert_allclose(logits[0], decode(recipe, tokens), atol=5e-4)
    assert np.abs(logits[0] - golden["action_logits"]).max() > 1  # another seed indeed


@pytest.mark.parametrize("form", ["rt1_x_msgpack", "rt1_x_orbax"])
def test_another_seed_of_rt1_x(shared_dir, load, form):
    config = rt1_x_config()
    recipe = golden_reference.rt1_x_variables(shared_dir, config, OTHER_SEED)
    assert_same(load(form, config, OTHER_SEED).variables, recipe)
