"""One demonstration in memory, and one step of it as bytes."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np
import simplejpeg
from PIL import Image

from rt1_jax.actions import ActionSpec

IMAGE_FORMATS = ("png", "jpeg")
_JPEG_QUALITY = 95
_JPEG = b"\xff\xd8"


class EpisodeError(ValueError):
    """An episode that cannot be stored or a step record that cannot be read."""


@dataclasses.dataclass
class Episode:
    """A demonstration.

    Attributes:
      images: uint8 [t, h, w, 3], what the camera saw before each action.
      actions: {field: [t, size]}, in the units of the dataset's action spec; not yet tokenised.
      instruction: what the robot was told.
      metadata: anything JSON-able that should travel along (skill, seed, split, ...).
    """

    images: np.ndarray
    actions: dict[str, np.ndarray]
    instruction: str
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def validate(self, spec: ActionSpec) -> None:
        """Raises EpisodeError unless images, actions and instruction fit together and the spec."""
        shape = self.images.shape
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or shape[0] < 1:
            raise EpisodeError(
                f"images are {self.images.dtype} {list(shape)}, expected uint8 [steps, h, w, 3]"
            )
        check_actions(self.actions, self.instruction, shape[0], spec)


def check_actions(
    actions: Mapping[str, np.ndarray], instruction: str, steps: int, spec: ActionSpec
) -> None:
    """Raises EpisodeError unless there is an instruction, and the spec's fields for every step."""
    if not instruction.strip():
        raise EpisodeError("the instruction is empty")
    expected = {field.name: (steps, field.size) for field in spec.fields}
    found = {name: tuple(np.shape(value)) for name, value in actions.items()}
    if expected != found:
        raise EpisodeError(f"actions have shapes {found}, expected {expected}")
    spec.validate(actions)


def encode_image(image: np.ndarray, image_format: str) -> bytes:
    """uint8 [h, w, 3] -> PNG (lossless) or JPEG (quality 95, no chroma subsampling) bytes."""
    if image_format not in IMAGE_FORMATS:
        raise EpisodeError(
            f"unknown image format {image_format!r}: expected one of {IMAGE_FORMATS}"
        )
    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    if image_format == "png":
        picture.save(buffer, "png", compress_level=1)
    else:
        picture.save(buffer, "jpeg", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def decode_image(data: bytes) -> np.ndarray:
    """PNG or JPEG bytes -> uint8 [h, w, 3]."""
    if data[:2] == _JPEG:
        try:  # the same numbers as Pillow's in two thirds of its time
            return simplejpeg.decode_jpeg(data, colorspace="RGB")
        except ValueError:
            pass  # a colour space that it does not know, or damage, which Pillow names
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def decode_images(frames: Sequence[bytes]) -> np.ndarray:
    """PNG or JPEG files of one size -> uint8 [t, h, w, 3], each decoded to its place in it.

    Raises:
      OSError, ValueError: one is damaged, or of another size than the first.
    """
    first = decode_image(frames[0])
    images = np.empty((len(frames), *first.shape), np.uint8)
    images[0] = first
    for place, data in zip(images[1:], frames[1:], strict=True):
        found = _decode_to(place, data)
        if found.shape != place.shape:
            raise ValueError(
                f"a frame of {list(found.shape[:2])} pixels among those of {list(first.shape[:2])}"
            )
        if not np.may_share_memory(found, place):
            place[...] = found
    return images


def _decode_to(place: np.ndarray, data: bytes) -> np.ndarray:
    """As `decode_image`, in `place` where that can be."""
    if data[:2] == _JPEG:
        try:
            return simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=place)
        except ValueError:
            pass  # larger, or as in `decode_image`
    return decode_image(data)


def encode_step(image: bytes, action: dict[str, bytes], step: int, length: int) -> bytes:
    """One step as a record.

    Args:
      image: the encoded frame.
      action: {field: its numbers as little-endian float32}.
      step, length: its place in the episode, and the episode's number of steps.
    """
    return msgpack.packb({"image": image, "action": action, "step": step, "length": length})


def decode_step(record: bytes) -> dict[str, Any]:
    """The inverse of `encode_step`; the frame stays encoded."""
    try:
        step = msgpack.unpackb(record)
        step["action"] = {k: np.frombuffer(v, "<f4") for k, v in step["action"].items()}
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        msgpack.UnpackException,
    ) as error:
        raise EpisodeError(f"a step record cannot be read ({error})") from error
    return step


def stack_actions(actions: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """List of t actions {field: [size]} -> {field: float32 [t, size]}."""
    return {name: np.stack([a[name] for a in actions]).astype(np.float32) for name in actions[0]}
