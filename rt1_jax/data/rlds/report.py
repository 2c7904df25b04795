"""What an import did, added up from the notes in its shards; and the limits that it must keep."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from rt1_jax.data.rlds.convert import DAMAGED
from rt1_jax.data.shards import DatasetError, read_shard_index
from rt1_jax.data.statistics import ActionMoments


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
      episodes, steps: written.
      left_out: {reason: episodes}.
      examples: where and why, a few of each reason and file.
      clipped: {field: the largest share of a number beyond the bounds}, in physical units.
      embedding_conflicts: episodes whose stored embedding is not the one that their instruction has
        elsewhere; the first one is kept.
    """

    episodes: int
    steps: int
    left_out: dict[str, int]
    examples: tuple[str, ...]
    clipped: dict[str, float]
    embedding_conflicts: int


def report_shards(
    paths: Sequence[pathlib.Path], total: int, max_damaged: float, max_clipped: float
) -> ImportReport:
    """Adds the shards' notes up.

    Args:
      paths: the shards.
      total: episodes that were read for them.
      max_damaged, max_clipped: see `import_rlds`.

    Raises:
      DatasetError: nothing can be used, or what is odd is beyond the limits.
    """
    left_out: collections.Counter[str] = collections.Counter()
    examples: list[str] = []
    moments, episodes, steps, conflicts = ActionMoments(), 0, 0, 0
    for path in paths:
        index = read_shard_index(path)
        notes = index["import"]
        left_out.update(notes["left_out"])
        examples += notes["examples"]
        conflicts += notes["embedding_conflicts"]
        moments.merge(
            ActionMoments.from_json(notes.get("physical_moments", index["action_moments"]))
        )
        episodes += len(index["episodes"])
        steps += sum(episode["length"] for episode in index["episodes"])
    check_damaged(damaged(left_out), left_out, examples, total, max_damaged)
    if not episodes:
        raise DatasetError(
            f"none of {total} episodes can be used: {dict(left_out)}; {'; '.join(examples[:3])}"
        )
    clipped = moments.clipped_share()
    check_clipped(
        clipped,
        f"--max_clipped={max_clipped:g}",
        max_clipped,
        "Import with a description of your own (--registry), or raise the limit",
    )
    return ImportReport(episodes, steps, dict(left_out), tuple(examples), clipped, conflicts)


def damaged(left_out: Mapping[str, int]) -> int:
    """How many of the episodes that are left out are damaged."""
    return sum(count for reason, count in left_out.items() if reason in DAMAGED)


def check_damaged(
    found: int, left_out: Mapping[str, int], examples: Sequence[str], total: int, limit: float
) -> None:
    """Raises DatasetError where too many episodes are damaged.

    Args:
      found: how many are, as far as is known.
      left_out: {reason: episodes}, for the message; perhaps of the last shard alone.
      examples: where and why.
      total: how many episodes there are.
      limit: the share of them that may be damaged.
    """
    if found <= limit * total:
        return
    hint = (
        "; frames of several sizes can be brought to one with --image_size"
        if left_out.get("wrong frame size")
        else ""
    )
    raise DatasetError(
        f"{found} or more of {total} episodes are damaged ({dict(left_out)}), more "
        f"than --max_damaged={limit:g} allows: {'; '.join(examples[:3])}{hint}"
    )


def check_clipped(shares: Mapping[str, float], limit_text: str, limit: float, remedy: str) -> None:
    """Raises DatasetError where too much lies beyond the bounds, which are wrong then.

    Args:
      shares: {field: the largest share of a number}, `ActionMoments.clipped_share`.
      limit_text: what the limit is called, with its value.
      limit: the share that may be.
      remedy: what to do, a sentence without its end.
    """
    worst = max(shares, key=lambda name: shares[name], default=None)
    if worst is not None and shares[worst] > limit:
        raise DatasetError(
            f"{shares[worst]:.1%} of {worst} lie beyond the bounds, more than {limit_text}: do the "
            f"bounds and units fit these data? {remedy}"
        )
