"""A scripted expert for the tabletop, as data source and as ceiling.

A function of the physical state alone, so that it recovers by itself from anything that noise or
bad luck does: a slipped object is grasped again, a missed grasp repeated. Noise follows DART
(Laskey et al. 2017): what is executed is perturbed, what is recorded is the expert's own answer to
the state it finds itself in.
"""

from __future__ import annotations

import numpy as np

from rt1_jax.actions import TABLETOP
from rt1_jax.envs import LARGEST_NOISE
from rt1_jax.envs.motions import Move
from rt1_jax.envs.skills import next_move
from rt1_jax.envs.tabletop import TabletopEnv

DEFAULT_NOISE = 0.01
"""Standard deviation (m) of the executed arm motion's noise when data are made."""
_KICK_PROBABILITY = 0.08
_KICK = 4.0  # a kick's standard deviation, in units of the noise's
_BASE_NOISE = 0.5  # of the arm's, where the base moves
_ROTATION_NOISE = 5.0  # rad per m of noise, where hand or base turn
_BOUNDS = {field.name: np.asarray(field.high, np.float32) for field in TABLETOP.fields}


class TabletopExpert:
    """Drives a `TabletopEnv`.

    Args:
      env: the environment; it must have been reset before `act`.
      noise: standard deviation in metres of the perturbation that `perturb` adds.
    """

    def __init__(self, env: TabletopEnv, noise: float = 0.0) -> None:
        if not 0.0 <= noise <= LARGEST_NOISE:
            raise ValueError(f"noise {noise} is outside of 0 to {LARGEST_NOISE} m")
        self._env = env
        self._noise = noise
        self._episode = -1
        self._rng = np.random.default_rng(0)

    def act(self) -> dict[str, np.ndarray]:
        """The action for the present state: `{field: [size]}`, within the bounds."""
        env = self._env
        if env.success:
            closed = 1.0 if env.scene_state.command_closed > 0 else -1.0
            return _action(Move(closed=closed), terminate=True)
        return _action(next_move(env.task, env.objects, env.scene_state), terminate=False)

    def perturb(self, action: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What is executed in place of an action: the same with noise, now and then a kick.

        The noise is a function of the episode's seed and of how often this was called in it.
        Standing still to terminate is never perturbed, nor is the gripper, nor the step in which
        it closes or opens.
        """
        self._restart_noise()
        command = self._env.scene_state.command_closed
        switching = bool(action["gripper_closedness_action"][0] * command < 0)
        if self._noise == 0.0 or action["terminate_episode"][0] or switching:
            return action
        rng, scale = self._rng, self._noise
        if rng.random() < _KICK_PROBABILITY:
            scale *= _KICK
        noisy = dict(action)
        draws = rng.normal(size=9)
        parts = (
            ("world_vector", draws[:3] * scale),
            ("rotation_delta", draws[3:6] * scale * _ROTATION_NOISE),
            ("base_displacement_vertical_rotation", draws[6:7] * scale * _ROTATION_NOISE / 2),
            ("base_displacement_vector", draws[7:] * scale * _BASE_NOISE),
        )
        for name, noise in parts:
            # What the skill leaves alone stays alone: a grasp needs no rotation to recover from.
            moving = name == "world_vector" or np.any(action[name] != 0.0)
            if moving:
                bound = _BOUNDS[name]
                value = np.clip(action[name] + noise, -bound, bound)
                noisy[name] = value.astype(np.float32)
        return noisy

    def _restart_noise(self) -> None:
        episode = self._env.episode_count
        if episode != self._episode:
            self._episode = episode
            self._rng = np.random.default_rng([self._env.seed, 1])


def _action(move: Move, *, terminate: bool) -> dict[str, np.ndarray]:
    raw = {
        "world_vector": move.hand,
        "rotation_delta": move.rotation,
        "gripper_closedness_action": (move.closed,),
        "base_displacement_vertical_rotation": (move.base[2],),
        "base_displacement_vector": move.base[:2],
    }
    action = {
        name: np.clip(np.asarray(value, np.float32), -_BOUNDS[name], _BOUNDS[name])
        for name, value in raw.items()
    }
    mode = np.array([1, 0, 0] if terminate else [0, 1, 0], np.float32)
    return {"terminate_episode": mode, **action}
