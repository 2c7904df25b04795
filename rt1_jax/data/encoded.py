"""A demonstration whose frames are JPEG or PNG files already, and what their headers say."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.data.episode import EpisodeError, check_actions

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclasses.dataclass
class EncodedEpisode:
    """As :class:`Episode`, with frames that need not be encoded.

    Attributes:
      frames: t JPEG or PNG files of three channels.
      actions: {field: [t, size]}.
      instruction: what the robot was told.
      metadata: anything JSON-able that should travel along.
    """

    frames: list[bytes]
    actions: dict[str, np.ndarray]
    instruction: str
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    headers: frozenset[tuple[str, int, int]] | None = None
    """The frames' distinct headers (`image_header`), where they have been read already."""
    offsets: list[int] | None = None
    """Where each frame that came from a record begins in it, in bytes; not if encoded anew."""

    def __len__(self) -> int:
        return len(self.frames)

    def validate(self, spec: ActionSpec) -> None:
        """Raises EpisodeError unless frames, actions and instruction fit together and the spec."""
        check_actions(self.actions, self.instruction, len(self.frames), spec)

    def check_frames(self, image_format: str) -> tuple[int, int]:
        """The size (height, width) of all frames.

        Raises:
          EpisodeError: a frame of another format or size, or none that can be read.
        """
        if not self.frames:
            raise EpisodeError("there are no frames")
        found = self.headers or {image_header(frame) for frame in self.frames}
        if len(found) != 1 or next(iter(found))[0] != image_format:
            raise EpisodeError(
                f"frames are {sorted(found)} (format, height, width), expected all "
                f"{image_format!r} and of one size"
            )
        return next(iter(found))[1:]


def image_header(data: bytes) -> tuple[str, int, int]:
    """Format and size of an encoded picture, from its header alone: ("jpeg", height, width).

    Raises:
      EpisodeError: neither a PNG nor a JPEG.
    """
    return _read_header(data)[0]


class HeaderReader:
    """`image_header` of pictures that mostly begin alike: what is known is not read again."""

    def __init__(self) -> None:
        self._beginning, self._header = b"", ("", 0, 0)

    def __call__(self, data: bytes) -> tuple[str, int, int]:
        if not (self._beginning and data.startswith(self._beginning)):
            self._header, end = _read_header(data)
            self._beginning = data[:end]
        return self._header


def _read_header(data: bytes) -> tuple[tuple[str, int, int], int]:
    """The header, and how many bytes of the picture tell it."""
    if data[:8] == _PNG and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return ("png", height, width), 24
    position = 2
    # A JPEG is a row of segments: 0xFF, a marker, and the segment's length with these two bytes.
    while data[:2] == _JPEG and position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return ("jpeg", height, width), position + 9
        if marker == 0xFF:  # a fill byte
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise EpisodeError(
        f"a frame is neither PNG nor JPEG (it starts with {data[:8]!r}, {len(data)} bytes)"
    )


def is_whole(data: bytes) -> bool:
    """Whether an encoded picture has its format's end mark; nothing is decoded."""
    return b"\xff\xd9" in data[-32:] if data[:2] == _JPEG else b"IEND" in data[-32:]
