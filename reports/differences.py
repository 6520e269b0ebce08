"""How far a model is from the baseline: on each column of a suite and on their average, with interval and test.

Differences are in percentage points, the model's score less the baseline's. They are paired by document wherever both
sides kept samples; the statistics are :mod:`smaug_eval.stats`'s, here are only their inputs and their words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from reports.documents import logged_values
from reports.gates import is_refused
from reports.sources import TaskResult
from reports.text import fixed
from smaug_eval import stats
from smaug_eval.comparable import Comparability
from smaug_eval.leaderboard.scores import ColumnScore, Score
from smaug_eval.leaderboard.suite import Column
from smaug_eval.stats import Interval, Values, Verdict

NOT_PAIRED = "as if independent: without samples the documents cannot be paired"
BOOTSTRAP_TEST = f"paired bootstrap within tasks, {stats.RESAMPLES:,} resamples"
SMALLEST_P = 0.001

_LARGEST = 100.0
_HALF = NormalDist().inv_cdf(0.975)

Gates = Mapping[str, Comparability]
"""Task to whether the model's result of it compares with the baseline's."""
Stratum = tuple[Values, Values]
"""Values of the model and of the baseline on the same documents."""


@dataclass(frozen=True)
class Difference:
    """A model's score less the baseline's, in percentage points.

    Attributes:
        points: The difference.
        interval: 95%; None where nothing says how far it would vary.
        p_value: Two-sided, of no difference; None where there is no test.
        adjusted_p: The same by Holm's method over the comparisons it stands among.
        detectable: The smallest true difference that this many documents find in 80% of cases; None where no
            difference is large enough, or there is no interval.
        n: Documents.
        gained: Documents on which the model's value is the higher one; None for averages over several tasks and
            unpaired differences.
        lost: Documents on which it is the lower one.
        correlation: Of both models' values over the documents.
        test: The test behind ``p_value``, in words.
        verdict: What it comes to.
        remarks: What a reader should know beside it, in words.
        in_common: The model's score and the baseline's in percent on the documents that both have, where one has
            others, too: those the difference is of. None where both scores are of all documents compared.
    """

    points: float
    interval: Interval | None
    p_value: float | None
    adjusted_p: float | None
    detectable: float | None
    n: int
    gained: int | None
    lost: int | None
    correlation: float | None
    test: str
    verdict: Verdict
    remarks: tuple[str, ...] = ()
    in_common: tuple[float, float] | None = None

    @property
    def held_back(self) -> str:
        """What an inconclusive difference looks like where interval and p value do not agree, such as "above 0
        unadjusted" (:func:`smaug_eval.stats.held_back`); empty where they do."""
        return held_back_words(self.points, self.interval, self.p_value, self.adjusted_p)

    @property
    def outcome_words(self) -> str:
        """The verdict as a phrase that also says why it is not what the interval or the p value beside it suggests."""
        words = self.verdict.words(" points")
        return f"{words} ({self.held_back})" if self.held_back else words

    @property
    def p_words(self) -> str:
        """The adjusted p value as a phrase; empty where there is none."""
        return "" if self.adjusted_p is None else p_words(self.adjusted_p)


def held_back_words(
    difference: float, interval: Interval | None, p_value: float | None, adjusted_p: float | None
) -> str:
    """:func:`smaug_eval.stats.held_back` with the side of 0 before it; empty where there is nothing to say."""
    why = stats.held_back(interval, p_value, adjusted_p)
    return f"{'above' if difference > 0 else 'below'} 0 {why}" if why else ""


def p_words(p_value: float) -> str:
    """A p value as a phrase, such as "p = 0.012"; one above 5% never as 0.050, which would count."""
    if p_value < SMALLEST_P:
        return f"p < {SMALLEST_P}"
    digits = next((each for each in (3, 4, 5) if (round(p_value, each) > stats.ALPHA) == (p_value > stats.ALPHA)), 6)
    return f"p = {fixed(p_value, digits)}"


