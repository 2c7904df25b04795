"""Whose a dataset directory in the making is, so that an interrupted making can go on."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from rt1_jax.data.shards import DatasetError
from rt1_jax.files import write_atomically


def claim_directory(
    root: str | os.PathLike[str],
    made_of: dict[str, Any],
    marker: str,
    error: type[ValueError] = DatasetError,
) -> pathlib.Path:
    """Marks a directory with what its dataset is made of, or checks that it carries the same.

    Args:
      root: the dataset's directory: new, empty, or marked alike.
      made_of: JSON-able; everything that the data depend on.
      marker: the file's name.
      error: what is raised.

    Raises:
      error: it holds something else.
    """
    root = pathlib.Path(root)
    path = root / marker
    wanted = json.loads(json.dumps(made_of))
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except ValueError:
            found = {"content": "unreadable"}
        for key in sorted({*found, *wanted}):
            if wanted.get(key) != found.get(key):
                raise error(
                    f"{root} holds data made with {key}={found.get(key)!r}, asked for "
                    f"{wanted.get(key)!r}: choose another --output or delete it"
                )
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise error(
            f"{root} exists and is not an unfinished dataset of this command: choose another "
            "--output or delete it"
        )
    else:
        write_atomically(path, json.dumps(wanted, indent=1))
    for leftover in root.glob("*.partial-*"):
        leftover.unlink()
    return root
