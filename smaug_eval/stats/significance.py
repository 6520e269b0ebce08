"""Test whether two models differ by more than chance: paired tests, and Holm's correction for several of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smaug_eval.stats.bootstrap import pieces
from smaug_eval.stats.means import SEED, Values

EXACT_ITEMS = 14
"""With at most as many items that differ, all ways to exchange the models' names are counted."""
PERMUTATIONS = 9_999
_ROUNDING = 1e-12
_KEPT_SIGNS = 10_000_000
"""Signs of patterns that are kept, 8 bytes each."""


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Return the two-sided p value of McNemar's exact test on right and wrong answers.

    Where the models do equally well, an item that only one of them has right is as likely the one's as the other's:
    ``min(1, 2 P(X <= min(gained, lost)))`` with X binomial of ``gained + lost`` and 1/2 (Q. McNemar, Psychometrika 12,
    1947; equal to scipy's ``binomtest`` and statsmodels' ``mcnemar(exact=True)``). Being discrete, it raises a false
    alarm less often than its level says: clearly so with few such items.

    Args:
        gained: Items that only the first model has right.
        lost: Items that only the second model has right.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5))) if gained + lost else 1.0


def sign_flip_p_value(differences: Values, *, draws: int = PERMUTATIONS, seed: int = SEED) -> float:
    """Return the two-sided p value of a mean difference, by exchanging the models' names item by item.

    The share of sign patterns whose sum is at least as far from 0 as the one observed (R. A. Fisher, "The Design of
    Experiments", section 21). All patterns are counted where at most ``EXACT_ITEMS`` differences are not 0. Otherwise
    ``draws`` of them are drawn, and the observed one is counted among them, so that p is never 0 and the test keeps its
    level (Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 9, 2010).

    Args:
        differences: Of the items, or sums over clusters of them, shape ``(n,)``.
        draws: Sign patterns to draw.
        seed: Of the generator.
    """
    sizes = np.abs(differences[differences != 0])
    observed, total = abs(float(differences.sum())), float(sizes.sum())
    bound = observed - _ROUNDING * total  # sums of equal size must count as equal in whatever order they were added
    if len(sizes) <= EXACT_ITEMS:
        every = np.arange(1 << len(sizes))[:, None] >> np.arange(len(sizes)) & 1
        return float(np.mean(_distances(every, sizes) >= bound))
    patterns = (_kept_patterns if draws * len(sizes) <= _KEPT_SIGNS else _patterns)(len(sizes), draws, seed)
    as_far = sum(int(np.count_nonzero(_distances(each, sizes) >= bound)) for each in patterns)
    return (as_far + 1) / (draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for being several, in the given order (S. Holm, Scandinavian Journal of Statistics 6, 1979).

    The k-th smallest of m is multiplied by ``m - k + 1``, and none is less than a smaller one's. Calling those of at
    most alpha different, the chance of a single false alarm among all is at most alpha, however the tests depend on
    each other.
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _patterns(items: int, draws: int, seed: int) -> Iterator[Values]:
    """Draw sign patterns, shape ``(draws, items)``, in pieces."""
    generator = np.random.default_rng(seed)
    for rows in pieces(draws, items):
        packed = generator.integers(256, size=(rows, -(-items // 8)), dtype=np.uint8)
        yield np.unpackbits(packed, axis=1, count=items).astype(np.float64)


@lru_cache(maxsize=1)
def _kept_patterns(items: int, draws: int, seed: int) -> Sequence[Values]:
    """Keep the patterns for the next two models, which mostly differ on as many items."""
    return tuple(_patterns(items, draws, seed))


def _distances(patterns: NDArray[Any], sizes: Values) -> Values:
    """How far from 0 the sum is when the differences marked with 1 are positive, all others negative."""
    distances: Values = np.abs(2 * (patterns.astype(np.float64, copy=False) @ sizes) - sizes.sum())
    return distances
