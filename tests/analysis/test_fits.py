"""Curves through success rates: that known ones are found again, and wrong ones noticed."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from rt1_jax.analysis.fits import FitError, Point, dispersion, fit_curves, verdict

SIZES = (100, 300, 1_000, 3_000)
LAW = (np.log(3.0), 0.4)  # failure 3 N^-0.4: 48% at 100 episodes, 12% at 3,000
LOGISTIC = (-11.5, 2.0)  # success from 9% to 99%


def power_law(size):
    return 1 - np.exp(LAW[0] - LAW[1] * np.log(size))


def logistic(size):
    return 1 / (1 + np.exp(-(LOGISTIC[0] + LOGISTIC[1] * np.log(size))))


def exactly(curve, trials, seeds=1, sizes=SIZES):
    """Points right on a curve."""
    return [Point(n, round(curve(n) * trials), trials) for n in sizes for _ in range(seeds)]


def drawn(curve, trials, seeds, rng, spread=0.0):
    """Points whose seeds' rates differ (on the log-odds) by `spread`, and by chance."""
    points = []
    for n in SIZES:
        for _ in range(seeds):
            odds = np.log(curve(n) / (1 - curve(n))) + spread * rng.normal()
            points.append(Point(n, int(rng.binomial(trials, 1 / (1 + np.exp(-odds)))), trials))
    return points


@pytest.mark.parametrize(
    ("name", "curve", "truth"), [("power law", power_law, LAW), ("logistic", logistic, LOGISTIC)]
)
def test_the_true_curve_is_found_again_and_the_other_one_rejected(name, curve, truth):
    fits = fit_curves(exactly(curve, 100_000), resamples=30)
    np.testing.assert_allclose(fits[name].parameters, truth, rtol=0.01)
    np.testing.assert_allclose(fits[name].success(SIZES), [curve(n) for n in SIZES], atol=1e-3)
    assert fits[name].deviance < 0.1
    assert fits[name].p_value > 0.9
    (other,) = fits.keys() - {name}
    assert fits[other].p_value < 1e-6
    assert fits[other].log_likelihood < fits[name].log_likelihood


def test_deviance_and_p_value_of_one_seed_a_size_by_hand():
    points = [
        Point(100, 30, 100),
        Point(300, 40, 100),
        Point(1_000, 80, 100),
        Point(3_000, 85, 100),
    ]
    for fit in fit_curves(points, resamples=2).values():
        rates = fit.success(SIZES)
        wins, trials = np.asarray([p.successes for p in points]), 100
        by_hand = 2 * sum(
            w * np.log(w / trials / r) + (trials - w) * np.log((1 - w / trials) / (1 - r))
            for w, r in zip(wins, rates, strict=True)
        )
        np.testing.assert_allclose(fit.deviance, by_hand, rtol=1e-6)
        # Four sizes less two parameters.
        np.testing.assert_allclose(fit.p_value, np.exp(-by_hand / 2), rtol=1e-6)


def test_the_fit_is_the_maximum_of_the_likelihood():
    points = [
        Point(100, 20, 100),
        Point(300, 35, 100),
        Point(1_000, 80, 100),
        Point(3_000, 97, 100),
    ]
    for fit in fit_curves(points, resamples=2).values():
        for step in ((1e-2, 0), (-1e-2, 0), (0, 1e-2), (0, -1e-2), (0.02, 3e-3), (-0.02, -3e-3)):
            moved = dataclasses.replace(fit, parameters=fit.parameters + step)
            rates = moved.success(SIZES)
            likelihood = sum(
                p.successes * np.log(r) + (p.trials - p.successes) * np.log(1 - r)
                for p, r in zip(points, rates, strict=True)
            )
            assert likelihood < fit.log_likelihood


def test_dispersion_of_hand_made_seeds():
    # 40 and 60 of 100 around 50: (10^2 + 10^2) / 25 = 8, with one degree of freedom.
    found = dispersion([Point(100, 40, 100), Point(100, 60, 100)])
    assert (found.factor, found.degrees, found.applied) == (8.0, 1, 8.0)
    # A size without failures tells nothing of it, one without successes neither.
    sure = [Point(300, 100, 100), Point(300, 100, 100), Point(10, 0, 100), Point(10, 0, 100)]
    assert dispersion([*sure, Point(100, 40, 100), Point(100, 60, 100)]) == found
    assert dispersion(sure).degrees == 0
    assert dispersion(sure).applied == 1.0
    # Seeds that agree better than chance do not make the rest surer.
    assert dispersion([Point(100, 50, 100), Point(100, 50, 100)]).applied == 1.0


