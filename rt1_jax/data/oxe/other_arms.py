"""Datasets of other arms: bridge (WidowX), jaco_play, roboturk (Sawyer), nyu_door_opening (Hello
Stretch), berkeley_autolab_ur5.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rt1_jax.data.oxe.description import USE_LARGE_5, RLDSDataset
from rt1_jax.data.oxe.mapping import (
    ARM_KEYS,
    arm_action,
    closedness_of_open,
    rt1_action,
)
from rt1_jax.data.oxe.rescale import changed, standardized, to_range, unchanged
from rt1_jax.data.oxe.sources import NOTEBOOK, OCTO, RATES, RT1_X_ENCODER, catalog, converted
from rt1_jax.data.oxe.specs import (
    RT1_X_ROTATION,
    RT1_X_TRANSLATION,
    dataset_spec,
    symmetric,
)

Steps = Mapping[str, np.ndarray]

_INSTRUCTION = "observation/natural_language_instruction"
_EMBEDDING = "observation/natural_language_embedding"
_GRIPPER = "action/gripper_closedness_action"


BRIDGE = RLDSDataset(
    name="bridge",
    image="observation/image",
    instruction=_INSTRUCTION,
    embedding=_EMBEDDING,
    embedding_encoder=USE_LARGE_5,
    action_keys=(*ARM_KEYS, "action/open_gripper"),
    frame_rate=5.0,
    action_spec=dataset_spec(
        "bridge",
        world_vector=symmetric(0.05),
        rotation_delta=symmetric(0.25),
        gripper_unit="absolute command: -1 open, +1 closed",
    ),
    mapping=lambda steps: arm_action(steps, closedness_of_open(steps["action/open_gripper"])),
    rt1_x=changed(
        world_vector=lambda x: to_range(x, -0.05, 0.05, -1.75, 1.75, safety_margin=0.01),
        rotation_delta=lambda x: to_range(x, -0.25, 0.25, -1.4, 1.4, safety_margin=0.01),
    ),
    rt1_x_inverse=changed(
        world_vector=lambda x: to_range(x, -1.75, 1.75, -0.05, 0.05),
        rotation_delta=lambda x: to_range(x, -1.4, 1.4, -0.25, 0.25),
    ),
    gripper="absolute: open_gripper, true is open",
    sources=(catalog("bridge"), NOTEBOOK, RATES, RT1_X_ENCODER),
    notes=(
        "The schema is that of bridge 0.1.0, which RT-1-X was trained on. Later copies (TFDS's "
        "`bridge` of today, BridgeData V2's `bridge_dataset`) store one action vector [7] and "
        "cameras image_0 to image_3: another schema, to be described under another name. That "
        "the unit is the metre is BridgeData's custom, not stated in these sources."
    ),
)


# The notebook's statistics of jaco_play's world vector.
_JACO_MEAN = (0.00096585, -0.00580069, -0.00395066)
_JACO_STD = (0.12234575, 0.09676983, 0.11155209)


def _jaco_actions(steps: Steps) -> dict[str, np.ndarray]:
    return rt1_action(
        world_vector=steps["action/world_vector"],
        gripper_closedness_action=steps[_GRIPPER],
        terminate_episode=steps["action/terminate_episode"],
    )


def _jaco_bound(sigmas: float) -> list[float]:
    return [m + sigmas * s for m, s in zip(_JACO_MEAN, _JACO_STD, strict=True)]


JACO_PLAY = RLDSDataset(
    name="jaco_play",
    image="observation/image",
    instruction=_INSTRUCTION,
    embedding=_EMBEDDING,
    embedding_encoder=USE_LARGE_5,
    action_keys=("action/world_vector", _GRIPPER, "action/terminate_episode"),
    frame_rate=10.0,
    action_spec=dataset_spec(
        "jaco_play",
        world_vector=(_jaco_bound(-2.0), _jaco_bound(2.0)),
        translation_unit="cartesian delta, as recorded (unit not published)",
        gripper_unit="relative: -1 opens, +1 closes, 0 leaves it",
    ),
    mapping=_jaco_actions,
    rt1_x=changed(world_vector=lambda x: standardized(x, _JACO_MEAN, _JACO_STD)),
    gripper="relative: +1 closes, -1 opens, 0 leaves it",
    sources=(
        catalog("jaco_play"),
        NOTEBOOK,
        "clvrai/clvr_jaco_play_dataset: README.md (rate, actions)",
        OCTO,
        RATES,
        RT1_X_ENCODER,
    ),
    notes=(
        "No rotation is commanded. No range is published: the bounds are the mean and two "
        "standard deviations either side, which RT-1-X's +-2 amount to here. A standard deviation "
        "of 0.1 at 10 Hz cannot be metres a step. The original labels its gripper 0 open, 1 do "
        "not move, 2 close; that the public copy has -1, 0, +1 for these follows from Octo's "
        "reading of it. Terminate is one-hot already."
    ),
)


ROBOTURK = RLDSDataset(
    name="roboturk",
    image="observation/front_rgb",
    instruction=_INSTRUCTION,
    embedding=_EMBEDDING,
    embedding_encoder=USE_LARGE_5,
    action_keys=(*ARM_KEYS, _GRIPPER),
    frame_rate=10.0,
    action_spec=dataset_spec(
        "roboturk",
        world_vector=RT1_X_TRANSLATION,
        rotation_delta=RT1_X_ROTATION,
        translation_unit="as recorded (unit not published)",
        rotation_unit="as recorded (unit not published)",
        gripper_unit="absolute command: positive is closed",
    ),
    mapping=lambda steps: arm_action(steps, steps[_GRIPPER]),
    rt1_x=unchanged,
    gripper="absolute: positive is closed; whether open is -1 or 0 is not published",
    sources=(catalog("roboturk"), NOTEBOOK, OCTO, RATES, RT1_X_ENCODER, converted("roboturk")),
    notes=(
        "No published range was found and RT-1-X gets the actions unscaled, so the bounds are "
        "what RT-1-X's tokens express: measure your copy's and narrow them before training on "
        "this alone. Octo clips the gripper to 0..1 and inverts it to 1 for open, hence the sign; "
        "it is passed on as stored. Three instructions in all (Octo drops them)."
    ),
)


NYU_DOOR_OPENING = RLDSDataset(
    name="nyu_door_opening_surprising_effectiveness",
    image="observation/image",
    instruction=_INSTRUCTION,
    embedding=_EMBEDDING,
    embedding_encoder=USE_LARGE_5,
    action_keys=(*ARM_KEYS, _GRIPPER),
    frame_rate=3.0,
    action_spec=dataset_spec(
        "nyu_door_opening_surprising_effectiveness",
        world_vector=symmetric(0.07),
        rotation_delta=symmetric(0.07),
        translation_unit="velocity, as recorded (unit not published)",
        rotation_unit="angular velocity, as recorded (unit not published)",
        gripper_unit="relative: -1 opens, +1 closes, 0 leaves it",
    ),
    mapping=lambda steps: arm_action(steps, steps[_GRIPPER]),
    rt1_x=changed(world_vector=lambda x: x * 20.0, rotation_delta=lambda x: x * 15.0),
    gripper="relative: +1 closes, -1 opens, 0 leaves it",
    sources=(
        catalog("nyu_door_opening_surprising_effectiveness"),
        NOTEBOOK,
        OCTO,
        RATES,
        RT1_X_ENCODER,
    ),
    notes=(
        "The camera is at the hand (Octo's config). That the gripper is relative is Octo's "
        "reading. The instruction says little (Octo drops it)."
    ),
)


AUTOLAB_UR5 = RLDSDataset(
    name="berkeley_autolab_ur5",
    image="observation/image",
    instruction=_INSTRUCTION,
    embedding=_EMBEDDING,
    embedding_encoder=USE_LARGE_5,
    action_keys=(*ARM_KEYS, _GRIPPER),
    frame_rate=5.0,
    action_spec=dataset_spec(
        "berkeley_autolab_ur5",
        world_vector=symmetric(0.02),
        rotation_delta=symmetric(0.07),
        gripper_unit="relative: -1 opens, +1 closes, 0 leaves it",
    ),
    mapping=lambda steps: arm_action(steps, steps[_GRIPPER]),
    rt1_x=changed(world_vector=lambda x: x * 100.0, rotation_delta=lambda x: x * 15.0),
    gripper="relative: +1 closes, -1 opens, 0 leaves it",
    sources=(catalog("berkeley_autolab_ur5"), NOTEBOOK, OCTO, RATES, RT1_X_ENCODER),
    notes=(
        "Displacements in xyz and in roll, pitch, yaw; the catalogue names no unit, metre and "
        "radian fit the ranges. The gripper is a scalar a step."
    ),
)
