"""Actions as numbers that a model regresses."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt1_jax.action_values import decode_outputs, normalize, output_count, split_outputs
from rt1_jax.actions import RT1, RT1_X, TABLETOP, ActionError


def test_thirteen_numbers():
    assert [output_count(spec) for spec in (RT1, RT1_X, TABLETOP)] == [13, 13, 13]
    parts = split_outputs(jnp.arange(13.0), RT1)
    assert parts["terminate_episode"].tolist() == [0, 1, 2]
    assert parts["world_vector"].tolist() == [3, 4, 5]
    assert parts["gripper_closedness_action"].tolist() == [9]
    assert parts["base_displacement_vector"].tolist() == [11, 12]


def test_another_number_is_refused():
    with pytest.raises(ActionError, match="takes 13 numbers, the model gives 12"):
        split_outputs(jnp.zeros((2, 12)), RT1)


def test_bounds_and_middle():
    outputs = np.zeros((3, 13), np.float32)
    outputs[:, 0] = (5, 0, 0)
    outputs[:, 2] = (0, 5, 6)
    outputs[:, 3] = (-1, 0, 4)  # beyond the bound is the bound
    outputs[:, 9] = (-50, 0, 50)
    action = decode_outputs(jnp.asarray(outputs), TABLETOP)
    assert action["terminate_episode"].tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_allclose(action["world_vector"][:, 0], (-0.05, 0, 0.05), atol=1e-7)
    np.testing.assert_allclose(action["gripper_closedness_action"][:, 0], (-1, 0, 1), atol=1e-6)
    np.testing.assert_allclose(action["base_displacement_vector"], 0, atol=1e-7)


@settings(deadline=None)
@given(st.floats(-0.0625, 0.0625, width=32))
def test_what_is_normalised_comes_back(value):
    action = {"world_vector": jnp.full(3, value)}
    field = TABLETOP.field("world_vector")
    normal = normalize(action, field)
    assert float(jnp.abs(normal).max()) <= 1
    outputs = jnp.concatenate([jnp.zeros(3), normal, jnp.zeros(7)])
    back = decode_outputs(outputs, TABLETOP)["world_vector"]
    np.testing.assert_allclose(back, np.clip(value, -0.05, 0.05), atol=1e-7)
