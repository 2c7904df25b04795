"""What the public copies of the eleven Open X-Embodiment datasets hold: every key, type and size.

After the datasets' pages in TFDS's catalogue (docs/catalog/*.md in tensorflow/datasets), and
language_table after features.json of its public copy. Plain trees, so that a test can take a key
away: {"steps": {"action": {...}, ...}, "aspects": ...} with leaves (kind or dtype, shape).
"""

from __future__ import annotations

import copy
from typing import Any

Schema = dict[str, Any]


def image(height: int, width: int) -> tuple[str, tuple[int, ...]]:
    return ("jpeg", (height, width, 3))


def floats(*shape: int) -> tuple[str, tuple[int, ...]]:
    return ("float32", shape)


_FLAG = ("bool", ())
_TEXT = ("string", ())
_INT64 = ("int64", ())

_LANGUAGE = {"natural_language_instruction": _TEXT, "natural_language_embedding": floats(512)}


def _steps(observation: Schema, action: Schema | tuple, language: Schema = _LANGUAGE) -> Schema:
    return {
        "action": action,
        "is_first": _FLAG,
        "is_last": _FLAG,
        "is_terminal": _FLAG,
        "observation": {**observation, **language},
        "reward": floats(),
    }


def _motion(**others: tuple) -> Schema:
    return {
        "world_vector": floats(3),
        "rotation_delta": floats(3),
        "terminate_episode": floats(),
        **others,
    }


_FRACTAL_ATTRIBUTES = ("collection_mode", "data_type", "env", "location", "objects_family")

SCHEMAS: dict[str, Schema] = {
    "fractal20220817_data": {
        "aspects": dict.fromkeys(
            ("already_success", "feasible", "has_aspects", "success", "undesirable"), _FLAG
        ),
        "attributes": {
            **dict.fromkeys((*_FRACTAL_ATTRIBUTES, "task_family"), _INT64),
            **{f"{name}_name": _TEXT for name in (*_FRACTAL_ATTRIBUTES, "task_family")},
        },
        "steps": _steps(
            {
                "base_pose_tool_reached": floats(7),
                "gripper_closed": floats(1),
                "gripper_closedness_commanded": floats(1),
                "height_to_bottom": floats(1),
                "image": image(256, 320),
                "orientation_box": floats(2, 3),
                "orientation_start": floats(4),
                "robot_orientation_positions_box": floats(3, 3),
                "rotation_delta_to_go": floats(3),
                "src_rotation": floats(4),
                "vector_to_go": floats(3),
                "workspace_bounds": floats(3, 3),
            },
            {
                "base_displacement_vector": floats(2),
                "base_displacement_vertical_rotation": floats(1),
                "gripper_closedness_action": floats(1),
                "rotation_delta": floats(3),
                "terminate_episode": ("int32", (3,)),
                "world_vector": floats(3),
            },
        ),
    },
    "bridge": {
        "steps": _steps({"image": image(480, 640), "state": floats(7)}, _motion(open_gripper=_FLAG))
    },
    "taco_play": {
        "steps": _steps(
            {
                "depth_gripper": floats(84, 84),
                "depth_static": floats(150, 200),
                "rgb_gripper": image(84, 84),
                "rgb_static": image(150, 200),
                "robot_obs": floats(15),
                "structured_language_instruction": _TEXT,
            },
            {
                "actions": floats(7),
                "rel_actions_gripper": floats(7),
                "rel_actions_world": floats(7),
                "terminate_episode": floats(),
            },
        )
    },
    "jaco_play": {
        "steps": _steps(
            {
                "end_effector_cartesian_pos": floats(7),
                "end_effector_cartesian_velocity": floats(6),
                "image": image(224, 224),
                "image_wrist": image(224, 224),
                "joint_pos": floats(8),
            },
            {
                "gripper_closedness_action": floats(1),
                "terminate_episode": ("int32", (3,)),
                "world_vector": floats(3),
            },
        )
    },
    "berkeley_cable_routing": {
        "steps": _steps(
            {
                "image": image(128, 128),
                "robot_state": floats(7),
                "top_image": image(128, 128),
                "wrist225_image": image(128, 128),
                "wrist45_image": image(128, 128),
            },
            _motion(),
        )
    },
    "roboturk": {
        "steps": _steps(
            {"front_rgb": image(480, 640)}, _motion(gripper_closedness_action=floats(1))
        )
    },
    "nyu_door_opening_surprising_effectiveness": {
        "steps": _steps({"image": image(720, 960)}, _motion(gripper_closedness_action=floats(1)))
    },
    "viola": {
        "steps": _steps(
            {
                "agentview_rgb": image(224, 224),
                "ee_states": floats(16),
                "eye_in_hand_rgb": image(224, 224),
                "gripper_states": floats(1),
                "joint_states": floats(7),
            },
            _motion(gripper_closedness_action=floats()),
        )
    },
    "berkeley_autolab_ur5": {
        "steps": _steps(
            {
                "hand_image": image(480, 640),
                "image": image(480, 640),
                "image_with_depth": ("float_image", (480, 640, 1)),
                "robot_state": floats(15),
            },
            _motion(gripper_closedness_action=floats()),
        )
    },
    "toto": {
        "steps": _steps({"image": image(480, 640), "state": floats(7)}, _motion(open_gripper=_FLAG))
    },
    "language_table": {
        "steps": _steps(
            {
                "effector_target_translation": floats(2),
                "effector_translation": floats(2),
                "instruction": ("int32", (512,)),
                "rgb": image(360, 640),
            },
            floats(2),
            language={},
        )
    },
}

