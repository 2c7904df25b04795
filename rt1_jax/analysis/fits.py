"""Curves through success against the number of training episodes, by maximum likelihood.

Successes are binomial. Two curves of two parameters each are compared:

    power law   failure rate  a N^-b, at most 1: straight in a plot with two logarithmic axes
    logistic    success rate  1 / (1 + exp(-(c + d ln N))): saturates on both sides
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import optimize, stats

MIN_SIZES = 3
"""Different numbers of episodes that a curve of two parameters needs to be tested at all."""


class FitError(ValueError):
    """Too little to fit a curve to."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One run: how many episodes it was trained on, and how often it then succeeded."""

    size: int
    successes: int
    trials: int


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted curve.

    Attributes:
      name: "power law" or "logistic".
      parameters: the two of them, as in the module's text (ln a and b, or c and d).
      interval: [2, 2], ends of the 95% interval of each, by resampling the runs of each size.
      log_likelihood: of the successes.
      deviance: twice the log-likelihood that a rate of its own for each size would gain.
      p_value: how often a curve that holds would miss by more; small means that it does not hold.
    """

    name: str
    parameters: np.ndarray
    interval: np.ndarray
    log_likelihood: float
    deviance: float
    p_value: float

    def success(self, sizes: Any) -> np.ndarray:
        """The curve: success rate at numbers of episodes [n]."""
        return 1 - _FAILURE[self.name](np.asarray(sizes, float), *self.parameters)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def fit_curves(points: Sequence[Point], seed: int = 0, resamples: int = 200) -> dict[str, Fit]:
    """Both curves through the points.

    Args:
      points: all runs; several of one size are several seeds.
      seed: of the resampling.
      resamples: how often.

    Raises:
      FitError: fewer than three different sizes.
    """
    sizes = sorted({point.size for point in points})
    if len(sizes) < MIN_SIZES:
        raise FitError(
            f"a curve needs runs of at least {MIN_SIZES} different numbers of episodes, there are "
            f"{len(sizes)}: {sizes}"
        )
    rng = np.random.default_rng(seed)
    fits = {}
    for name in _FAILURE:
        best, likelihood = _maximize(name, points)
        found = [_maximize(name, _resample(points, rng), best)[0] for _ in range(resamples)]
        interval = np.quantile(found, (0.025, 0.975), axis=0).T
        deviance = 2 * (_saturated(points) - likelihood)
        p_value = float(stats.chi2.sf(deviance, len(sizes) - 2))
        fits[name] = Fit(name, best, interval, likelihood, deviance, p_value)
    return fits


def verdict(fits: dict[str, Fit], level: float = 0.05) -> str:
    """A plain answer to "does success follow a power law in the number of episodes?"."""
    power, logistic = fits["power law"], fits["logistic"]
    gain = power.log_likelihood - logistic.log_likelihood  # as many parameters: AIC is twice this
    low, high = power.interval[1]
    exponent = f"exponent {power.parameters[1]:.2f} [{low:.2f}, {high:.2f}]"
    if power.p_value < level:
        better = "fits better" if gain < 0 else "fits no better"
        return (
            f"No: a power law of the failure rate ({exponent}) misses the points by more than "
            f"chance (p = {power.p_value:.2g}); the logistic curve {better} "
            f"(ΔAIC {abs(2 * gain):.1f}, p = {logistic.p_value:.2g})."
        )
    if logistic.p_value < level or gain > 2:
        return (
            f"It looks so: a power law of the failure rate ({exponent}) fits (p = "
            f"{power.p_value:.2g}) and the logistic curve does worse (ΔAIC {2 * gain:.1f})."
        )
    return (
        f"Undecided: a power law of the failure rate ({exponent}) fits (p = {power.p_value:.2g}), "
        f"and so does the logistic curve (p = {logistic.p_value:.2g}, ΔAIC {2 * gain:+.1f})."
    )


def _power_law(sizes: np.ndarray, log_a: float, b: float) -> np.ndarray:
    return np.clip(np.exp(log_a - b * np.log(sizes)), 1e-6, 1 - 1e-6)


def _logistic(sizes: np.ndarray, c: float, d: float) -> np.ndarray:
    return np.clip(1 / (1 + np.exp(c + d * np.log(sizes))), 1e-6, 1 - 1e-6)


_FAILURE: dict[str, Callable[..., np.ndarray]] = {"power law": _power_law, "logistic": _logistic}


def _maximize(
    name: str, points: Sequence[Point], start: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    sizes = np.asarray([point.size for point in points], float)
    failures = np.asarray([point.trials - point.successes for point in points], float)
    successes = np.asarray([point.successes for point in points], float)

    def negative(parameters: np.ndarray) -> float:
        failing = _FAILURE[name](sizes, *parameters)
        return -float(failures @ np.log(failing) + successes @ np.log1p(-failing))

    starts = [start] if start is not None else _starts(name, sizes)
    options = {"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000}
    found = [
        optimize.minimize(negative, first, method="Nelder-Mead", options=options)
        for first in starts
    ]
    best = min(found, key=lambda result: result.fun)
    return best.x, -float(best.fun)


def _starts(name: str, sizes: np.ndarray) -> list[np.ndarray]:
    middle = float(np.log(sizes).mean())
    slopes = (0.1, 0.3, 0.7, 1.5, 3.0)
    if name == "power law":
        return [np.asarray([np.log(0.5) + slope * middle, slope]) for slope in slopes]
    return [np.asarray([-slope * middle, slope]) for slope in slopes]


def _saturated(points: Sequence[Point]) -> float:
    """Log-likelihood with a rate of its own for each size."""
    total = 0.0
    for size in {point.size for point in points}:
        mine = [point for point in points if point.size == size]
        wins, trials = sum(p.successes for p in mine), sum(p.trials for p in mine)
        rate = min(max(wins / trials, 1e-6), 1 - 1e-6)
        total += wins * np.log(rate) + (trials - wins) * np.log1p(-rate)
    return total


def _resample(points: Sequence[Point], rng: np.random.Generator) -> list[Point]:
    """Runs drawn again within each size, and each run's successes drawn again from its rate."""
    drawn = []
    for size in sorted({point.size for point in points}):
        mine = [point for point in points if point.size == size]
        for i in rng.integers(len(mine), size=len(mine)):
            # Half a success and a failure more: no run is certain.
            rate = (mine[i].successes + 0.5) / (mine[i].trials + 1)
            drawn.append(Point(size, int(rng.binomial(mine[i].trials, rate)), mine[i].trials))
    return drawn
