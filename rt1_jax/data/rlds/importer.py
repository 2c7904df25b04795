"""RLDS to a dataset directory: files in parallel, restartable, with a report of what was odd."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from rt1_jax.actions import RT1_X
from rt1_jax.data.claim import claim_directory
from rt1_jax.data.encoded import image_header
from rt1_jax.data.episode import IMAGE_FORMATS, EpisodeError
from rt1_jax.data.finish import finish_dataset
from rt1_jax.data.linked import LinkedWriter
from rt1_jax.data.oxe.description import RLDSDataset
from rt1_jax.data.oxe.fingerprint import fingerprint
from rt1_jax.data.resize import FITS
from rt1_jax.data.rlds.checks import ActionScale, check_request
from rt1_jax.data.rlds.convert import Frames
from rt1_jax.data.rlds.parse import EpisodeParser
from rt1_jax.data.rlds.report import ImportReport, check_damaged, damaged, report_shards
from rt1_jax.data.rlds.shard import ShardJob, import_shard
from rt1_jax.data.rlds.source import RLDSSource
from rt1_jax.data.rlds.stored_embeddings import (
    embeddings_path,
    gather_embeddings,
    stored_identity,
)
from rt1_jax.data.rlds.tfrecords import read_records
from rt1_jax.data.shard_jobs import is_finished, run_jobs
from rt1_jax.data.shards import DatasetError, EpisodeWriter, read_shard_index
from rt1_jax.data.store import StepStore
from rt1_jax.language import EncoderIdentity, SentenceEncoder

_MARKER = "import.json"
_PROBED = 20
"""Records that may be damaged before one is found whose frames say their format and size."""


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

    What is finished is not made again: the same import just gives its report, and with another
    encoder the instructions alone are embedded anew. Whether it is the same is noted in the
    directory: files, split, frames, and the description itself (`rt1_jax.data.oxe.fingerprint`).

    Args:
      dataset: what camera, instruction and actions are (`rt1_jax.data.oxe.get`).
      builder_dir: one version of a TFDS dataset, local or `gs://`.
      output: the dataset directory; new, empty or an import of the same.
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
      OXEError, DatasetError: not readable, not of this description, too much damaged or clipped, or
        the output holds something else. Finished shards are kept.
    """
    if episodes < 0:
        raise DatasetError(f"--episodes={episodes}: expected a number of episodes, or 0 for all")
    source = RLDSSource.open(builder_dir, split)
    check_request(dataset, source, scale)
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
        "description": fingerprint(dataset, scale == "rt1_x"),
        "version": source.version,
        "split": split,
        "actions": scale,
        "frames": dataclasses.asdict(frames),
        "episodes": episodes,
        "files": len(source.files),
        "link": link,
    }
    root = claim_directory(output, made_of, _MARKER)
    jobs = _jobs(dataset, source, scale, frames, root, episodes, link)
    total = sum(job.episodes for job in jobs)
    paths = [pathlib.Path(job.path) for job in jobs]
    identity = stored_identity(dataset, source) if encoder is None else encoder.identity
    finished = _is_finished(root, identity)
    if not finished:
        _run(jobs, total, processes, max_damaged, progress)
    report = report_shards(paths, total, max_damaged, max_clipped)
    used = [path for path in paths if read_shard_index(path)["episodes"]]
    stored = gather_embeddings(root, used)
    conflicts = report.embedding_conflicts + stored.conflicts
    report = dataclasses.replace(report, embedding_conflicts=conflicts)
    if not finished:
        # dataset.json has the description's parts in places of their own.
        made = {key: value for key, value in made_of.items() if key != "description"}
        counts = dataclasses.asdict(report)
        del counts["examples"]
        finish_dataset(
            root,
            used,
            action_spec=dataset.action_spec if scale == "physical" else RT1_X,
            frame_rate=dataset.frame_rate,
            source={"importer": "rt1_jax.data.import_rlds", **made, **counts},
            encoder=stored.encoder(identity) if encoder is None else encoder,
        )
    for path in paths:  # they have been gathered
        embeddings_path(path).unlink(missing_ok=True)
    return report


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


def _is_finished(root: pathlib.Path, encoder: EncoderIdentity) -> bool:
    """Whether all is there already, embedded by this encoder."""
    try:
        return StepStore.open(root).description["encoder"] == encoder.to_json()
    except DatasetError:  # unfinished, or damaged: what is whole of it need not be made again
        return False


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
    so_far = 0
    with tqdm.tqdm(
        total=total,
        initial=total - sum(job.episodes for job in todo),
        unit="episode",
        disable=not progress,
    ) as bar:
        for job, notes in run_jobs(import_shard, todo, processes):
            bar.update(job.episodes)
            so_far += damaged(notes["left_out"])
            # What is hopeless is not read to its end.
            check_damaged(so_far, notes["left_out"], notes["examples"], total, max_damaged)
