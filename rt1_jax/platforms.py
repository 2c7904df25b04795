"""Which platform the code that is being traced will run on: it decides between equal lowerings."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_platform = contextvars.ContextVar[str]("platform", default="")


def platform() -> str:
    """``"cpu"``, ``"gpu"`` or ``"tpu"``: this process' own, or that of :func:`traced_for`."""
    return _platform.get() or jax.default_backend()


@contextlib.contextmanager
def traced_for(name: str) -> Iterator[None]:
    """Within this, programs are traced for another platform, to be compiled ahead of time."""
    token = _platform.set(name)
    try:
        yield
    finally:
        _platform.reset(token)
