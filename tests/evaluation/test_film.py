from __future__ import annotations

from rt1_jax.evaluation.episodes import POLICY, WRONG_INSTRUCTION, EpisodeRequest, EpisodeResult
from rt1_jax.evaluation.film import Film, FilmShelf


def film(index: int, success: bool, condition: str = POLICY, split: str = "seen") -> Film:
    request = EpisodeRequest(index, condition, split, "pick", index)
    return Film(result=EpisodeResult(request, "a", "a", success, 1, None, None))


def test_first_by_plan_are_kept_whatever_ends_first() -> None:
    shelf = FilmShelf(2)
    for index in (7, 3, 9, 1, 5):
        shelf.add(film(index, True))
    for index in (6, 2):
        shelf.add(film(index, False, WRONG_INSTRUCTION))
    shelf.add(film(8, False))
    shelf.add(film(4, False, split="backgrounds"))
    kept = [(f.request.condition, f.request.split, f.request.index) for f in shelf.films()]
    assert kept == [
        (POLICY, "backgrounds", 4),
        (POLICY, "seen", 1),
        (POLICY, "seen", 3),
        (POLICY, "seen", 8),
        (WRONG_INSTRUCTION, "seen", 2),
    ]


def test_nothing_is_kept_without_a_limit() -> None:
    shelf = FilmShelf(0)
    shelf.add(film(1, True))
    assert shelf.films() == []
