r"""Compute intervals of scores that count from a floor on, such as that of guessing.

Such a score is ``max(0, (mean - floor) / (1 - floor))``.

A score of several tasks is the sum of such terms with weights w. It is its linear part, the same without the maximum,
plus what the tasks below their floors are short of them, :math:`G = \sum_k w_k \max(0, f_k - \mu_k) / (1 - f_k)`.
The linear part is a mean over documents and has an interval of :mod:`smaug_eval.stats.sequential`; here is one of G.

Tasks draw independently, so the product over them of the capitals at the true means, all betting the same share, is a
martingale that begins with 1; so is its mean over the J shares. With probability 1 - alpha it never reaches 1 / alpha,
and then for every share the sum of the tasks' logarithms g is below :math:`\log(J / \alpha)`. Where that holds,

.. math:: s\,G \le \log(J / \alpha) - \sum_k \min_\mu\,(g_k(\mu) - s\,G_k(\mu))

for every slope s > 0, of which the least is taken. One interval for all tasks together is far narrower than the sum of
intervals for each: it allows a few to be below their floors by chance, not all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from smaug_eval.stats.means import Interval, Values
from smaug_eval.stats.planning import ALPHA
from smaug_eval.stats.sequential import BETS, Drawn, from_below, log_capital_of_bets, mean_interval

_GRID = 17
_SLOPES = np.geomspace(1.0, 1e6, 100)


class Floored(NamedTuple):
    """Hold a part of a score that counts from a floor on.

    Attributes:
        drawn: Its values so far.
        floor: In the unit of the values; below their bound.
        weight: Of the part in the score.
    """

    drawn: Drawn
    floor: float
    weight: float = 1.0

    def short(self, means: Values) -> Values:
        """Return what the part adds to G at some means."""
        found: Values = self.weight * np.maximum(0.0, self.floor - means) / (self.drawn.bound - self.floor)
        return found


def shortfall(parts: Sequence[Floored]) -> float:
    """Return G at the means of the values so far; a part without any counts as not below its floor."""
    return sum(float(each.short(each.drawn.values.mean())) for each in parts if len(each.drawn.values))


def shortfall_interval(parts: Sequence[Floored], alpha: float = ALPHA) -> Interval:
    """Return between what G lies, at every look, with probability ``1 - alpha``; exact once every value is drawn.

    Args:
        parts: The tasks of a score, each drawn for itself. Their scores are in the unit of the result.
        alpha: The chance that any of a sequence's intervals fails.
    """
    least, most = (sum(float(each.short(np.array(each.drawn.possible[side]))) for each in parts) for side in (1, 0))
    if most - least <= 1e-12:
        return least, most
    lows = np.zeros((len(BETS), len(_SLOPES)))
    for part in parts:
        lows += _lowest(part)
    above = (math.log(len(BETS) / alpha) - lows) / _SLOPES
    return least, max(least, min(most, float(above.min())))


def difference_above_floors(linear: Drawn, short: Sequence[Sequence[Floored]], alpha: float = ALPHA) -> Interval:
    """Return the interval of the difference of two scores that count from floors on, at every look.

    Half of the level is for the linear part, a quarter for what each of the two is short of floors.

    Args:
        linear: Differences of the linear parts.
        short: Of the first and of the second model, what counts from a floor on; empty where nothing does.
        alpha: The chance that any of the sequence's intervals fails.
    """
    if not any(short):
        return mean_interval(linear, alpha)
    return with_shortfalls(mean_interval(linear, alpha / 2), short, alpha)


def with_shortfalls(linear: Interval, short: Sequence[Sequence[Floored]], alpha: float) -> Interval:
    """Return the interval of a difference of scores from that of their linear parts at half the level.

    Args:
        linear: That interval.
        short: As of :func:`difference_above_floors`.
        alpha: The level of the result.
    """
    own, other = (shortfall_interval(side, alpha / 4) for side in short)
    return linear[0] + own[0] - other[1], linear[1] + own[1] - other[0]


def _lowest(part: Floored) -> Values:
    """The least of ``g - s G`` over the means that are possible, by bet and slope; from below."""
    low, high = part.drawn.possible
    if high - low <= 1e-12 * part.drawn.bound:
        mean = np.array([(low + high) / 2])
        return log_capital_of_bets(part.drawn, mean) - _SLOPES * part.short(mean)
    near = np.linspace(*mean_interval(part.drawn, 1e-6), 2 * _GRID)
    means = np.unique(np.clip(np.concatenate([np.linspace(low, high, _GRID), near, [part.floor]]), low, high))
    found = []
    for heights in log_capital_of_bets(part.drawn, means):
        vertices = from_below(means, heights, (low, high))
        found.append((vertices.heights[:, None] - part.short(vertices.means)[:, None] * _SLOPES).min(axis=0))
    return np.stack(found)
