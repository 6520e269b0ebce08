r"""Compute intervals of a paired difference that hold at every look: confidence sequences, so that one may stop early.

A benchmark has a known number N of documents, which are scored in a random order: drawn without replacement. Values
are the documents' differences of two models, within ``± bound``; the mean of all N is what the full evaluation gives.

With y = (1 + x / bound) / 2 in [0, 1], a candidate mean m (of y) and S the sum of the values before the i-th, the next
value is drawn from those left, whose mean is :math:`m_i = (N m - S) / (N - i + 1)`. Whoever bets the share c of a
capital that values are higher has :math:`\prod_i (1 - c + c\,y_i / m_i)` of it after n of them; that they are lower,
:math:`\prod_i (1 - c + c\,(1 - y_i) / (1 - m_i))`. The capital here is the plain mean over the bets :data:`BETS` and
over both directions (hedged grid betting: I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables
by betting", JRSS-B 86, 2024, arXiv:2010.09686, sections 4 and 5 and, without replacement, 6; the conditional mean is
that of "Confidence sequences for sampling without replacement", NeurIPS 2020, arXiv:2006.04347).

Proof that it holds: at the true mean each factor has mean 1 given the values before, so the capital is a nonnegative
martingale that begins with 1; by Ville's inequality it *ever* reaches 1 / alpha with probability at most alpha.
The interval after n values is of the means at which the capital is below 1 / alpha; it is an interval because every
factor's logarithm is convex in m, and so is the logarithm of a sum of such products.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from smaug_eval.stats.means import Interval, Values
from smaug_eval.stats.planning import ALPHA
from smaug_eval.stats.verdicts import Outcome

BETS = tuple(0.9 * 0.6**power for power in range(10))
"""Shares of the capital that are bet, all of them at once: of a difference d with variance v the best is near d / v."""
FIRST_LOOK, GROWTH = 50, 1.25
"""Documents before the first look, and by what each further look has more."""

_SECTIONS, _ROUNDS = 17, 6
_WORK = 1 << 21
_BLOCK = 32
_GRID = 101
_SLOPES = 400
_TINY = 1e-12


@dataclass(frozen=True)
class Drawn:
    """Hold the values drawn so far.

    Attributes:
        values: In the order drawn, shape ``(n,)``, each within ``± bound``.
        population: How many there are in all; None for no end, so that the interval is one of the mean of whatever the
            values are independent draws from.
        bound: The largest size of a value.
    """

    values: Values
    population: int | None = None
    bound: float = 1.0

    @property
    def possible(self) -> Interval:
        """Return between which means the mean of all values must lie, whatever those left are."""
        if self.population is None:
            return -self.bound, self.bound
        total, left = float(self.values.sum()), (self.population - len(self.values)) * self.bound
        return max(-self.bound, (total - left) / self.population), min(self.bound, (total + left) / self.population)


class Vertices(NamedTuple):
    """Hold a convex function from below: piecewise linear between points, infinite beyond them."""

    means: Values
    heights: Values


def log_capital(drawn: Drawn, means: Values) -> Values:
    """Return the logarithm of the capital at candidate means; infinite where a mean is no longer possible.

    Args:
        drawn: The values so far.
        means: Candidates, shape ``(m,)``, in the unit of the values.
    """
    candidates = np.asarray(means, np.float64)
    logs = np.full(candidates.shape, np.inf)
    low, high = drawn.possible
    slack = 1e-9 * drawn.bound
    inside = (candidates >= low - slack) & (candidates <= high + slack)
    if not len(drawn.values):
        return np.where(inside, 0.0, np.inf)
    rows = max(1, _WORK // len(drawn.values))
    places = np.flatnonzero(inside)
    for start in range(0, len(places), rows):
        part = places[start : start + rows]
        up, down = _ratios(drawn.values[None, :], candidates[part, None], drawn.population, drawn.bound)
        logs[part] = _hedged(*(_mixed_logs(each, [each.shape[-1]])[..., -1] for each in (up, down)))
    return logs


def log_capital_of_bets(drawn: Drawn, means: Values) -> Values:
    """Return the logarithm of the capital of each of :data:`BETS` alone, shape ``(bets, m)``; in both directions.

    Args:
        drawn: The values so far.
        means: Candidates that are possible, shape ``(m,)``, in the unit of the values.
    """
    found = np.zeros((len(BETS), len(means)))
    rows = max(1, _WORK // max(1, len(drawn.values)))
    for start in range(0, len(means), rows):
        part = slice(start, start + rows)
        both = _ratios(drawn.values[None, :], means[part, None], drawn.population, drawn.bound)
        for number, bet in enumerate(BETS):
            found[number, part] = _hedged(*(_log_product(1 - bet + bet * ratios) for ratios in both))
    return found


def capital_paths(
    values: Values, mean: float, looks: Sequence[int], *, population: int | None, bound: float = 1.0
) -> Values:
    """Return the logarithms of the capital of many sequences at one candidate mean, at every look.

    Args:
        values: Shape ``(sequences, n)``.
        mean: The candidate.
        looks: Numbers of values after which somebody looks, ascending, at most n.
        population: As of :class:`Drawn`, like ``bound``.
        bound: As there.

    Returns:
        Shape ``(sequences, looks)``; infinite once the mean is no longer possible.
    """
    up, down = _ratios(values, np.full((len(values), 1), mean), population, bound)
    logs: Values = _hedged(_mixed_logs(up, looks), _mixed_logs(down, looks))
    if population is not None:
        seen, slack = np.asarray(looks), 1e-9 * bound
        totals = np.cumsum(values, axis=1)[:, seen - 1]
        left = (population - seen) * bound
        logs[np.abs(population * mean - totals) > left + population * slack] = np.inf
    return logs


def mean_interval(drawn: Drawn, alpha: float = ALPHA) -> Interval:
    """Return the interval of the mean of all values after those drawn so far.

    With probability ``1 - alpha`` all intervals of one sequence hold, at whatever look one stops. With every value
    drawn it is the exact mean.

    Args:
        drawn: The values so far.
        alpha: The chance that any of the sequence's intervals fails.
    """
    low, high = drawn.possible
    if high - low <= _TINY * drawn.bound:
        return low, high
    limit = -math.log(alpha)
    best = _minimum(drawn, low, high)
    if float(log_capital(drawn, np.array([best]))[0]) >= limit:
        return best, best
    return _crossing(drawn, best, low, limit), _crossing(drawn, best, high, limit)


def average_interval(columns: Sequence[Drawn], alpha: float = ALPHA) -> Interval:
    r"""Return the interval of the plain mean of several columns' means, each column drawn for itself.

    Stratified: columns are independent of each other, and at each step one of them draws, so at the true means the
    product of their capitals is again a martingale that begins with 1, in whatever turn they draw and wherever each
    stops. An average is left out where the product reaches ``1 / alpha`` at *all* means with that average (a union of
    intersections: J. Spertus, M. Sridhar and P. Stark, "Sequential stratified inference for the mean",
    arXiv:2409.06680). Its smallest value follows from convexity: for every slope s the logarithm is at least
    :math:`s\,k\,a + \sum_c \min_\mu (g_c(\mu) - s\,\mu)` at average a of k columns.

    Args:
        columns: The values so far of each column.
        alpha: The chance that any of the sequence's intervals fails.
    """
    functions = [_vertices(each) for each in columns]
    k, limit = len(columns), -math.log(alpha)
    steepest = 8 * max(max(len(each.values), 1) / each.bound for each in columns) * k
    slopes = np.geomspace(1e-2, steepest, _SLOPES)
    least, most = (float(np.mean([each.possible[side] for each in columns])) for side in (0, 1))
    for sign in (1.0, -1.0):
        lows = np.sum(
            [(each.heights[None, :] - sign * slopes[:, None] * each.means[None, :]).min(axis=1) for each in functions],
            axis=0,
        )
        end = float((sign * (limit - lows) / (k * slopes)).min() if sign > 0 else ((lows - limit) / (k * slopes)).max())
        least, most = (least, min(most, end)) if sign > 0 else (max(least, end), most)
    return (least, most) if least <= most else ((least + most) / 2,) * 2


def look_sizes(population: int, first: int = FIRST_LOOK, growth: float = GROWTH) -> list[int]:
    """Return after how many of the documents to look, the last time after all of them.

    Any other choice is as valid, made in advance or not: with each look further apart by a quarter at most a fifth of
    the documents is scored in vain, and documents are prepared in few pieces.
    """
    sizes, size = [], float(first)
    while size < population:
        sizes.append(math.ceil(size))
        size *= growth
    return [*sizes, population]


def narrowed(before: Interval, now: Interval) -> Interval:
    """Return what two intervals of one sequence leave of each other: all of a sequence hold together.

    Where nothing is left, which happens with the probability that the sequence fails, it is the middle of the gap.

    Args:
        before: What the looks before have left.
        now: That of this look.
    """
    low, high = max(before[0], now[0]), min(before[1], now[1])
    return (low, high) if low <= high else ((low + high) / 2,) * 2


def decided(interval: Interval, margin: float | None = None, *, higher_is_better: bool | None = True) -> Outcome:
    """Return what an interval of a difference shows; ``INCONCLUSIVE`` where nothing is decided yet.

    Args:
        interval: Of the first model less the second.
        margin: A difference too small to matter, in the interval's unit; None to decide on better or worse only.
        higher_is_better: Whether more is better; None where it is not known.
    """
    low, high = interval
    if low > 0 or high < 0:
        if higher_is_better is None:
            return Outcome.HIGHER if low > 0 else Outcome.LOWER
        return Outcome.BETTER if (low > 0) is higher_is_better else Outcome.WORSE
    if margin is not None and -margin <= low and high <= margin:
        return Outcome.NO_DETECTABLE_DIFFERENCE
    return Outcome.INCONCLUSIVE


def _ratios(values: Values, means: Values, population: int | None, bound: float) -> tuple[Values, Values]:
    """What a unit of capital becomes that is bet on the next value being higher, and lower; shape ``(rows, n)``."""
    shares, candidates = (1 + values / bound) / 2, (1 + means / bound) / 2
    if population is None:
        expected = np.broadcast_to(candidates, np.broadcast_shapes(candidates.shape, shares.shape))
    else:
        before = np.cumsum(shares, axis=-1) - shares
        expected = (population * candidates - before) / (population - np.arange(shares.shape[-1]))
    expected = np.clip(expected, _TINY, 1 - _TINY)
    up, down = shares / expected, (1 - shares) / (1 - expected)
    if population is not None:  # where all that is left must be alike, nothing can be won
        up[(expected <= 2 * _TINY) & (shares <= 2 * _TINY)] = 1.0
        down[(expected >= 1 - 2 * _TINY) & (shares >= 1 - 2 * _TINY)] = 1.0
    return up, down


def _mixed_logs(ratios: Values, looks: Sequence[int]) -> Values:
    """The logarithm of the mean over the bets of their products up to each look; shape ``(rows, looks)``."""
    edges = [0, *looks]
    logs = np.empty((len(BETS), *ratios.shape[:-1], len(looks)))
    for number, bet in enumerate(BETS):
        factors = bet * ratios
        factors += 1 - bet
        for place, (start, end) in enumerate(itertools.pairwise(edges)):
            logs[number, ..., place] = _log_product(factors[..., start:end])
    totals = np.cumsum(logs, axis=-1)
    top = totals.max(axis=0)
    mixed: Values = top + np.log(np.exp(totals - top).mean(axis=0))
    return mixed


def _log_product(factors: Values) -> Values:
    """The logarithm of the product along the last axis: few logarithms, and no product too large or too small."""
    whole = factors.shape[-1] // _BLOCK * _BLOCK
    blocks = factors[..., :whole].reshape(*factors.shape[:-1], whole // _BLOCK, _BLOCK)
    smallest = float(factors.min(initial=1.0))
    if smallest < 1e-9 or float(factors.max(initial=1.0)) > 1e9:
        logs: Values = np.log(factors).sum(axis=-1)
        return logs
    found: Values = np.log(blocks.prod(axis=-1)).sum(axis=-1) + np.log(factors[..., whole:].prod(axis=-1))
    return found


def _hedged(up: Values, down: Values) -> Values:
    found: Values = np.logaddexp(up, down) - math.log(2)
    return found


def _minimum(drawn: Drawn, low: float, high: float) -> float:
    """The mean with the smallest capital, near enough; the function is convex."""
    best = (low + high) / 2
    for _ in range(_ROUNDS):
        grid = np.linspace(low, high, _SECTIONS)
        place = int(np.argmin(log_capital(drawn, grid)))
        best = float(grid[place])
        low, high = float(grid[max(0, place - 1)]), float(grid[min(_SECTIONS - 1, place + 1)])
    return best


def _crossing(drawn: Drawn, inside: float, outside: float, limit: float) -> float:
    """Where the capital reaches the limit between two means; the outer end of the last section, to be safe."""
    for _ in range(_ROUNDS):
        grid = np.linspace(inside, outside, _SECTIONS)
        above = np.flatnonzero(log_capital(drawn, grid) >= limit)
        if not len(above):
            return outside
        place = int(above[0])
        if not place:
            return inside
        inside, outside = float(grid[place - 1]), float(grid[place])
    return outside


def _vertices(drawn: Drawn) -> Vertices:
    """The logarithm of the capital from below."""
    low, high = drawn.possible
    if high - low <= _TINY * drawn.bound:
        ends = np.array([(low + high) / 2])
        return Vertices(ends, log_capital(drawn, ends))
    means = np.unique(np.clip(np.linspace(*mean_interval(drawn, 1e-9), _GRID), low, high))
    return from_below(means, log_capital(drawn, means), drawn.possible)


def from_below(means: Values, heights: Values, ends: Interval) -> Vertices:
    """Return the vertices of a piecewise linear function that a convex one is nowhere below.

    Between two points of a grid a convex function is above the lines through the neighbours on either side; the points
    where these meet are vertices, too, and the outermost lines go on to where means are impossible.

    Args:
        means: The grid, ascending.
        heights: The function's values there.
        ends: Between which means are possible.
    """
    low, high = ends
    if len(means) < 4:
        return Vertices(np.array([low, high]), np.full(2, float(heights.min())))
    gaps = np.diff(means)
    slopes = np.diff(heights) / gaps
    first, last = heights[0], heights[-1]
    x = [low, high, means[0], means[-1]]
    y = [first + slopes[0] * (low - means[0]), last + slopes[-1] * (high - means[-1])]
    y += [heights[1] - slopes[1] * gaps[0], heights[-2] + slopes[-2] * gaps[-1]]
    turn = slopes[2:] - slopes[:-2]
    bent = turn > _TINY
    gap, rise = gaps[1:-1][bent], np.diff(heights)[1:-1][bent]
    along = np.clip((slopes[2:][bent] * gap - rise) / turn[bent], 0.0, gap)
    x_between, y_between = means[1:-2][bent] + along, heights[1:-2][bent] + slopes[:-2][bent] * along
    return Vertices(np.concatenate([means, x, x_between]), np.concatenate([heights, y, y_between]))
