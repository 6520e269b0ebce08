"""Compute 95% intervals of scores: in closed form from a standard error, and by bootstrap from per-document values.

Values are fractions in [0, 1]; callers turn them into percent. The formulas are those of :mod:`smaug_eval.stats`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from smaug_eval import stats
from smaug_eval.stats import RESAMPLES, SEED, Interval, Values


def mean_interval(mean: float, stderr: float | None, n: int) -> Interval | None:
    """Return the 95% interval of the mean of ``n`` values in [0, 1]; None without a standard error.

    Zeros and ones get Wilson's score interval, which keeps its level near 0 and 1; they are known by their standard
    error, since among values in [0, 1] only they reach the variance ``mean * (1 - mean)``. Others get
    :func:`normal_interval`. ``stderr`` is sample standard deviation / sqrt(n), as lm-eval reports it.
    """
    if stderr is None or n < 2:
        return None
    if math.isclose(stderr * stderr * (n - 1), mean * (1 - mean), rel_tol=1e-6, abs_tol=1e-12):
        return stats.wilson_interval(mean, n)
    return normal_interval(mean, stderr)


def normal_interval(mean: float, stderr: float | None) -> Interval | None:
    """Return ``mean ± 1.96 stderr``, cut at 0 and 1; None without a standard error."""
    return None if stderr is None else _cut(stats.normal_interval(mean, stderr))


def bootstrap_interval(
    columns: Sequence[Sequence[Values]], *, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval | None:
    """Return the 95% percentile interval of a mean over columns of means over tasks of means over documents.

    Documents are resampled within their task (:func:`smaug_eval.stats.stratified_means`).

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
    weights = stats.nested_weights([len(column) for column in columns])
    return _cut(stats.percentile_interval(stats.stratified_means(tasks, weights, resamples=resamples, seed=seed)))


def _cut(interval: Interval) -> Interval:
    return max(0.0, interval[0]), min(1.0, interval[1])
