"""Instructions as RLDS datasets store them -> text."""

from __future__ import annotations

from typing import Any

import numpy as np


def read_instruction(value: Any) -> str:
    """One instruction as text.

    Args:
      value: `str`, `bytes`, a 0-d array of one of these, or integers [n]: UTF-8 bytes, one an
        element, padded with zeros (Language-Table; `google-research/language-table`,
        `environments/language_table.py`, `encode_instruction`).

    Raises:
      ValueError: none of these, not UTF-8, or integers beyond a byte.
    """
    if isinstance(value, str | np.str_):
        return str(value)
    if isinstance(value, bytes | np.bytes_):
        return bytes(value).decode("utf-8")
    array = np.asarray(value)
    if array.ndim == 0 and array.dtype.kind in "SUO":
        return read_instruction(array.item())
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"an instruction of {array.dtype} {list(array.shape)}, expected one string, bytes or "
            "integers [n] of UTF-8 bytes"
        )
    codes = array[array != 0]
    if np.any((codes < 0) | (codes > 255)):
        raise ValueError(f"instruction codes up to {codes.max()}, expected bytes 0..255")
    return codes.astype(np.uint8).tobytes().decode("utf-8")
