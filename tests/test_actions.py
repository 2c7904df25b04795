"""Action specs: token tables of both reference implementations, round trips and refusals."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt1_jax import actions, binning

SHARED = pathlib.Path(
    os.environ.get("RT1_JAX_SHARED", pathlib.Path(__file__).parents[2] / "shared")
)
GOLDEN = SHARED / "golden"
SPECS = [actions.RT1, actions.OXE_RT1, actions.RT1_X, actions.TABLETOP]

needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"reference fixtures not found at {GOLDEN} (set RT1_JAX_SHARED)"
)


def eager(function):
    return function


@needs_golden
@pytest.mark.parametrize("wrap", [eager, jax.jit])
def test_tokenizer_table_of_the_tensorflow_original(wrap):
    golden = np.load(GOLDEN / "tf" / "golden_tf_seed0.npz")
    action = {name: golden[f"table/action/{name}"] for name in actions.RT1.field_names}
    np.testing.assert_array_equal(wrap(actions.RT1.tokenize)(action), golden["table/tokens"])


@needs_golden
@pytest.mark.parametrize("wrap", [eager, jax.jit])
def test_detokenizer_table_of_the_tensorflow_original(wrap):
    golden = np.load(GOLDEN / "tf" / "golden_tf_seed0.npz")
    action = wrap(actions.RT1.detokenize)(golden["detok_table/tokens"])
    for name in actions.RT1.field_names:
        np.testing.assert_array_equal(action[name], golden[f"detok_table/{name}"], err_msg=name)
        assert action[name].dtype == golden[f"detok_table/{name}"].dtype


@needs_golden
@pytest.mark.parametrize("wrap", [eager, jax.jit])
@pytest.mark.parametrize(
    ("file", "spec"), [("oxe_rt1", actions.OXE_RT1), ("oxe_rt1x", actions.RT1_X)]
)
def test_tokens_of_the_rt1_x_code(file, spec, wrap):
    golden = np.load(GOLDEN / "oxe" / f"golden_{file}_seed0.npz")
    action = {name: golden[f"action/{name}"] for name in spec.field_names}
    np.testing.assert_array_equal(wrap(spec.tokenize)(action), golden["action_tokens"])
    back = wrap(spec.detokenize)(golden["predicted_tokens"][:, -1])
    for name in spec.field_names:
        # The reference divides by a constant under XLA: one rounding step of difference.
        np.testing.assert_allclose(
            back[name], golden[f"detokenized/{name}"], atol=5e-7, err_msg=name
        )


def test_fields_and_token_names():
    assert actions.RT1.action_tokens == 11
    assert actions.RT1.field_names == (
        "terminate_episode",
        "world_vector",
        "rotation_delta",
        "gripper_closedness_action",
        "base_displacement_vertical_rotation",
        "base_displacement_vector",
    )
    names = actions.TABLETOP.token_names
    assert len(set(names)) == 11
    assert names[:3] == ("terminate_episode", "world_vector/x", "world_vector/y")
    assert names[4] == "rotation_delta/roll"
    assert actions.TABLETOP.field("world_vector").high == (0.05,) * 3
    assert actions.TABLETOP.field("rotation_delta").high == (pytest.approx(np.pi / 4),) * 3


@settings(max_examples=60, deadline=None)
@given(data=st.data(), spec=st.sampled_from(SPECS))
def test_tokens_survive_a_round_trip(data, spec):
    tokens = np.array(
        [
            data.draw(st.integers(0, field.size - 1 if field.kind == "one_hot" else spec.bins - 1))
            for field in spec.fields
            for _ in range(field.tokens)
        ],
        np.int32,
    )
    again = spec.tokenize(spec.detokenize(tokens))
    # Truncation may send the value of a token to the bin below, as in the original; never further.
    assert np.all((tokens - again >= 0) & (tokens - again <= 1))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), spec=st.sampled_from(SPECS))
def test_values_move_by_less_than_a_bin(data, spec):
    action = {}
    for field in spec.fields:
        if field.kind == "one_hot":
            action[field.name] = np.eye(field.size, dtype=np.int32)[data.draw(st.integers(0, 2))]
            continue
        wide = [
            data.draw(st.floats(2 * low, 2 * high, allow_nan=False, width=32))
            for low, high in zip(
                np.float32(field.low).tolist(), np.float32(field.high).tolist(), strict=True
            )
        ]
        action[field.name] = np.array(wide, np.float32)
    tokens = spec.tokenize(action)
    assert tokens.dtype == np.int32
    assert tokens.min() >= 0
    assert tokens.max() < spec.bins
    back = spec.detokenize(tokens)
    for field in spec.fields:
        if field.kind == "one_hot":
            np.testing.assert_array_equal(back[field.name], action[field.name])
            continue
        low, high = np.float32(field.low), np.float32(field.high)
        clipped = np.clip(action[field.name], low, high)
        width = (high - low) / (spec.bins - 1)
        assert np.all(clipped - back[field.name] < width * (1 + 1e-4))
        assert np.all(clipped - back[field.name] > -width * 1e-4)


def test_every_edge_is_where_the_formula_puts_it():
    for spec in SPECS:
        for field in spec.fields[1:]:
            edges = binning.bin_edges(field.low, field.high, spec.bins)
            just_below = np.nextafter(edges, np.float32(-np.inf))
            bins = np.arange(1, spec.bins)
            assert np.all(binning.bin_of(edges, field.low, field.high, spec.bins) == bins)
            assert np.all(binning.bin_of(just_below, field.low, field.high, spec.bins) == bins - 1)


def test_a_terminate_token_out_of_range():
    tokens = np.full(11, 128, np.int32)
    np.testing.assert_array_equal(actions.RT1.detokenize(tokens)["terminate_episode"], [1, 0, 0])
    np.testing.assert_array_equal(actions.RT1_X.detokenize(tokens)["terminate_episode"], [0, 0, 0])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_json_round_trip(spec):
    assert actions.ActionSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def good_action():
    return actions.RT1.detokenize(np.ones(11, np.int32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"world_vector": np.zeros(2)},
            r"'world_vector': expected shape \[\.\.\., 3\], got \(2,\)",
        ),
        ({"world_vector": np.array([0, np.nan, 0])}, "'world_vector': holds a non-finite"),
        (
            {"terminate_episode": np.array([1, 1, 0])},
            r"'terminate_episode': every vector must hold one 1 .* vector 0 is \[1, 1, 0\]",
        ),
        ({"world_vector": np.zeros((4, 3))}, "'world_vector': leading shape"),
        ({"arm": np.zeros(3)}, "unknown field 'arm'"),
        ({"rotation_delta": np.array(["a", "b", "c"])}, "'rotation_delta': expected numbers"),
    ],
)
def test_validate_names_the_field(change, message):
    actions.RT1.validate(good_action())
    with pytest.raises(actions.ActionError, match=message):
        actions.RT1.validate({**good_action(), **change})


def test_a_missing_field_is_named():
    action = good_action()
    del action["base_displacement_vector"]
    for method in (actions.RT1.validate, actions.RT1.tokenize):
        with pytest.raises(actions.ActionError, match="lacks the field 'base_displacement_vector'"):
            method(action)


def test_tokens_of_another_kind_are_refused():
    with pytest.raises(actions.ActionError, match=r"must be \[\.\.\., 11\], got shape \(2, 8\)"):
        actions.RT1.detokenize(np.zeros((2, 8), np.int32))
    with pytest.raises(actions.ActionError, match="must be integers"):
        actions.RT1.detokenize(np.zeros(11))


def test_specs_that_make_no_sense_are_refused():
    field = actions.RT1.fields[1]
    with pytest.raises(actions.ActionError, match="low < high"):
        dataclasses.replace(field, low=(1.0, -1.0, -1.0))
    with pytest.raises(actions.ActionError, match="as many bounds"):
        dataclasses.replace(field, size=4)
    with pytest.raises(actions.ActionError, match="distinct"):
        dataclasses.replace(actions.RT1, fields=(field, field))
    with pytest.raises(actions.ActionError, match="unknown key 'colour'"):
        actions.ActionSpec.from_json({**actions.RT1.to_json(), "colour": 1})
    spec = actions.RT1.to_json()
    del spec["bins"]
    with pytest.raises(actions.ActionError, match="'bins' is missing"):
        actions.ActionSpec.from_json(spec)
