"""TFRecord files record by record: what is damaged is said and passed over, not the end of it."""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Iterator
from typing import Any

import google_crc32c

_HEADER = struct.Struct("<QI")  # length, masked CRC of the length's eight bytes
_FOOTER = struct.Struct("<I")  # masked CRC of the data
_MASK_DELTA = 0xA282EAD8


@dataclasses.dataclass(frozen=True)
class Record:
    """One record, or what is wrong with it.

    Attributes:
      number: its place in the file, from 0.
      offset: where it begins, in bytes.
      data: its content, or None.
      problem: why there is none; "" where there is.
    """

    number: int
    offset: int
    data: bytes | None
    problem: str = ""

    @property
    def data_offset(self) -> int:
        """Where its content begins, in bytes."""
        return self.offset + _HEADER.size


def read_records(path: str | os.PathLike[str], skip: int = 0) -> Iterator[Record]:
    """The records of a local or remote (`gs://`) TFRecord file, in order, checksums checked.

    A record whose data do not fit their checksum is passed over: the next one is found by its
    length. Where a length itself is damaged, or the file ends inside a record, one last `Record`
    says so. TensorFlow's and Grain's readers stop at the first, or do not check.

    Args:
      path: the file.
      skip: this many records at its beginning are not read; a local file just moves on.

    Raises:
      OSError: the file cannot be opened or read.
    """
    with _open(path) as file:
        offset, number = 0, 0
        while True:
            header = file.read(_HEADER.size)
            if not header:
                return
            if len(header) < _HEADER.size:
                yield Record(number, offset, None, "the file ends inside a record's header")
                return
            length, checksum = _HEADER.unpack(header)
            if _masked(google_crc32c.value(header[:8])) != checksum:
                yield Record(
                    number, offset, None, "a length is damaged: the rest of the file is unreadable"
                )
                return
            size = length + _FOOTER.size
            if number < skip:
                file.seek(size, os.SEEK_CUR)
            else:
                data = file.read(length)
                footer = file.read(_FOOTER.size)
                if len(footer) < _FOOTER.size:
                    yield Record(number, offset, None, "the file ends inside a record")
                    return
                if _masked(google_crc32c.value(data)) == _FOOTER.unpack(footer)[0]:
                    yield Record(number, offset, data)
                else:
                    yield Record(number, offset, None, "the data do not fit their checksum")
            offset += _HEADER.size + size
            number += 1


def _open(path: str | os.PathLike[str]) -> Any:
    if "://" not in os.fspath(path):
        return open(path, "rb", buffering=1 << 20)
    from etils import epath

    return epath.Path(path).open("rb")


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF
