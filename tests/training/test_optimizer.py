import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from ml_collections import ConfigDict

from rt1_jax.models.rt1 import RT1, rt1_config
from rt1_jax.training.optimizer import _matrix_dimensions, make_optimizer, make_schedule


def settings(**changes):
    config = small.small_config("data").optimizer.to_dict()
    return ConfigDict({**config, "warmup_steps": 0, "clip_norm": 1e6, **changes})


def first_update(config, params, gradients):
    optimizer = make_optimizer(config)
    return optimizer.update(gradients, optimizer.init(params), params)[0]


def gradients_of_two_strengths():
    """A kernel whose gradient has one strong direction and one a thousandth of it, and a bias."""
    u = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 2)))[0]
    v = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 2)))[0]
    kernel = np.outer(u[:, 0], v[:, 0]) + 1e-3 * np.outer(u[:, 1], v[:, 1])
    return u, v, {"dense": {"kernel": jnp.asarray(kernel), "bias": jnp.array([1.0, -1e-3])}}


def test_muon_moves_weak_directions_as_far_as_strong_ones():
    u, v, gradients = gradients_of_two_strengths()
    params = jax.tree.map(jnp.zeros_like, gradients)
    config = settings(muon_rms=0.2, learning_rate=0.1)
    update = np.asarray(first_update(config, params, gradients)["dense"]["kernel"])
    along = np.array([-u[:, i] @ update @ v[:, i] for i in range(2)])
    # Newton-Schulz brings singular values near one; a thousandth needs more of its five steps.
    assert along[0] > 0
    assert 0.2 < along[1] / along[0] < 5
    plain = settings(muon_rms=0.0, learning_rate=0.1)
    update = np.asarray(first_update(plain, params, gradients)["dense"]["kernel"])
    along = np.array([-u[:, i] @ update @ v[:, i] for i in range(2)])
    assert abs(along[1]) < 0.5 * along[0]


def test_biases_are_left_to_adam():
    _, _, gradients = gradients_of_two_strengths()
    params = jax.tree.map(jnp.zeros_like, gradients)
    for rms in (0.0, 0.2):
        config = settings(muon_rms=rms, learning_rate=0.1)
        update = first_update(config, params, gradients)["dense"]["bias"]
        # Whatever the gradient's size; with Muon it is Adam with Nesterov's momentum.
        np.testing.assert_allclose(update[0], -update[1], rtol=1e-3)
        assert -0.2 < update[0] <= -0.0999


@pytest.mark.parametrize("rms", [0.0, 0.2])
def test_only_matrices_decay(rms):
    params = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
    config = settings(muon_rms=rms, learning_rate=0.1, weight_decay=0.5)
    update = first_update(config, params, jax.tree.map(jnp.zeros_like, params))
    np.testing.assert_allclose(update["dense"]["kernel"], -0.05, rtol=1e-5)
    np.testing.assert_allclose(update["dense"]["bias"], 0)


def test_every_kernel_of_the_full_model_is_a_matrix_but_the_depthwise_ones():
    model = RT1(rt1_config())
    images = jax.ShapeDtypeStruct((1, 6, 300, 300, 3), np.uint8)
    embeddings = jax.ShapeDtypeStruct((1, 512), np.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images, embeddings)["params"]
    found = _matrix_dimensions(params)
    counts = {True: 0, False: 0}
    for path, p in jax.tree_util.tree_leaves_with_path(params):
        names = [key.key for key in path]
        node = found
        for name in names:
            node = node[name]
        wanted = names[-1] == "kernel" and "depthwise_conv" not in names
        assert (node is not None) == wanted, names
        counts[wanted] += 1
        if node is not None:
            axes = (node.reduction_axis, node.output_axis)
            flat = [a for part in axes for a in ((part,) if isinstance(part, int) else part)]
            assert sorted(flat) == list(range(p.ndim)), names
    assert counts[True] > 200
    query = found["transformer"]["layer_0"]["attention"]["query"]["kernel"]
    assert (query.reduction_axis, query.output_axis) == (0, (1, 2))


def test_the_schedule_needs_fewer_warmup_steps_than_steps():
    with pytest.raises(ValueError, match=r"warmup_steps is 8.*run's 8 steps"):
        make_schedule(settings(warmup_steps=8, steps=8))