@dataclass(frozen=True)
class ColumnPair:
    """One column of a model beside the baseline's.

    Attributes:
        strata: The documents of each of its tasks; None where samples are missing, so that only totals compare.
        why_not: Why the two do not compare; None where they do.
        remarks: What a reader should know, in words.
    """

    strata: Sequence[Stratum] | None
    why_not: str | None
    remarks: tuple[str, ...] = ()


def pair_column(
    column: Column,
    own: ColumnScore,
    other: ColumnScore | None,
    results: Sequence[Mapping[str, TaskResult]],
    gates: Gates,
) -> ColumnPair:
    """Bring together the documents of a column.

    Args:
        column: The column; one weighted by size has all of its documents in one stratum.
        own: The model's score.
        other: The baseline's; None where it was not measured.
        results: The model's and the baseline's.
        gates: Of the model's tasks.
    """
    if other is None:
        return ColumnPair(None, "the baseline was not measured on it")
    if own.leaves.keys() != other.leaves.keys():
        return ColumnPair(None, "measured on other tasks")
    pairs = [pair_task(column.metric, task, results, gates[task]) for task in own.leaves]
    if refused := next((pair.why_not for pair in pairs if pair.why_not is not None), None):
        return ColumnPair(None, refused)
    found = one_column(pairs)
    if found.strata is None or not column.weighted_by_size:
        return found
    first, second = (np.concatenate([stratum[side] for stratum in found.strata]) for side in (0, 1))
    return replace(found, strata=[(first, second)])


def one_column(pairs: Sequence[ColumnPair]) -> ColumnPair:
    """Tasks that all compare as one column: the plain mean over them.

    Args:
        pairs: One of each task, as :func:`pair_task` gives it.
    """
    remarks = tuple(dict.fromkeys(remark for pair in pairs for remark in pair.remarks))
    strata = [stratum for pair in pairs for stratum in pair.strata or ()]
    if len(strata) == len(pairs):
        return ColumnPair(strata, None, remarks)
    return ColumnPair(None, _mixed(remarks) if remarks else None, remarks)


def mixed_average(pairs: Mapping[str, ColumnPair]) -> str | None:
    """Why no average over these columns compares, for each of them may: one has documents in common alone, another no
    samples to find them by. None where it does."""
    partly = next((title for title, pair in pairs.items() if pair.remarks), None)
    if partly is None or all(pair.strata is not None for pair in pairs.values()):
        return None
    return f"{partly}: {_mixed(pairs[partly].remarks)}"


def _mixed(remarks: Sequence[str]) -> str:
    return f"{'; '.join(remarks)}; without all samples there is no score on those in common"


def pair_task(metric: str, task: str, results: Sequence[Mapping[str, TaskResult]], gate: Comparability) -> ColumnPair:
    """Bring together the documents of one task that both models were measured on; its arguments as above."""
    if is_refused(gate):
        return ColumnPair(None, "; ".join(gate.reasons))
    stratum = _stratum(metric, results[0][task], results[1][task], gate)
    if stratum is None:
        return ColumnPair(None, None, gate.reasons)
    if not all(np.isfinite(values).all() for values in stratum):
        return ColumnPair(None, f"{task}: some documents have no number")
    return ColumnPair([stratum], None, gate.reasons)


def column_difference(pair: ColumnPair, own: Score, other: Score) -> Difference:
    """The difference on one column that compares."""
    if pair.strata is None:
        return unpaired_difference(own, other, pair.remarks)
    if len(pair.strata) == 1:
        found = stats.paired_difference(*pair.strata[0])
        return _in_points(
            found.difference,
            found.interval,
            found.p_value,
            found.n,
            counts=(found.higher, found.lower),
            correlation=found.correlation,
            test=found.test,
            remarks=pair.remarks,
            in_common=_in_common([pair]),
        )
    return average_difference([pair], own, other)


