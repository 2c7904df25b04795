"""Simulated benchmarks: the tabletop (MuJoCo) and its scripted expert.

    env = rt1_jax.envs.make("tabletop", split="seen", skills=("pick", "move_near"))
    observation, info = env.reset(seed=7)
    expert = rt1_jax.envs.make_expert(env)
    observation, reward, terminated, truncated, info = env.step(expert.act())

MuJoCo is imported when the first environment is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rt1_jax.envs.splits import SPLITS, SplitError
from rt1_jax.envs.tasks import SKILLS

if TYPE_CHECKING:
    from rt1_jax.envs.expert import TabletopExpert
    from rt1_jax.envs.tabletop import TabletopEnv

ENVIRONMENTS = ("tabletop",)
LARGEST_NOISE = 0.05
"""Largest standard deviation (m) of the expert's noise."""

__all__ = ["ENVIRONMENTS", "LARGEST_NOISE", "SKILLS", "SPLITS", "SplitError", "make", "make_expert"]


def make(name: str = "tabletop", **kwargs: Any) -> TabletopEnv:
    """Makes an environment by name.

    Args:
      name: one of `ENVIRONMENTS`.
      **kwargs: the environment's own: split, skills, image_size.

    Raises:
      ValueError: an unknown name, split or skill.
      RenderingError: no GL library.
    """
    if name not in ENVIRONMENTS:
        raise ValueError(f"unknown environment {name!r}: expected one of {', '.join(ENVIRONMENTS)}")
    from rt1_jax.envs.tabletop import TabletopEnv

    return TabletopEnv(**kwargs)


def make_expert(env: Any, noise: float = 0.0) -> TabletopExpert:
    """The scripted expert of an environment; see `rt1_jax.envs.expert`."""
    from rt1_jax.envs.expert import TabletopExpert

    return TabletopExpert(env.unwrapped, noise)
