from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from rt1_jax.evaluation.episodes import EpisodeRequest, EpisodeResult
from rt1_jax.evaluation.metrics import summarize, summarize_groups, wilson_interval


def result(
    success: bool = True,
    steps: int = 10,
    first: int | None = 9,
    held: bool | None = True,
    condition: str = "policy",
    split: str = "seen",
    skill: str = "pick",
) -> EpisodeResult:
    request = EpisodeRequest(0, condition, split, skill, 0)
    return EpisodeResult(request, "a", "a", success, steps, first, held)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_against_scipy(counts: tuple[int, int]) -> None:
    successes, trials = counts
    low, high = wilson_interval(successes, trials)
    theirs = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= low <= successes / trials <= high <= 1


def test_wilson_without_trials_and_with_nonsense() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="5 successes in 4 trials"):
        wilson_interval(5, 4)


def test_summary_counts_each_terminate_case() -> None:
    summary = summarize(
        [
            result(steps=10),  # on time
            result(steps=20, first=2, held=False),  # succeeded, but said so too early
            result(steps=12, first=None, held=None),  # succeeded without a word
            result(False, 40, first=5, held=False),
            result(False, 40, first=None, held=None),
            # The goal held when it said so, and then was lost again.
            result(False, 40, first=30, held=True),
        ]
    )
    assert summary["episodes"] == 6
    assert summary["successes"] == 3
    assert summary["success_rate"] == 0.5
    assert summary["interval"] == list(wilson_interval(3, 6))
    assert summary["mean_steps_of_successes"] == 14
    assert summary["mean_steps"] == 27
    assert summary["terminate_accuracy"] == pytest.approx(1 / 3)
    assert summary["premature_terminate_rate"] == pytest.approx(2 / 6)
    assert summary["no_terminate_rate"] == pytest.approx(2 / 6)


def test_summary_without_successes_or_episodes() -> None:
    summary = summarize([result(False, 40, None, None)])
    assert summary["terminate_accuracy"] is None
    assert summary["mean_steps_of_successes"] is None
    assert summarize([])["success_rate"] is None


def test_groups() -> None:
    groups = summarize_groups(
        [
            result(),
            result(False, skill="knock"),
            result(False, split="backgrounds"),
            result(condition="expert"),
        ]
    )
    assert list(groups) == ["policy", "expert"]
    assert groups["policy"]["seen"]["all"]["success_rate"] == 0.5
    assert groups["policy"]["seen"]["knock"]["episodes"] == 1
    assert groups["policy"]["backgrounds"]["all"]["successes"] == 0
    assert list(groups["expert"]) == ["seen"]
