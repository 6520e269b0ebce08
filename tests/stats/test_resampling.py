"""Scores that are no mean, resampled; the oracle is scipy's own bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from smaug_eval.stats import score_difference, score_interval

Array = NDArray[np.float64]


def per_word(means: Sequence[Array]) -> Array:
    """Perplexity by words of rows (log-likelihood, words)."""
    return np.exp(-means[0][..., 0] / means[0][..., 1])


def stories(seed: int, n: int = 60, better: float = 0.0) -> Array:
    """Log-likelihoods and words of documents; the words are the same for every ``better``."""
    generator = np.random.default_rng(seed)
    words = generator.integers(20, 400, n).astype(float)
    nats = generator.normal(4.0, 0.5, n) - better + generator.normal(0, 0.05, n)
    return np.column_stack([-nats * words, words])


def test_the_interval_is_scipys() -> None:
    rows = stories(1)
    found = score_interval([rows], per_word, resamples=20_000)
    other = stats.bootstrap(
        (rows[:, 0], rows[:, 1]),
        lambda a, b, axis=-1: np.exp(-a.mean(axis=axis) / b.mean(axis=axis)),
        paired=True, vectorized=True, n_resamples=20_000, method="percentile", rng=np.random.default_rng(7),
    )  # fmt: skip
    assert found.score == pytest.approx(np.exp(-rows[:, 0].sum() / rows[:, 1].sum()))
    assert found.interval == pytest.approx(tuple(other.confidence_interval), rel=0.01)
    assert found.standard_error == pytest.approx(other.standard_error, rel=0.03)


def test_the_paired_difference_is_scipys() -> None:
    first, second = stories(2), stories(2, better=0.03)
    found = score_difference([first], [second], per_word, resamples=20_000)
    other = stats.bootstrap(
        (first[:, 0], first[:, 1], second[:, 0], second[:, 1]),
        lambda a, b, c, d, axis=-1: np.exp(-a.mean(axis=axis) / b.mean(axis=axis))
        - np.exp(-c.mean(axis=axis) / d.mean(axis=axis)),
        paired=True, vectorized=True, n_resamples=20_000, method="percentile", rng=np.random.default_rng(7),
    )  # fmt: skip
    assert found.interval is not None
    low, high = other.confidence_interval
    assert found.interval == pytest.approx((low, high), abs=0.02 * (high - low))
    assert found.n == 60
    unpaired = score_interval([first], per_word).interval
    assert unpaired is not None
    assert found.interval[1] - found.interval[0] < (unpaired[1] - unpaired[0]) / 2  # which pairing is for


def test_p_is_large_under_no_difference_and_small_where_there_is_one() -> None:
    """Over 200 data sets without a difference p is about uniform; scipy's Kolmogorov-Smirnov test says so."""
    values = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        base = stories(seed, 40)
        words = base[:, 1]
        one, two = (np.column_stack([base[:, 0] + words * generator.normal(0, 0.1, 40), words]) for _ in range(2))
        found = score_difference([one], [two], per_word, resamples=1_000)
        assert found.p_value is not None
        values.append(found.p_value)
    assert stats.kstest(values, "uniform").pvalue > 0.01
    assert np.mean(np.array(values) < 0.05) < 0.11
    clear = score_difference([stories(5)], [stories(5, better=0.3)], per_word)
    assert clear.p_value is not None
    assert clear.p_value < 0.001


def test_a_difference_does_not_depend_on_which_model_is_first() -> None:
    for better in (-0.03, 0.03):
        first, second = stories(2), stories(2, better=better)
        found, back = (score_difference([a], [b], per_word) for a, b in ((first, second), (second, first)))
        assert found.interval is not None
        assert back == replace(found, difference=-found.difference, interval=(-found.interval[1], -found.interval[0]))


def test_strata_are_resampled_by_themselves() -> None:
    """Two strata of one value each in every row: nothing varies within them, so there is no interval."""
    low, high = np.full((10, 1), 1.0), np.full((30, 1), 3.0)

    def both(means: Sequence[Array]) -> Array:
        return means[0][..., 0] + means[1][..., 0]

    assert score_interval([low, high], both).interval is None
    assert score_interval([low, high], both).score == 4.0
    varied = np.arange(30.0)[:, None]
    found = score_interval([low, varied], both)
    assert found.score == pytest.approx(15.5)
    assert found.standard_error == pytest.approx(np.std(varied) / np.sqrt(30), rel=0.05)


def test_no_interval_from_one_document_and_no_difference_of_other_documents() -> None:
    assert score_interval([np.ones((1, 2))], per_word).interval is None
    with pytest.raises(ValueError, match="not of the same items"):
        score_difference([np.ones((3, 2))], [np.ones((4, 2))], per_word)


def test_few_kinds_of_rows_are_drawn_by_their_numbers() -> None:
    """600 documents of two kinds take the short way, and 600 of as many kinds the long one, to the same standard
    error."""
    right = np.repeat([1.0, 0.0], [200, 400])[:, None]
    almost = right + np.linspace(0, 1e-6, 600)[:, None]

    def mean(means: Sequence[Array]) -> Array:
        return means[0][..., 0]

    expected = float(np.std(right) / np.sqrt(600))
    for rows in (right, almost):
        found = score_interval([rows], mean, resamples=20_000)
        assert found.standard_error == pytest.approx(expected, rel=0.03)
