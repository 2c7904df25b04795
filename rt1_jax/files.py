"""Files that are either whole or not there."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import IO, Any


def write_atomically(
    path: str | os.PathLike[str],
    content: str | bytes | Callable[[IO[bytes]], Any],
    durable: bool = True,
) -> None:
    """Writes a file under a temporary name in its directory, then renames it.

    Args:
      path: the final name; its directory is made if it is missing.
      content: text, bytes, or a function that writes to the open binary file.
      durable: whether to wait until it is on the disk, for what must survive a loss of power.
    """
    final = pathlib.Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.partial-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
