"""Estimators over several answers: against every subset, and against formulas worked out by hand."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.stats.repeats import majority_at_k, pass_at_k, repeated_mean


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_mean_over_all_subsets(samples: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    values = [number < correct for number in range(samples)]
    assert pass_at_k(samples, correct, k) == pytest.approx(fmean(map(any, itertools.combinations(values, k))))


def test_pass_at_k_of_the_paper() -> None:
    """The numerically stable form of Chen et al. 2021, figure 3."""
    for n, c, k in ((200, 13, 100), (200, 13, 10), (100, 0, 5), (10, 10, 3)):
        expected = 1.0 if n - c < k else 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))
        assert pass_at_k(n, c, k) == pytest.approx(expected)
    for wrong in ((5, 6, 1), (5, 1, 6), (5, 1, 0)):
        with pytest.raises(ValueError, match="cannot be estimated"):
            pass_at_k(*wrong)


@given(st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=8), st.data())
def test_majority_is_the_mean_over_all_subsets(answers: list[str | None], data: st.DataObject) -> None:
    right = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0}
    k = data.draw(st.integers(1, len(answers)))

    def vote(drawn: tuple[str | None, ...]) -> float:
        counts = Counter(answer for answer in drawn if answer is not None)
        winners = [answer for answer, count in counts.items() if count == max(counts.values())]
        return fmean(right[answer] for answer in winners) if winners else 0.0

    votes = Counter(answer for answer in answers if answer is not None)
    found = majority_at_k(votes, right, k, answers.count(None))
    assert found == pytest.approx(fmean(map(vote, itertools.combinations(answers, k))))


def test_majority_by_hand() -> None:
    # Right twice of three: alone 2/3; of the three pairs one is right, two are tied and right half the time: 2/3.
    assert majority_at_k({"r": 2, "w": 1}, {"r": 1.0, "w": 0.0}, 1) == pytest.approx(2 / 3)
    assert majority_at_k({"r": 2, "w": 1}, {"r": 1.0, "w": 0.0}, 2) == pytest.approx(2 / 3)
    assert majority_at_k({"r": 2, "w": 1}, {"r": 1.0, "w": 0.0}, 3) == 1.0
    assert majority_at_k({}, {}, 2, abstained=3) == 0.0


def test_the_two_parts_of_the_variance() -> None:
    values = [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    found = repeated_mean(values)
    assert (found.mean, found.per_repeat) == (0.5, (0.5, 0.5))
    # Means 0.5, 1, 0, 0.5: variance 1/6. Within: 0.5, 0, 0, 0.5, their mean 0.25.
    assert found.stderr == pytest.approx(math.sqrt(1 / 6 / 4))
    assert found.stderr_repeats == pytest.approx(math.sqrt(0.25 / 8))
    assert found.stderr_documents == pytest.approx(math.sqrt(1 / 24 - 1 / 32))
    assert found.between_repeats == 0.0
    assert repeated_mean([[1.0]]).stderr is None
    assert repeated_mean([[1.0], [0.0]]).stderr_repeats is None


def test_the_standard_error_is_the_spread_of_the_mean() -> None:
    """Simulated: documents with their own probabilities, four answers each."""
    random = np.random.default_rng(0)
    means, told, parts = [], [], []
    for _ in range(400):
        chances = random.beta(1, 1, size=60)
        found = repeated_mean((random.random((60, 4)) < chances[:, None]).astype(float).tolist())
        means.append(found.mean)
        told.append(found.stderr or 0.0)
        parts.append(found.stderr_repeats or 0.0)
    assert fmean(told) == pytest.approx(float(np.std(means)), rel=0.1)
    # E[p (1 - p)] = 1/6 under a uniform p.
    assert fmean(parts) == pytest.approx(math.sqrt(1 / 6 / 240), rel=0.05)
