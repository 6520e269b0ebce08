"""Compare two models on the same items: difference, interval and test, on one task and over several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from smaug_eval.common.errors import SmaugError
from smaug_eval.stats.bootstrap import nested_weights, percentile_interval
from smaug_eval.stats.draws import Draws, stands_second
from smaug_eval.stats.means import (
    RESAMPLES,
    SEED,
    Interval,
    Labels,
    Values,
    Z,
    cluster_sums,
    normal_interval,
    standard_error,
    t_mean_interval,
)
from smaug_eval.stats.significance import EXACT_ITEMS, PERMUTATIONS, mcnemar_p_value, sign_flip_p_value

_ROUNDING = 1e-12


@dataclass(frozen=True)
class PairedDifference:
    """Hold the first model's mean less the second's, over items that both were measured on.

    Attributes:
        difference: In the unit of the values.
        standard_error: Of the items' differences, clustered where clusters were given; None with fewer than two.
        interval: 95%; None with fewer than two items or clusters, or where the differences do not vary and are not of
            right and wrong answers: then it is not known how far they would.
        p_value: Two-sided, of no difference.
        correlation: Pearson's, of the two models' values over the items; None where either does not vary.
        n: Items.
        higher: Items on which the first model's value is the higher one.
        lower: Items on which it is the lower one.
        clusters: Clusters; None where the items count as independent.
        interval_method: How the interval was found, as text.
        test: The test behind the p value, as text.
    """

    difference: float
    standard_error: float | None
    interval: Interval | None
    p_value: float
    correlation: float | None
    n: int
    higher: int
    lower: int
    clusters: int | None
    interval_method: str
    test: str


@dataclass(frozen=True)
class AverageDifference:
    """Hold the first model's average over columns less the second's, from paired items.

    Attributes:
        difference: In the unit of the values.
        interval: 95%, by stratified paired bootstrap; None where a stratum has fewer than two items, or where nothing
            varies and the values are not of right and wrong answers.
        p_value: Two-sided, of no difference, by the same bootstrap; None where there is no interval.
        standard_error: That of a weighted sum of independent strata, from their own; None where one has none.
        normal_interval: 95%, ``difference ± 1.96 standard_error``, to hold beside the bootstrap's.
        n: Items of all strata.
    """

    difference: float
    interval: Interval | None
    p_value: float | None
    standard_error: float | None
    normal_interval: Interval | None
    n: int

    def turned(self) -> AverageDifference:
        """Return the same with the two models exchanged."""
        return replace(
            self,
            difference=-self.difference if self.difference else 0.0,
            interval=turned_interval(self.interval),
            normal_interval=turned_interval(self.normal_interval),
        )


def turned_interval(interval: Interval | None) -> Interval | None:
    """Return the interval of minus the value; None for None."""
    return None if interval is None else (-interval[1], -interval[0])


def paired_difference(
    first: Values, second: Values, clusters: Labels | None = None, *, draws: int = PERMUTATIONS, seed: int = SEED
) -> PairedDifference:
    """Compare two models item by item.

    Right and wrong answers (all values 0 or 1) get McNemar's exact test and :func:`right_wrong_interval`. Other values
    get sign flips and Student's t; so does everything in clusters, where whole clusters are flipped.

    Args:
        first: The first model's values, shape ``(n,)``.
        second: The second model's on the same items in the same order.
        clusters: One label per item; None where the items are independent.
        draws: Sign patterns to draw where there are too many to count.
        seed: Of their generator.

    Raises:
        SmaugError: there is no item, or a value is not finite.
        ValueError: the lengths differ.
    """
    differences = _differences(first, second)
    error, (sums, _) = standard_error(differences, clusters), cluster_sums(differences, clusters)
    higher, lower = int(np.count_nonzero(differences > 0)), int(np.count_nonzero(differences < 0))
    if clusters is None and _is_right_wrong(first) and _is_right_wrong(second):
        interval: Interval | None = right_wrong_interval(higher, lower, len(differences))
        p_value, method, test = mcnemar_p_value(higher, lower), "Bonett and Price's adjusted Wald", "exact McNemar"
    else:
        interval = t_mean_interval(differences, clusters)
        p_value, method = sign_flip_p_value(sums, draws=draws, seed=seed), "Student's t"
        drawn = "all" if np.count_nonzero(sums) <= EXACT_ITEMS else f"{draws:,}"
        test = f"sign flips of {'items' if clusters is None else 'clusters'} ({drawn})"
    return PairedDifference(
        difference=float(differences.mean()),
        standard_error=error,
        interval=interval,
        p_value=p_value,
        correlation=_correlation(first, second),
        n=len(differences),
        higher=higher,
        lower=lower,
        clusters=None if clusters is None else len(sums),
        interval_method=method,
        test=test,
    )


def right_wrong_interval(gained: int, lost: int, n: int) -> Interval:
    """Return the 95% interval of the difference of two accuracies on the same items.

    Wald's interval after adding one item to those that only the one model has right and one to those that only the
    other has (D. G. Bonett and R. M. Price, Journal of Educational and Behavioral Statistics 37, 2012). Unlike Wald's
    own it has a width where the models agree on every item, and keeps its level where they nearly do.

    Args:
        gained: Items that only the first model has right.
        lost: Items that only the second model has right.
        n: All items, at least one.
    """
    only_first, only_second = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    centre = only_first - only_second
    half = Z * math.sqrt((only_first + only_second - centre**2) / (n + 2))
    return max(-1.0, centre - half), min(1.0, centre + half)


def average_difference(
    first: Sequence[Sequence[Values]],
    second: Sequence[Sequence[Values]],
    *,
    names: Sequence[Sequence[str]] | None = None,
    draws: Draws | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> AverageDifference:
    """Compare two models' means over columns of means over tasks of means over items, as the leaderboard averages.

    Items are drawn within their task, for both models the same ones (:class:`~smaug_eval.stats.Draws`), and resampled
    means are stretched as by :func:`~smaug_eval.stats.stratified_means`. The p value is the smallest level at which the
    percentile interval leaves out 0: twice the smaller share of resampled differences on either side of 0, the observed
    one counted among them (Davison and Hinkley, "Bootstrap Methods and their Application", 1997). A single column of
    many tasks, such as MMLU, is compared with a list of one column.

    A column of right and wrong answers that agree on every item says nothing in a bootstrap, as if its difference were
    known to be 0. It adds a normal deviate with the standard error that :func:`right_wrong_interval` gives it.

    Args:
        first: Per column, per task, the first model's values, each of shape ``(n,)``.
        second: The second model's on the same items in the same order.
        names: Of the tasks; their numbers where None. The draws of a task depend on its name.
        draws: What was drawn for comparisons with other models; ``seed`` is then its own.
        resamples: Number of resamples.
        seed: Of the generator.

    Returns:
        The same for both directions but for the signs.

    Raises:
        SmaugError: a task has no item, or a value is not finite.
        ValueError: the shapes differ.
    """
    columns = [list(zip(*column, strict=True)) for column in zip(first, second, strict=True)]
    sides = [task for column in columns for task in column]
    strata = [_differences(*task) for task in sides]
    if stands_second([own for own, _ in sides], [other for _, other in sides]):
        back = average_difference(second, first, names=names, draws=draws, resamples=resamples, seed=seed)
        return back.turned()
    weights = nested_weights([len(column) for column in columns])
    difference = math.fsum(weight * float(each.mean()) for weight, each in zip(weights, strata, strict=True))
    errors = [standard_error(each) for each in strata]
    known = [weight * error for weight, error in zip(weights, errors, strict=True) if error is not None]
    agreement = math.hypot(*map(_agreement_error, columns)) / len(columns)
    error = math.hypot(*known, agreement) if len(known) == len(strata) else None
    n = sum(map(len, strata))
    if error is None or error <= _ROUNDING * max(float(np.abs(each).max()) for each in strata):
        return AverageDifference(difference, None, None, error, None, n)
    draws = Draws(seed) if draws is None else draws
    titles = map(str, range(len(sides))) if names is None else [name for column in names for name in column]
    resampled = agreement * np.random.default_rng((draws.seed, len(strata))).normal(size=resamples)
    for title, (own, other), weight in zip(titles, sides, weights, strict=True):
        one, two = draws.pair(title, _one_number(own), _one_number(other), resamples)
        mean, stretch = float((own - other).mean()), math.sqrt(len(own) / (len(own) - 1))
        resampled += weight * (mean + stretch * (one[:, 0] - two[:, 0] - mean))
    return AverageDifference(
        difference, percentile_interval(resampled), _p_value(resampled), error, normal_interval(difference, error), n
    )


def _one_number(values: Values) -> Values:
    return np.asarray(values, np.float64).reshape(-1, 1)


def _agreement_error(tasks: Sequence[tuple[Values, Values]]) -> float:
    """The standard error of a column whose right and wrong answers agree on every item; 0 for any other."""
    if not all(_is_right_wrong(own) and np.array_equal(own, other) for own, other in tasks):
        return 0.0
    low, high = right_wrong_interval(0, 0, sum(len(own) for own, _ in tasks))
    return (high - low) / (2 * Z)


def _p_value(resampled: Values) -> float:
    tail = min(np.count_nonzero(resampled <= 0), np.count_nonzero(resampled >= 0))
    return min(1.0, 2 * (int(tail) + 1) / (len(resampled) + 1))


def _differences(first: Values, second: Values) -> Values:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values are not of the same items")
    if not len(first):
        raise SmaugError("there is no item with a value of both models", fix="evaluate both on the same documents")
    differences: Values = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if not np.isfinite(differences).all():
        missing = int(np.count_nonzero(~np.isfinite(differences)))
        raise SmaugError(
            f"{missing:,} of {len(differences):,} items lack a finite value of one of the models",
            fix="leave these items out for both",
        )
    return differences


def _is_right_wrong(values: Values) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _correlation(first: Values, second: Values) -> float | None:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    ordered = (second, first) if stands_second([first], [second]) else (first, second)
    return float(np.corrcoef(*ordered)[0, 1])
