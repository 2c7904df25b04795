"""Whose a dataset directory in the making is, so that an interrupted making can go on."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
from typing import Any

from rt1_jax.data.shards import DatasetError
from rt1_jax.files import write_atomically

_LONGEST = 100
"""Characters of a value that an error shows."""


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
      error: it holds something else; the first part that differs is named.
    """
    root = pathlib.Path(root)
    path = root / marker
    wanted = json.loads(json.dumps(made_of))
    if path.exists():
        _check_same(root, _read(path, error), wanted, error)
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


def _read(path: pathlib.Path, error: type[ValueError]) -> dict[str, Any]:
    """What a directory is marked with."""
    try:
        found = json.loads(path.read_text())
    except ValueError as problem:
        found = problem
    if not isinstance(found, dict):
        raise error(
            f"{path} cannot be read ({_shown(found)}), so what the data there are made of is not "
            "known: choose another --output or delete the directory"
        )
    return found


def _check_same(
    root: pathlib.Path, found: dict[str, Any], wanted: dict[str, Any], error: type[ValueError]
) -> None:
    for key in sorted({*found, *wanted}):
        if wanted.get(key) == found.get(key):
            continue
        if key not in found:
            raise error(
                f"{root} was begun by an older version, which did not note its {key!r}: whether "
                "its data are those asked for cannot be told; choose another --output or delete it"
            )
        place, one, other = _difference(key, found[key], wanted.get(key))
        raise error(
            f"{root} holds data made with {place}={_shown(one)}, asked for {_shown(other)}: choose "
            "another --output or delete it"
        )


def _difference(place: str, found: Any, wanted: Any) -> tuple[str, Any, Any]:
    """Where inside of two values that differ they first do, and what is there in each."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            if found.get(key) != wanted.get(key):
                return _difference(f"{place}.{key}", found.get(key), wanted.get(key))
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            if one != other and isinstance(one, dict) and isinstance(other, dict):
                return _difference(f"{place}.{one.get('name', number)}", one, other)
    if isinstance(found, str) and isinstance(wanted, str):  # a file's text: which line
        lines = itertools.zip_longest(found.splitlines(), wanted.splitlines())
        for number, (one, other) in enumerate(lines, 1):
            if one != other and number > 1:
                return f"{place}, line {number}", one, other
    return place, found, wanted


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
