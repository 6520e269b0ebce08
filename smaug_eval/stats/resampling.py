"""Bootstrap intervals and differences of scores that are no mean over items, such as perplexity, BLEU or F1.

Each item brings a row of numbers, such as (log-likelihood, words); the score is a function of the rows' means. Items
are drawn with replacement within their stratum, for two models the same ones (B. Efron, Annals of Statistics 7, 1979;
for machine translation P. Koehn, EMNLP 2004).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smaug_eval.stats.bootstrap import percentile_interval, pieces
from smaug_eval.stats.draws import Draws, stands_second
from smaug_eval.stats.means import RESAMPLES, SEED, Interval, Values

Parts = NDArray[np.float64]
"""Rows of numbers of the items of a stratum, shape ``(n, k)``."""
ScoreOf = Callable[[Sequence[NDArray[np.float64]]], NDArray[np.float64]]
"""Scores, shape ``(...)``, from the means of each stratum's rows, each of shape ``(..., k)``."""

_FEW_ROWS = 256
_WORK = 1 << 30
"""Numbers drawn at most; with many long documents fewer resamples are drawn."""
_FEWEST = 1_000
_ROUNDING = 1e-12


@dataclass(frozen=True)
class ScoreInterval:
    """Hold a score computed from parts, with its interval.

    Attributes:
        score: From all items.
        interval: 95%; None with fewer than two items in a stratum, or where nothing varies.
        standard_error: The resampled scores' standard deviation; None where there is no interval.
        resamples: How many were drawn.
    """

    score: float
    interval: Interval | None
    standard_error: float | None
    resamples: int


@dataclass(frozen=True)
class ScoreDifference:
    """Hold the first model's score less the second's, over the same items.

    Attributes:
        difference: From all items.
        interval: 95%; None with fewer than two items in a stratum, or where nothing varies.
        p_value: Two-sided, of no difference; None where there is no interval.
        n: Items of all strata.
        resamples: How many were drawn.
    """

    difference: float
    interval: Interval | None
    p_value: float | None
    n: int
    resamples: int


def score_interval(
    strata: Sequence[Parts], score: ScoreOf, *, resamples: int = RESAMPLES, seed: int = SEED
) -> ScoreInterval:
    """Resample one model's score.

    Args:
        strata: Rows of the items of each stratum.
        score: Makes the score of the strata's mean rows.
        resamples: Number of resamples.
        seed: Of the generator.
    """
    observed = _observed(strata, score)
    count = _affordable(strata, resamples)
    if any(len(rows) < 2 for rows in strata):
        return ScoreInterval(observed, None, None, 0)
    drawn = score(_resampled(strata, count, seed))
    if not _varies(drawn):
        return ScoreInterval(observed, None, None, count)
    return ScoreInterval(observed, percentile_interval(drawn), float(drawn.std(ddof=1)), count)


def score_difference(
    first: Sequence[Parts],
    second: Sequence[Parts],
    score: ScoreOf,
    *,
    names: Sequence[str] | None = None,
    draws: Draws | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> ScoreDifference:
    """Compare two models' scores over the same items.

    The p value is twice the smaller share of resampled differences on either side of 0, the observed one counted among
    them (A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application", 1997).

    Args:
        first: The first model's rows of each stratum.
        second: The second model's, of the same items in the same order.
        score: Makes a score of the strata's mean rows.
        names: Of the strata; their numbers where None. The draws of a stratum depend on its name.
        draws: What was drawn for comparisons with other models; ``seed`` is then its own.
        resamples: Number of resamples.
        seed: Of the generator.

    Returns:
        The same for both directions but for the signs.

    Raises:
        ValueError: the shapes differ.
    """
    if [rows.shape for rows in first] != [rows.shape for rows in second]:
        raise ValueError("the rows are not of the same items")
    if stands_second(first, second):
        back = score_difference(second, first, score, names=names, draws=draws, resamples=resamples, seed=seed)
        interval: Interval | None = None if back.interval is None else (-back.interval[1], -back.interval[0])
        return replace(back, difference=-back.difference if back.difference else 0.0, interval=interval)
    n = sum(map(len, first))
    difference = _observed(first, score) - _observed(second, score)
    if any(len(rows) < 2 for rows in first):
        return ScoreDifference(difference, None, None, n, 0)
    count = _affordable([*first, *second], resamples)
    draws = Draws(seed) if draws is None else draws
    titles = map(str, range(len(first))) if names is None else names
    pairs = [draws.pair(title, own, other, count) for title, own, other in zip(titles, first, second, strict=True)]
    drawn = score([own for own, _ in pairs]) - score([other for _, other in pairs])
    if not _varies(drawn):
        return ScoreDifference(difference, None, None, n, count)
    tail = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    p_value = min(1.0, 2 * (int(tail) + 1) / (len(drawn) + 1))
    return ScoreDifference(difference, percentile_interval(drawn), p_value, n, count)


def _observed(strata: Sequence[Parts], score: ScoreOf) -> float:
    return float(score([rows.mean(axis=0) for rows in strata]))


def _affordable(strata: Sequence[Parts], resamples: int) -> int:
    numbers = sum(rows.size for rows in strata if len(rows) > _FEW_ROWS)
    return resamples if not numbers else max(min(resamples, _FEWEST), min(resamples, _WORK // numbers))


def _varies(drawn: Values) -> bool:
    return bool(np.isfinite(drawn).all()) and float(np.ptp(drawn)) > _ROUNDING * max(1.0, float(np.abs(drawn).max()))


def _resampled(strata: Sequence[Parts], resamples: int, seed: int) -> list[NDArray[np.float64]]:
    """Mean rows of each stratum in each resample, shape ``(resamples, k)``."""
    generator = np.random.default_rng(seed)
    return [_resampled_means(rows, resamples, generator) for rows in strata]


def _resampled_means(rows: Parts, resamples: int, generator: np.random.Generator) -> NDArray[np.float64]:
    n = len(rows)
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    if len(kinds) <= _FEW_ROWS:  # how often each kind of row was drawn is all there is to draw
        means: NDArray[np.float64] = generator.multinomial(n, counts / n, size=resamples) @ kinds / n
        return means
    drawn = []
    for size in pieces(resamples, n):
        places = generator.integers(n, size=(size, n), dtype=np.int64) + n * np.arange(size)[:, None]
        weights = np.bincount(places.ravel(), minlength=size * n).reshape(size, n)
        drawn.append(weights @ rows / n)
    return np.concatenate(drawn)