VERSIONS = {"language_table": "0.0.1"}  # all others 0.1.0

# Ranges of the actions: (low, high), uniform, or a tuple of three and more values to choose from.
_RELATIVE = (-1.0, 0.0, 1.0)
RANGES: dict[str, dict[str, tuple]] = {
    "fractal20220817_data": {
        "world_vector": (-0.3, 0.3),
        "rotation_delta": (-0.6, 0.6),
        "gripper_closedness_action": (-1.0, 0.0, 1.0),
        "base_displacement_vector": (-0.1, 0.1),
        "base_displacement_vertical_rotation": (-0.5, 0.5),
    },
    "bridge": {"world_vector": (-0.05, 0.05), "rotation_delta": (-0.25, 0.25)},
    "taco_play": {
        "actions": ((0, -0.5, 0, -3.2, -0.8, -1.8, -1), (0.8, 0.7, 0.6, 3.2, 0.2, 2.5, 1)),
        "rel_actions_gripper": (-1.0, 1.0),
        "rel_actions_world": (-1.0, 1.0),
    },
    "jaco_play": {"world_vector": (-0.18, 0.18), "gripper_closedness_action": _RELATIVE},
    "berkeley_cable_routing": {"world_vector": (-1.0, 1.0), "rotation_delta": (-1.0, 1.0)},
    "roboturk": {
        "world_vector": (-0.5, 0.5),
        "rotation_delta": (-0.5, 0.5),
        "gripper_closedness_action": (-1.0, -1.0, 1.0),
    },
    "nyu_door_opening_surprising_effectiveness": {
        "world_vector": (-0.07, 0.07),
        "rotation_delta": (-0.07, 0.07),
        "gripper_closedness_action": _RELATIVE,
    },
    "viola": {
        "world_vector": (-1.0, 1.0),
        "rotation_delta": (-0.4, 0.4),
        "gripper_closedness_action": (-1.0, -1.0, 1.0),
    },
    "berkeley_autolab_ur5": {
        "world_vector": (-0.02, 0.02),
        "rotation_delta": (-0.07, 0.07),
        "gripper_closedness_action": _RELATIVE,
    },
    "toto": {"world_vector": (-0.7, 0.7), "rotation_delta": (-1.5, 1.5)},
    "language_table": {"": (-0.1, 0.1)},
}


def schema(name: str) -> Schema:
    """A copy of the dataset's schema, to change."""
    return copy.deepcopy(SCHEMAS[name])


def step_paths(tree: Schema) -> list[str]:
    """The paths of a step, "observation/image", in the form that descriptions use."""
    return [path for path, _ in leaves(tree["steps"])]


def leaves(tree: Schema, prefix: str = "") -> list[tuple[str, tuple[str, tuple[int, ...]]]]:
    """[(path, leaf)] of a tree."""
    found = []
    for key, value in tree.items():
        found += (
            leaves(value, f"{prefix}{key}/")
            if isinstance(value, dict)
            else [(f"{prefix}{key}", value)]
        )
    return found
