"""Compare a model with the baseline: on each column and on a suite's average, with interval and test.

Differences are in the column's unit, percentage points on the leaderboards, the model's score less the baseline's. They
are paired by document wherever both sides kept samples; the statistics are :mod:`smaug_eval.stats`'s, here are only
their inputs and their words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from smaug_eval import stats
from smaug_eval.common.text import fixed
from smaug_eval.leaderboard.columns import PERCENT, Column, Unit
from smaug_eval.leaderboard.scores import Score
from smaug_eval.results.pairing import ColumnPair, parts_of
from smaug_eval.results.stopping import Decided, EarlyStop
from smaug_eval.stats import Interval, Outcome, Verdict

NOT_PAIRED = "documents count as independent: without samples they cannot be paired"
BOOTSTRAP_TEST = f"paired bootstrap within tasks, {stats.RESAMPLES:,} resamples"
SMALLEST_P = 0.001
LARGEST_P = 0.99

_HALF = NormalDist().inv_cdf(0.975)
_OPPOSITE = {
    Outcome.BETTER: Outcome.WORSE,
    Outcome.WORSE: Outcome.BETTER,
    Outcome.HIGHER: Outcome.LOWER,
    Outcome.LOWER: Outcome.HIGHER,
}


@dataclass(frozen=True)
class Difference:
    """Hold a model's score less the baseline's, in percentage points or the column's own unit.

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
        test: Names the test behind ``p_value``.
        verdict: What it comes to.
        remarks: What a reader should know beside it.
        in_common: The model's score and the baseline's in percent on the documents that both have, where one has
            others, too: those the difference is of. None where both scores are of all documents compared.
        unit: What it is in.
        higher_is_better: Whether more is better; None where nobody says so.
        is_anytime: Whether one of the two stopped early: the interval and the verdict are then those it was decided by,
            or there is neither.
    """

    points: float
    interval: Interval | None
    p_value: float | None
    adjusted_p: float | None
    detectable: float | None
    n: int | None
    gained: int | None
    lost: int | None
    correlation: float | None
    test: str
    verdict: Verdict
    remarks: tuple[str, ...] = ()
    in_common: tuple[float, float] | None = None
    unit: Unit = PERCENT
    higher_is_better: bool | None = True
    is_anytime: bool = False

    @property
    def held_back(self) -> str:
        """Word an inconclusive difference whose interval and p value do not agree, such as "above 0 unadjusted".

        Empty where they agree; see :func:`smaug_eval.stats.held_back`.
        """
        if self.is_anytime:
            return ""
        return held_back_words(self.points, self.interval, self.p_value, self.adjusted_p)

    @property
    def outcome_words(self) -> str:
        """Word the verdict as a phrase that also says why it is not what the interval or the p value suggests."""
        words = self.verdict.words(self.unit.of_difference)
        return f"{words} ({self.held_back})" if self.held_back else words

    @property
    def word(self) -> str:
        """Return the shortest statement of the outcome: "better", "above 0 unadjusted", or "not tested".

        The last is for a difference without an interval and a test.
        """
        if self.interval is None and self.p_value is None:
            return "not tested"
        return self.held_back or self.verdict.outcome.value

    @property
    def p_words(self) -> str:
        """Word the adjusted p value as a phrase; empty where there is none."""
        return "" if self.adjusted_p is None else p_words(self.adjusted_p)


def held_back_words(
    difference: float, interval: Interval | None, p_value: float | None, adjusted_p: float | None
) -> str:
    """Return :func:`smaug_eval.stats.held_back` with the side of 0 before it; empty where there is nothing to say."""
    why = stats.held_back(interval, p_value, adjusted_p)
    return f"{'above' if difference > 0 else 'below'} 0 {why}" if why else ""


def p_words(p_value: float) -> str:
    """Word a p value as a phrase, such as "p = 0.012", "p < 0.001" or "p > 0.99"."""
    shown = p_text(p_value)
    return f"p {shown}" if shown[0] in "<>" else f"p = {shown}"


def p_text(p_value: float) -> str:
    """Return a p value rounded to three digits, "< 0.001" or "> 0.99": none is known to be 0 or 1.

    One above 5% is never written as 0.050, which would count.
    """
    if p_value < SMALLEST_P:
        return f"< {SMALLEST_P}"
    if p_value > LARGEST_P:
        return f"> {LARGEST_P}"
    digits = next((each for each in (3, 4, 5) if (round(p_value, each) > stats.ALPHA) == (p_value > stats.ALPHA)), 6)
    return fixed(p_value, digits)


def column_difference(
    pair: ColumnPair, own: Score, other: Score, column: Column | None = None, draws: stats.Draws | None = None
) -> Difference:
    """Compute the difference on one column that compares.

    Args:
        pair: The documents of both.
        own: The model's score.
        other: The baseline's.
        column: What the score is; a mean in percent of which more is better where None.
        draws: What was drawn for other pairs of models.
    """
    if pair.stopped is not None:
        return _anytime_difference(own.value - other.value, pair.stopped, pair.stopped.found, column)
    if pair.strata is None:
        found = unpaired_difference(own, other, pair.remarks, PERCENT if column is None else column.unit)
    elif pair.corpus is not None or (column is not None and column.is_normalised):
        found = _resampled_difference(pair, column, draws)
    elif len(pair.strata) == 1:
        apart = stats.paired_difference(*pair.strata[0], pair.clusters)
        found = _in_unit(
            apart.difference,
            apart.interval,
            apart.p_value,
            apart.n,
            counts=(apart.higher, apart.lower),
            correlation=apart.correlation,
            test=apart.test,
            remarks=pair.remarks,
            in_common=_in_common([pair]),
            unit=PERCENT if column is None else column.unit,
        )
    else:
        found = average_difference([pair], own, other, draws)
    return found if column is None else _directed(found, column.higher_is_better)


def _anytime_difference(
    points: float, stopped: EarlyStop, found: Decided | None, column: Column | None = None, what: str = ""
) -> Difference:
    """Return the difference that an early stop was decided by; one that is not tested where that was another."""
    against = f" for a comparison with {stopped.against}" if stopped.against else ""
    untested = Difference(
        points=points,
        interval=None,
        p_value=None,
        adjusted_p=None,
        detectable=None,
        n=stopped.n,
        gained=None,
        lost=None,
        correlation=None,
        test=f"stopped early{against}: nothing is tested",
        verdict=Verdict(Outcome.INCONCLUSIVE),
        unit=PERCENT if column is None else column.unit,
        higher_is_better=True if column is None else column.higher_is_better,
        is_anytime=True,
    )
    if found is None:
        return untested
    return replace(
        untested,
        points=found.difference,
        interval=found.interval,
        n=None if what else stopped.n,
        test=what or f"{stopped.words}: interval for all {stopped.of:,} documents",
        verdict=Verdict(found.outcome, stopped.margin),
        remarks=() if found.beyond is None else (_beyond_words(found.beyond, stopped.of),),
    )


def _beyond_words(interval: Interval, of: int) -> str:
    low, high = (f"{'+' if end > 0 else '−' if end < 0 else ''}{fixed(abs(end), 2)}" for end in interval)
    return f"for other documents than these {of:,} the interval is {low} to {high}"


def stopped_average(pairs: Sequence[ColumnPair], own: Score, other: Score) -> Difference:
    """Compute the difference of averages over columns of which some stopped early.

    It has the interval that was recorded where all columns stopped together, or ran to their ends, and it is an average
    of as many; else it is not tested.
    """
    early = [pair.stopped for pair in pairs if pair.stopped is not None]
    found = {each.average for each in early if each.found is not None}
    is_one = len(found) == 1 and all(each.found is not None for each in early)
    average = found.pop() if is_one else None
    if average is not None and average.columns != len(pairs):
        average = None
    what = "anytime-valid interval for all documents of all columns, stratified"
    return _anytime_difference(own.value - other.value, early[0], average, what=what)


def _directed(difference: Difference, higher_is_better: bool | None) -> Difference:
    own = replace(difference, higher_is_better=higher_is_better)
    return _judged(own, own.adjusted_p)


def _resampled_difference(pair: ColumnPair, column: Column | None, draws: stats.Draws | None) -> Difference:
    """Resample the difference of scores that are no means over documents."""
    own, other = parts_of(pair)
    apart = stats.score_difference(own, other, _score_of(pair, column), names=pair.names, draws=draws)
    is_normalised = pair.corpus is None
    unit = PERCENT if column is None else column.unit
    what = "normalised score" if pair.corpus is None else pair.corpus.name
    return _in_unit(
        apart.difference,
        apart.interval,
        apart.p_value,
        apart.n,
        test=f"paired bootstrap of documents, {apart.resamples:,} resamples ({what})",
        remarks=pair.remarks,
        unit=unit,
        scale=100.0 if is_normalised else unit.scale,
    )


def _score_of(pair: ColumnPair, column: Column | None) -> stats.ScoreOf:
    """Return how the mean rows of a column's strata make its score, in lm-eval's unit."""
    if pair.corpus is not None:
        return pair.corpus.score
    sizes = [len(own) for own, _ in pair.strata or ()]

    def score(means: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        plain = [mean[..., 0] for mean in means]
        return np.mean(plain, axis=0) if column is None else column.normalised_array(plain, sizes)

    return score


def mixed_difference(
    columns: Sequence[Column],
    pairs: Sequence[ColumnPair],
    own: Score,
    other: Score,
    draws: stats.Draws | None = None,
) -> Difference:
    """Compute :func:`average_difference` where a column's score, as normalised ones, is no mean over documents."""
    remarks = tuple(dict.fromkeys(remark for pair in pairs for remark in pair.remarks))
    if any(pair.strata is None for pair in pairs) or not pairs:
        return unpaired_difference(own, other, remarks)
    sides = [parts_of(pair) for pair in pairs]
    scores = [_score_of(pair, column) for pair, column in zip(pairs, columns, strict=True)]
    ends = list(accumulate(len(rows) for rows, _ in sides))

    def score(means: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        starts = [0, *ends[:-1]]
        found = [each(means[start:end]) for each, start, end in zip(scores, starts, ends, strict=True)]
        return np.mean(found, axis=0)

    apart = stats.score_difference(
        [rows for first, _ in sides for rows in first],
        [rows for _, second in sides for rows in second],
        score,
        names=[name for pair in pairs for name in pair.names],
        draws=draws,
    )
    return _in_unit(
        apart.difference,
        apart.interval,
        apart.p_value,
        apart.n,
        test=f"paired bootstrap within tasks, {apart.resamples:,} resamples",
        remarks=remarks,
    )


def average_difference(
    pairs: Sequence[ColumnPair], own: Score, other: Score, draws: stats.Draws | None = None
) -> Difference:
    """Compute the difference of averages over columns that all compare; by bootstrap where all documents are paired."""
    remarks = tuple(dict.fromkeys(remark for pair in pairs for remark in pair.remarks))
    strata = [pair.strata for pair in pairs if pair.strata is not None]
    if len(strata) < len(pairs):
        return unpaired_difference(own, other, remarks)
    found = stats.average_difference(
        [[first for first, _ in column] for column in strata],
        [[second for _, second in column] for column in strata],
        names=[pair.names for pair in pairs],
        draws=draws,
    )
    return _in_unit(
        found.difference,
        found.interval,
        found.p_value,
        found.n,
        test=BOOTSTRAP_TEST,
        remarks=remarks,
        in_common=_in_common(pairs),
    )


def _in_common(pairs: Sequence[ColumnPair]) -> tuple[float, float] | None:
    """Return both scores in percent on the documents of the strata.

    None where these are all documents of both models.
    """
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


def unpaired_difference(own: Score, other: Score, remarks: tuple[str, ...] = (), unit: Unit = PERCENT) -> Difference:
    r"""Compute the difference of two scores as of independent documents: :math:`se = \sqrt{se_1^2 + se_2^2}`, z test.

    Models mostly fail on the same documents; then the interval is wider than it had to be.
    """
    points = own.value - other.value
    error = None if own.stderr is None or other.stderr is None else math.hypot(own.stderr, other.stderr)
    if not error:
        return _in_unit(points, None, None, own.n, test=NOT_PAIRED, remarks=remarks, unit=unit, scale=1.0)
    interval, p_value = stats.normal_interval(points, error), 2 * NormalDist().cdf(-abs(points) / error)
    return _in_unit(points, interval, p_value, own.n, test=NOT_PAIRED, remarks=remarks, unit=unit, scale=1.0)


def turned(difference: Difference) -> Difference:
    """Return a difference with the two models exchanged."""
    interval, common = difference.interval, difference.in_common
    outcome = difference.verdict.outcome
    return replace(
        difference,
        points=-difference.points if difference.points else difference.points,
        interval=None if interval is None else (-interval[1], -interval[0]),
        gained=difference.lost,
        lost=difference.gained,
        in_common=None if common is None else (common[1], common[0]),
        verdict=replace(difference.verdict, outcome=_OPPOSITE.get(outcome, outcome)),
    )


def adjusted(differences: Sequence[Difference]) -> list[Difference]:
    """Adjust differences' p values by Holm's method over all of them, and their verdicts with them."""
    tested = [each.p_value for each in differences if each.p_value is not None]
    values = iter(stats.holm(tested))
    return [_judged(each, None if each.p_value is None else next(values)) for each in differences]


def _judged(difference: Difference, adjusted_p: float | None) -> Difference:
    if difference.is_anytime:
        return difference
    verdict = stats.verdict(difference.interval, adjusted_p, higher_is_better=difference.higher_is_better)
    return replace(difference, adjusted_p=adjusted_p, verdict=verdict)


def _in_unit(
    difference: float,
    interval: Interval | None,
    p_value: float | None,
    n: int | None,
    *,
    test: str,
    counts: tuple[int, int] | tuple[None, None] = (None, None),
    correlation: float | None = None,
    remarks: tuple[str, ...] = (),
    in_common: tuple[float, float] | None = None,
    unit: Unit = PERCENT,
    scale: float | None = None,
) -> Difference:
    """Convert from lm-eval's unit to the column's.

    What is detectable follows from the interval's width, which is never 0, and no two scores in percent are as much as
    100 points apart.
    """
    factor = unit.scale if scale is None else scale
    scaled = None if interval is None else (factor * interval[0], factor * interval[1])
    detectable = None if scaled is None else stats.detectable_difference((scaled[1] - scaled[0]) / 2 / _HALF)
    if detectable is not None and unit.bounds is not None and detectable >= unit.bounds[1] - unit.bounds[0]:
        detectable = None
    return Difference(
        points=factor * difference,
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
        unit=unit,
    )
