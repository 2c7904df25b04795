"""One LeRobot episode -> one of ours, or why it is left out."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from rt1_jax.actions import ActionError
from rt1_jax.data.encoded import EncodedEpisode, image_header
from rt1_jax.data.episode import EpisodeError, decode_image, encode_image
from rt1_jax.data.lerobot.action_mapping import ActionMapping
from rt1_jax.data.lerobot.layout import LeRobotError
from rt1_jax.data.lerobot.source import LeRobotSource
from rt1_jax.data.lerobot.video import FrameMissingError, read_frames

EMPTY_TASK = "empty task"
ONE_STEP = "one step"
NOT_FINITE = "non-finite action"
BAD_ACTION = "malformed action"
NO_FRAME = "video frame missing"
BAD_PICTURE = "picture that cannot be decoded"
TASK_CHANGES = "task changes on the way (the first is kept)"
LEFT_OUT = (EMPTY_TASK, ONE_STEP, NOT_FINITE, BAD_ACTION, NO_FRAME, BAD_PICTURE)


@dataclasses.dataclass(frozen=True)
class Odd:
    """Something about an episode that should not be.

    Attributes:
      episode: LeRobot's `episode_index`.
      reason: one of this module's constants; those in `LEFT_OUT` leave the episode out.
      detail: what was found, for people.
    """

    episode: int
    reason: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class FrameFormat:
    """How frames are stored.

    Attributes:
      image_format: "png" or "jpeg".
      size: (height, width).
    """

    image_format: str
    size: tuple[int, int]

    def encode(self, image: np.ndarray) -> bytes:
        """uint8 [h, w, 3] of any size -> a picture in this format."""
        if image.shape[:2] != self.size:
            picture = Image.fromarray(image)
            height, width = self.size
            image = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        return encode_image(image, self.image_format)

    def keep_or_encode(self, data: bytes) -> bytes:
        """An encoded picture as it is, if it fits; else decoded, resized and encoded."""
        try:
            if image_header(data) == (self.image_format, *self.size) and _ends_well(data):
                return data
        except EpisodeError:
            pass  # of another kind, which Pillow may know
        return self.encode(decode_image(data))


def read_episode(
    source: LeRobotSource, row: int, camera: str, mapping: ActionMapping, frames: FrameFormat
) -> tuple[EncodedEpisode | None, list[Odd]]:
    """Reads one episode.

    Args:
      source: the LeRobot dataset.
      row: the episode's place in `source.episodes`.
      camera: key of the frames.
      mapping: from the data's vectors to actions.
      frames: how frames are stored.

    Returns:
      the episode, None if it is left out, and what is odd about it.

    Raises:
      LeRobotError: a file is missing or damaged, or the mapping does not fit: nothing that leaving
        out single episodes would help.
    """
    number = int(source.episodes[row]["episode_index"])
    in_video = source.check_camera(camera)
    rows = source.rows(row, list(mapping.features), None if in_video else camera)
    steps = len(rows.timestamps)
    if steps < 2:
        return None, [Odd(number, ONE_STEP, f"{steps} steps")]
    if unknown := sorted(set(rows.tasks.tolist()) - set(source.tasks)):
        raise LeRobotError(
            f"{source.root}: episode {number} has the task_index {unknown[0]}, which "
            "meta/tasks.parquet does not list"
        )
    instruction = source.tasks[int(rows.tasks[0])].strip()
    if not instruction:
        return None, [Odd(number, EMPTY_TASK, f"task_index {rows.tasks[0]}")]
    with np.errstate(invalid="ignore"):
        actions = mapping(rows.vectors)
    for name, value in actions.items():
        bad = ~np.isfinite(value).all(axis=1)
        if bad.any():
            detail = f"{name!r} at step {int(np.argmax(bad))}"
            return None, [Odd(number, NOT_FINITE, detail)]
    try:
        mapping.spec.validate(actions)
    except ActionError as error:
        return None, [Odd(number, BAD_ACTION, str(error))]
    odd = []
    if len(set(rows.tasks.tolist())) > 1:
        changed = int(np.argmax(rows.tasks != rows.tasks[0]))
        odd.append(Odd(number, TASK_CHANGES, f"at step {changed}"))
    try:
        if rows.images is None:
            path, start = source.video(row, camera)
            decoded = read_frames(path, start + rows.timestamps, source.frame_rate)
            pictures = [frames.encode(image) for image in decoded]
        else:
            pictures = [frames.keep_or_encode(data) for data in rows.images]
    except FrameMissingError as error:
        return None, [*odd, Odd(number, NO_FRAME, str(error))]
    except LeRobotError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's
        return None, [*odd, Odd(number, BAD_PICTURE, str(error))]
    metadata = _own_metadata(source, number) or {"episode_index": number}
    return EncodedEpisode(pictures, actions, instruction, metadata), odd


def first_picture(source: LeRobotSource, camera: str) -> tuple[str | None, tuple[int, int]]:
    """Format (None for video) and size (height, width) of the first episode's first frame.

    Raises:
      LeRobotError: it cannot be read.
    """
    if source.check_camera(camera):
        path, start = source.video(0, camera)
        try:
            frame = next(read_frames(path, np.asarray([start]), source.frame_rate))
        except FrameMissingError as error:
            raise LeRobotError(f"the first frame cannot be read: {error}") from error
        return None, (frame.shape[0], frame.shape[1])
    images = source.rows(0, ["action"], camera).images
    assert images is not None
    try:
        kind, height, width = image_header(images[0])
        return kind, (height, width)
    except EpisodeError:
        pass
    try:
        with Image.open(io.BytesIO(images[0])) as picture:
            return "other", (picture.height, picture.width)
    except OSError as error:
        raise LeRobotError(f"the first picture of {camera!r} cannot be read ({error})") from error


def summarise(odd: Iterable[dict[str, Any]], most_named: int = 20) -> dict[str, dict[str, Any]]:
    """{reason: {"count", "episodes": the first of their numbers, "example"}}."""
    found: dict[str, dict[str, Any]] = {}
    for each in odd:
        entry = found.setdefault(
            each["reason"], {"count": 0, "episodes": [], "example": each["detail"]}
        )
        entry["count"] += 1
        if len(entry["episodes"]) < most_named:
            entry["episodes"].append(each["episode"])
    return found


def _ends_well(data: bytes) -> bool:
    """Whether a JPEG or PNG has its last bytes; what is cut short is found by decoding it."""
    return data.rstrip(b"\0").endswith((b"\xff\xd9", b"IEND\xaeB`\x82"))


def _own_metadata(source: LeRobotSource, number: int) -> dict[str, Any]:
    """What this package's export noted of an episode, {} where it did not make the dataset."""
    noted = (source.ours or {}).get("metadata", [])
    return dict(noted[number]) if len(noted) == len(source.episodes) else {}
