"""What a robot may send: the check of every field, before anything reaches the policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from rt1_jax.serving.protocol import describe

IMAGE_KEYS = ("image", "observation/image")
INSTRUCTION_KEYS = ("instruction", "prompt")
# Other sensors of robots that are set up for other policies; RT-1 sees the image only.
IGNORED_KEYS = ("state", "actions")
IGNORED_PREFIX = "observation/"

MAX_SIDE = 4096  # resizing holds a matrix of side x the model's side
MAX_INSTRUCTION = 1000
MAX_EMBEDDING = 100.0


class ObservationError(ValueError):
    """An observation that the policy cannot take; the text names the field.

    Attributes:
      field: the key that is wrong or missing.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


@dataclasses.dataclass(frozen=True)
class Observation:
    """One checked request.

    Attributes:
      image: uint8 [h, w, 3], RGB; None for a request that only starts a new episode.
      instruction: what to do, in words, if that was sent.
      embedding: float32 [d], if that was sent instead.
      reset: this is the first frame of an episode.
    """

    image: np.ndarray | None
    instruction: str | None
    embedding: np.ndarray | None
    reset: bool


class ObservationReader:
    """Turns messages into observations.

    Args:
      dimensions: d, of the checkpoint's language embeddings.
      image_keys: further keys under which the image may come.
    """

    def __init__(self, dimensions: int, image_keys: Sequence[str] = ()) -> None:
        self._dimensions = dimensions
        self.image_keys = tuple(dict.fromkeys((*IMAGE_KEYS, *image_keys)))
        self.keys = (*self.image_keys, *INSTRUCTION_KEYS, "embedding", "reset")

    def read(self, message: Any) -> Observation:
        """Checks a message.

        Raises:
          ObservationError: a field is missing, unknown, of another type, shape or range.
        """
        if not isinstance(message, dict):
            raise ObservationError(
                "message", f"expected a map of named fields, got {describe(message)}"
            )
        self._check_keys(message)
        reset = message.get("reset", False)
        if not isinstance(reset, bool | np.bool_):
            raise ObservationError("reset", f"expected a boolean, got {describe(reset)}")
        if reset and message.keys() == {"reset"}:
            return Observation(None, None, None, True)
        key = self._one_of(message, self.image_keys, "an image, uint8 [h, w, 3]")
        image = _image(key, message[key])
        key = self._one_of(
            message,
            (*INSTRUCTION_KEYS, "embedding"),
            f"an instruction, or an embedding, float32 [{self._dimensions}]",
        )
        if key == "embedding":
            return Observation(image, None, self._embedding(message[key]), bool(reset))
        return Observation(image, _instruction(key, message[key]), None, bool(reset))

    def _check_keys(self, message: dict[str, Any]) -> None:
        for key in message:
            if key in self.keys or key in IGNORED_KEYS or key.startswith(IGNORED_PREFIX):
                continue
            raise ObservationError(_short(key), f"unknown key; known are {', '.join(self.keys)}")

    def _one_of(self, message: dict[str, Any], keys: tuple[str, ...], what: str) -> str:
        given = [key for key in keys if key in message]
        if not given:
            others = ", ".join(map(_short, sorted(message)[:20])) or "nothing"
            raise ObservationError(
                keys[0], f"missing: expected {what} (as {' or '.join(keys)}), got {others}"
            )
        if len(given) > 1:
            raise ObservationError(given[1], f"given beside {given[0]!r}: send one of the two")
        return given[0]

    def _embedding(self, value: Any) -> np.ndarray:
        expected = f"expected float32 [{self._dimensions}]"
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise ObservationError("embedding", f"{expected}, got {describe(value)}")
        if value.shape != (self._dimensions,):
            raise ObservationError("embedding", f"{expected}, got {describe(value)}")
        if not np.isfinite(value).all():
            raise ObservationError("embedding", f"{expected}, got a value that is not finite")
        largest = float(np.abs(value).max(initial=0.0))
        if largest > MAX_EMBEDDING:
            raise ObservationError(
                "embedding",
                f"{expected} within ±{MAX_EMBEDDING:g}, got a value of magnitude {largest:.4g}",
            )
        return value.astype(np.float32)


def _image(key: str, value: Any) -> np.ndarray:
    expected = "expected uint8 [h, w, 3], RGB in 0..255"
    if (
        not isinstance(value, np.ndarray)
        or value.dtype != np.uint8
        or value.ndim != 3
        or value.shape[-1] != 3
    ):
        raise ObservationError(key, f"{expected}, got {describe(value)}")
    if not all(1 <= side <= MAX_SIDE for side in value.shape[:2]):
        raise ObservationError(
            key, f"{expected} with h and w in 1..{MAX_SIDE}, got {describe(value)}"
        )
    return value


def _instruction(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ObservationError(key, f"expected text, got {describe(value)}")
    if not value.strip():
        raise ObservationError(key, "expected text, got nothing but white space")
    if len(value) > MAX_INSTRUCTION:
        raise ObservationError(
            key, f"expected at most {MAX_INSTRUCTION} characters, got {len(value)}"
        )
    return value


def _short(key: str) -> str:
    return key if len(key) <= 60 else f"{key[:60]}..."
