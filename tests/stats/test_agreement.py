"""Agreement of raters and strengths of players, against scikit-learn and statsmodels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.metrics import cohen_kappa_score

from smaug_eval.stats import bradley_terry, cohen_kappa, quadratic_kappa
from smaug_eval.stats.bradley_terry import CENTRE, SCALE


@pytest.mark.parametrize("seed", range(4))
def test_kappa_equals_scikit_learns(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first = generator.integers(1, 11, 60).tolist()
    second = [int(np.clip(value + generator.integers(-2, 3), 1, 10)) for value in first]
    scale = list(range(1, 11))
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))
    expected = cohen_kappa_score(first, second, labels=scale, weights="quadratic")
    assert quadratic_kappa(first, second) == pytest.approx(expected)


def test_kappa_by_hand() -> None:
    # Of 10 items 4 both A, 3 both B: 0.7; chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5; (0.7 - 0.5) / 0.5.
    first = list("AAAAABBBBB")
    second = list("AAAABAABBB")
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa([], []) is cohen_kappa("AA", "AA") is None
    assert quadratic_kappa([7.0, 7.0], [7.0, 7.0]) is quadratic_kappa([], []) is None
    assert quadratic_kappa([1.5, 9.5], [1.5, 9.5]) == 1
    with pytest.raises(ValueError, match="2"):
        quadratic_kappa([1, 2], [1])


def games(seed: int, strengths: dict[str, float], each: int = 30) -> list[tuple[str, str, float]]:
    generator = np.random.default_rng(seed)
    found = []
    for first, second in itertools.combinations(strengths, 2):
        chance = 1 / (1 + np.exp(strengths[second] - strengths[first]))
        outcomes = generator.choice([1.0, 0.0, 0.5], each, p=[0.8 * chance, 0.8 * (1 - chance), 0.2])
        found += [(first, second, float(outcome)) for outcome in outcomes]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_strengths_equal_those_of_a_logistic_regression(seed: int) -> None:
    played = games(seed, {"a": 1.0, "b": 0.3, "c": 0.0, "d": -0.8})
    found = bradley_terry(played)
    names = sorted(found)
    rows = np.zeros((len(played), len(names)))
    for row, (first, second, _) in zip(rows, played, strict=True):
        row[names.index(first)], row[names.index(second)] = 1, -1
    # The first player's strength is 0; a tie is half a win.
    fit = sm.GLM([outcome for *_, outcome in played], rows[:, 1:], family=sm.families.Binomial()).fit()
    expected = np.array([0.0, *fit.params])
    ratings = CENTRE + SCALE * (expected - expected.mean())
    assert [found[name].rating for name in names] == pytest.approx(ratings, abs=0.01)
    assert np.mean([each.rating for each in found.values()]) == pytest.approx(CENTRE)
    assert list(found) == sorted(names, key=lambda name: -found[name].rating)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    truth = {"a": 0.7, "b": 0.0, "c": -0.7}
    inside = 0
    for seed in range(60):
        found = bradley_terry(games(seed, truth, 60), resamples=300)
        interval = found["a"].interval
        assert interval is not None
        # A tie pulls towards the middle: with a fifth of ties the log odds are those of 0.8 p + 0.1.
        inside += interval[0] <= CENTRE + SCALE * 0.55 <= interval[1]
    assert 50 <= inside <= 60


def test_who_never_lost_has_an_open_strength() -> None:
    found = bradley_terry([("a", "b", 1.0)] * 5 + [("b", "c", 1.0), ("c", "b", 1.0)], list(range(7)))
    assert (found["a"].open, found["b"].open) == (True, False)
    assert np.isfinite(found["a"].rating)
    assert bradley_terry([]) == {}
    with pytest.raises(ValueError, match="labels"):
        bradley_terry([("a", "b", 1.0)], [1, 2])


def test_clusters_are_drawn_whole() -> None:
    played = games(1, {"a": 0.5, "b": 0.0, "c": -0.5})
    alone, together = (bradley_terry(played, clusters) for clusters in (None, [n // 10 for n in range(len(played))]))
    assert alone["a"].rating == pytest.approx(together["a"].rating)
    assert alone["a"].interval != together["a"].interval
