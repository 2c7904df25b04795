"""Which environment the workers build. Small and picklable: it travels to every process."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rt1_jax.evaluation.episodes import EvaluationError


class EnvironmentFactory(Protocol):
    """Builds environments and experts inside a worker process; must be picklable."""

    def make(self, split: str) -> Any:
        """A Gymnasium environment with `wrong_instruction`, as `rt1_jax.envs.make` gives."""

    def make_expert(self, env: Any) -> Any:
        """Something whose `act()` gives the next action for the state that `env` is in."""


@dataclasses.dataclass(frozen=True)
class RegisteredEnvironment:
    """An environment of `rt1_jax.envs`, by name.

    Attributes:
      name: e.g. "tabletop".
      tasks: {split: the skills to be asked for in it}.
      image_size: (height, width) of the frames.
    """

    name: str
    tasks: Mapping[str, tuple[str, ...]]
    image_size: tuple[int, int]

    def make(self, split: str) -> Any:
        """The environment for a split."""
        from rt1_jax import envs

        skills = self.tasks[split]
        return envs.make(self.name, split=split, skills=skills, image_size=self.image_size)

    def make_expert(self, env: Any) -> Any:
        """The scripted expert, without noise."""
        from rt1_jax import envs

        return envs.make_expert(env, noise=0.0)


def choose_tasks(
    name: str, splits: Sequence[str], skills: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """{split: skills} of an environment of `rt1_jax.envs`; "all" stands for every known one.

    A skill that a split cannot test (it handles nothing that could be held out) is left out of
    that split.

    Raises:
      EvaluationError: an unknown environment, split or skill, or a split left without skills.
    """
    from rt1_jax import envs
    from rt1_jax.envs.splits import skills_of

    _choose("environment", [name], envs.ENVIRONMENTS)
    wanted = _choose("skill", skills, envs.SKILLS)
    tasks = {}
    for split in _choose("split", splits, envs.SPLITS, also=("distractors",)):
        tasks[split] = tuple(skill for skill in wanted if skill in skills_of(split))
        if not tasks[split]:
            raise EvaluationError(
                f"split {split!r} tests none of {', '.join(wanted)}: expected some of "
                f"{', '.join(skills_of(split))}"
            )
    return tasks


def _choose(
    kind: str, asked: Sequence[str], known: Sequence[str], also: Sequence[str] = ()
) -> tuple[str, ...]:
    if list(asked) == ["all"]:
        return tuple(known)
    for name in asked:
        if name not in (*known, *also):
            raise EvaluationError(f"unknown {kind} {name!r}: expected some of {', '.join(known)}")
    return tuple(dict.fromkeys(asked))
