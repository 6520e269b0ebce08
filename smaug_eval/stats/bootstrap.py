"""Bootstrap percentile intervals of a weighted sum of the means of strata."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from smaug_eval.stats.means import RESAMPLES, SEED, Interval, Values

_FEW_LEVELS = 32
_CELLS = 1 << 20  # drawn at once; bounds the memory at some 16 MiB


def stratified_means(
    strata: Sequence[Values], weights: Sequence[float], *, resamples: int = RESAMPLES, seed: int = SEED
) -> Values:
    """Resample a weighted sum of the strata's means; return the values, shape ``(resamples,)``.

    Items are drawn with replacement within their stratum, so every stratum keeps its size. Each resampled mean's
    distance from the stratum's own is stretched by sqrt(n / (n - 1)), which makes the variance the unbiased one (Rao
    and Wu, JASA 83, 1988); without it MMLU's 57 strata of about a hundred would all err to the same side.

    Args:
        strata: Values of the items of each stratum; at least two items each.
        weights: What each stratum's mean is multiplied by.
        resamples: Number of resamples.
        seed: Of the generator.
    """
    generator = np.random.default_rng(seed)
    total = np.zeros(resamples)
    for values, weight in zip(strata, weights, strict=True):
        n, mean = len(values), values.mean()
        stretch = math.sqrt(n / (n - 1))
        total += weight * (mean + stretch * (_resampled_means(values, resamples, generator) - mean))
    return total


def nested_weights(sizes: Sequence[int]) -> list[float]:
    """Return the weights of strata whose plain means form columns whose plain mean is the result.

    Args:
        sizes: Number of strata in each column, as ``(1, 1, 57, 1, 1, 1)`` on the leaderboard.

    Returns:
        For each stratum, column after column, ``1 / (columns * strata of its column)``.
    """
    return [1 / (len(sizes) * size) for size in sizes for _ in range(size)]


def percentile_interval(resampled: Values) -> Interval:
    """Return the 2.5% and 97.5% quantiles of resampled values."""
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(low), float(high)


def pieces(rows: int, columns: int) -> Iterator[int]:
    """Yield ``rows`` in pieces, so that a table of random numbers this wide is never large."""
    size = max(1, _CELLS // columns)
    for start in range(0, rows, size):
        yield min(size, rows - start)


def _resampled_means(values: Values, resamples: int, generator: np.random.Generator) -> Values:
    n = len(values)
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) <= _FEW_LEVELS:  # how often each level was drawn is all there is to draw
        return generator.multinomial(n, counts / n, size=resamples) @ levels / n
    drawn = (generator.integers(n, size=(rows, n), dtype=np.int32) for rows in pieces(resamples, n))
    return np.concatenate([values[items].mean(axis=1) for items in drawn])
