"""One TFRecord file of an RLDS dataset to one shard of this project's."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from rt1_jax.data.linked import LinkedWriter
from rt1_jax.data.oxe.description import RLDSDataset
from rt1_jax.data.rlds.checks import ActionScale
from rt1_jax.data.rlds.convert import EpisodeConverter, Frames, OddEpisodeError
from rt1_jax.data.rlds.source import RLDSSource
from rt1_jax.data.rlds.stored_embeddings import embeddings_path, write_shard_embeddings
from rt1_jax.data.rlds.tfrecords import read_records
from rt1_jax.data.shards import DatasetError, EpisodeWriter
from rt1_jax.data.statistics import ActionMoments

_EXAMPLES = 5
"""Of each kind of episode that is left out, so many are named for every file."""


@dataclasses.dataclass(frozen=True)
class ShardJob:
    """What a worker is told.

    Attributes:
      dataset, source, scale, frames: as `EpisodeConverter` takes them.
      file: which of the source's files.
      path: the shard to write.
      episodes: at most so many of the file's.
    """

    dataset: RLDSDataset
    source: RLDSSource
    scale: ActionScale
    frames: Frames
    file: int
    path: str
    episodes: int
    link: bool = False
    """Whether the frames stay where they are; `path` is a linked shard's then."""


def import_shard(job: ShardJob) -> dict[str, Any]:
    """Writes a shard, its stored embeddings, and notes of what was left out.

    Returns:
      the notes: {"left_out": {reason: count}, "examples": [where and why], "physical_moments"}.

    Raises:
      DatasetError: the file cannot be read, or the shard not be written; nothing is left behind.
    """
    name = job.source.files[job.file]
    convert = EpisodeConverter(job.dataset, job.source, job.scale, job.frames, job.link)
    writer: EpisodeWriter | LinkedWriter
    if job.link:
        writer = LinkedWriter(job.path, name, job.frames.image_format, convert.action_spec)
    else:
        writer = EpisodeWriter(job.path, job.frames.image_format, convert.action_spec)
    left_out: dict[str, int] = {}
    examples: list[str] = []
    embeddings: dict[str, np.ndarray] = {}
    conflicts = 0
    physical = ActionMoments(job.dataset.action_spec)
    scaled = job.scale != "physical"

    def leave_out(reason: str, number: int, why: str, count: int = 1) -> None:
        left_out[reason] = left_out.get(reason, 0) + count
        if left_out[reason] <= _EXAMPLES:
            examples.append(f"{os.path.basename(name)}, episode {number}: {why}")

    try:
        seen = 0
        for record in read_records(name):
            if seen == job.episodes:
                break
            seen += 1
            if record.data is None:
                leave_out("corrupt record", record.number, record.problem)
                continue
            try:
                episode, embedding, actions = convert(record.data)
            except OddEpisodeError as error:
                leave_out(error.reason, record.number, str(error))
                continue
            episode.metadata = {"file": os.path.basename(name), "record": record.number}
            if isinstance(writer, LinkedWriter):
                offsets = [record.data_offset + offset for offset in episode.offsets or ()]
                writer.add(episode, offsets)
            else:
                writer.add(episode)
            if scaled:
                physical.add(actions)
            if embedding is not None:
                known = embeddings.setdefault(episode.instruction, embedding)
                conflicts += known is not embedding and not np.allclose(known, embedding, atol=1e-3)
        if seen < job.episodes:
            # The file ended before its number of episodes was reached, which TFDS has noted.
            leave_out("corrupt record", seen, "missing from the file's end", job.episodes - seen)
        notes = {"left_out": left_out, "examples": examples, "embedding_conflicts": conflicts}
        if scaled:
            notes["physical_moments"] = physical.to_json()
        writer.notes["import"] = notes
        if embeddings:
            write_shard_embeddings(job.path, embeddings)
        writer.close()
    except BaseException as error:
        writer.abort()
        embeddings_path(job.path).unlink(missing_ok=True)
        # A file that cannot be read, or a disk that is full: what ArrayRecord raises is its own.
        if isinstance(error, Exception) and not isinstance(error, DatasetError):
            raise DatasetError(
                f"{name} to {job.path}: {error}; nothing of this shard was kept, what was finished "
                "before it is: run the same command again"
            ) from error
        raise
    return notes
