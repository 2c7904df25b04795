"""Datasets of Google's robots: RT-1's own (Everyday Robots) and Language-Table (xArm)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rt1_jax.actions import RT1
from rt1_jax.data.oxe.description import USE_LARGE_5, RLDSDataset
from rt1_jax.data.oxe.mapping import one_hot_terminate, rt1_action
from rt1_jax.data.oxe.rescale import unchanged
from rt1_jax.data.oxe.sources import NOTEBOOK, OCTO, RATES, RT1_X_ENCODER, catalog
from rt1_jax.data.oxe.specs import dataset_spec, symmetric

Steps = Mapping[str, np.ndarray]

_FRACTAL_KEYS = tuple(f"action/{field.name}" for field in RT1.fields)


def _fractal_actions(steps: Steps) -> dict[str, np.ndarray]:
    return rt1_action(**{key.removeprefix("action/"): steps[key] for key in _FRACTAL_KEYS})


FRACTAL = RLDSDataset(
    name="fractal20220817_data",
    image="observation/image",
    instruction="observation/natural_language_instruction",
    embedding="observation/natural_language_embedding",
    embedding_encoder=USE_LARGE_5,
    action_keys=_FRACTAL_KEYS,
    frame_rate=3.0,
    action_spec=dataset_spec(
        "fractal20220817_data",
        world_vector=symmetric(RT1.field("world_vector").high[0]),
        rotation_delta=symmetric(RT1.field("rotation_delta").high[0]),
    ),
    mapping=_fractal_actions,
    rt1_x=unchanged,
    rt1_x_inverse=unchanged,
    gripper="relative: +1 closes, -1 opens, 0 leaves it",
    sources=(
        catalog("fractal20220817_data"),
        NOTEBOOK,
        OCTO,
        RATES,
        RT1_X_ENCODER,
        "released RT-1 models, policy_specs.pbtxt (bounds)",
    ),
    notes=(
        "RT-1's own data: the fields are RT-1's already, bounds those of the released models. "
        "World vector and rotation are displacements in the frame of the base. That the gripper is "
        "relative is Octo's reading; the catalogue calls it a continuous position. Public "
        "statistics of the data (dataset_statistics.json of openvla-7b-prismatic) reach 22 m a "
        "step: such steps are clipped by the tokenizer."
    ),
)


def _language_table_actions(steps: Steps) -> dict[str, np.ndarray]:
    # In RLDS the terminal step holds the last observation only: its action means nothing.
    last = np.asarray(steps["is_last"], bool) | np.asarray(steps["is_terminal"], bool)  # [t]
    moving = ~np.asarray(steps["is_terminal"], bool)
    plane = np.asarray(steps["action"], np.float32).reshape(len(last), 2) * moving[:, None]
    return rt1_action(
        world_vector=np.pad(plane, ((0, 0), (0, 1))),
        terminate_episode=one_hot_terminate(last),
    )


LANGUAGE_TABLE = RLDSDataset(
    name="language_table",
    version="0.0.1",
    image="observation/rgb",
    instruction="observation/instruction",
    embedding=None,
    action_keys=("action", "is_last", "is_terminal"),
    frame_rate=10.0,
    action_spec=dataset_spec(
        "language_table",
        world_vector=symmetric(0.1),
        gripper_unit="none: a rigid pusher; always 0",
    ),
    mapping=_language_table_actions,
    rt1_x=None,
    gripper="none: a rigid pusher; always 0",
    sources=(
        "google-research/language-table: README.md (path, rate), environments/language_table.py "
        "(action_space +-0.1, encode_instruction), train/input_pipeline_rlds.py (terminal step)",
        "huggingface.co/datasets/lerobot-raw/language_table_raw: features.json (keys of a step)",
        NOTEBOOK,
        OCTO,
        RATES,
    ),
    notes=(
        "A plane: x and y of the effector in metres a step, z always 0. The bounds are the action "
        "space of the simulator; that the real robot's data keep to them is not stated. There is "
        "no terminate field: the last step terminates, and a terminal step's action, which the "
        "dataset's own pipeline calls meaningless and drops, is 0. No sentence embedding is "
        "stored. The RT-1-X notebook has a weight (30) in a comment and no mapping."
    ),
)
