"""The tabletop benchmark as a Gymnasium environment."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from rt1_jax.actions import TABLETOP, ActionError
from rt1_jax.envs import splits
from rt1_jax.envs.instructions import WORDINGS, instruction
from rt1_jax.envs.layout import Layout, sample_layout
from rt1_jax.envs.objects import ObjectType
from rt1_jax.envs.rendering import FrameRenderer
from rt1_jax.envs.robot import RobotCommand
from rt1_jax.envs.scene import CONTROL_RATE
from rt1_jax.envs.simulation import Simulation
from rt1_jax.envs.state import SceneState
from rt1_jax.envs.tasks import HOLD_STEPS, SKILLS, STEP_LIMITS, Task, admits, succeeded

DEFAULT_IMAGE_SIZE = (256, 320)
_LETTERS = string.ascii_lowercase + " "
_TERMINATE = 0  # index in terminate_episode
_SKILL_STREAM = 2


class TabletopEnv(gymnasium.Env):
    """A table with coloured objects, a drawer, a bowl and a two-finger gripper on a moving base.

    Observation: `{"image": uint8 [h, w, 3], "instruction": str}`. Action: the fields of
    `rt1_jax.actions.TABLETOP`, each `[size]`, at 3 Hz. Reward: 1.0 in the step that ends the
    episode with success, else 0.0. `terminated` says that the goal has held for 3 consecutive
    control steps, `truncated` that the skill's step limit is reached; the policy's own terminate
    never ends an episode, it is reported as `info["terminate"]`.

    `info` holds "success" (the goal holds now), "skill", "task", "terminate", "step", "seed".

    Args:
      split: one of `rt1_jax.envs.SPLITS`, or "distractors" for a mixture of their levels.
      skills: which skills to draw from; all that the split can test by default.
      image_size: (height, width) of the frames; any size.

    Raises:
      SplitError: an unknown split or skill.
      RenderingError: no GL library.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's own declaration)
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_RATE,
    }
    render_mode = "rgb_array"

    def __init__(
        self,
        split: str = "seen",
        skills: Sequence[str] | None = None,
        image_size: tuple[int, int] = DEFAULT_IMAGE_SIZE,
    ) -> None:
        self.skills = splits.skills_of(split) if skills is None else tuple(skills)
        splits.check(split, self.skills)
        height, width = (int(side) for side in image_size)
        if min(height, width) < 8:
            raise ValueError(f"image_size {tuple(image_size)} is too small: at least 8×8 pixels")
        self.split = split
        self.image_size = (height, width)
        self.action_spec = TABLETOP
        self.observation_space = gymnasium.spaces.Dict(
            {
                "image": gymnasium.spaces.Box(0, 255, (height, width, 3), np.uint8),
                "instruction": gymnasium.spaces.Text(120, charset=_LETTERS),
            }
        )
        self.action_space = gymnasium.spaces.Dict(
            {
                field.name: gymnasium.spaces.Box(
                    np.array(field.low, np.float32), np.array(field.high, np.float32)
                )
                for field in TABLETOP.fields
            }
        )
        self._simulation = Simulation(splits.num_objects(split), height, width)
        self._renderer = FrameRenderer(self._simulation.model, height, width)
        self._task: Task | None = None
        self._episode_count = 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begins an episode, which is a function of the seed (and options) alone.

        Args:
          seed: of the episode; drawn from the last seeded generator if None.
          options: `{"skill": name}` asks for a skill of `skills`.

        Raises:
          SplitError: the skill is not among `skills`.
          ValueError: an unknown option or a negative seed.
        """
        if seed is not None and seed < 0:
            raise ValueError(f"seed {seed} is negative")
        super().reset(seed=seed)
        skill = self._wanted_skill(dict(options or {}))
        self._seed = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        rng = np.random.default_rng(self._seed)
        if skill is None:
            # A stream of its own: a scene depends on seed and skill, not on what else was possible.
            chance = np.random.default_rng([self._seed, _SKILL_STREAM])
            skill = self.skills[int(chance.integers(len(self.skills)))]
        self._task, self._objects = splits.sample_task(rng, self.split, skill)
        look = splits.sample_look(rng, self.split)
        self._layout = sample_layout(rng, self._task, self._objects, look)
        self._wording = int(rng.integers(len(WORDINGS[self._task.skill])))
        self._instruction = instruction(self._task, self._objects, self._wording)
        self._command = RobotCommand(np.zeros(3), self._layout.hand.copy(), np.zeros(3), -1.0)
        self._simulation.reset(self._objects, self._layout, self._command)
        self._start = self._now = self._simulation.state(self._command, self._layout)
        self._step = self._held_steps = 0
        self._episode_count += 1
        return self._observation(), self._info(terminate=False)

    def step(
        self, action: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Runs one control step (a third of a second).

        Raises:
          ActionError: a field is missing, misshapen or not finite.
        """
        task = self._current_task()
        self._check_action(action)
        before = self._command
        self._command = before.moved(action)
        self._simulation.advance(before, self._command)
        self._now = self._simulation.state(self._command, self._layout)
        self._step += 1
        holds = self.success
        self._held_steps = self._held_steps + 1 if holds else 0
        terminated = self._held_steps >= HOLD_STEPS
        truncated = not terminated and self._step >= STEP_LIMITS[task.skill]
        terminate = int(np.argmax(action["terminate_episode"])) == _TERMINATE
        info = self._info(terminate=terminate)
        return self._observation(), float(terminated), terminated, truncated, info

    def render(self) -> np.ndarray:
        """The current frame: uint8 [h, w, 3]."""
        self._current_task()
        return self._renderer.render(self._simulation.data)

    def close(self) -> None:
        """Frees the renderer."""
        self._renderer.close()

    @property
    def task(self) -> Task:
        """What is asked for in this episode."""
        return self._current_task()

    @property
    def objects(self) -> tuple[ObjectType, ...]:
        """What lies on the table, by slot."""
        self._current_task()
        return self._objects

    @property
    def scene_state(self) -> SceneState:
        """The physical state now (for experts and measurements, not for policies)."""
        self._current_task()
        return self._now

    @property
    def start_state(self) -> SceneState:
        """The physical state at the beginning of the episode."""
        self._current_task()
        return self._start

    @property
    def layout(self) -> Layout:
        """The episode's initial arrangement."""
        self._current_task()
        return self._layout

    @property
    def seed(self) -> int:
        """The episode's seed."""
        self._current_task()
        return self._seed

    @property
    def episode_count(self) -> int:
        """How many episodes this environment has begun."""
        return self._episode_count

    @property
    def steps_taken(self) -> int:
        """Control steps of this episode so far."""
        self._current_task()
        return self._step

    @property
    def success(self) -> bool:
        """Whether the physical goal holds now."""
        return succeeded(self._current_task(), self._objects, self._now, self._start)

    def wrong_instruction(self, rng: np.random.Generator | int) -> str:
        """Another valid instruction for this scene that the present goal does not satisfy.

        The same skill with another target where the scene has one, in the same wording; the
        receptacle is kept. For the drawer skills, picking up one of the objects.

        Args:
          rng: a generator, or a seed for one.
        """
        task = self._current_task()
        rng = np.random.default_rng(rng)
        slots = range(len(self._objects))
        if task.target is None:
            other = Task("pick", int(rng.integers(len(self._objects))))
            wording = int(rng.integers(len(WORDINGS["pick"])))
            return instruction(other, self._objects, wording)
        fitting = [s for s in slots if s != task.target and admits(task.skill, self._objects[s])]
        if not fitting:
            fitting = [s for s in slots if s != task.target]
            other = Task("pick", fitting[int(rng.integers(len(fitting)))])
            return instruction(other, self._objects, int(rng.integers(len(WORDINGS["pick"]))))
        target = fitting[int(rng.integers(len(fitting)))]
        reference = task.reference
        if reference is not None:
            rest = [s for s in slots if s not in (target, task.target, reference)]
            reference = rest[int(rng.integers(len(rest)))]
        other = Task(task.skill, target, reference, task.receptacle)
        return instruction(other, self._objects, self._wording)

    def _observation(self) -> dict[str, Any]:
        return {"image": self.render(), "instruction": self._instruction}

    def _info(self, *, terminate: bool) -> dict[str, Any]:
        task = self._current_task()
        return {
            "success": self.success,
            "skill": task.skill,
            "task": task.to_json(self._objects),
            "terminate": terminate,
            "step": self._step,
            "seed": self._seed,
        }

    def _current_task(self) -> Task:
        if self._task is None:
            raise RuntimeError("no episode is running: call reset() first")
        return self._task

    def _wanted_skill(self, options: dict[str, Any]) -> str | None:
        skill = options.pop("skill", None)
        if options:
            raise ValueError(f"unknown reset option {sorted(options)[0]!r}: expected 'skill'")
        if skill is not None and skill not in self.skills:
            raise splits.SplitError(
                f"reset option skill={skill!r} is not among this environment's skills: "
                f"{', '.join(self.skills)}; all skills are {', '.join(SKILLS)}"
            )
        return skill

    @staticmethod
    def _check_action(action: Mapping[str, np.ndarray]) -> None:
        if not isinstance(action, Mapping):
            raise ActionError(
                f"an action is a mapping of fields {', '.join(TABLETOP.field_names)}, "
                f"got {type(action).__name__}"
            )
        for name in TABLETOP.field_names:
            if name in action and np.ndim(action[name]) != 1:
                raise ActionError(
                    f"action field {name!r}: expected shape [{TABLETOP.field(name).size}], "
                    f"got {list(np.shape(action[name]))}"
                )
        TABLETOP.validate(action)
