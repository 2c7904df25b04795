"""Where a checkpoint is: a path on disk, or the name of a policy that ships with the package."""

from __future__ import annotations

import os
import pathlib
import re

PRETRAINED = pathlib.Path(__file__).resolve().parent.parent / "pretrained"

# Also as pathlib leaves a URL, with one slash.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


class CheckpointError(ValueError):
    """A checkpoint that is missing, unfinished, damaged, or of another kind."""


def pretrained_names() -> list[str]:
    """Names of the policies that ship with the package."""
    if not PRETRAINED.is_dir():
        return []
    return sorted(p.name for p in PRETRAINED.iterdir() if (p / "config.json").exists())


def resolve(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path on disk that is meant, whether anything is there or not.

    Args:
      path: a path, or a shipped policy's name. A name wins over a directory of that name, which
        is `./NAME`.

    Raises:
      CheckpointError: it is a URL.
    """
    name = os.fspath(path)
    if is_url(name):
        how = f" (gsutil -m cp -r {_with_two_slashes(name)} .)" if name.startswith("gs:") else ""
        raise CheckpointError(
            f"{_with_two_slashes(name)}: checkpoints are read from disk: copy it here first{how} "
            "and give the copy's path"
        )
    return PRETRAINED / name if name in pretrained_names() else pathlib.Path(name)


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether it is a bucket's or another URL; `pathlib` would make a directory's name of it."""
    return _URL.match(os.fspath(path)) is not None


def _with_two_slashes(url: str) -> str:
    return re.sub(":/+", "://", url, count=1)
