"""Compare means over items and training seeds at once, for claims about a loss and not about one training.

Each training scores the same items, and items and seeds are both drawn from many. A contrast is a weighted sum of
means over tables of items by seeds, such as one loss less another. Two things make it vary:

- items: the spread over items of the weighted sum of each item's means over seeds;
- seeds: for each loss the spread of its seeds' means over items, added up over the losses, whose seeds are independent.

.. math:: se^2 = V_I + V_S, \\quad V_I = \\sum_b s^2_b / n_b, \\quad V_S = \\sum_a s^2_a / k_a

What varies with item and seed together counts in both, so that with balanced tables the expectation of ``se^2`` is
never below the variance (expected mean squares of J. Cornfield and J. W. Tukey, Annals of Mathematical Statistics 27,
1956: the unbiased estimate would subtract the residual's share, and with three seeds that makes false alarms). Losses
whose seeds resemble each other, for they see the pairs in the same order, make a difference vary less, not more.

Within each of the two sums, degrees of freedom are F. E. Satterthwaite's (Biometrics Bulletin 2, 1946). Between them
the critical value is W. G. Cochran's and G. M. Cox's ("Experimental Designs", 1950): the mean of the two quantiles of
Student's t, weighted by ``V_I`` and ``V_S``. Satterthwaite's rule over all of them gives up to 8% false alarms where a
sum of few seeds dominates; this one keeps to 5% and is cautious in between (``python -m benchmarks.study_statistics``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from smaug_eval.stats.means import Interval, Values
from smaug_eval.stats.planning import ALPHA

_ROUNDING = 1e-12


class ContrastPart(NamedTuple):
    """Describe one term of a contrast.

    Attributes:
        arm: What was trained; terms of one arm, on different blocks of items, share its seeds.
        weight: Of the mean of its values in the sum.
        values: By item and seed, shape ``(n, k)``.
    """

    arm: str
    weight: float
    values: Values


class Component(NamedTuple):
    """Hold a part of a contrast's squared standard error, with degrees of freedom; 0 and 0 where there is none."""

    variance: float
    freedom: float


NOTHING = Component(0.0, 0.0)


@dataclass(frozen=True)
class CrossedContrast:
    """Hold a weighted sum of means over items and seeds.

    Attributes:
        estimate: In the unit of the values.
        standard_error: From items and seeds; from items alone where ``seeds`` is 1; None where nothing varies.
        interval: 95%; None where there is no standard error.
        p_value: Two-sided, of a sum of 0, which is at most 5% just where the interval leaves out 0; None where there is
            no standard error, or an arm has one seed: then nothing distinguishes a loss from the luck of one training.
        items: Items of all blocks.
        seeds: Of the arm with the fewest.
        items_part: What the items bring to the squared standard error.
        seeds_part: What the seeds bring.
    """

    estimate: float
    standard_error: float | None
    interval: Interval | None
    p_value: float | None
    items: int
    seeds: int
    items_part: Component
    seeds_part: Component

    @property
    def seeds_share(self) -> float | None:
        """Return the share of the squared standard error that the seeds bring; None where it is not known."""
        if self.standard_error is None or self.seeds < 2:
            return None
        return self.seeds_part.variance / (self.items_part.variance + self.seeds_part.variance)