def average_difference(pairs: Sequence[ColumnPair], own: Score, other: Score) -> Difference:
    """The difference of averages over columns that all compare; by bootstrap where all documents are paired."""
    remarks = tuple(dict.fromkeys(remark for pair in pairs for remark in pair.remarks))
    strata = [pair.strata for pair in pairs if pair.strata is not None]
    if len(strata) < len(pairs):
        return unpaired_difference(own, other, remarks)
    found = stats.average_difference(
        [[first for first, _ in column] for column in strata], [[second for _, second in column] for column in strata]
    )
    return _in_points(
        found.difference,
        found.interval,
        found.p_value,
        found.n,
        test=BOOTSTRAP_TEST,
        remarks=remarks,
        in_common=_in_common(pairs),
    )


def _in_common(pairs: Sequence[ColumnPair]) -> tuple[float, float] | None:
    """Both scores in percent on the documents of the strata; None where these are all documents of both models."""
    if not any(pair.remarks for pair in pairs):
        return None
    columns = [
        [
            math.fsum(float(values[side].mean()) for values in pair.strata or ()) / len(pair.strata or ())
            for side in (0, 1)
        ]
        for pair in pairs
    ]
    own, other = (100 * math.fsum(column[side] for column in columns) / len(columns) for side in (0, 1))
    return own, other


def unpaired_difference(own: Score, other: Score, remarks: tuple[str, ...] = ()) -> Difference:
    r"""The difference of two scores as if of independent documents: :math:`se = \sqrt{se_1^2 + se_2^2}`, z test.

    Models mostly fail on the same documents; then the interval is wider than it had to be.
    """
    points = own.value - other.value
    error = None if own.stderr is None or other.stderr is None else math.hypot(own.stderr, other.stderr)
    if not error:
        return _in_points(points / 100, None, None, own.n, test=NOT_PAIRED, remarks=remarks)
    low, high = stats.normal_interval(points, error)
    p_value = 2 * NormalDist().cdf(-abs(points) / error)
    return _in_points(points / 100, (low / 100, high / 100), p_value, own.n, test=NOT_PAIRED, remarks=remarks)


def adjusted(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences with p values by Holm's method over all of them, and the verdicts that follow."""
    tested = [each.p_value for each in differences if each.p_value is not None]
    values = iter(stats.holm(tested))
    return [_judged(each, None if each.p_value is None else next(values)) for each in differences]


def _judged(difference: Difference, adjusted_p: float | None) -> Difference:
    return replace(difference, adjusted_p=adjusted_p, verdict=stats.verdict(difference.interval, adjusted_p))


def _stratum(metric: str, own: TaskResult, other: TaskResult, gate: Comparability) -> Stratum | None:
    """Both models' values on the documents that compare, in percent of 1; None where either kept no samples."""
    if gate.rows is None or own.samples is None or other.samples is None:
        return None
    mine, theirs = logged_values(own.samples, metric), logged_values(other.samples, metric)
    return None if mine is None or theirs is None else (mine[gate.rows[0]], theirs[gate.rows[1]])


def _in_points(
    difference: float,
    interval: Interval | None,
    p_value: float | None,
    n: int,
    *,
    test: str,
    counts: tuple[int, int] | tuple[None, None] = (None, None),
    correlation: float | None = None,
    remarks: tuple[str, ...] = (),
    in_common: tuple[float, float] | None = None,
) -> Difference:
    """From fractions to points; what is detectable follows from the interval's width, which is never 0, and no two
    scores are as much as 100 points apart."""
    scaled = None if interval is None else (100 * interval[0], 100 * interval[1])
    detectable = None if scaled is None else stats.detectable_difference((scaled[1] - scaled[0]) / 2 / _HALF)
    if detectable is not None and detectable >= _LARGEST:
        detectable = None
    return Difference(
        points=100 * difference,
        interval=scaled,
        p_value=p_value,
        adjusted_p=p_value,
        detectable=detectable,
        n=n,
        gained=counts[0],
        lost=counts[1],
        correlation=correlation,
        test=test,
        verdict=stats.verdict(scaled, p_value),
        remarks=remarks,
        in_common=in_common,
    )
