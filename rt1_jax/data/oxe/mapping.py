"""Parts of which a dataset's mapping to RT-1's action fields is made."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

ARM_KEYS = ("action/world_vector", "action/rotation_delta", "action/terminate_episode")


def rt1_action(
    *,
    world_vector: np.ndarray,
    terminate_episode: np.ndarray,
    rotation_delta: np.ndarray | None = None,
    gripper_closedness_action: np.ndarray | None = None,
    base_displacement_vertical_rotation: np.ndarray | None = None,
    base_displacement_vector: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """RT-1's six fields in their order; a part that is None is what the robot cannot do: zeros.

    Args:
      world_vector: [t, 3].
      terminate_episode: one-hot [t, 3]; see `one_hot_terminate`.
      rotation_delta: [t, 3].
      gripper_closedness_action: [t] or [t, 1], +1 closes.
      base_displacement_vertical_rotation: [t] or [t, 1].
      base_displacement_vector: [t, 2].

    Returns:
      {field: float32 [t, size]}.
    """
    steps = len(world_vector)

    def part(value: np.ndarray | None, size: int) -> np.ndarray:
        if value is None:
            return np.zeros((steps, size), np.float32)
        return np.asarray(value, np.float32).reshape(steps, size)

    return {
        "terminate_episode": part(terminate_episode, 3),
        "world_vector": part(world_vector, 3),
        "rotation_delta": part(rotation_delta, 3),
        "gripper_closedness_action": part(gripper_closedness_action, 1),
        "base_displacement_vertical_rotation": part(base_displacement_vertical_rotation, 1),
        "base_displacement_vector": part(base_displacement_vector, 2),
    }


def arm_action(
    steps: Mapping[str, np.ndarray], gripper: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The fields of an arm whose dataset names them as RT-1's: `ARM_KEYS`, and a gripper [t]."""
    return rt1_action(
        world_vector=steps["action/world_vector"],
        rotation_delta=steps["action/rotation_delta"],
        gripper_closedness_action=gripper,
        terminate_episode=one_hot_terminate(steps["action/terminate_episode"]),
    )


def one_hot_terminate(ends: np.ndarray) -> np.ndarray:
    """Whether each step ends the episode (1 or True; [t] or [t, 1]) -> float32 [t, 3].

    RT-1 has [1, 0, 0] for "terminate" and [0, 1, 0] for "go on". Only exactly 1 terminates, as in
    the RT-1-X notebook.
    """
    ends = np.asarray(ends).reshape(len(ends)) == 1  # [t]
    return np.stack([ends, ~ends, np.zeros_like(ends)], axis=-1).astype(np.float32)


def closedness_of_open(is_open: np.ndarray) -> np.ndarray:
    """Whether the gripper is to be open ([t], bool or 0 and 1) -> RT-1's sign: -1 open, +1 closed.

    A value between is a gripper half open: 0.5 gives 0.
    """
    return (1.0 - 2.0 * np.asarray(is_open, np.float32)).reshape(-1, 1)