def crossed_contrast(blocks: Sequence[Sequence[ContrastPart]]) -> CrossedContrast:
    """Estimate a contrast.

    Args:
        blocks: Terms by block of items. The terms of one block are about the same items in the same order; different
            blocks (a benchmark's tasks, unrelated pair sets) are about items that have nothing to do with each other.

    Raises:
        ValueError: there is no term, a block's tables differ in their items, an arm's in their seeds, or a value is not
            finite.
    """
    _check(blocks)
    by_item: list[Values] = [
        np.sum([part.weight * part.values.mean(axis=1) for part in block], axis=0, dtype=np.float64) for block in blocks
    ]
    by_seed: dict[str, Values] = {}
    for part in (part for block in blocks for part in block):
        means = part.weight * part.values.mean(axis=0)
        by_seed[part.arm] = by_seed.get(part.arm, np.zeros(len(means))) + means
    estimate = float(sum(values.mean() for values in by_item))
    seeds = min(map(len, by_seed.values()))
    items_part = _pooled(by_item)
    seeds_part = _pooled(list(by_seed.values())) if seeds > 1 else NOTHING
    error = math.sqrt(items_part.variance + seeds_part.variance)
    largest = max(abs(part.weight) * float(np.abs(part.values).max()) for block in blocks for part in block)
    is_known = items_part.freedom > 0 and error > _ROUNDING * largest
    half = critical_value(items_part, seeds_part, ALPHA) * error if is_known else 0.0
    return CrossedContrast(
        estimate=estimate,
        standard_error=error if is_known else None,
        interval=(estimate - half, estimate + half) if is_known else None,
        p_value=_p_value(abs(estimate) / error, items_part, seeds_part) if is_known and seeds > 1 else None,
        items=sum(map(len, by_item)),
        seeds=seeds,
        items_part=items_part,
        seeds_part=seeds_part,
    )


def critical_value(items: Component, seeds: Component, alpha: float) -> float:
    """Return how many standard errors around the estimate hold the truth in ``1 - alpha`` of cases, or more.

    Args:
        items: Of the squared standard error.
        seeds: Of the squared standard error.
        alpha: Level, two-sided.
    """
    from scipy.special import stdtrit

    known = [each for each in (items, seeds) if each.variance > 0]
    weighted = sum(each.variance * float(stdtrit(each.freedom, 1 - alpha / 2)) for each in known)
    return weighted / sum(each.variance for each in known)


def table_of(scores: Sequence[Mapping[str, float]], items: Sequence[str]) -> Values:
    """Return the values of ``items`` (rows) under each seed (columns), shape ``(n, k)``.

    Args:
        scores: For each seed, item to value.
        items: Items that every seed has.

    Raises:
        KeyError: a seed lacks an item.
    """
    return np.array([[each[item] for each in scores] for item in items], np.float64).reshape(len(items), len(scores))


def _p_value(distance: float, items: Component, seeds: Component) -> float:
    """The level at which the interval just reaches 0: the critical value falls as the level rises."""
    from scipy.optimize import brentq

    low, high = 1e-12, 1.0
    if distance >= critical_value(items, seeds, low):
        return low
    if distance == 0:
        return high
    return float(brentq(lambda alpha: critical_value(items, seeds, alpha) - distance, low, high, xtol=1e-12))


def _pooled(means: Sequence[Values]) -> Component:
    """Squared standard error of a sum of means, each of independent values; ``NOTHING`` where one has but one value."""
    if any(len(values) < 2 for values in means):
        return NOTHING
    variances = [float(values.var(ddof=1)) / len(values) for values in means]
    total = sum(variances)
    if total == 0:
        return Component(0.0, float(sum(len(values) - 1 for values in means)))
    below = sum(own**2 / (len(values) - 1) for own, values in zip(variances, means, strict=True))
    return Component(total, total**2 / below)


def _check(blocks: Sequence[Sequence[ContrastPart]]) -> None:
    seeds: dict[str, int] = {}
    if not blocks or not all(blocks):
        raise ValueError("a contrast needs at least one term in each block")
    for block in blocks:
        items = {len(part.values) for part in block}
        if len(items) > 1 or 0 in items:
            raise ValueError(f"the tables of a block have {sorted(items)} items")
        for part in block:
            if part.values.ndim != 2 or seeds.setdefault(part.arm, part.values.shape[1]) != part.values.shape[1]:
                raise ValueError(f"the tables of {part.arm} have different seeds")
            if not part.values.size or not np.isfinite(part.values).all():
                raise ValueError(f"the tables of {part.arm} lack a finite value")
