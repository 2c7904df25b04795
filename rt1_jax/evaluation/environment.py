"""Which environment the workers build. Small and picklable: it travels to every process."""

from __future__ import annotations

import dataclasses
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
      skills: the skills to be asked for.
      image_size: (height, width) of the frames.
    """

    name: str
    skills: tuple[str, ...]
    image_size: tuple[int, int]

    def make(self, split: str) -> Any:
        """The environment for a split."""
        from rt1_jax import envs

        return envs.make(self.name, split=split, skills=self.skills, image_size=self.image_size)

    def make_expert(self, env: Any) -> Any:
        """The scripted expert, without noise."""
        from rt1_jax import envs

        return envs.make_expert(env, noise=0.0)


def choose(kind: str, asked: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """The splits or skills asked for; ["all"] means every known one.

    Raises:
      EvaluationError: names one that is not known.
    """
    if asked == ["all"]:
        return known
    for name in asked:
        if name not in known:
            raise EvaluationError(f"unknown {kind} {name!r}: expected some of {', '.join(known)}")
    return tuple(dict.fromkeys(asked))
