"""RLDS to a dataset directory: files in parallel, restartable, with a report of what was odd."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from typing import Any

from rt1_jax.actions import RT1_X
from rt1_jax.data.claim import claim_directory
from rt1_jax.data.encoded import image_header
from rt1_jax.data.episode import IMAGE_FORMATS, EpisodeError
from rt1_jax.data.linked import LinkedWriter
from rt1_jax.data.oxe.description import RLDSDataset
from rt1_jax.data.oxe.schema import check_schema
from rt1_jax.data.resize import FITS
from rt1_jax.data.rlds.convert import DAMAGED, ActionScale, Frames
from rt1_jax.data.rlds.parse import EpisodeParser
from rt1_jax.data.rlds.shard import ShardJob, embeddings_path, import_shard, read_embeddings
from rt1_jax.data.rlds.source import RLDSSource
from rt1_jax.data.rlds.tfrecords import read_records
from rt1_jax.data.shard_jobs import is_finished, run_jobs
from rt1_jax.data.shards import DatasetError, EpisodeWriter, read_shard_index
from rt1_jax.data.statistics import ActionMoments
from rt1_jax.data.finish import finish_dataset
from rt1_jax.language import EncoderIdentity, SentenceEncoder
from rt1_jax.language.stored import StoredEmbeddings

_MARKER = "import.json"
_PROBED = 20
"""Records that may be damaged before one is found whose frames say their format and size."""


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


def import_rlds(
    dataset: RLDSDataset,
    builder_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    split: str = "train",
    scale: ActionScale = "physical",
    image_size: tuple[int, int] | None = None,
    image_format: str | None = None,
    image_fit: str = "stretch",
    encoder: SentenceEncoder | None = None,
    episodes: int = 0,
    link: bool = False,
    processes: int = 1,
    max_damaged: float = 0.01,
    max_clipped: float = 0.05,
    progress: bool = True,
) -> ImportReport:
    """Imports an RLDS dataset, or goes on with an interrupted import.

    Each TFRecord file becomes one shard, whichever process makes it, so the result does not depend
    on their number. Frames of the wanted size and format stay the bytes that they are.

    Args:
      dataset: what camera, instruction and actions are (`rt1_jax.data.oxe.get`).
      builder_dir: one version of a TFDS dataset, local or `gs://`.
      output: the dataset directory; new, empty or an unfinished import of the same.
      split: of the TFDS dataset.
      scale: "physical", the dataset's own units and bounds; "rt1_x", normalised as RT-1-X's were.
      image_size: (height, width) to resize to; the first frame's by default.
      image_format: "jpeg" or "png"; the first frame's by default.
      image_fit: how frames are resized, see `resize_frame`.
      encoder: embeds the instructions; None takes the embeddings that the data hold.
      episodes: import only so many, from the first file on; 0 for all.
      link: leave the frames in the TFRecord files: a shard is an index of their places (see
        `rt1_jax.data.linked`). The files must be local, and stay.
      processes: files read at once.
      max_damaged: the share of damaged episodes above which the import is refused.
      max_clipped: the share of an action's number beyond its bounds above which it is refused.
      progress: whether to draw a progress bar.

    Raises:
      DatasetError: not readable, not of this schema, too much damaged or clipped, or the output
        holds something else. Finished shards are kept.
    """
    source = RLDSSource.open(builder_dir, split)
    check_schema(dataset, source.features)
    if scale == "rt1_x" and dataset.rt1_x is None:
        raise DatasetError(
            f"{dataset.name} has no published RT-1-X normalisation: import with --actions=physical, "
            "or describe one in a file of your own (--registry)"
        )
    if encoder is None and dataset.embedding is None:
        raise DatasetError(
            f"{dataset.name} holds no sentence embeddings: name an encoder (--encoder)"
        )
    if image_fit not in FITS:
        raise DatasetError(f"image fit {image_fit!r}: expected one of {FITS}")
    if link:
        _check_linkable(source, image_size, image_format)
    frames = wanted_frames(dataset, source, image_size, image_format)
    frames = dataclasses.replace(frames, fit=image_fit)
    made_of = {
        "builder_dir": source.directory,
        "dataset": dataset.name,
        "version": source.version,
        "split": split,
        "actions": scale,
        "frames": dataclasses.asdict(frames),
        "episodes": episodes,
        "files": len(source.files),
    }
    if link:
        made_of["link"] = True
    root = claim_directory(output, made_of, _MARKER)
    jobs = _jobs(dataset, source, scale, frames, root, episodes, link)
    total = sum(job.episodes for job in jobs)
    _run(jobs, total, processes, max_damaged, progress)
    paths = [pathlib.Path(job.path) for job in jobs]
    report = _report(paths, total, max_damaged, max_clipped)
    if encoder is None:
        table, conflicts = read_embeddings(paths)
        report = dataclasses.replace(
            report, embedding_conflicts=report.embedding_conflicts + conflicts
        )
        dimensions = len(next(iter(table.values())))
        encoder = StoredEmbeddings(stored_identity(dataset, dimensions), table)
    finish_dataset(
        root,
        [path for path in paths if read_shard_index(path)["episodes"]],
        action_spec=dataset.action_spec if scale == "physical" else RT1_X,
        frame_rate=dataset.frame_rate,
        source={
            "importer": "rt1_jax.data.import_rlds",
            **made_of,
            **{key: value for key, value in dataclasses.asdict(report).items() if key != "examples"},
        },
        encoder=encoder,
    )
    for path in paths:
        embeddings_path(path).unlink(missing_ok=True)
    return report


def stored_identity(dataset: RLDSDataset, dimensions: int) -> EncoderIdentity:
    """Who made the embeddings that a dataset holds: a TF-Hub module, or just the data."""
    known = dataset.embedding_encoder
    return EncoderIdentity(f"tfhub:{known}" if known else f"stored:{dataset.name}", dimensions)


def wanted_frames(
    dataset: RLDSDataset,
    source: RLDSSource,
    size: tuple[int, int] | None,
    image_format: str | None,
) -> Frames:
    """What the frames are to be: as wished, else as the first frame that can be read."""
    if image_format is not None and image_format not in IMAGE_FORMATS:
        raise DatasetError(f"image format {image_format!r}: expected one of {IMAGE_FORMATS}")
    if size is not None and min(size) < 1:
        raise DatasetError(f"image size {size}: expected height and width in pixels")
    parse = EpisodeParser(source.features, [], [dataset.image])
    for file in source.files:
        for record in read_records(file):
            if record.number >= _PROBED:
                break
            if record.data is None:
                continue
            try:
                found_format, *found_size = image_header(parse(record.data)[dataset.image][0])
            except (EpisodeError, IndexError):
                continue
            return Frames(
                image_format or found_format,
                size or (found_size[0], found_size[1]),
                resize=size is not None,
            )
    raise DatasetError(
        f"{source.directory}: no frame at {dataset.image!r} could be read in the first {_PROBED} "
        "episodes of any file; download it again, or see what the key holds"
    )


def _check_linkable(
    source: RLDSSource, image_size: tuple[int, int] | None, image_format: str | None
) -> None:
    remote = [file for file in source.files if "://" in file]
    if remote:
        raise DatasetError(
            f"{remote[0]} cannot be linked to, only local files can: copy them here first, import "
            "without --link, or read them as they are (config.data.rlds)"
        )
    if image_size is not None or image_format is not None:
        raise DatasetError(
            "linked frames stay as they are: leave --image_size and --image_format out "
            "(config.data.image_size resizes as they are read), or import without --link"
        )


def _jobs(
    dataset: RLDSDataset,
    source: RLDSSource,
    scale: ActionScale,
    frames: Frames,
    root: pathlib.Path,
    episodes: int,
    link: bool,
) -> list[ShardJob]:
    jobs, left = [], episodes or source.total_episodes
    for file, held in enumerate(source.episodes):
        if left <= 0:
            break
        suffix = LinkedWriter.suffix if link else EpisodeWriter.suffix
        path = str(root / f"shard-{file:05d}-of-{len(source.files):05d}{suffix}")
        jobs.append(ShardJob(dataset, source, scale, frames, file, path, min(held, left), link))
        left -= held
    if not jobs:
        raise DatasetError(f"{source.directory} has no episodes in split {source.split!r}")
    return jobs


def _run(
    jobs: list[ShardJob], total: int, processes: int, max_damaged: float, progress: bool
) -> None:
    import tqdm

    finished = [is_finished(pathlib.Path(job.path)) for job in jobs]
    todo = [job for job, done in zip(jobs, finished, strict=True) if not done]
    damaged = 0
    with tqdm.tqdm(
        total=total,
        initial=total - sum(job.episodes for job in todo),
        unit="episode",
        disable=not progress,
    ) as bar:
        for job, notes in run_jobs(import_shard, todo, processes):
            bar.update(job.episodes)
            damaged += _damaged(notes["left_out"])
            # What is hopeless is not read to its end.
            if damaged > max_damaged * total:
                raise _too_damaged(notes["left_out"], notes["examples"], total, max_damaged)


def _report(
    paths: list[pathlib.Path], total: int, max_damaged: float, max_clipped: float
) -> ImportReport:
    """Adds the shards' notes up, and refuses what is beyond the limits."""
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
    if _damaged(left_out) > max_damaged * total:
        raise _too_damaged(left_out, examples, total, max_damaged)
    if not episodes:
        raise DatasetError(
            f"none of {total} episodes can be used: {dict(left_out)}; {'; '.join(examples[:3])}"
        )
    clipped = moments.clipped_share()
    worst = max(clipped, key=lambda name: clipped[name], default=None)
    if worst is not None and clipped[worst] > max_clipped:
        raise DatasetError(
            f"{clipped[worst]:.1%} of {worst} lie beyond the bounds, more than "
            f"--max_clipped={max_clipped:g}: do the bounds and units fit these data? Import with a "
            "description of your own (--registry), or raise the limit"
        )
    return ImportReport(episodes, steps, dict(left_out), tuple(examples), clipped, conflicts)


def _damaged(left_out: dict[str, int] | collections.Counter[str]) -> int:
    return sum(count for reason, count in left_out.items() if reason in DAMAGED)


def _too_damaged(left_out: Any, examples: Any, total: int, limit: float) -> DatasetError:
    hint = (
        "; frames of several sizes can be brought to one with --image_size"
        if left_out.get("wrong frame size")
        else ""
    )
    return DatasetError(
        f"{_damaged(left_out)} or more of {total} episodes are damaged ({dict(left_out)}), more "
        f"than --max_damaged={limit:g} allows: {'; '.join(examples[:3])}{hint}"
    )
