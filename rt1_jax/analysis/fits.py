"""Curves through success against the number of training episodes, by maximum likelihood.

Two curves of two parameters each are compared:

    power law   failure rate  a N^-b, at most 1: straight in a plot with two logarithmic axes
    logistic    success rate  1 / (1 + exp(-(c + d ln N))): saturates on both sides

Successes are binomial with a dispersion on top (quasi-likelihood): seeds of one size differ by more
than the luck of their episodes. How much more is estimated from the seeds themselves, as one factor
f of the variance for all sizes: Pearson's chi-squared of the seeds around their size's rate, over
its degrees of freedom, at least 1. Whether a curve misses the sizes is then an F test of its
deviance against f, and differences of AIC are divided by f. With one seed a size f cannot be
estimated; it is taken as 1, which makes p-values too small and intervals too narrow if seeds
differ, and `verdict` says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import optimize, stats

MIN_SIZES = 3
"""Different numbers of episodes that a curve of two parameters needs to be tested at all."""


_CLEAR = 4.0  # a difference of AIC that speaks clearly for a curve (Burnham and Anderson)


class FitError(ValueError):
    """Too little to fit a curve to."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One run: how many episodes it was trained on, and how often it then succeeded."""

    size: int
    successes: int
    trials: int


@dataclasses.dataclass(frozen=True)
class Dispersion:
    """How much more the seeds of a size vary than by chance.

    Attributes:
      factor: of the variance; below 1 by luck, NaN where it is not known.
      degrees: of freedom of the estimate: seeds less sizes, of the sizes with some successes and
        some failures. 0: not known.
    """

    factor: float
    degrees: int

    @property
    def applied(self) -> float:
        """The factor that is reckoned with: at least 1."""
        return max(1.0, self.factor) if self.degrees else 1.0

    def draw(self, rng: np.random.Generator) -> float:
        """What the factor may as well be; few seeds tell little of it."""
        if not self.degrees:
            return 1.0
        return max(1.0, self.factor * self.degrees / rng.chisquare(self.degrees))


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted curve.

    Attributes:
      name: "power law" or "logistic".
      parameters: the two of them, as in the module's text (ln a and b, or c and d).
      interval: [2, 2], ends of the 95% interval of each, by drawing the sizes' rates again.
      log_likelihood: of the successes, as if they were binomial.
      deviance: twice the log-likelihood that a rate of its own for each size would gain.
      p_value: how often a curve that holds would miss by more; small means that it does not hold.
      dispersion: how many times as much seeds vary as their episodes' luck explains.
    """

    name: str
    parameters: np.ndarray
    interval: np.ndarray
    log_likelihood: float
    deviance: float
    p_value: float
    dispersion: Dispersion

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
      FitError: fewer than three different sizes, or a point without trials.
    """
    if not all(0 <= point.successes <= point.trials > 0 for point in points):
        raise FitError(f"each point needs trials, and no more successes than them: {points}")
    sizes = sorted({point.size for point in points})
    if len(sizes) < MIN_SIZES:
        raise FitError(
            f"a curve needs runs of at least {MIN_SIZES} different numbers of episodes, there are "
            f"{len(sizes)}: {sizes}"
        )
    pooled = [_pool(points, size) for size in sizes]
    spread = dispersion(points)
    rng = np.random.default_rng(seed)
    fits = {}
    for name in _FAILURE:
        best, likelihood = _maximize(name, pooled)
        found = [
            _maximize(name, _redraw(pooled, spread.draw(rng), rng), best)[0]
            for _ in range(resamples)
        ]
        interval = np.quantile(found, (0.025, 0.975), axis=0).T
        deviance = max(0.0, 2 * (_saturated(pooled) - likelihood))
        p_value = _miss(deviance, len(sizes) - 2, spread)
        fits[name] = Fit(name, best, interval, likelihood, deviance, p_value, spread)
    return fits


