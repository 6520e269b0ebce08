"""Anytime-valid intervals: worked by hand, exact over all orders, exact at the end, and right as often as they say."""

import itertools
import math

import numpy as np
import pytest

from smaug_eval.stats import Drawn, Outcome, average_interval, capital_paths, decided, log_capital, look_sizes
from smaug_eval.stats import mean_interval as interval_of
from smaug_eval.stats.sequential import BETS

SHARES = np.array(BETS)


def right_wrong(size: int, disagree: float, difference: float, seed: int) -> np.ndarray:
    apart = round(size * disagree)
    gained = round((apart + size * difference) / 2)
    values = np.zeros(size)
    values[:gained], values[gained:apart] = 1.0, -1.0
    return np.random.default_rng(seed).permutation(values)


def test_the_capital_of_two_wins_by_hand() -> None:
    # N = 4, mean 0: y = 1 at m = 1/2, then y = 1 at m = (4/2 - 1) / 3 = 1/3, of which a unit becomes 2 and 3.
    up = np.mean((1 + SHARES) * (1 + 2 * SHARES))
    down = np.mean((1 - SHARES) ** 2)
    found = log_capital(Drawn(np.array([1.0, 1.0]), 4), np.array([0.0]))
    assert found[0] == pytest.approx(math.log((up + down) / 2), abs=1e-12)


def test_without_an_end_the_mean_of_what_is_left_stays() -> None:
    up, down = np.mean((1 + SHARES) ** 2), np.mean((1 - SHARES) ** 2)
    found = log_capital(Drawn(np.array([1.0, 1.0])), np.array([0.0]))
    assert found[0] == pytest.approx(math.log((up + down) / 2), abs=1e-12)


@pytest.mark.parametrize("values", [(1.0, -1.0, 0.0, 1.0, 0.0), (0.7, -0.2, 0.1, -0.9, 0.3)])
def test_over_all_orders_the_capital_at_the_true_mean_is_one(values: tuple[float, ...]) -> None:
    orders = np.array(list(itertools.permutations(values)))
    paths = capital_paths(orders, float(np.mean(values)), [1, 2, 3, 4], population=5)
    np.testing.assert_allclose(np.exp(paths).mean(axis=0), 1.0, rtol=1e-9)


def test_weighted_values_beyond_one_are_bet_on_within_their_bound() -> None:
    values = np.array([2.0, -1.5, 0.0, 0.5])
    orders = np.array(list(itertools.permutations(values)))
    paths = capital_paths(orders, float(values.mean()), [1, 2, 3], population=4, bound=2.0)
    np.testing.assert_allclose(np.exp(paths).mean(axis=0), 1.0, rtol=1e-9)


def test_paths_and_candidates_agree() -> None:
    values = right_wrong(300, 0.2, 0.05, 1)
    paths = capital_paths(values[None, :], 0.01, [7, 64, 200], population=300)
    alone = [log_capital(Drawn(values[:n], 300), np.array([0.01]))[0] for n in (7, 64, 200)]
    np.testing.assert_allclose(paths[0], alone, rtol=1e-9)


def test_all_documents_give_the_exact_mean() -> None:
    values = right_wrong(200, 0.2, 0.1, 2)
    assert interval_of(Drawn(values, 200)) == pytest.approx((0.1, 0.1), abs=1e-9)
    widths = [np.subtract(*interval_of(Drawn(values[:n], 200))[::-1]) for n in (50, 100, 150, 190, 199, 200)]
    assert all(later < earlier for earlier, later in itertools.pairwise(widths))
    assert widths[-2] <= 2 / 200 + 1e-9  # one document is left, which adds at most 1 / 200 either way
    assert widths[-1] == pytest.approx(0, abs=1e-9)


def test_means_that_no_rest_can_make_are_impossible() -> None:
    drawn = Drawn(np.array([1.0, 1.0, 1.0]), 4)
    assert drawn.possible == (0.5, 1.0)
    assert np.isinf(log_capital(drawn, np.array([0.4, 1.1]))).all()
    assert np.isfinite(log_capital(drawn, np.array([0.5, 1.0]))).all()


def test_an_interval_ends_where_the_capital_reaches_one_over_alpha() -> None:
    drawn = Drawn(right_wrong(400, 0.2, 0.05, 3)[:200], 400)
    ends = interval_of(drawn, 0.02)
    np.testing.assert_allclose(log_capital(drawn, np.array(ends)), math.log(50), atol=1e-3)


@pytest.mark.parametrize("difference", [0.0, 0.06])
def test_intervals_of_all_looks_hold_together_as_often_as_they_say(difference: float) -> None:
    size, looks = 200, look_sizes(200, first=10)
    paths = np.stack([right_wrong(size, 0.2, difference, seed) for seed in range(400)])
    ever = (capital_paths(paths, difference, looks, population=size) >= math.log(5)).any(axis=1)  # alpha = 20%
    assert ever.mean() <= 0.2


def test_the_average_of_columns_is_exact_in_the_end_and_between_the_columns_before() -> None:
    wholes = [right_wrong(size, 0.2, gap, seed) for seed, (size, gap) in enumerate([(200, 0.1), (100, 0.0), (50, 0.2)])]
    done = average_interval([Drawn(each, len(each)) for each in wholes])
    assert done == pytest.approx((0.1, 0.1), abs=1e-9)
    half = [Drawn(each[: len(each) // 2], len(each)) for each in wholes]
    low, high = average_interval(half)
    assert low < 0.1 < high
    alone = np.mean([interval_of(each) for each in half], axis=0)  # all three together at the same level are weaker
    assert high - low < alone[1] - alone[0]


def test_the_average_of_one_column_is_that_column() -> None:
    drawn = Drawn(right_wrong(300, 0.2, 0.1, 5)[:150], 300)
    assert average_interval([drawn]) == pytest.approx(interval_of(drawn), abs=2e-3)


def test_averages_hold_as_often_as_they_say() -> None:
    sizes, stops = (60, 120, 200), (0.5, 0.25, 0.75)  # each column stops elsewhere
    missed = 0
    for seed in range(25):
        wholes = [right_wrong(size, 0.2, 0.05, 100 * seed + place) for place, size in enumerate(sizes)]
        truth = float(np.mean([each.mean() for each in wholes]))
        for share in (0.5, 1.0):
            drawn = [
                Drawn(each[: int(share * stop * len(each))], len(each))
                for each, stop in zip(wholes, stops, strict=True)
            ]
            low, high = average_interval(drawn, 0.2)
            missed += not low <= truth <= high
    assert missed <= 0.2 * 25


def test_looks_grow_and_end_with_all() -> None:
    assert look_sizes(100) == [50, 63, 79, 98, 100]
    assert look_sizes(50) == [50]
    assert look_sizes(3) == [3]


@pytest.mark.parametrize(
    ("interval", "margin", "outcome"),
    [
        ((0.01, 0.2), None, Outcome.BETTER),
        ((-0.2, -0.01), 0.3, Outcome.WORSE),
        ((-0.01, 0.02), 0.02, Outcome.NO_DETECTABLE_DIFFERENCE),
        ((-0.01, 0.02), None, Outcome.INCONCLUSIVE),
        ((-0.03, 0.01), 0.02, Outcome.INCONCLUSIVE),
        ((0.0, 0.01), None, Outcome.INCONCLUSIVE),
    ],
)
def test_what_an_interval_decides(interval: tuple[float, float], margin: float | None, outcome: Outcome) -> None:
    assert decided(interval, margin) is outcome
