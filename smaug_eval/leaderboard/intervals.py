"""95% intervals of scores: in closed form from a standard error, and by bootstrap from per-document values.

Values are fractions in [0, 1]; callers turn them into percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Z = 1.959964  # 97.5% quantile of the normal distribution
RESAMPLES = 2_000
SEED = 42

Interval = tuple[float, float]
Values = NDArray[np.float64]


def mean_interval(mean: float, stderr: float | None, n: int) -> Interval | None:
    """95% interval of the mean of ``n`` values in [0, 1]; None without a standard error.

    Zeros and ones get Wilson's score interval, which keeps its level near 0 and 1; they are known by their standard
    error, since among values in [0, 1] only they reach the variance ``mean * (1 - mean)``. Others get
    :func:`normal_interval`. ``stderr`` is sample standard deviation / sqrt(n), as lm-eval reports it.
    """
    if stderr is None or n < 2:
        return None
    if math.isclose(stderr**2 * (n - 1), mean * (1 - mean), rel_tol=1e-6, abs_tol=1e-12):
        return wilson_interval(mean, n)
    return normal_interval(mean, stderr)


def normal_interval(mean: float, stderr: float | None) -> Interval | None:
    """``mean ± 1.96 stderr``, cut at 0 and 1; None without a standard error."""
    if stderr is None:
        return None
    return max(0.0, mean - Z * stderr), min(1.0, mean + Z * stderr)


def wilson_interval(share: float, n: int) -> Interval:
    """Wilson's 95% score interval of a share of ``n`` (E. B. Wilson, JASA 22, 1927)."""
    weight = Z**2 / n
    centre = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_interval(
    columns: Sequence[Sequence[Values]], *, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval | None:
    """95% percentile interval of a mean over columns of means over tasks of means over documents.

    Documents are resampled with replacement within their task, so every task keeps its size. Each resampled mean's
    distance from the task's own is stretched by sqrt(n / (n - 1)), which makes the variance the unbiased one (Rao and
    Wu, JASA 83, 1988); it matters for MMLU's parts of about a hundred documents.

    Args:
        columns: Per column, per task, the values of its documents in [0, 1].
        resamples: Number of resamples.
        seed: Of the generator; the same values give the same interval.

    Returns:
        The 2.5% and 97.5% quantiles; None where a task has fewer than two documents or a value is not finite.
    """
    tasks = [values for column in columns for values in column]
    if not tasks or any(len(values) < 2 or not np.isfinite(values).all() for values in tasks):
        return None
    generator = np.random.default_rng(seed)
    total = np.zeros(resamples)
    for column in columns:
        means = sum((_resampled_means(values, resamples, generator) for values in column), np.zeros(resamples))
        total += means / len(column)
    low, high = np.quantile(total / len(columns), (0.025, 0.975))
    return max(0.0, float(low)), min(1.0, float(high))


def _resampled_means(values: Values, resamples: int, generator: np.random.Generator) -> Values:
    n = len(values)
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) <= 2:  # the number of draws that hit the upper level is all there is to draw
        upper = generator.binomial(n, counts[-1] / n, size=resamples) / n
        drawn = levels[0] + (levels[-1] - levels[0]) * upper
    else:
        drawn = values[generator.integers(n, size=(resamples, n), dtype=np.int32)].mean(axis=1)
    mean = values.mean()
    stretched: Values = mean + math.sqrt(n / (n - 1)) * (drawn - mean)
    return stretched