def dispersion(points: Sequence[Point]) -> Dispersion:
    """Estimates it from the seeds of each size; sizes without failure or success say nothing."""
    statistic, degrees = 0.0, 0
    for size in {point.size for point in points}:
        mine = [point for point in points if point.size == size]
        whole = _pool(mine, size)
        rate = whole.successes / whole.trials
        if 0 < rate < 1:
            degrees += len(mine) - 1
            statistic += sum(
                (p.successes - p.trials * rate) ** 2 / (p.trials * rate * (1 - rate)) for p in mine
            )
    return Dispersion(statistic / degrees if degrees else float("nan"), degrees)


def verdict(fits: dict[str, Fit], level: float = 0.05) -> str:
    """A plain answer to "does success follow a power law in the number of episodes?"."""
    power, logistic = fits["power law"], fits["logistic"]
    # As many parameters in both: AIC differs by twice the log-likelihoods' difference.
    gain = 2 * (power.log_likelihood - logistic.log_likelihood) / power.dispersion.applied
    low, high = power.interval[1]
    law = f"a power law of the failure rate (exponent {power.parameters[1]:.2f} "
    law += f"[{low:.2f}, {high:.2f}])"
    ahead = "the power law" if gain > 0 else "the logistic curve"
    ahead = f"{ahead} is ahead by ΔAIC {abs(gain):.1f}"
    seeds = _told(power.dispersion)
    chance = f"p = {power.p_value:.2g}"
    if power.p_value < level:
        return (
            f"No: {law} misses the points by more than chance ({chance}); the logistic curve "
            f"{'misses too' if logistic.p_value < level else 'fits'} (p = {logistic.p_value:.2g}), "
            f"and {ahead}.{seeds}"
        )
    if low <= 0 <= high:
        return (
            f"Undecided: {law} fits ({chance}), but success may as well not depend on the number "
            f"of episodes at all.{seeds}"
        )
    if logistic.p_value < level or gain > _CLEAR:
        return (
            f"It looks so: {law} fits ({chance}) and the logistic curve does worse "
            f"(p = {logistic.p_value:.2g}, ΔAIC {gain:.1f}).{seeds}"
        )
    return (
        f"Undecided: {law} fits ({chance}), and so does the logistic curve "
        f"(p = {logistic.p_value:.2g}); {ahead}.{seeds}"
    )


def _told(spread: Dispersion) -> str:
    """A sentence on the seeds, where there is something to say."""
    if not spread.degrees:
        return " How much seeds differ is not known, nor allowed for."
    if spread.applied < 2:
        return ""
    return (
        f" Seeds of a size vary {spread.applied:.0f} times as much (in variance) as the luck of "
        "their episodes explains, which is allowed for: more seeds would tell more than more "
        "episodes."
    )


def _miss(deviance: float, degrees: int, spread: Dispersion) -> float:
    """How often a curve that holds would have a larger deviance."""
    if not spread.degrees:
        return float(stats.chi2.sf(deviance, degrees))
    return float(stats.f.sf(deviance / degrees / spread.applied, degrees, spread.degrees))


def _pool(points: Sequence[Point], size: int) -> Point:
    """All seeds of a size as one."""
    mine = [point for point in points if point.size == size]
    return Point(size, sum(p.successes for p in mine), sum(p.trials for p in mine))


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
    # Drawn again, chance is far larger than what a looser end leaves.
    options = {"xatol": 1e-6, "fatol": 1e-9} if start is None else {"xatol": 1e-4, "fatol": 1e-4}
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


def _saturated(pooled: Sequence[Point]) -> float:
    """Log-likelihood with a rate of its own for each size."""
    wins = np.asarray([point.successes for point in pooled], float)
    trials = np.asarray([point.trials for point in pooled], float)
    rate = np.clip(wins / trials, 1e-6, 1 - 1e-6)
    return float(wins @ np.log(rate) + (trials - wins) @ np.log1p(-rate))


def _redraw(pooled: Sequence[Point], factor: float, rng: np.random.Generator) -> list[Point]:
    """Successes drawn again at each size's own rate, of as many fewer trials as seeds vary more."""
    drawn = []
    for point in pooled:
        trials = max(1, round(point.trials / factor))
        # Half a success and a failure more: no size is certain.
        rate = (point.successes + 0.5) / (point.trials + 1)
        drawn.append(Point(point.size, int(rng.binomial(trials, rate)), trials))
    return drawn
