"""What an import depends on, and the mark that it leaves in its directory."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

from rt1_jax.data import claim
from rt1_jax.data.lerobot.action_mapping import ActionMapping, load_mapping
from rt1_jax.data.lerobot.episodes import FrameFormat, first_picture
from rt1_jax.data.lerobot.layout import LeRobotError
from rt1_jax.data.lerobot.source import LeRobotSource

EPISODES_PER_SHARD = 50
_MARKER = "import.json"
_PNG_LARGEST = 128  # pixels; what is larger becomes JPEG


@dataclasses.dataclass(frozen=True)
class ImportPlan:
    """Everything that the imported data depend on.

    Attributes:
      source: the LeRobot dataset's directory.
      camera: key of the frames.
      actions: file of the action mapping, "" for what the data ask for.
      recipe: the mapping's content, so that another one is noticed.
      image_format, image_size: how frames are stored; (height, width).
      episodes: how many there are.
      episodes_per_shard: the unit of parallel work and of what an interruption loses.
    """

    source: str
    camera: str
    actions: str
    recipe: Any
    image_format: str
    image_size: tuple[int, int]
    episodes: int
    episodes_per_shard: int = EPISODES_PER_SHARD

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.episodes // self.episodes_per_shard)

    def rows(self, shard: int) -> range:
        """Places in the source's list of the episodes of one shard."""
        start = shard * self.episodes_per_shard
        return range(start, min(start + self.episodes_per_shard, self.episodes))

    def path(self, root: pathlib.Path, shard: int) -> pathlib.Path:
        """A shard's file."""
        return root / f"shard-{shard:05d}-of-{self.shards:05d}.array_record"

    @property
    def frames(self) -> FrameFormat:
        return FrameFormat(self.image_format, self.image_size)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def open(self) -> tuple[LeRobotSource, ActionMapping]:
        """The LeRobot dataset and the mapping of its actions."""
        source = LeRobotSource.open(self.source)
        return source, load_mapping(self.actions, source)


def make_plan(
    source: str | os.PathLike[str],
    *,
    camera: str,
    actions: str = "",
    image_size: tuple[int, int] | None = None,
    episodes_per_shard: int = EPISODES_PER_SHARD,
) -> ImportPlan:
    """A checked plan.

    Pictures that are JPEG or PNG already and of the wanted size are kept as they are. Else frames
    become JPEG; PNG where they were lossless and stay small.

    Args:
      source: directory of a LeRobot dataset.
      camera: key of the frames.
      actions: file of the action mapping, "" for what the data ask for.
      image_size: (height, width); the data's own if None.
      episodes_per_shard: see `ImportPlan`.

    Raises:
      LeRobotError: a dataset, camera, mapping or first frame that cannot be read.
    """
    opened = LeRobotSource.open(source)
    if not opened.episodes:
        raise LeRobotError(f"{opened.root} has no episodes")
    mapping = load_mapping(actions, opened)
    kind, own_size = first_picture(opened, camera)
    size = own_size if image_size is None else image_size
    if min(size) < 1:
        raise LeRobotError(f"--image_size={size[0]},{size[1]}: expected positive numbers")
    keep = kind in ("png", "jpeg") and size == own_size
    lossless = kind in ("png", "other") and max(size) <= _PNG_LARGEST
    return ImportPlan(
        str(opened.root.resolve()),
        camera,
        str(actions),
        mapping.recipe,
        str(kind) if keep else "png" if lossless else "jpeg",
        size,
        len(opened.episodes),
        episodes_per_shard,
    )


def claim_directory(root: pathlib.Path, plan: ImportPlan) -> None:
    """Marks the directory with the plan, or checks that it carries the same one.

    Raises:
      LeRobotError: the directory holds something else.
    """
    claim.claim_directory(root, plan.to_json(), _MARKER, LeRobotError)
