"""Where the parts of a serialised `tf.train.Example` lie, without taking it apart.

Of an episode of a megabyte only a few hundred numbers are read; the frames stay where they are.
The format: Example {1: Features {1: entry {1: key, 2: Feature}}}, Feature {1: BytesList, 2:
FloatList, 3: Int64List}, BytesList {1: bytes} (protocol buffers' wire format, tensorflow's
example.proto and feature.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Span = tuple[int, int]
"""Where something begins and ends in the record, in bytes."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIRST, _SECOND = 1, 2


class WireError(ValueError):
    """Bytes that are no protocol buffer, or end inside one."""


def feature_spans(record: bytes) -> dict[str, Span]:
    """{a feature's key: where its serialised `Feature` lies}; of a repeated key the last.

    Raises:
      WireError: the record is no `tf.train.Example`.
    """
    found: dict[str, Span] = {}
    for number, whole in _fields(record, (0, len(record))):
        if number != _FIRST:
            continue
        for inner, entry in _fields(record, whole):
            if inner != _FIRST:
                continue
            key, feature = "", (entry[1], entry[1])
            for part, span in _fields(record, entry):
                if part == _FIRST:
                    key = record[span[0] : span[1]].decode()
                elif part == _SECOND:
                    feature = span
            found[key] = feature
    return found


def bytes_spans(record: bytes, feature: Span) -> list[Span]:
    """Where each value of a `Feature` that is a list of bytes lies.

    Raises:
      WireError: damaged.
    """
    return [
        value
        for number, values in _fields(record, feature)
        if number == _FIRST
        for inner, value in _fields(record, values)
        if inner == _FIRST
    ]


def packed_floats(record: bytes, feature: Span) -> np.ndarray | None:
    """The numbers of a `Feature` that is one packed list of floats, float32; None of any other.

    Raises:
      WireError: damaged.
    """
    parts = list(_fields(record, feature))
    if len(parts) != 1 or parts[0][0] != _SECOND:
        return None
    start, stop = parts[0][1]
    if start == stop or record[start] != (_FIRST << 3 | _BYTES):
        return None  # empty, or each number with a tag of its own
    size, first = _varint(record, start + 1, stop)
    if first + size != stop or size % 4:
        return None
    return np.frombuffer(record, "<f4", size // 4, first)


def _fields(record: bytes, span: Span) -> Iterator[tuple[int, Span]]:
    """Number and content of each length-delimited field; others are passed over."""
    position, end = span
    while position < end:
        tag = record[position]  # of nearly all that there is, one byte
        position += 1
        if tag >= 0x80:
            tag, position = _varint(record, position - 1, end)
        kind = tag & 7
        if kind == _BYTES:
            size, position = _varint(record, position, end)
            if position + size > end:
                raise WireError(f"a field of {size} bytes at byte {position} is cut off")
            yield tag >> 3, (position, position + size)
            position += size
        elif kind == _VARINT:
            position = _varint(record, position, end)[1]
        elif kind in (_FIXED32, _FIXED64):
            position += 4 if kind == _FIXED32 else 8
        else:
            raise WireError(f"there is no field of the kind {kind} (byte {position})")


def _varint(record: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end:
        byte = record[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            break
    raise WireError(f"a number at byte {position} is cut off or too long")
