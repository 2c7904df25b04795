"""A one-dimensional world and policies for it: what evaluation is tested with.

The robot stands at an integer place 0..9 and is told "go to N"; the image's first pixel row shows
where it is. world_vector x moves it by one place. Importable by name, so that environment processes
can unpickle it.
"""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

import numpy as np

from rt1_jax.actions import TABLETOP

PLACES = 10
HOLD = 3


class ScriptedEnv:
    """Gymnasium-like: reset, step, close, wrong_instruction."""

    def __init__(self, split: str, step_limit: int = 16, trouble: str = "", at: int = -1) -> None:
        self.split, self.step_limit = split, step_limit
        self.trouble, self.at = trouble, at

    def reset(self, *, seed: int, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        if seed == self.at:
            if self.trouble == "raise":
                raise KeyError("the bowl fell off the table")
            if self.trouble == "die":
                os._exit(7)
            if self.trouble == "hang":
                time.sleep(600)
        rng = np.random.default_rng(seed)
        self.place, self.target = (int(v) for v in rng.choice(PLACES, 2, replace=False))
        self.steps = self.held = 0
        return self._observe(), {}

    def step(self, action: dict[str, np.ndarray]) -> tuple[dict[str, Any], float, bool, bool, dict]:
        TABLETOP.validate(action)
        move = int(np.sign(np.round(action["world_vector"][0], 3)))
        self.place = int(np.clip(self.place + move, 0, PLACES - 1))
        self.steps += 1
        success = self.place == self.target
        self.held = self.held + 1 if success else 0
        terminated = self.held >= HOLD
        info = {"success": success, "terminate": int(np.argmax(action["terminate_episode"])) == 0}
        return (
            self._observe(),
            float(success),
            terminated,
            not terminated and self.steps >= self.step_limit,
            info,
        )

    def wrong_instruction(self, seed: int) -> str:
        others = [n for n in range(PLACES) if n != self.target]
        return f"go to {others[seed % len(others)]}"

    def close(self) -> None:
        pass

    def _observe(self) -> dict[str, Any]:
        image = np.zeros((8, PLACES, 3), np.uint8)
        image[0, self.place] = 255
        return {"image": image, "instruction": f"go to {self.target}"}


class ScriptedExpert:
    def __init__(self, env: ScriptedEnv) -> None:
        self._env = env

    def act(self) -> dict[str, np.ndarray]:
        gap = self._env.target - self._env.place
        return make_action(np.sign(gap), terminate=gap == 0)


@dataclasses.dataclass(frozen=True)
class ScriptedFactory:
    """Picklable; `trouble` happens at the reset with seed `at`."""

    trouble: str = ""
    at: int = -1

    def make(self, split: str) -> ScriptedEnv:
        return ScriptedEnv(split, trouble=self.trouble, at=self.at)

    def make_expert(self, env: ScriptedEnv) -> ScriptedExpert:
        return ScriptedExpert(env)


def make_action(direction: float, terminate: bool) -> dict[str, np.ndarray]:
    """One TABLETOP action: {field: [size]}."""
    action = {f.name: np.zeros(f.size, np.float32) for f in TABLETOP.fields}
    action["terminate_episode"][0 if terminate else 1] = 1
    action["world_vector"][0] = 0.05 * direction
    return action


class WalkingPolicy:
    """Goes where it is told; says terminate `early` places before it arrives, and from then on."""

    def __init__(self, early: int = 0) -> None:
        self._early = early
        self.batch_sizes: set[int] = set()

    def initial_state(self, batch_size: int = 1) -> np.ndarray:
        self.batch_sizes.add(batch_size)
        return np.zeros(batch_size, np.int64)

    def reset(self, state: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask, 0, state)

    def embed(self, instructions: list[str]) -> np.ndarray:
        targets = [int(text.rsplit(maxsplit=1)[1]) for text in instructions]
        return np.eye(PLACES, dtype=np.float32)[targets]

    def step(
        self, state: np.ndarray, images: np.ndarray, embeddings: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        place = images[:, 0, :, 0].argmax(-1)
        gap = embeddings.argmax(-1) - place
        actions = [make_action(np.sign(g), abs(g) <= self._early) for g in gap]
        batch = {name: np.stack([a[name] for a in actions]) for name in actions[0]}
        return state + 1, batch


class CountingPolicy(WalkingPolicy):
    """Stands still and says terminate at its n-th step of an episode, by its state alone."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at

    def step(
        self, state: np.ndarray, images: np.ndarray, embeddings: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        state = state + 1
        actions = [make_action(0, n == self._at) for n in state]
        return state, {name: np.stack([a[name] for a in actions]) for name in actions[0]}
