"""An RLDS episode to one of this project: camera, instruction and actions, frames left encoded."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from rt1_jax.actions import RT1_X, ActionError, ActionSpec
from rt1_jax.data.encoded import EncodedEpisode, HeaderReader, is_whole
from rt1_jax.data.episode import EpisodeError, decode_image, encode_image
from rt1_jax.data.oxe.description import ActionMapping, Actions, RLDSDataset
from rt1_jax.data.resize import resize_frame
from rt1_jax.data.rlds.checks import ActionScale, check_request
from rt1_jax.data.rlds.parse import EpisodeParser
from rt1_jax.data.rlds.source import RLDSSource

ODD = ("empty instruction", "one step")
"""Nothing is broken in these episodes, but they teach nothing: they are left out and counted."""
DAMAGED = (
    "corrupt record",
    "wrong record",
    "damaged frame",
    "wrong frame size",
    "non-finite action",
    "malformed action",
)


class OddEpisodeError(EpisodeError):
    """An episode that is left out; `reason` is one of ODD and DAMAGED."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Frames:
    """What the frames of the result are to be: format, and (height, width)."""

    image_format: str
    image_size: tuple[int, int]
    resize: bool = False
    """Whether other sizes are resized; else they are damage."""
    fit: str = "stretch"
    """How they are resized, see `resize_frame`."""


class EpisodeConverter:
    """Serialised episodes of one dataset to `EncodedEpisode`s.

    Args:
      dataset: where camera, instruction and actions are, and what they mean.
      source: the files' description.
      scale: "physical", the dataset's own units; or "rt1_x", normalised as RT-1-X's were.
      frames: what the frames are to be; only those that are not are encoded again.
      keep_frames: none is encoded again: those of another kind are damage.

    Attributes:
      action_spec: what the actions of the result mean.

    Raises:
      OXEError, DatasetError: description, files and scale do not fit, see `check_request`.
    """

    def __init__(
        self,
        dataset: RLDSDataset,
        source: RLDSSource,
        scale: ActionScale,
        frames: Frames,
        keep_frames: bool = False,
    ) -> None:
        check_request(dataset, source, scale)
        self._dataset, self._scale, self._frames = dataset, scale, frames
        self._keep_frames, self._header = keep_frames, HeaderReader()
        first = [dataset.instruction, *([dataset.embedding] if dataset.embedding else [])]
        self._parse = EpisodeParser(source.features, [dataset.image, *dataset.action_keys], first)
        self.action_spec: ActionSpec = RT1_X if scale == "rt1_x" else dataset.action_spec

    def __call__(self, record: bytes) -> tuple[EncodedEpisode, np.ndarray | None, dict[str, Any]]:
        """One episode.

        Returns:
          the episode; its instruction's stored embedding float32 [dimensions], if there is one; and
          its actions in physical units, {field: float32 [t, size]}.

        Raises:
          OddEpisodeError: it is to be left out.
        """
        dataset = self._dataset
        try:
            steps, places = self._parse.read_with_places(record)
            instruction = dataset.read_instruction(steps[dataset.instruction][0])
        except (EpisodeError, ValueError, IndexError) as error:
            raise OddEpisodeError("wrong record", str(error)) from error
        frames = steps[dataset.image]
        if not instruction.strip():
            raise OddEpisodeError("empty instruction", f"{len(frames)} steps")
        if len(frames) < 2:
            raise OddEpisodeError("one step", repr(instruction))
        physical, actions = self._actions(steps, len(frames))
        frames = [self._frame(frame, t) for t, frame in enumerate(frames)]
        embedding = None
        if dataset.embedding:
            if not len(steps[dataset.embedding]):
                raise OddEpisodeError("wrong record", f"{dataset.embedding} is empty")
            embedding = np.asarray(steps[dataset.embedding][0], np.float32).reshape(-1)
        header = (self._frames.image_format, *self._frames.image_size)
        episode = EncodedEpisode(frames, actions, instruction, headers=frozenset([header]))
        episode.offsets = [start for start, _ in places[dataset.image]]
        return episode, embedding, physical

    def _actions(self, steps: dict[str, Any], length: int) -> tuple[Actions, Actions]:
        """In physical units, and as asked for; both pass their specs' checks."""
        given = {path: steps[path] for path in self._dataset.action_keys}
        for path, value in given.items():
            if len(value) != length:
                raise OddEpisodeError(
                    "wrong record", f"{length} frames, but {len(value)} steps of {path}"
                )
            if isinstance(value, np.ndarray) and not np.all(np.isfinite(value)):
                raise OddEpisodeError("non-finite action", f"{path} holds nan or infinity")
        physical = _mapped(self._dataset.actions, given, self._dataset.action_spec)
        if self._scale == "physical":
            return physical, physical
        return physical, _mapped(self._dataset.rt1_x_actions, physical, self.action_spec)

    def _frame(self, frame: bytes, step: int) -> bytes:
        wanted = self._frames
        try:
            image_format, *size = self._header(frame)
        except EpisodeError as error:
            raise OddEpisodeError("damaged frame", f"step {step}, {error}") from error
        if not is_whole(frame):
            raise OddEpisodeError("damaged frame", f"step {step}, the picture's end is missing")
        fits = tuple(size) == wanted.image_size
        if fits and image_format == wanted.image_format:
            return frame
        if self._keep_frames or not (fits or wanted.resize):
            raise OddEpisodeError(
                "wrong frame size",
                f"step {step} is {size} in {image_format}, expected {list(wanted.image_size)} in "
                f"{wanted.image_format}",
            )
        try:
            image = decode_image(frame)
        except (OSError, ValueError) as error:
            raise OddEpisodeError("damaged frame", f"step {step}, {error}") from error
        return encode_image(resize_frame(image, wanted.image_size, wanted.fit), wanted.image_format)


def _mapped(function: ActionMapping, values: Actions, spec: ActionSpec) -> Actions:
    """What a description's function makes of an episode; OddEpisodeError if it fits no spec."""
    try:
        actions = function(values)
    except ValueError as error:
        raise OddEpisodeError("wrong record", str(error)) from error
    for name, value in actions.items():
        if not np.all(np.isfinite(value)):
            raise OddEpisodeError("non-finite action", f"{name} becomes nan or infinity")
    try:
        spec.validate(actions)
    except ActionError as error:
        raise OddEpisodeError("malformed action", str(error)) from error
    return actions
