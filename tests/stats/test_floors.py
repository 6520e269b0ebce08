"""Scores above floors: what tasks are short of them, exact in the end, and intervals that hold as often as they say."""

import itertools
import math

import numpy as np
import pytest

from smaug_eval.stats import (
    Drawn,
    Floored,
    difference_above_floors,
    look_sizes,
    mean_interval,
    narrowed,
    shortfall,
    shortfall_interval,
)
from smaug_eval.stats.sequential import BETS, from_below, log_capital, log_capital_of_bets


def right(size: int, number: int, seed: int) -> np.ndarray:
    """Values 1 and -1 for right and wrong answers, in random order."""
    return np.random.default_rng(seed).permutation(np.repeat([1.0, -1.0], [number, size - number]))


@pytest.mark.parametrize(
    ("before", "now", "left"),
    [
        ((-math.inf, math.inf), (-0.2, 0.3), (-0.2, 0.3)),
        ((-0.2, 0.3), (-0.3, 0.1), (-0.2, 0.1)),
        ((-0.2, 0.3), (-0.1, 0.4), (-0.1, 0.3)),
        ((-0.2, 0.3), (-0.2, 0.3), (-0.2, 0.3)),
        ((0.0, 0.1), (0.3, 0.5), (0.2, 0.2)),  # nothing is left: the middle of the gap from 0.1 to 0.3
        ((0.3, 0.5), (0.0, 0.1), (0.2, 0.2)),
    ],
)
def test_looks_narrow_each_other(
    before: tuple[float, float], now: tuple[float, float], left: tuple[float, float]
) -> None:
    assert narrowed(before, now) == pytest.approx(left)


def test_looks_narrow_to_what_all_of_them_hold() -> None:
    values = np.random.default_rng(4).permutation(np.repeat([1.0, -1.0, 0.0], [30, 20, 150]))
    intervals = [mean_interval(Drawn(values[:n], 200)) for n in look_sizes(200)]
    found = (-math.inf, math.inf)
    for each in intervals:
        found = narrowed(found, each)
    assert found == pytest.approx((max(low for low, _ in intervals), min(high for _, high in intervals)))


def test_a_shortfall_by_hand() -> None:
    # Right on 1 of 4 where 1 of 2 is guessing: (1/2 - 1/4) / (1 - 1/2) = 1/2, of which a third counts.
    parts = [Floored(Drawn(right(4, 1, 0), 4), 0.0, 1 / 3), Floored(Drawn(right(4, 4, 0), 4), 0.0, 2 / 3)]
    assert shortfall(parts) == pytest.approx(1 / 6)
    assert shortfall_interval(parts) == pytest.approx((1 / 6, 1 / 6), abs=1e-9)


def test_over_all_orders_the_capital_of_each_bet_is_one_at_the_true_mean() -> None:
    values = (1.0, -1.0, 0.0, 1.0, 0.5)
    mean = np.array([np.mean(values)])
    for n in (1, 3, 4):
        found = [log_capital_of_bets(Drawn(np.array(each[:n]), 5), mean) for each in itertools.permutations(values)]
        np.testing.assert_allclose(np.exp(found).mean(axis=0), 1.0, rtol=1e-9)


def test_the_capital_of_all_bets_is_the_mean_over_them() -> None:
    drawn, means = Drawn(right(100, 60, 1)[:40], 100), np.array([-0.2, 0.1, 0.3])
    each = np.exp(log_capital_of_bets(drawn, means))
    assert each.shape == (len(BETS), 3)
    np.testing.assert_allclose(np.log(each.mean(axis=0)), log_capital(drawn, means), rtol=1e-9)


def test_vertices_are_nowhere_above_a_convex_function() -> None:
    grid = np.array([-0.7, -0.3, 0.1, 0.2, 0.8])
    found = from_below(grid, grid**4 + grid**2, (-1.0, 1.0))
    assert (found.heights <= found.means**4 + found.means**2 + 1e-12).all()
    assert found.means.min() == -1.0
    assert found.means.max() == 1.0


@pytest.mark.parametrize(("number", "most"), [(225, 0.05), (125, 0.2)])  # far above the floors, and on them
def test_tasks_together_are_short_of_less_than_each_alone(number: int, most: float) -> None:
    parts = [Floored(Drawn(right(250, number, seed)[:60], 250), 0.0, 1 / 8) for seed in range(8)]
    together = shortfall_interval(parts, 0.002)[1]
    assert together < most
    assert together < 0.5 * sum(shortfall_interval([each], 0.002 / 8)[1] for each in parts)


@pytest.mark.parametrize("counts", [(20, 24, 40), (15, 15, 15)])
def test_shortfalls_hold_as_often_as_they_say(counts: tuple[int, ...]) -> None:
    """Tasks of 50 documents with guessing at one half: some below it, and all of them below it."""
    missed = 0
    for seed in range(40):
        wholes = [right(50, number, 100 * seed + place) for place, number in enumerate(counts)]
        truth = sum(max(0.0, 0.5 - number / 50) / 0.5 / 3 for number in counts)
        looks = [
            shortfall_interval([Floored(Drawn(each[:n], 50), 0.0, 1 / 3) for each in wholes], 0.2) for n in (10, 20, 35)
        ]
        missed += any(not low - 1e-9 <= truth <= high + 1e-9 for low, high in looks)
    assert missed <= 0.2 * 40


def test_a_difference_is_that_of_the_scores_not_of_their_linear_parts() -> None:
    # Two tasks of 100 with guessing at one half. First model: 0.8 and 0.3, second: 0.6 and 0.45.
    # Scores: (0.6 + 0) / 2 and (0.2 + 0) / 2, so the first is 0.2 ahead; linear: (0.6 - 0.4 - 0.2 + 0.1) / 2 = 0.05.
    wholes = [[right(100, n, 10 + n) for n in own] for own in ((80, 30), (60, 45))]
    short = [[Floored(Drawn(each, 100), 0.0, 0.5) for each in own] for own in wholes]
    apart = np.concatenate([one - two for one, two in zip(*wholes, strict=True)])  # / 2 for right and wrong, / 0.5
    linear = Drawn(apart, 200, 2.0)
    assert float(apart.mean()) == pytest.approx(0.05)
    assert difference_above_floors(linear, short) == pytest.approx((0.2, 0.2), abs=1e-6)
    order = np.random.default_rng(0).permutation(200)[:120]
    seen = [[each[np.sort(order[order // 100 == k]) % 100] for k, each in enumerate(own)] for own in wholes]
    part = [[Floored(Drawn(each, 100), 0.0, 0.5) for each in own] for own in seen]
    low, high = difference_above_floors(Drawn(apart[order], 200, 2.0), part)
    assert low < 0.2 < high


def test_without_floors_it_is_the_interval_of_the_mean() -> None:
    drawn = Drawn(right(100, 60, 1)[:40], 100)
    assert difference_above_floors(drawn, []) == mean_interval(drawn)
