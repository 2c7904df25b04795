"""Bounds and frame size beside a TensorFlow checkpoint: the released files, and changed ones."""

from __future__ import annotations

import dataclasses
from string import Template

import original
import pytest

from rt1_jax import actions
from rt1_jax.checkpoints import formats, policy_specs, tf_writer
from rt1_jax.checkpoints.native import CheckpointError

TENSOR = Template("""
  fields { key: "$name" value { bounded_tensor_spec_value {
    name: "$name" shape { dim { size: $size } } dtype: DT_FLOAT
    minimum { dtype: DT_FLOAT tensor_shape { } float_val: $low }
    maximum { dtype: DT_FLOAT tensor_shape { } float_val: $high } } } }
""")
FILE = Template("""
  dict_value { fields { key: "collect_data_spec" value { named_tuple_value { name: "Trajectory"
    values { key: "observation" value { dict_value { fields { key: "image" value {
      tensor_spec_value { name: "image" shape { $image } dtype: DT_UINT8 } } } } } }
    values { key: "action" value { dict_value { $action } } } } } } }
""")


def written(path, change=None, image="dim { size: 48 } dim { size: 64 } dim { size: 3 }"):
    """A file of the released layout, with a hand that moves 5 cm a step."""
    fields = {
        "terminate_episode": (3, 0, 1),
        "world_vector": (3, -0.05, 0.05),
        "rotation_delta": (3, -1.5707964, 1.5707964),
        "gripper_closedness_action": (1, -1, 1),
        "base_displacement_vertical_rotation": (1, -3.1415927, 3.1415927),
        "base_displacement_vector": (2, -1, 1),
    }
    if change:
        change(fields)
    action = "".join(
        TENSOR.substitute(name=name, size=size, low=low, high=high)
        for name, (size, low, high) in fields.items()
    )
    path.write_text(FILE.substitute(image=image, action=action))
    return path


@pytest.mark.parametrize("model", ["rt1main", "rt1multirobot", "rt1simreal"])
def test_the_released_files_say_what_is_built_in(shared_dir, model):
    folder = shared_dir / "golden" / "released" / model
    for prefix in (folder / "ckpt-1", folder / "variables" / "variables"):
        found = policy_specs.find_policy_specs(prefix)
        assert found == folder / "policy_specs.pbtxt"
    assert policy_specs.read_policy_specs(found) == policy_specs.DEFAULT
    assert policy_specs.PolicySpecs(actions.RT1, (256, 320)) == policy_specs.DEFAULT


def test_a_checkpoint_is_read_with_the_bounds_beside_it(tmp_path):
    config = original.small_config()
    prefix = tmp_path / "ckpt-1"
    tf_writer.write_tf(prefix, config, original.random_variables(config), step=1)
    without = formats.read(prefix)
    assert without.action_spec == dataclasses.replace(actions.RT1, bins=32)
    assert without.description().image_size == (256, 320)
    written(tmp_path / "policy_specs.pbtxt")
    found = formats.read(prefix)
    assert found.description().image_size == (48, 64)
    for ours, theirs in zip(actions.RT1.fields, found.action_spec.fields, strict=True):
        if ours.name == "world_vector":
            assert theirs.high == pytest.approx((0.05,) * 3)
            assert theirs.low == pytest.approx((-0.05,) * 3)
        else:
            assert theirs == ours


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("world_vector"), r"expected RT-1's \['base_displacement_vector'"),
        (lambda f: f.update(extra=(1, 0, 1)), r"has fields .*'extra'"),
        (lambda f: f.update(world_vector=(2, -1, 1)), "'world_vector' is .* expected 3 bounded"),
        (lambda f: f.update(world_vector=(3, 1, -1)), "'world_vector' has bounds"),
    ],
)
def test_an_action_that_is_not_rt1s(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        policy_specs.read_policy_specs(written(tmp_path / "policy_specs.pbtxt", change))


@pytest.mark.parametrize("text", ["", "dict_value {", "hello", 'string_value: "a"'])
def test_a_file_of_something_else(tmp_path, text):
    path = tmp_path / "policy_specs.pbtxt"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"policy_specs\.pbtxt: expected the specs"):
        policy_specs.read_policy_specs(path)
    written(path, image="dim { size: 3 }")
    with pytest.raises(CheckpointError, match=r"policy_specs\.pbtxt: expected the specs"):
        policy_specs.read_policy_specs(path)
