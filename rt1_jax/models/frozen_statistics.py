"""Parts of a model whose batch normalisation stays as it is while the rest is trained.

Whether a model is trained is one flag for all of it. Within `frozen_statistics(("a/b",))`, where a
step is traced, batch normalisation under `a/b` normalises by its running statistics and leaves them
alone, whatever the flag says.
"""

from __future__ import annotations

import contextlib
import contextvars
import fnmatch
from collections.abc import Iterator, Sequence

_frozen: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("frozen", default=())


@contextlib.contextmanager
def frozen_statistics(prefixes: Sequence[str]) -> Iterator[None]:
    """While it is open, and a model is traced in it, these parts keep their statistics.

    Args:
      prefixes: see `under`.
    """
    token = _frozen.set(tuple(prefixes))
    try:
        yield
    finally:
        _frozen.reset(token)


def has_frozen_statistics(path: Sequence[str]) -> bool:
    """Whether the module at that path of the model is one of them."""
    return any(under(path, prefix) for prefix in _frozen.get())


def under(path: Sequence[str], prefix: str) -> bool:
    """Whether a path begins with a prefix's components.

    Args:
      path: components, such as ("image_tokenizer", "efficientnet", "stem_bn").
      prefix: components with "/" between; in each, `*` stands for anything: "image_tokenizer", or
        "image_tokenizer/efficientnet/block_*", which spares the FiLM layers between the blocks.
    """
    parts = prefix.split("/")
    return len(parts) <= len(path) and all(
        fnmatch.fnmatchcase(name, part) for name, part in zip(path, parts, strict=False)
    )
