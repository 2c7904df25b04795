"""The published RT-1-X rescaling, by hand at the bounds, and the mixture."""

from __future__ import annotations

import numpy as np
import pytest

from rt1_jax.actions import RT1_X
from rt1_jax.data import oxe
from rt1_jax.data.oxe.rescale import to_range


def rescaled(name: str, **fields) -> dict[str, np.ndarray]:
    """RT-1-X's version of two steps, zero but for the given fields."""
    spec = oxe.get(name).action_spec
    actions = {field.name: np.zeros((2, field.size), np.float32) for field in spec.fields}
    actions.update({key: np.asarray(value, np.float32) for key, value in fields.items()})
    return oxe.get(name).rt1_x_actions(actions)


# name, field, two values in the dataset's unit (the same for x, y, z), what RT-1-X gets.
@pytest.mark.parametrize(
    ("name", "field", "values", "expected"),
    [
        ("fractal20220817_data", "world_vector", (-0.3, 0.3), (-0.3, 0.3)),
        # +-0.05 would be +-1.75; the margin keeps 0.01 from it.
        ("bridge", "world_vector", (-0.05, 0.05), (-1.74, 1.74)),
        ("bridge", "world_vector", (-0.02, 0.01), (-0.7, 0.35)),
        ("bridge", "rotation_delta", (-0.25, 0.25), (-1.39, 1.39)),
        ("bridge", "rotation_delta", (-0.05, 0.1), (-0.28, 0.56)),
        ("berkeley_cable_routing", "world_vector", (-0.9, 0.9), (-0.9, 0.9)),
        ("roboturk", "rotation_delta", (-0.4, 0.4), (-0.4, 0.4)),
        ("nyu_door_opening_surprising_effectiveness", "world_vector", (-0.07, 0.07), (-1.4, 1.4)),
        (
            "nyu_door_opening_surprising_effectiveness",
            "rotation_delta",
            (-0.07, 0.07),
            (-1.05, 1.05),
        ),
        ("viola", "world_vector", (-1, 1), (-1.75, 1.75)),
        ("viola", "rotation_delta", (-0.4, 0.4), (-1.2, 1.2)),
        ("berkeley_autolab_ur5", "world_vector", (-0.02, 0.02), (-2, 2)),
        ("berkeley_autolab_ur5", "rotation_delta", (-0.07, 0.07), (-1.05, 1.05)),
        ("toto", "world_vector", (-0.7, 0.7), (-1.4, 1.4)),
        ("toto", "rotation_delta", (-1.0, 1.0), (-1.0, 1.0)),
    ],
)
def test_values_at_the_bounds(name, field, values, expected):
    column = lambda pair: np.repeat(np.float32(pair)[:, None], 3, axis=1)
    scaled = rescaled(name, **{field: column(values)})
    np.testing.assert_allclose(scaled[field], column(expected), atol=1e-6)


def test_taco_play_goes_by_its_own_ranges():
    scaled = rescaled(
        "taco_play",
        world_vector=[[0.0, -0.5, 0.0], [0.6, 0.1, 0.45]],
        rotation_delta=[[3.2, 0.2, 2.5], [0.0, -0.3, 0.35]],
    )
    np.testing.assert_allclose(
        scaled["world_vector"], [[-0.99, -0.99, -0.99], [0.5, 0, 0.5]], atol=1e-6
    )
    np.testing.assert_allclose(scaled["rotation_delta"], [[0.99] * 3, [0, 0, 0]], atol=1e-6)


def test_jaco_play_is_standardised():
    mean, std = [0.00096585, -0.00580069, -0.00395066], [0.12234575, 0.09676983, 0.11155209]
    scaled = rescaled("jaco_play", world_vector=[mean, np.add(mean, np.multiply(2, std))])
    np.testing.assert_allclose(scaled["world_vector"], [[0, 0, 0], [2, 2, 2]], atol=1e-5)
    # RT-1-X's bounds are the spec's.
    field = oxe.get("jaco_play").action_spec.field("world_vector")
    np.testing.assert_allclose(field.high, np.add(mean, np.multiply(2, std)), atol=1e-7)


