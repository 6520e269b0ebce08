"""Score each column from lm-eval's results, and average a suite's columns.

Scores, standard errors and 95% intervals are in the column's unit: percent on the leaderboards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from smaug_eval import stats
from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.columns import PERCENT, Board, Column, Leaf, Unit
from smaug_eval.leaderboard.intervals import RESAMPLES, Values, bootstrap_interval, mean_interval, normal_interval

BOOTSTRAP = f"bootstrap over documents within their tasks, {RESAMPLES:,} resamples"
FORMULA = "standard errors of independent columns"
ONLY = "that of the only task"
NO_COUNT = "number of documents not recorded"

_ROUNDING = 1e-12

TaskResults = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Score:
    """Hold a mean over documents, or an unweighted mean of such means.

    Attributes:
        value: In percent, or the column's own unit.
        stderr: Its standard error; None where lm-eval gave none (a single document, or switched off).
        n: Documents behind it; None where nothing says how many.
        notes: What a reader must know beside the number; empty for a plain official one.
        interval: Its 95% interval; None where there is no standard error.
    """

    value: float
    stderr: float | None
    n: int | None
    notes: tuple[str, ...] = ()
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class ColumnScore:
    """Hold one column's score.

    Attributes:
        title: The column.
        metric: Its headline metric.
        score: The score.
        leaves: Score of each task that was measured, by task name; one unless the column is a mean of several.
        complete: Whether every task of the column was measured.
        raw: The mean before it was normalised; None where it was not.
    """

    title: str
    metric: str
    score: Score
    leaves: dict[str, Score]
    complete: bool
    raw: Score | None = None


@dataclass(frozen=True)
class SuiteScores:
    """Hold the measured columns of a suite in table order, and their plain mean.

    Attributes:
        suite: The suite's name.
        columns: The measured columns.
        missing: Titles of the columns that were not measured.
        average: Plain mean of ``columns``, with the standard error of independent columns.
        average_label: "average of six" only where all six columns are there and complete.
        interval_method: Says how the average's interval was found.
    """

    suite: str
    columns: tuple[ColumnScore, ...]
    missing: tuple[str, ...]
    average: Score
    average_label: str
    interval_method: str = FORMULA


def suite_scores(
    suite: Board[Leaf],
    results: TaskResults,
    *,
    notes: Mapping[str, Sequence[str]] | None = None,
    documents: Mapping[str, Values] | None = None,
) -> SuiteScores:
    """Score the columns of a suite and their average from lm-eval's per-task metrics.

    Args:
        suite: The suite.
        results: lm-eval's ``results``: task name to ``{"acc,none": ..., "acc_stderr,none": ..., "sample_len": ...}``.
            Groups and tasks of other suites are ignored; a subset of the suite's tasks is enough.
        notes: What to say beside the numbers, by task (leaf or column).
        documents: Each leaf task's headline metric per document, in [0, 1]; where all measured tasks are there, the
            average's interval is bootstrapped from them, else it follows from the standard errors.

    Raises:
        SmaugError: no task of the suite is there, or one lacks its headline metric.
    """
    measured = [
        column_score(column, results, notes=notes) for column in suite.columns if _measured_leaves(column, results)
    ]
    if not measured:
        raise SmaugError(f"the results hold no task of {suite.name}", fix=f"evaluate the tasks of {suite.name}")
    titles = {column.title for column in measured}
    missing = tuple(column.title for column in suite.columns if column.title not in titles)
    labelled = [f"{column.title}: {note}" for column in measured for note in column.score.notes]
    average = mean_of_means([column.score for column in measured], labelled)
    is_only = len(measured) == len(measured[0].leaves) == 1
    interval = None if is_only else _bootstrapped(suite, measured, documents or {})
    return SuiteScores(
        suite=suite.name,
        columns=tuple(measured),
        missing=missing,
        average=replace(average, interval=interval) if interval else average,
        average_label=_average_label(measured, len(suite.columns)),
        interval_method=ONLY if is_only else BOOTSTRAP if interval else FORMULA,
    )


def column_score(
    column: Column[Leaf], results: TaskResults, *, notes: Mapping[str, Sequence[str]] | None = None
) -> ColumnScore:
    """Score one column from lm-eval's per-task metrics: the mean of its measured tasks, or what their group reports.

    Raises:
        SmaugError: none of the column's tasks was measured, or one lacks the column's metric.
    """
    measured = _measured_leaves(column, results)
    leaves = {leaf.name: task_score(leaf.name, column, results[leaf.name]) for leaf in measured}
    is_reported = column.reported and column.task not in leaves and column.task in results
    if not leaves and not is_reported:
        raise SmaugError(f"the results hold no task of column {column.title}", fix=f"evaluate {column.task}")
    told = [note for name in dict.fromkeys((column.task, *leaves)) for note in (notes or {}).get(name, ())]
    told += [note for score in leaves.values() for note in score.notes]
    if len(leaves) < len(column.leaves):
        told.append(f"{len(leaves)} of {len(column.leaves)} tasks")
    score = _combined(column, measured, list(leaves.values())) if leaves else Score(math.nan, None, None)
    if is_reported:
        score = replace(task_score(column.task, column, results[column.task]), n=score.n)
    official = _official_rows(column)
    if score.n is None:
        told.append(NO_COUNT)
    elif official is not None and score.n != official:
        told.append(f"{score.n:,} of {official:,} documents")
    raw = _mean(column, list(leaves.values())) if column.is_normalised else None
    return ColumnScore(
        title=column.title,
        metric=column.metric,
        score=replace(score, notes=tuple(dict.fromkeys(told))),
        leaves=leaves,
        complete=len(leaves) == len(column.leaves),
        raw=raw,
    )


def task_score(task: str, column: Column[Leaf], metrics: Mapping[str, Any]) -> Score:
    """Return one task's score by the metric of a column.

    NaN counts as 0 and the score says so, as on the leaderboard.

    Args:
        task: Its name, for messages.
        column: Whose metric it is, ``name`` or ``name,filter`` where lm-eval filters answers under a name.
        metrics: lm-eval's ``results`` of the task.

    Raises:
        SmaugError: ``metrics`` lacks the metric.
    """
    name, _, filter_name = column.metric.partition(",")
    filter_name = filter_name or "none"
    value, n = number(metrics.get(f"{name},{filter_name}")), number(metrics.get("sample_len"))
    if value is None:
        raise SmaugError(
            f"the results of {task} have no number {f'{name},{filter_name}'!r}",
            fix="evaluate with this project's tasks",
        )
    count = int(n) if n is not None and math.isfinite(n) else None
    if not math.isfinite(value):
        return Score(0.0, None, count, (f"{task}: {name} is not a number, counted as 0",))
    stderr = number(metrics.get(f"{name}_stderr,{filter_name}"))
    if stderr is None or not math.isfinite(stderr):
        return Score(column.unit.scale * value, None, count)
    return Score(
        column.unit.scale * value,
        column.unit.scale * stderr,
        count,
        interval=scaled_interval(column.unit, value, stderr, count),
    )


def number(value: object) -> float | None:
    """Return a number of a results file, which may be NaN; None for what is none or is beyond a double's range."""
    if not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def scaled_interval(unit: Unit, value: float, stderr: float, n: int | None) -> tuple[float, float] | None:
    """Return the 95% interval of a mean from its standard error, in a column's unit; None where there is none.

    Args:
        unit: The column's.
        value: The mean as lm-eval reports it.
        stderr: Its standard error.
        n: Documents; None where unknown.
    """
    if unit is PERCENT and 0 <= value <= 1:
        return _percent(mean_interval(value, stderr, n) if n is not None else normal_interval(value, stderr or None))
    if not stderr:  # nothing says how far it would vary
        return None
    low, high = stats.normal_interval(value, stderr)
    return unit.scale * low, unit.scale * high


