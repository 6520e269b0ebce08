"""Compute how far raters agree beyond chance, on categories and on scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

_ROUNDING = 1e-12


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    r"""Compute Cohen's kappa of two raters on the same items, :math:`(p_o - p_e) / (1 - p_e)`.

    ``p_o`` is the share of items with the same category, ``p_e`` the one that raters with the same habits would reach
    by chance (J. Cohen, Educational and Psychological Measurement 20, 1960).

    Args:
        first: The first rater's categories, one per item.
        second: The second rater's, of the same items in the same order.

    Returns:
        1 for full agreement, 0 for that of chance; None without items, or where both know a single category only.

    Raises:
        ValueError: the lengths differ.
    """
    n = len(first)
    observed = sum(own == other for own, other in zip(first, second, strict=True))
    if not n:
        return None
    own, others = Counter(first), Counter(second)
    expected = sum(count * others[category] for category, count in own.items()) / n**2
    return None if 1 - expected <= _ROUNDING else (observed / n - expected) / (1 - expected)


def quadratic_kappa(first: Sequence[float], second: Sequence[float]) -> float | None:
    r"""Compute Cohen's kappa of two raters' scores; a disagreement weighs as the square of its size.

    .. math:: 1 - \frac{\frac{1}{n} \sum_i (x_i - y_i)^2}{\frac{1}{n^2} \sum_{i,j} (x_i - y_j)^2}

    (J. Cohen, Psychological Bulletin 70, 1968; for whole scores scikit-learn's ``cohen_kappa_score`` with
    ``weights="quadratic"`` over the whole scale.)

    Args:
        first: The first rater's scores, one per item.
        second: The second rater's, of the same items in the same order.

    Returns:
        1 for full agreement, 0 for that of chance; None without items, or where all scores are one.

    Raises:
        ValueError: the lengths differ.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} scores are not of the same items")
    if not len(first):
        return None
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    expected = float(np.mean(x**2) - 2 * x.mean() * y.mean() + np.mean(y**2))
    return None if expected <= _ROUNDING else 1 - float(np.mean((x - y) ** 2)) / expected
