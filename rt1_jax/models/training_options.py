"""How the training pass of a model is computed, where it makes no difference to inference."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Attributes:
    remat: what is computed again for the gradient.
    statistics_groups: groups of a batch, each normalised by statistics of its own.
    """

    remat: str = "none"
    statistics_groups: int = 1


_NONE = TrainingOptions()
_options = contextvars.ContextVar("training_options", default=_NONE)


def current_options() -> TrainingOptions:
    """Those of the code that is being traced."""
    return _options.get()


@contextlib.contextmanager
def training_options(remat: str = "none", statistics_groups: int = 1) -> Iterator[None]:
    """Within this, models are traced with these options."""
    token = _options.set(TrainingOptions(remat, statistics_groups))
    try:
        yield
    finally:
        _options.reset(token)
