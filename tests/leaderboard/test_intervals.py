from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from smaug_eval.leaderboard.intervals import bootstrap_interval, mean_interval, normal_interval
from smaug_eval.stats import wilson_interval


def stderr_of(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


@pytest.mark.parametrize(("right", "n"), [(0, 5), (1, 20), (9, 1319), (600, 1172), (20, 20)])
def test_wilson_equals_scipy_s(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_zeros_and_ones_are_known_by_their_standard_error() -> None:
    binary = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    assert mean_interval(0.6, stderr_of(binary), 5) == wilson_interval(0.6, 5)
    shares = np.array([0.9, 0.3, 0.5, 0.7])
    stderr = stderr_of(shares)
    assert mean_interval(0.6, stderr, 4) == pytest.approx((0.6 - 1.959964 * stderr, 0.6 + 1.959964 * stderr))


def test_without_a_standard_error_there_is_no_interval() -> None:
    assert mean_interval(1.0, None, 1) is None
    assert normal_interval(0.5, None) is None


def test_normal_intervals_stay_within_the_scale() -> None:
    assert normal_interval(0.01, 0.1) == (0.0, pytest.approx(0.2059964))


def made_up(seed: int) -> list[list[np.ndarray]]:
    """Six columns in the leaderboard's shape: one of 57 small tasks, one of shares, four of zeros and ones."""
    generator = np.random.default_rng(seed)
    single = [[(generator.random(n) < p).astype(float)] for n, p in ((1172, 0.5), (10_042, 0.7), (1267, 0.6))]
    subjects = [(generator.random(100 + 5 * part) < 0.4).astype(float) for part in range(57)]
    return [*single, subjects, [generator.beta(0.5, 0.5, 817)], [(generator.random(1319) < 0.1).astype(float)]]


def test_bootstrap_agrees_with_the_closed_form() -> None:
    columns = made_up(1)
    mean = np.mean([np.mean([values.mean() for values in column]) for column in columns])
    errors = [math.hypot(*(stderr_of(values) for values in column)) / len(column) for column in columns]
    stderr = math.hypot(*errors) / 6
    low, high = bootstrap_interval(columns, resamples=20_000) or (0.0, 0.0)
    assert (low, high) == pytest.approx((mean - 1.96 * stderr, mean + 1.96 * stderr), abs=0.05 * stderr)


def test_bootstrap_is_repeatable_and_follows_the_seed() -> None:
    columns = made_up(1)
    assert bootstrap_interval(columns) == bootstrap_interval(columns)
    assert bootstrap_interval(columns) != bootstrap_interval(columns, seed=7)


def test_small_tasks_keep_the_unbiased_variance() -> None:
    # Without stretching, the variance of n = 4 would be a quarter too small.
    pairs = [[np.array([0.0, 1.0, 0.2, 0.6])] for _ in range(50)]
    stderr = stderr_of(pairs[0][0]) / math.sqrt(50)
    low, high = bootstrap_interval(pairs, resamples=20_000) or (0.0, 0.0)
    assert (high - low) / (2 * 1.96) == pytest.approx(stderr, rel=0.03)


@pytest.mark.parametrize("values", [np.array([1.0]), np.array([0.0, math.nan])])
def test_where_nothing_can_be_resampled_there_is_no_interval(values: np.ndarray) -> None:
    assert bootstrap_interval([[np.array([0.0, 1.0])], [values]]) is None
    assert bootstrap_interval([]) is None


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(3)
    shares = ((0.05, 200), (0.5, 120))
    truth, runs, hits = np.mean([share for share, _ in shares]), 500, {"bootstrap": 0, "wilson": 0}
    for run in range(runs):
        columns = [[(generator.random(n) < share).astype(float)] for share, n in shares]
        low, high = bootstrap_interval(columns, resamples=500, seed=run) or (0.0, 0.0)
        hits["bootstrap"] += low <= truth <= high
        low, high = wilson_interval(float(columns[0][0].mean()), 200)
        hits["wilson"] += low <= 0.05 <= high
    # 95% +- 3.3 standard errors of a count in 500
    assert {name: 0.918 <= count / runs <= 0.982 for name, count in hits.items()} == {"bootstrap": True, "wilson": True}