def test_seeds_that_differ_make_p_values_larger_and_intervals_wider():
    calm = exactly(logistic, 300, seeds=2)
    wild = [
        Point(p.size, int(np.clip(p.successes + (40 if i % 2 else -40), 3, 297)), 300)
        for i, p in enumerate(calm)
    ]
    one, other = fit_curves(calm, resamples=60), fit_curves(wild, resamples=60)
    factor = other["power law"].dispersion.applied
    assert factor > 5
    assert one["power law"].p_value < 0.01 < 0.05 < other["power law"].p_value
    deviance = other["power law"].deviance
    expected = stats.f.sf(deviance / 2 / factor, 2, other["power law"].dispersion.degrees)
    np.testing.assert_allclose(other["power law"].p_value, expected)
    assert f"Seeds of a size vary {factor:.0f} times as much" in verdict(other)
    assert "Seeds of a size" not in verdict(one)
    for name in one:
        width, wider = np.ptp(one[name].interval, axis=1), np.ptp(other[name].interval, axis=1)
        assert (wider > 1.5 * width).all()


@pytest.mark.parametrize(("spread", "seeds"), [(0.0, 1), (0.0, 2), (0.5, 2)])
def test_intervals_cover_the_truth_and_true_curves_are_seldom_rejected(spread, seeds):
    rng = np.random.default_rng(0)
    repeats, covered, rejected = 25, 0, 0
    for repeat in range(repeats):
        fit = fit_curves(drawn(logistic, 200, seeds, rng, spread), seed=repeat, resamples=60)
        low, high = fit["logistic"].interval[1]
        covered += low <= LOGISTIC[1] <= high
        rejected += fit["logistic"].p_value < 0.05
    assert covered >= 0.8 * repeats  # 90% to 99% in 150 repeats of 100 resamples
    assert rejected <= 0.15 * repeats  # 0% to 9%


def test_verdict_no():
    text = verdict(fit_curves(exactly(logistic, 2_000, seeds=2), resamples=20))
    assert text.startswith("No: a power law of the failure rate (exponent ")
    assert "the logistic curve fits" in text
    assert "the logistic curve is ahead by ΔAIC" in text


def test_verdict_no_when_neither_fits():
    rates = {100: 0.7, 300: 0.2, 1_000: 0.8, 3_000: 0.3}
    text = verdict(fit_curves(exactly(rates.get, 1_000, seeds=2), resamples=20))
    assert text.startswith("No: ")
    assert "the logistic curve misses too" in text


def test_verdict_it_looks_so():
    text = verdict(fit_curves(exactly(power_law, 20_000, seeds=2), resamples=20))
    assert text.startswith("It looks so: a power law of the failure rate (exponent 0.40 [")
    assert "the logistic curve does worse" in text
    assert "not known" not in text


def test_verdict_undecided_between_two_curves_that_fit():
    text = verdict(fit_curves(exactly(power_law, 60, seeds=2), resamples=40))
    assert text.startswith("Undecided: ")
    assert "and so does the logistic curve" in text


def test_verdict_undecided_where_success_does_not_change():
    text = verdict(
        fit_curves([Point(n, w, 50) for n, w in zip(SIZES, (20, 22, 19, 21), strict=True)])
    )
    assert text.startswith("Undecided: ")
    assert "may as well not depend on the number of episodes" in text


def test_one_seed_a_size_is_said():
    text = verdict(fit_curves(exactly(power_law, 20_000), resamples=20))
    assert text.endswith("How much seeds differ is not known, nor allowed for.")


@pytest.mark.parametrize("wins", [0, 100])
def test_all_failures_and_all_successes_do_not_crash(wins):
    fits = fit_curves([Point(n, wins, 100) for n in SIZES for _ in range(2)], resamples=20)
    for fit in fits.values():
        np.testing.assert_allclose(fit.success(SIZES), wins / 100, atol=1e-2)
        assert np.isfinite(fit.interval).all()
        assert fit.p_value > 0.5
    assert verdict(fits).startswith("Undecided: ")


def test_a_size_without_failures_among_others():
    wins = (5, 40, 90, 100)
    fits = fit_curves([Point(n, w, 100) for n, w in zip(SIZES, wins, strict=True)], resamples=20)
    assert fits["logistic"].p_value > 0.05 > fits["power law"].p_value


def test_too_few_sizes_are_refused():
    points = exactly(power_law, 100, seeds=3, sizes=(100, 300))
    with pytest.raises(FitError, match=r"at least 3 different numbers of episodes, there are 2: "):
        fit_curves(points)
    with pytest.raises(FitError, match="there are 0"):
        fit_curves([])
    with pytest.raises(FitError, match="needs trials"):
        fit_curves([*points, Point(10, 0, 0)])


def test_equal_seeds_give_equal_results():
    points = exactly(power_law, 100, seeds=2)
    first, again, other = (fit_curves(points, seed=s, resamples=20) for s in (1, 1, 2))
    for name in first:
        np.testing.assert_array_equal(first[name].interval, again[name].interval)
        np.testing.assert_array_equal(first[name].parameters, other[name].parameters)
        assert (first[name].interval != other[name].interval).any()
