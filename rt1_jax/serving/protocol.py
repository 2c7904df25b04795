"""The messages on the wire: msgpack maps in which NumPy arrays are maps of their own.

An array is {b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [..]} in C order, a
NumPy scalar {b"__npgeneric__": True, b"data": number, b"dtype": "<f4"}. What comes in is not
trusted: only numbers and text become NumPy values, sizes must agree, and a message of a few bytes
can neither nest deeply nor reserve much memory.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgpack
import numpy as np

VERSION = 1

MAX_CONTAINERS = 256
MAX_ITEMS = 1024  # of one list or map
MAX_DEPTH = 8
MAX_DIMENSIONS = 8

_NUMBER = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_TEXT = re.compile(r"[<>|=]?U\d{1,6}")


class ProtocolError(ValueError):
    """A message that cannot be read; the text names the field where there is one."""


def pack(message: Any) -> bytes:
    """Packs plain values, NumPy arrays and NumPy scalars (bool, integer, float) of any nesting.

    Raises:
      TypeError: a value of another type, or an array of objects.
    """
    return msgpack.packb(message, default=_pack_value)


def unpack(data: bytes) -> Any:
    """Reads a message; arrays come back read-only, in native byte order.

    Raises:
      ProtocolError: not msgpack, too deeply nested, too many parts, or an array that is not one.
    """
    containers = 0

    def count(container: Any) -> Any:
        # Called as each container closes: what is refused is refused before the rest is built.
        nonlocal containers
        containers += 1
        if containers > MAX_CONTAINERS:
            raise ProtocolError(f"message: more than {MAX_CONTAINERS} lists and maps")
        return container

    try:
        message = msgpack.unpackb(
            data,
            object_hook=count,
            list_hook=count,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
        )
    except ProtocolError:
        raise
    except Exception as error:  # msgpack raises a dozen kinds, some of them bare
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ProtocolError(f"message: not a msgpack message ({reason})") from error
    return _restore(message, "", 0)


def describe(value: Any) -> str:
    """What a value is, for error messages: `uint8 [64, 64, 3]`, `str`, `None`."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return "None" if value is None else type(value).__name__


def _pack_value(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"cannot send {describe(value)}: expected plain values and arrays of numbers")


def _restore(value: Any, path: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ProtocolError(f"{path or 'message'}: nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        if not all(isinstance(key, str | bytes) for key in value):
            raise ProtocolError(f"{path or 'message'}: keys must be text")
        # Clients in languages whose maps have text keys only may send these as text.
        named = {_text(key): item for key, item in value.items()}
        if "__ndarray__" in named:
            return _array(named, path or "message")
        if "__npgeneric__" in named:
            return _scalar(named, path or "message")
        return {
            key: _restore(item, f"{path}.{key}" if path else key, depth + 1)
            for key, item in named.items()
        }
    if isinstance(value, list):
        return [_restore(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise ProtocolError(
        f"{path or 'message'}: {type(value).__name__} is not a type of the protocol"
    )


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode("utf-8", "replace")


def _array(parts: dict[str, Any], path: str) -> np.ndarray:
    data, dtype, shape = parts.get("data"), parts.get("dtype"), parts.get("shape")
    if not isinstance(dtype, str) or not _NUMBER.fullmatch(dtype):
        raise ProtocolError(
            f"{path}: an array's dtype must be that of booleans, integers or floats such as '|u1' "
            f"or '<f4', got {_shown(dtype)}"
        )
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_DIMENSIONS
        or not all(type(side) is int and side >= 0 for side in shape)
    ):
        raise ProtocolError(
            f"{path}: an array's shape must be a list of at most {MAX_DIMENSIONS} whole numbers "
            f"that are not negative, got {_shown(shape)}"
        )
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if not isinstance(data, bytes) or len(data) != size:
        came = f"{len(data)} bytes" if isinstance(data, bytes) else describe(data)
        raise ProtocolError(f"{path}: {kind.name} {shape} takes {_shown(size)} bytes, got {came}")
    array = np.frombuffer(data, kind).reshape(shape)
    return array if kind.isnative else array.astype(kind.newbyteorder("="))


def _scalar(parts: dict[str, Any], path: str) -> Any:
    data, dtype = parts.get("data"), parts.get("dtype")
    if isinstance(data, str) and isinstance(dtype, str) and _TEXT.fullmatch(dtype):
        return data
    if not isinstance(dtype, str) or not _NUMBER.fullmatch(dtype):
        raise ProtocolError(f"{path}: a scalar of dtype {_shown(dtype)} is not a number or text")
    try:
        if not isinstance(data, bool | int | float):
            raise TypeError(f"data is {describe(data)}")
        return np.dtype(dtype).type(data)
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"{path}: not a scalar of dtype {dtype} ({error})") from error


def _shown(value: Any, length: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}..."
