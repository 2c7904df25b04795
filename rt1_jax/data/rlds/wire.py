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
    """The numbers of a `Feature` that is a list of floats, float32; None of any other.

    Raises:
      WireError: damaged.
    """
    parts = []
    for number, values in _fields(record, feature):
        if number != _SECOND:
            return None
        for inner, (start, stop) in _fields(record, values, others=False):
            if inner != _FIRST or (stop - start) % 4:
                return None
            parts.append(np.frombuffer(record, "<f4", (stop - start) // 4, start))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _fields(record: bytes, span: Span, others: bool = True) -> Iterator[tuple[int, Span]]:
    """Number and content of each length-delimited field.

    Others are passed over; without `others` one of them is (0, (0, 1)), which no content is.
    """
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
            continue
        if not others:
            yield 0, (0, 1)
        if kind == _VARINT:
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
