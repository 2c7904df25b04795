"""Whether a dataset on disk has the keys that its description names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rt1_jax.data.oxe.description import RLDSDataset

_NEAREST = 3
_FEW = 12


class OXEError(ValueError):
    """A dataset that is unknown, described wrongly, or whose data do not fit the description."""


def check_schema(
    dataset: RLDSDataset,
    available_paths: Iterable[str],
    keys: Sequence[str] | None = None,
) -> None:
    """Checks that every path the description names is there.

    Args:
      dataset: the description.
      available_paths: the paths of a step on disk, `"observation/image"`, ...
      keys: what to look for; by default all of `dataset.keys`.

    Raises:
      OXEError: naming the first missing path, the nearest ones that exist, and all where few.
    """
    available = sorted(available_paths)
    missing = [key for key in (dataset.keys if keys is None else keys) if key not in available]
    if not missing:
        return
    raise OXEError(
        f"dataset {dataset.name!r} lacks the key {missing[0]!r}{_others(missing)}; "
        f"{nearest(missing[0], available)}. Is this the public version {dataset.version} of "
        f"{dataset.name!r}? Else describe your copy under a name of its own in a file of yours"
    )


def nearest(name: str, known: Sequence[str]) -> str:
    """A part of a message: the names most like `name`, and all of them where they are few."""
    if not known:
        return "it has no keys at all"
    # The last part counts twice: paths are not near to each other for sharing "observation/".
    close = sorted(known, key=lambda key: -_likeness(name, key) - 2 * _likeness(*_last(name, key)))
    message = f"nearest: {', '.join(close[:_NEAREST])}"
    return f"{message}; there are: {', '.join(known)}" if len(known) <= _FEW else message


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _last(*paths: str) -> tuple[str, ...]:
    return tuple(path.rsplit("/", 1)[-1] for path in paths)


def _others(missing: Sequence[str]) -> str:
    return f" (and {', '.join(map(repr, missing[1:]))})" if len(missing) > 1 else ""
