"""Episodes worth showing: frames and actions, kept for a few successes and failures."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping

import numpy as np

from rt1_jax.evaluation.episodes import POLICY, EpisodeRequest, EpisodeResult


@dataclasses.dataclass
class Film:
    """One filmed episode.

    Attributes:
      images: uint8 [h, w, 3] each, what the policy saw before each action.
      actions: {field: [size]} each.
      goal_holds: whether the physical goal held after each action.
      result: how it ended; None while it runs.
    """

    images: list[np.ndarray] = dataclasses.field(default_factory=list)
    actions: list[Mapping[str, np.ndarray]] = dataclasses.field(default_factory=list)
    goal_holds: list[bool] = dataclasses.field(default_factory=list)
    result: EpisodeResult | None = None

    @property
    def request(self) -> EpisodeRequest:
        """What was filmed, once it is over."""
        if self.result is None:
            raise RuntimeError("the episode is not over")
        return self.result.request


class FilmShelf:
    """Keeps the first few films, by plan order, of each condition, split and outcome.

    First by plan order rather than first to end, which would favour short episodes.

    Args:
      limit: successes and failures kept for the policy in each split; controls keep one of each.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._films: dict[tuple[str, str, bool], list[Film]] = {}

    def add(self, film: Film) -> None:
        """Offers a finished film."""
        if film.result is None:
            raise RuntimeError("the episode is not over")
        request = film.request
        kept = self._films.setdefault((request.condition, request.split, film.result.success), [])
        bisect.insort(kept, film, key=lambda f: f.request.index)
        del kept[self._limit if request.condition == POLICY else min(1, self._limit) :]

    def films(self) -> list[Film]:
        """All that are kept: by condition and split, successes first."""
        order = sorted(
            self._films.items(),
            key=lambda item: (item[0][0] != POLICY, *item[0][:2], not item[0][2]),
        )
        return [film for _, films in order for film in films]
