"""How a training step computes what the model's config defines: for memory, traffic, communication.

None of it is part of a model: a checkpoint doesn't hold it, and inference doesn't look at it.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Literal, get_args

Remat = Literal["none", "largest", "blocks"]


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Static under jit.

    Attributes:
      remat: what the backbone keeps for its gradient. ``"none"`` is whatever differentiation asks
        for; ``"blocks"`` keeps each block's input alone, and computes the block again;
        ``"largest"`` does so with the one block that has most to keep.
      statistics_groups: contiguous equal parts of the batch, each of which batch normalisation
        treats by itself; running statistics take the mean over the groups. With a group for every
        device that shares the batch, nothing is communicated; the numbers do not depend on where
        the groups are.
      packed_images: neighbouring images whose channels lie side by side while there are few of
        them; the numbers are the same. A TPU's registers are 8 by 128 numbers, and an array's last
        two axes are filled up to that in its memory. 1 is the usual layout.
    """

    remat: Remat = "none"
    statistics_groups: int = 1
    packed_images: int = 1

    def __post_init__(self) -> None:
        if self.remat not in get_args(Remat):
            raise ValueError(f"remat is {self.remat!r}, expected one of {get_args(Remat)}")
        for name in ("statistics_groups", "packed_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")


_PLAIN = TrainingOptions()
_options = contextvars.ContextVar[TrainingOptions]("training_options", default=_PLAIN)


def training_options() -> TrainingOptions:
    """Those of the training step that is being traced."""
    return _options.get()


@contextlib.contextmanager
def traced_with(options: TrainingOptions) -> Iterator[None]:
    """Within this, training steps are traced with these options; see ``rt1_jax.platforms``."""
    token = _options.set(options)
    try:
        yield
    finally:
        _options.reset(token)
