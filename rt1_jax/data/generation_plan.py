"""What a generated dataset is made of, and the mark that it leaves in its directory."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from rt1_jax.data import claim

EPISODES_PER_SHARD = 100
_PNG_LARGEST = 128  # pixels; larger frames become JPEG
_PLAN_FILE = "generation.json"


class GenerationError(ValueError):
    """A request that cannot be met, or a directory that holds something else."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that the data depend on.

    Attributes:
      env: an environment of `rt1_jax.envs`.
      episodes: successes to keep.
      split, skills, image_size: as the environment takes them.
      noise: standard deviation (m) of the executed motion's noise; the recorded action is clean.
      seed: of the data set.
      image_format: "png" or "jpeg".
      episodes_per_shard: the unit of parallel work and of what an interruption loses.
    """

    env: str
    episodes: int
    split: str
    skills: tuple[str, ...]
    image_size: tuple[int, int]
    noise: float
    seed: int
    image_format: str
    episodes_per_shard: int = EPISODES_PER_SHARD

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.episodes // self.episodes_per_shard)

    def shard_episodes(self, shard: int) -> int:
        """Episodes in one shard."""
        return min(self.episodes_per_shard, self.episodes - shard * self.episodes_per_shard)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def make_plan(
    *,
    env: str = "tabletop",
    episodes: int = 1000,
    split: str = "seen",
    skills: Sequence[str] | None = None,
    image_size: tuple[int, int] = (256, 320),
    noise: float = 0.01,
    seed: int = 0,
    image_format: str | None = None,
) -> Plan:
    """A checked plan, with the defaults filled in.

    Raises:
      GenerationError or SplitError: a value that does not exist or makes no sense.
    """
    from rt1_jax import envs
    from rt1_jax.data.episode import IMAGE_FORMATS
    from rt1_jax.envs import splits

    if env not in envs.ENVIRONMENTS:
        raise GenerationError(
            f"unknown environment {env!r}: expected one of {', '.join(envs.ENVIRONMENTS)}"
        )
    if episodes < 1:
        raise GenerationError(f"--episodes={episodes}: expected at least 1")
    if skills is None:
        skills = splits.skills_of(split)
    splits.check(split, tuple(skills))
    if not 0.0 <= noise <= envs.LARGEST_NOISE:
        raise GenerationError(f"--noise={noise}: expected 0 to {envs.LARGEST_NOISE} m")
    height, width = image_size
    if image_format is None:
        image_format = "png" if max(height, width) <= _PNG_LARGEST else "jpeg"
    if image_format not in IMAGE_FORMATS:
        raise GenerationError(
            f"unknown image format {image_format!r}: expected one of {', '.join(IMAGE_FORMATS)}"
        )
    return Plan(
        env, episodes, split, tuple(skills), (height, width), float(noise), seed, image_format
    )


def claim_directory(root: pathlib.Path, plan: Plan) -> None:
    """Marks the directory with the plan, or checks that it carries the same one."""
    claim.claim_directory(root, plan.to_json(), _PLAN_FILE, GenerationError)
