"""Compute standard errors of means, with or without clusters, and the intervals that follow from them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Z = NormalDist().inv_cdf(0.975)
"""Half a 95% interval in standard errors, by the normal distribution."""
_ROUNDING = 1e-12
RESAMPLES = 10_000
SEED = 42

Interval = tuple[float, float]
Values = NDArray[np.float64]
Labels = Sequence[Hashable]
"""For each item the source that it shares with others: a passage, a topic, a conversation."""


def standard_error(values: Values, clusters: Labels | None = None) -> float | None:
    r"""Return the standard error of a mean.

    .. math:: \frac{1}{n} \sqrt{\frac{G}{G-1} \sum_{c=1}^{G} \Big(\sum_{i \in c} (x_i - \bar x)\Big)^2}

    The clustered standard error of E. Miller, "Adding Error Bars to Evals" (arXiv:2411.00640), times the square root of
    the factor G / (G - 1) that statsmodels gives the cluster-robust variance of a regression on a constant
    (``use_correction=True``). With every item a cluster of its own it is the sample standard deviation / sqrt(n).

    Args:
        values: Of the items, shape ``(n,)``.
        clusters: One label per item; None where the items are independent.

    Returns:
        In the unit of the values; None with fewer than two clusters, or items.

    Raises:
        ValueError: there is not one label per item.
    """
    sums, counts = cluster_sums(values, clusters)
    groups, n = len(sums), len(values)
    if groups < 2:
        return None
    residuals = sums - counts * values.mean()
    return math.sqrt(groups / (groups - 1) * float(residuals @ residuals)) / n


def cluster_sums(values: Values, clusters: Labels | None) -> tuple[Values, Values]:
    """Sum of the values and number of items of each cluster, clusters in order of their first item.

    Args:
        values: Of the items, shape ``(n,)``.
        clusters: One label per item; None makes each item a cluster of its own.

    Raises:
        ValueError: there is not one label per item.
    """
    if clusters is None:
        return values, np.ones(len(values))
    if len(clusters) != len(values):
        raise ValueError(f"{len(clusters)} cluster labels for {len(values)} items")
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(label, len(numbers)) for label in clusters], np.intp)
    return _counted(codes, values), _counted(codes, np.ones(len(values)))


def normal_interval(mean: float, error: float) -> Interval:
    """Return the 95% interval ``mean ± 1.96 error``, for an error that rests on many items."""
    return mean - Z * error, mean + Z * error


def t_interval(mean: float, error: float, units: int) -> Interval:
    """Return the 95% interval of a mean by Student's t distribution with ``units - 1`` degrees of freedom.

    Args:
        mean: The mean.
        error: Its standard error.
        units: Independent items, or clusters; at least two.
    """
    from scipy.special import stdtrit

    half = float(stdtrit(units - 1, 0.975)) * error
    return mean - half, mean + half


def t_mean_interval(values: Values, clusters: Labels | None = None) -> Interval | None:
    """Return the 95% interval of a mean by Student's t.

    It uses :func:`standard_error` and as many units as there are clusters.

    Percentiles of a bootstrap over few clusters are too narrow; this keeps its level (``benchmarks/statistics.py``).

    Args:
        values: Of the items, shape ``(n,)``.
        clusters: One label per item; None where the items are independent.

    Returns:
        None with fewer than two clusters, or items, or where they do not vary: then it is not known how far they would.

    Raises:
        ValueError: there is not one label per item.
    """
    error = standard_error(values, clusters)
    if error is None or error <= _ROUNDING * float(np.abs(values).max()):
        return None
    return t_interval(float(values.mean()), error, len(cluster_sums(values, clusters)[0]))


def wilson_interval(share: float, n: int) -> Interval:
    """Return Wilson's 95% score interval of a share of ``n`` items (E. B. Wilson, JASA 22, 1927).

    It keeps its level near 0 and 1, where ``mean ± 1.96 error`` does not.
    """
    weight = Z**2 / n
    centre = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _counted(codes: NDArray[np.intp], weights: Values) -> Values:
    return np.bincount(codes, weights=weights).astype(np.float64, copy=False)
