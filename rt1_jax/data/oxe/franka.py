"""Datasets of Franka arms: taco_play, berkeley_cable_routing, viola, toto."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rt1_jax.data.oxe.description import USE_LARGE_5, RLDSDataset
from rt1_jax.data.oxe.mapping import (
    ARM_KEYS,
    arm_action,
    closedness_of_open,
    one_hot_terminate,
    rt1_action,
)
from rt1_jax.data.oxe.rescale import changed, to_range, unchanged
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

# "Measured per dimension ranges" of taco_play's absolute pose, in the notebook.
_TACO_POSITION = ((0.0, -0.5, 0.0), (0.8, 0.7, 0.6))
_TACO_ANGLES = ((-3.2, -0.8, -1.8), (3.2, 0.2, 2.5))


def _taco_actions(steps: Steps) -> dict[str, np.ndarray]:
    pose = np.asarray(steps["action/actions"], np.float32)  # [t, 7]
    return rt1_action(
        world_vector=pose[:, :3],
        rotation_delta=pose[:, 3:6],
        gripper_closedness_action=-pose[:, 6:7],
        terminate_episode=one_hot_terminate(steps["action/terminate_episode"]),
    )


TACO_PLAY = RLDSDataset(
    name="taco_play",
    image="observation/rgb_static",
    instruction=_INSTRUCTION,
    embedding=_EMBEDDING,
    embedding_encoder=USE_LARGE_5,
    action_keys=("action/actions", "action/terminate_episode"),
    frame_rate=15.0,
    action_spec=dataset_spec(
        "taco_play",
        world_vector=_TACO_POSITION,
        rotation_delta=_TACO_ANGLES,
        translation_unit="m, absolute position in the base's frame",
        rotation_unit="rad, absolute Euler angles in the base's frame",
        gripper_unit="absolute command: -1 open, +1 closed",
    ),
    mapping=_taco_actions,
    rt1_x=changed(
        world_vector=lambda x: to_range(x, *_TACO_POSITION, safety_margin=0.01),
        rotation_delta=lambda x: to_range(x, *_TACO_ANGLES, safety_margin=0.01),
        gripper_closedness_action=lambda x: -x,
    ),
    gripper="absolute: +1 open, -1 closed (see notes); RT-1-X was given it unchanged",
    sources=(
        catalog("taco_play"),
        NOTEBOOK,
        "mees/hulc2: dataset/README.md (gripper, units)",
        OCTO,
        RATES,
        RT1_X_ENCODER,
    ),
    notes=(
        "The action is an absolute pose, as in the RT-1-X notebook, not a change; relative ones "
        "are in action/rel_actions_world (Octo uses these; in CALVIN, whose layout it is, "
        "normalised with 50 a metre and 20 a radian). Sign of the gripper: the TFDS catalogue "
        "says -1 opens and 1 closes, the authors' README -1 closes and 1 opens, Octo takes 1 as "
        "open; followed is the authors' one. The catalogue orders the angles yaw, pitch, roll, "
        "the authors x, y, z; they are taken in the order stored. The notebook defines ranges for "
        "this dataset and then calls bridge's rescaling instead, which would put nearly every "
        "absolute pose on the bounds; `rt1_x_actions` uses the ranges defined."
    ),
)


CABLE_ROUTING = RLDSDataset(
    name="berkeley_cable_routing",
    image="observation/image",
    instruction=_INSTRUCTION,
    embedding=_EMBEDDING,
    embedding_encoder=USE_LARGE_5,
    action_keys=ARM_KEYS,
    frame_rate=10.0,
    action_spec=dataset_spec(
        "berkeley_cable_routing",
        world_vector=RT1_X_TRANSLATION,
        rotation_delta=RT1_X_ROTATION,
        translation_unit="velocity, as recorded (unit not published)",
        rotation_unit="angular velocity about z, as recorded (unit not published)",
        gripper_unit="none recorded; always 0",
    ),
    mapping=lambda steps: arm_action(steps, None),
    rt1_x=unchanged,
    gripper="none recorded; always 0",
    sources=(catalog("berkeley_cable_routing"), NOTEBOOK, OCTO, RATES, RT1_X_ENCODER),
    notes=(
        "Velocities, not displacements. No published range was found and RT-1-X gets them "
        "unscaled, so the bounds are what RT-1-X's tokens express: measure your copy's and narrow "
        "them before training on this alone. The instruction says little (Octo drops it)."
    ),
)


VIOLA = RLDSDataset(
    name="viola",
    image="observation/agentview_rgb",
    instruction=_INSTRUCTION,
    embedding=_EMBEDDING,
    embedding_encoder=USE_LARGE_5,
    action_keys=(*ARM_KEYS, "action/gripper_closedness_action"),
    frame_rate=20.0,
    action_spec=dataset_spec(
        "viola",
        world_vector=symmetric(1.0),
        rotation_delta=symmetric(0.4),
        translation_unit="normalised command, as recorded (unit not published)",
        rotation_unit="normalised command, as recorded (unit not published)",
        gripper_unit="absolute command: -1 open, +1 closed",
    ),
    mapping=lambda steps: arm_action(steps, steps["action/gripper_closedness_action"]),
    rt1_x=changed(world_vector=lambda x: x * 1.75, rotation_delta=lambda x: x * 3.0),
    gripper="absolute: +1 closed, -1 open",
    sources=(catalog("viola"), NOTEBOOK, OCTO, RATES, RT1_X_ENCODER),
    notes=(
        "The gripper is a scalar a step. The notebook allows -1, 1 and, in the steps that it pads "
        "with zeros itself, 0."
    ),
)


TOTO = RLDSDataset(
    name="toto",
    image="observation/image",
    instruction=_INSTRUCTION,
    embedding=_EMBEDDING,
    embedding_encoder=USE_LARGE_5,
    action_keys=(*ARM_KEYS, "action/open_gripper"),
    frame_rate=30.0,
    action_spec=dataset_spec(
        "toto",
        world_vector=symmetric(0.7),
        rotation_delta=RT1_X_ROTATION,
        translation_unit="as recorded, presumably m (not published)",
        rotation_unit="as recorded, presumably rad (not published)",
        gripper_unit="absolute command: -1 open, +1 closed",
    ),
    mapping=lambda steps: arm_action(steps, closedness_of_open(steps["action/open_gripper"])),
    # The notebook feeds open_gripper (1 is open) as the closedness: against RT-1's sign.
    rt1_x=changed(
        world_vector=lambda x: x * 2.0,
        gripper_closedness_action=lambda x: (1.0 - x) / 2.0,
    ),
    gripper="absolute: open_gripper, true is open; RT-1-X was given it so (1 open, 0 closed)",
    sources=(catalog("toto"), NOTEBOOK, OCTO, RATES, RT1_X_ENCODER, converted("toto")),
    notes=(
        "The sign of the gripper in `rt1_x_actions` is the notebook's and against RT-1's. Whether "
        "world vector and rotation are changes or absolute is not published (0.7 in a 30th of a "
        "second is no change); nor is the range of the rotation, whose bounds are therefore those "
        "of RT-1-X's tokens. All instructions are one and the same (pour)."
    ),
)
