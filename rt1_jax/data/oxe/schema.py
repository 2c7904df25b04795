"""Whether a dataset on disk has the keys that its description names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rt1_jax.data.oxe.description import RLDSDataset

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
    """A part of a message: the names most like `name`, or all of them where they are few."""
    if not known:
        return "it has no keys at all"
    # The last part decides: paths are not near to each other for sharing "observation/".
    leaf = name.rsplit("/", 1)[-1]
    likeness = {
        key: difflib.SequenceMatcher(None, leaf, key.rsplit("/", 1)[-1]).ratio() for key in known
    }
    close = sorted((key for key in known if likeness[key] >= 0.55), key=lambda key: -likeness[key])[
        :5
    ]
    parts = [f"nearest: {', '.join(close)}"] if close else []
    if len(known) <= _FEW or not close:
        parts.append(f"there are: {', '.join(known)}")
    return "; ".join(parts)


def _others(missing: Sequence[str]) -> str:
    return f" (and {', '.join(map(repr, missing[1:]))})" if len(missing) > 1 else ""
