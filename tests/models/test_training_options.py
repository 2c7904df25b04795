"""How a step is computed changes no number of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from rt1_jax.models import registry
from rt1_jax.models.batch_norm import BatchNorm
from rt1_jax.models.packing import pack, unpack
from rt1_jax.models.training_options import TrainingOptions, traced_with
from rt1_jax.platforms import traced_for

FRAMES = 3


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, FRAMES, 16, 20, 3), np.uint8)
    return images, rng.normal(size=(4, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return registry.build("rt1", small.small_model(embedding_size=6).to_json())


@pytest.fixture(scope="module")
def variables(model, inputs):
    made = jax.jit(model.init)(jax.random.key(0), *inputs)
    # FiLM and biases that do something.
    leaves, tree = jax.tree.flatten(made["params"])
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [x + 0.05 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return {**made, "params": jax.tree.unflatten(tree, moved)}


def gradients(model, variables, inputs, options, platform):
    """Loss, gradients and new statistics, computed on the CPU as the platform would be asked to."""

    def loss_of(params):
        outputs, updates = model.apply(
            {**variables, "params": params},
            *inputs,
            train=True,
            mutable=["batch_stats"],
            rngs={"stochastic_depth": jax.random.key(2), "dropout": jax.random.key(3)},
        )
        return jnp.square(outputs).mean(), updates["batch_stats"]

    with traced_for(platform), traced_with(options):
        value = jax.jit(jax.value_and_grad(lambda p: loss_of(p), has_aux=True))
        (loss, statistics), grads = value(variables["params"])
    return loss, grads, statistics


@pytest.fixture(scope="module")
def plain(model, variables, inputs):
    return gradients(model, variables, inputs, TrainingOptions(), "cpu")


@pytest.mark.parametrize(
    ("platform", "options"),
    [
        ("tpu", TrainingOptions()),
        ("tpu", TrainingOptions(packed_images=2)),
        ("tpu", TrainingOptions(packed_images=FRAMES)),
        ("cpu", TrainingOptions(packed_images=2 * FRAMES)),
        ("cpu", TrainingOptions(remat="blocks")),
        ("cpu", TrainingOptions(remat="largest")),
        ("tpu", TrainingOptions(remat="blocks", packed_images=FRAMES)),
    ],
    ids=str,
)
def test_the_same_gradients(model, variables, inputs, plain, platform, options):
    found = gradients(model, variables, inputs, options, platform)
    scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(plain[1]))
    paths = jax.tree_util.tree_leaves_with_path(plain)
    for (path, want), got in zip(paths, jax.tree.leaves(found), strict=True):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-5 * scale, err_msg=name)


@pytest.mark.parametrize("packed", [1, 2])
def test_groups_have_statistics_of_their_own(packed):
    """By the definition, and each as if it were alone."""
    x = jax.random.normal(jax.random.key(0), (8, 3, 5, 4)) * 3 + 1
    norm = BatchNorm(0.9, 1e-3, False, packed=packed)
    rows = pack(x, packed)
    variables = norm.init(jax.random.key(1), rows)
    with traced_with(TrainingOptions(statistics_groups=2)):
        y, updates = norm.apply(variables, rows, train=True, mutable=["batch_stats"])
    y = unpack(y, packed)
    means, variances = [], []
    for group in (slice(0, 4), slice(4, 8)):
        part = np.asarray(x[group], np.float64)
        mean, var = part.mean((0, 1, 2)), part.var((0, 1, 2))
        np.testing.assert_allclose(
            y[group], (part - mean) / np.sqrt(var + 1e-3), rtol=1e-4, atol=1e-5
        )
        means.append(mean)
        variances.append(var)
    found = updates["batch_stats"]
    np.testing.assert_allclose(found["mean"], 0.1 * np.mean(means, 0), rtol=1e-5)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * np.mean(variances, 0), rtol=1e-5)


def test_packing_and_unpacking():
    x = np.arange(6 * 2 * 3 * 4, dtype=np.float32).reshape(6, 2, 3, 4)
    packed = pack(x, 3)
    assert packed.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(packed[1, ..., 4:8], x[4])
    np.testing.assert_array_equal(unpack(packed, 3), x)


class TestBadOptions:
    def test_unknown(self):
        with pytest.raises(ValueError, match=r"remat is 'all', expected one of"):
            TrainingOptions(remat="all")
        with pytest.raises(ValueError, match="packed_images is 0"):
            TrainingOptions(packed_images=0)

    def test_images_that_cannot_be_packed(self):
        with pytest.raises(ValueError, match=r"5 images.*2.*step.packed_images"):
            pack(jnp.zeros((5, 2, 2, 3)), 2)

    def test_groups_that_do_not_divide_the_batch(self):
        norm = BatchNorm(0.9, 1e-3, False)
        x = jnp.zeros((3, 2, 2, 4))
        variables = norm.init(jax.random.key(0), x)
        with (
            traced_with(TrainingOptions(statistics_groups=2)),
            pytest.raises(ValueError, match="3 rows .* 2 groups"),
        ):
            norm.apply(variables, x, train=True, mutable=["batch_stats"])