def _combined(column: Column[Leaf], measured: Sequence[Leaf], scores: Sequence[Score]) -> Score:
    """Return the column's score from those of its measured leaves; normalised where the column is."""
    if not column.is_normalised:
        return _mean(column, scores)
    floors = dict(zip((leaf.name for leaf in column.leaves), column.floors, strict=False))
    own = [floors.get(leaf.name, 0.0) for leaf in measured]
    part = replace(column, leaves=tuple(measured), floors=tuple(own))
    sizes = [score.n or 1 for score in scores]
    value = 100 * part.normalised([score.value / 100 for score in scores], sizes)
    stretched = [
        replace(score, stderr=None if score.stderr is None else score.stderr / (1 - floor) / (1 - column.floor))
        for score, floor in zip(scores, own, strict=True)
    ]
    stderr = _mean(column, stretched).stderr
    interval = _percent(normal_interval(value / 100, stderr / 100)) if stderr else None
    return Score(value, stderr, _total(scores), (), interval)


def _mean(column: Column[Leaf], scores: Sequence[Score]) -> Score:
    known = all(score.n is not None for score in scores)
    mean = mean_over_documents if column.weighted_by_size and known else mean_of_means
    return mean(scores, unit=column.unit)


def value_score(values: Values) -> Score:
    """Average per-document values in [0, 1]."""
    n, mean = len(values), float(values.mean())
    stderr = float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else None
    error = None if stderr is None else 100 * stderr
    return Score(100 * mean, error, n, interval=_percent(mean_interval(mean, stderr, n)))


