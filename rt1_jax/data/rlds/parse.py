"""An episode's record to arrays, without TensorFlow and without decoding a frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rt1_jax.data.episode import EpisodeError
from rt1_jax.data.rlds.source import STEPS, Feature
from rt1_jax.data.rlds.wire import Span, bytes_spans, feature_spans, packed_floats

Steps = dict[str, Any]
"""{path: array [t, ...] or list of t bytes}."""


class EpisodeParser:
    """Takes the wanted parts of a serialised `tf.train.Example` that TFDS wrote.

    TFDS lays an episode's steps out as one list a feature, all steps' numbers behind one another.

    Args:
      features: the dataset's, see `RLDSSource`.
      paths: those to read of every step.
      first: those to read of the first step only.

    Raises:
      EpisodeError: a feature of a shape that varies from step to step.
    """

    def __init__(
        self, features: dict[str, Feature], paths: Sequence[str], first: Sequence[str] = ()
    ) -> None:
        self._features = {path: features[path] for path in (*paths, *first)}
        self._first = frozenset(first) - frozenset(paths)
        for path, feature in self._features.items():
            if None in feature.shape:
                raise EpisodeError(
                    f"{path} has the shape {list(feature.shape)} in a step, expected fixed sizes"
                )

    def __call__(self, record: bytes) -> Steps:
        """{path: [t, ...]}; strings and encoded pictures as lists of bytes.

        Raises:
          EpisodeError: the record is not an episode of these features.
        """
        return self.read_with_places(record)[0]

    def read_with_places(self, record: bytes) -> tuple[Steps, dict[str, list[Span]]]:
        """The same, and {path: where each value of a feature of bytes lies in the record}."""
        spans = _located(record)
        places: dict[str, list[Span]] = {}
        return {path: self._read(record, spans, path, places) for path in self._features}, places

    def _feature(self, spans: dict[str, Span], path: str) -> Span:
        key = f"{STEPS}/{path}"
        if key not in spans:
            raise EpisodeError(f"the record lacks {key!r}, which the dataset's features name")
        return spans[key]

    def _read(
        self,
        record: bytes,
        spans: dict[str, Span],
        path: str,
        all_places: dict[str, list[Span]],
    ) -> Any:
        from google.protobuf.message import DecodeError
        from tensorflow_datasets.proto import tf_feature_pb2

        feature = self._features[path]
        span = self._feature(spans, path)
        if feature.dtype == "bytes":
            places = bytes_spans(record, span)
            if path in self._first:
                places = places[:1]
            all_places[path] = places
            return [record[start:stop] for start, stop in places]
        size = math.prod(side or 1 for side in feature.shape)
        floats = packed_floats(record, span) if feature.dtype == "float32" else None
        if floats is not None:
            return self._shaped(floats, path, size)
        try:
            part = tf_feature_pb2.Feature.FromString(record[slice(*span)])
        except DecodeError as error:
            raise EpisodeError(f"the record is no tf.train.Example ({error})") from error
        kind = part.WhichOneof("kind")
        return self._shaped(getattr(part, kind).value if kind else [], path, size)

    def _shaped(self, values: Any, path: str, size: int) -> np.ndarray:
        """A feature's numbers, step by step: [t, ...]; copied, for a record is large."""
        feature = self._features[path]
        if path in self._first:
            values = values[:size]
        try:
            if isinstance(values, np.ndarray):
                found = values.astype(feature.dtype)
            else:
                found = np.fromiter(values, np.dtype(feature.dtype), len(values))
            return found.reshape(-1, *feature.shape)
        except (TypeError, ValueError) as error:
            raise EpisodeError(
                f"{f'{STEPS}/{path}'!r} holds {len(values)} values, expected steps of "
                f"{list(feature.shape)} {feature.dtype} ({error})"
            ) from error


def _located(record: bytes) -> dict[str, Span]:
    try:
        return feature_spans(record)
    except ValueError as error:
        raise EpisodeError(f"the record is no tf.train.Example ({error})") from error