def test_toto_has_the_gripper_as_published():
    # Open (-1) is 1 and closed (+1) is 0: the notebook's sign, against RT-1's.
    scaled = rescaled("toto", gripper_closedness_action=[[-1], [1]])
    np.testing.assert_array_equal(scaled["gripper_closedness_action"], [[1], [0]])


def test_bridge_keeps_the_gripper():
    scaled = rescaled("bridge", gripper_closedness_action=[[-1], [1]])
    np.testing.assert_array_equal(scaled["gripper_closedness_action"], [[-1], [1]])


def test_what_is_not_published_is_refused():
    with pytest.raises(oxe.OXEError, match="'language_table' has no published RT-1-X rescaling"):
        rescaled("language_table")


def test_a_field_that_is_missing():
    with pytest.raises(oxe.OXEError, match="field 'terminate_episode'; got \\['world_vector'\\]"):
        oxe.get("bridge").rt1_x_actions({"world_vector": np.zeros((2, 3))})


def test_a_range_is_clipped_inside_its_margin():
    got = to_range(np.float32([-9, 0, 5, 10, 99]), 0, 10, safety_margin=0.1)
    np.testing.assert_allclose(got, [-0.9, -0.9, 0, 0.9, 0.9], atol=1e-6)


def test_the_mixture_names_known_datasets():
    assert set(oxe.RT1_X_WEIGHTS) == set(oxe.names()) - {"language_table"}
    assert all(oxe.get(name).rt1_x is not None for name in oxe.RT1_X_WEIGHTS)
    assert sum(oxe.RT1_X_WEIGHTS.values()) == 273
    assert oxe.RT1_X_WEIGHTS["fractal20220817_data"] == 150
    assert not set(oxe.RT1_X_WEIGHTS) & set(oxe.RT1_X_WEIGHTS_LEFT_OUT)


@pytest.mark.parametrize("name", ["bridge", "fractal20220817_data"])
def test_there_and_back_again(name):
    dataset = oxe.get(name)
    rng = np.random.default_rng(0)
    # Up to the notebook's margin, beyond which its numbers are clipped.
    own = {
        field.name: rng.uniform(-0.99, 0.99, (50, field.size)) * np.asarray(field.high)
        for field in dataset.action_spec.fields
    }
    own["terminate_episode"] = np.eye(3)[rng.integers(0, 2, 50)]
    back = dataset.from_rt1_x(dataset.rt1_x_actions(own))
    for field, value in own.items():
        assert back[field].dtype == np.float32
        np.testing.assert_allclose(back[field], value, rtol=1e-5, atol=1e-7)


def test_back_from_numbers_that_no_training_gave():
    tokens = np.full((1, RT1_X.action_tokens), RT1_X.bins - 1)  # the highest of everything
    action = RT1_X.detokenize(tokens)
    own = oxe.get("bridge").from_rt1_x(action)
    np.testing.assert_allclose(own["world_vector"], [[0.05] * 3])
    np.testing.assert_allclose(own["rotation_delta"], [[0.25] * 3])
    np.testing.assert_allclose(own["gripper_closedness_action"], [[1.0]])


@pytest.mark.parametrize("name", sorted({*oxe.names()} - {"bridge", "fractal20220817_data"}))
def test_the_others_have_no_way_back(name):
    action = RT1_X.detokenize(np.zeros((1, RT1_X.action_tokens), np.int32))
    with pytest.raises(oxe.OXEError, match=f"{name!r} has no way back from RT-1-X's numbers"):
        oxe.get(name).from_rt1_x(action)


def test_a_way_back_needs_every_field():
    with pytest.raises(oxe.OXEError, match="'terminate_episode'; got .'world_vector'."):
        oxe.get("bridge").from_rt1_x({"world_vector": np.zeros((1, 3))})
