"""Frames of a video file by their time, and video files made of frames."""

from __future__ import annotations

import fractions
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from rt1_jax.data.lerobot.layout import LeRobotError

CODECS = ("libx264", "libsvtav1")
_QUALITY = {"libx264": 18, "libsvtav1": 23}
"""Constant rate factors. On frames of the tabletop (256x320) both lose less than 4:2:0 has lost."""
_TOLERANCE = 0.25
"""Of the time between two frames: how far a frame may be from the time that is asked for."""


class FrameMissingError(ValueError):
    """A video has no frame at a time at which it should have one."""


def read_frames(path: pathlib.Path, times: np.ndarray, frame_rate: float) -> Iterator[np.ndarray]:
    """Decodes the frames at certain times, one after another.

    Decoding starts at the keyframe before the first time and goes on to the last; frames are told
    apart by their presentation time, so B-frames and any keyframe interval do.

    Args:
      path: the video file.
      times: float64 [t], ascending, in seconds from the file's beginning.
      frame_rate: frames a second.

    Yields:
      uint8 [h, w, 3], t times.

    Raises:
      LeRobotError: the file is missing or no video.
      FrameMissingError: there is no frame within a quarter of a frame's time of a wanted time, or
        decoding fails on the way.
    """
    import av
    from av.video.reformatter import VideoReformatter

    if not path.exists():
        raise LeRobotError(f"{path} is missing; download the dataset again")
    tolerance = _TOLERANCE / frame_rate
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise LeRobotError(
            f"{path} cannot be opened as a video ({error}); it is truncated or damaged: download "
            "it again"
        ) from error
    with container:
        if not container.streams.video:
            raise LeRobotError(f"{path} holds no video")
        wanted = 0
        # One for all frames: each has a team of threads, which takes long to assemble.
        convert = VideoReformatter()
        try:
            for time, frame in _decode_from(container, float(times[0]), tolerance):
                if time > times[wanted] + tolerance:
                    break
                if abs(time - times[wanted]) <= tolerance:
                    yield convert.reformat(frame, format="rgb24").to_ndarray()
                    wanted += 1
                if wanted == len(times):
                    return
        except av.FFmpegError as error:
            raise FrameMissingError(f"{path} cannot be decoded ({error})") from error
    raise FrameMissingError(f"{path} has no frame at {times[wanted]:.4f} s")


def _decode_from(container: Any, start: float, tolerance: float) -> Iterator[tuple[float, Any]]:
    """Frames and their times (s), from the last keyframe before a time on or earlier."""
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1  # episodes are what runs in parallel
    container.seek(int(start / stream.time_base), stream=stream, backward=True)
    first = True
    for frame in container.decode(stream):
        if frame.pts is None:
            continue
        time = float(frame.pts * stream.time_base)
        if first and time > start + tolerance:
            # The index knows decoding times, which B-frames set apart from presentation times.
            container.seek(0, stream=stream, backward=True)
            yield from _decode_all(container, stream)
            return
        first = False
        yield time, frame


def _decode_all(container: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    for frame in container.decode(stream):
        if frame.pts is not None:
            yield float(frame.pts * stream.time_base), frame


class VideoWriter:
    """One video file of equally spaced frames, the first at 0 s.

    Args:
      path: the file; its directory must exist.
      size: (height, width), both even.
      frame_rate: frames a second.
      codec: one of `CODECS`.

    Attributes:
      frames: how many have been added.
      bytes: what they take so far; some frames are still with the encoder.
    """

    def __init__(
        self, path: str | os.PathLike[str], size: tuple[int, int], frame_rate: float, codec: str
    ) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        # Else SVT-AV1 prints its settings for every file.
        os.environ.setdefault("SVT_LOG", "1")
        self.path = pathlib.Path(path)
        self.frames = self.bytes = 0
        self._rate = fractions.Fraction(frame_rate).limit_denominator(1001)
        self._container = av.open(str(path), "w", options={"movflags": "faststart"})
        # Every other frame is a keyframe, as in LeRobot's own videos: random access stays cheap.
        options = {"g": "2", "crf": str(_QUALITY[codec])}
        options |= {"preset": "8"} if codec == "libsvtav1" else {}
        stream: Any = self._container.add_stream(codec, rate=self._rate, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / self._rate
        self._stream = stream
        self._convert = VideoReformatter()

    @property
    def seconds(self) -> float:
        """Where the next frame will be."""
        return float(self.frames / self._rate)

    def add(self, image: np.ndarray) -> None:
        """Appends a frame: uint8 [h, w, 3]."""
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = self._convert.reformat(frame, format="yuv420p")
        frame.pts, frame.time_base = self.frames, 1 / self._rate
        frame.duration = 1
        self._mux(frame)
        self.frames += 1

    def close(self) -> None:
        """Writes what the encoder still holds, and the index."""
        self._mux(None)
        self._container.close()

    def abort(self) -> None:
        """Lets go of the file without caring what is in it."""
        try:
            self._container.close()
        except Exception:  # a full disk, which is why this is called
            return

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self.bytes += packet.size
            self._container.mux(packet)


def check_codec(codec: str, size: tuple[int, int]) -> None:
    """Raises LeRobotError unless frames (height, width) can be encoded with this codec."""
    if codec not in CODECS:
        raise LeRobotError(f"unknown codec {codec!r}: expected one of {', '.join(CODECS)}")
    if any(side % 2 for side in size):
        raise LeRobotError(
            f"frames are {size[0]}x{size[1]} pixels, videos need even sides: keep the pictures as "
            "they are with --video=false"
        )
    if codec == "libsvtav1" and min(size) < 64:
        raise LeRobotError(
            f"frames are {size[0]}x{size[1]} pixels, libsvtav1 needs 64 or more: use "
            "--codec=libx264, or --video=false"
        )


def describe_video(path: pathlib.Path) -> dict[str, Any]:
    """What LeRobot notes of a video feature in `info.json`, from one of its files."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return {
            "video.height": stream.height,
            "video.width": stream.width,
            "video.codec": stream.codec_context.codec.canonical_name,
            "video.pix_fmt": stream.pix_fmt,
            "video.is_depth_map": False,
            "video.fps": float(stream.average_rate or 0),
            "video.channels": 3,
            "has_audio": False,
        }