def mean_of_means(scores: Sequence[Score], notes: Sequence[str] = (), *, unit: Unit = PERCENT) -> Score:
    r"""Average k independent scores without weights, with standard error :math:`\sqrt{\sum_i se_i^2} / k`.

    The standard error and the interval are None where one of theirs is, the interval also where all of theirs are 0;
    the interval of a single score is its own.
    """
    return _weighted_mean(scores, [1 / len(scores)] * len(scores), notes, unit)


def mean_over_documents(scores: Sequence[Score], notes: Sequence[str] = (), *, unit: Unit = PERCENT) -> Score:
    r"""Average k independent scores weighted by their documents, with the standard error of that sum."""
    sizes = [score.n or 0 for score in scores]
    return _weighted_mean(scores, [size / sum(sizes) for size in sizes], notes, unit)


def _weighted_mean(scores: Sequence[Score], weights: Sequence[float], notes: Sequence[str], unit: Unit) -> Score:
    if len(scores) == 1:
        return replace(scores[0], notes=tuple(notes))
    value = math.fsum(weight * score.value for weight, score in zip(weights, scores, strict=True))
    known = [weight * score.stderr for weight, score in zip(weights, scores, strict=True) if score.stderr is not None]
    stderr = math.hypot(*known) if len(known) == len(scores) else None
    # Of 0 nothing says how far.
    interval = scaled_interval(unit, value / unit.scale, stderr / unit.scale, None) if stderr else None
    return Score(value, stderr, _total(scores), tuple(notes), interval)


def _total(scores: Sequence[Score]) -> int | None:
    """Sum all documents; None where those of one are not known."""
    counts = [score.n for score in scores if score.n is not None]
    return sum(counts) if len(counts) == len(scores) else None


def _bootstrapped(
    suite: Board[Leaf], measured: Sequence[ColumnScore], documents: Mapping[str, Values]
) -> tuple[float, float] | None:
    """Return the average's interval in percent; None unless all measured tasks' documents are known, and vary."""
    if any(column.weighted_by_size or column.is_normalised for column in suite.columns):
        return None
    values = [[documents.get(name) for name in column.leaves] for column in measured]
    known = [[each for each in column if each is not None] for column in values]
    if any(len(own) < len(all_) for own, all_ in zip(known, values, strict=True)):
        return None
    found = bootstrap_interval(known)
    return None if found is None or found[1] - found[0] <= _ROUNDING else _percent(found)


def _percent(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])


def _measured_leaves(column: Column[Leaf], results: TaskResults) -> list[Leaf]:
    return [leaf for leaf in column.leaves if leaf.name in results]


def _official_rows(column: Column[Leaf]) -> int | None:
    counts = [leaf.official_rows for leaf in column.leaves if leaf.official_rows is not None]
    return sum(counts) if len(counts) == len(column.leaves) else None


def _average_label(measured: Sequence[ColumnScore], columns: int) -> str:
    if len(measured) < columns:
        return f"mean of {len(measured)} of {columns} columns"
    name = "six" if columns == 6 else str(columns)
    return f"average of {name}" if all(column.complete for column in measured) else f"mean of {name}, not all complete"
