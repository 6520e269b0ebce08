"""The leaderboard's view of lm-eval results: a score per column, and their average.

Scores, standard errors and 95% intervals are in percent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard.intervals import RESAMPLES, Values, bootstrap_interval, mean_interval, normal_interval
from smaug_eval.leaderboard.protocol import TaskSpec
from smaug_eval.leaderboard.suite import Column, Suite

BOOTSTRAP = f"bootstrap over documents within their tasks, {RESAMPLES:,} resamples"
FORMULA = "standard errors of independent columns"
ONLY = "that of the only task"

_ROUNDING = 1e-12

TaskResults = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Score:
    """A mean over documents, or an unweighted mean of such means.

    Attributes:
        value: In percent.
        stderr: Its standard error in percent; None where lm-eval gave none (a single document, or switched off).
        n: Documents behind it.
        notes: What a reader must know beside the number; empty for a plain official one.
        interval: Its 95% interval in percent; None where there is no standard error.
    """

    value: float
    stderr: float | None
    n: int
    notes: tuple[str, ...] = ()
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class ColumnScore:
    """One column's score.

    Attributes:
        title: The column.
        metric: Its headline metric.
        score: The score.
        leaves: Score of each task that was measured, by task name; one unless the column is a mean of several.
        complete: Whether every task of the column was measured.
    """

    title: str
    metric: str
    score: Score
    leaves: dict[str, Score]
    complete: bool


@dataclass(frozen=True)
class SuiteScores:
    """The measured columns of a suite in table order, and their plain mean.

    Attributes:
        suite: The suite's name.
        columns: The measured columns.
        missing: Titles of the columns that were not measured.
        average: Plain mean of ``columns``, with the standard error of independent columns.
        average_label: "average of six" only where all six columns are there and complete.
        interval_method: How the average's interval was found, in words.
    """

    suite: str
    columns: tuple[ColumnScore, ...]
    missing: tuple[str, ...]
    average: Score
    average_label: str
    interval_method: str = FORMULA


def suite_scores(
    suite: Suite,
    results: TaskResults,
    *,
    notes: Mapping[str, Sequence[str]] | None = None,
    documents: Mapping[str, Values] | None = None,
) -> SuiteScores:
    """Columns and average of a suite from lm-eval's per-task metrics.

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
    column: Column, results: TaskResults, *, notes: Mapping[str, Sequence[str]] | None = None
) -> ColumnScore:
    """One column from lm-eval's per-task metrics: the unweighted mean of its measured tasks.

    Raises:
        SmaugError: none of the column's tasks was measured, or one lacks the column's metric.
    """
    leaves = {
        leaf.name: task_score(leaf, column.metric, results[leaf.name]) for leaf in _measured_leaves(column, results)
    }
    if not leaves:
        raise SmaugError(f"the results hold no task of column {column.title}", fix=f"evaluate {column.task}")
    told = [note for name in (column.task, *leaves) for note in (notes or {}).get(name, ())]
    told += [note for score in leaves.values() for note in score.notes]
    if len(leaves) < len(column.leaves):
        told.append(f"{len(leaves)} of {len(column.leaves)} tasks")
    n, official = sum(score.n for score in leaves.values()), _official_rows(column)
    if official is not None and n != official:
        told.append(f"{n:,} of {official:,} documents")
    mean = mean_over_documents if column.weighted_by_size else mean_of_means
    return ColumnScore(
        title=column.title,
        metric=column.metric,
        score=mean(list(leaves.values()), list(dict.fromkeys(told))),
        leaves=leaves,
        complete=len(leaves) == len(column.leaves),
    )


def task_score(spec: TaskSpec, metric: str, metrics: Mapping[str, Any]) -> Score:
    """One task's headline metric.

    NaN counts as 0 and the score says so, as on the leaderboard.

    Args:
        spec: The task.
        metric: Its name, or ``name,filter`` where lm-eval filters answers under a name.
        metrics: lm-eval's ``results`` of the task.

    Raises:
        SmaugError: ``metrics`` lacks the metric or the number of documents.
    """
    name, _, filter_name = metric.partition(",")
    filter_name = filter_name or "none"
    value, n = _number(spec, metrics, f"{name},{filter_name}"), int(_number(spec, metrics, "sample_len"))
    if math.isnan(value):
        return Score(0.0, None, n, (f"{spec.name}: {name} is not a number, counted as 0",))
    stderr = metrics.get(f"{name}_stderr,{filter_name}")
    if not isinstance(stderr, (int, float)) or math.isnan(stderr):
        return Score(100 * value, None, n)
    return Score(100 * value, 100 * stderr, n, interval=_percent(mean_interval(value, stderr, n)))


def value_score(values: Values) -> Score:
    """The mean of per-document values in [0, 1]."""
    n, mean = len(values), float(values.mean())
    stderr = float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else None
    error = None if stderr is None else 100 * stderr
    return Score(100 * mean, error, n, interval=_percent(mean_interval(mean, stderr, n)))


def mean_of_means(scores: Sequence[Score], notes: Sequence[str] = ()) -> Score:
    r"""Unweighted mean of k independent scores, with standard error :math:`\sqrt{\sum_i se_i^2} / k`.

    The standard error and the interval are None where one of theirs is, the interval also where all of theirs are 0;
    the interval of a single score is its own.
    """
    return _weighted_mean(scores, [1 / len(scores)] * len(scores), notes)


def mean_over_documents(scores: Sequence[Score], notes: Sequence[str] = ()) -> Score:
    r"""Mean of k independent scores weighted by their documents, with the standard error of that sum."""
    total = sum(score.n for score in scores)
    return _weighted_mean(scores, [score.n / total for score in scores], notes)


def _weighted_mean(scores: Sequence[Score], weights: Sequence[float], notes: Sequence[str]) -> Score:
    if len(scores) == 1:
        return replace(scores[0], notes=tuple(notes))
    value = math.fsum(weight * score.value for weight, score in zip(weights, scores, strict=True))
    known = [weight * score.stderr for weight, score in zip(weights, scores, strict=True) if score.stderr is not None]
    stderr = math.hypot(*known) if len(known) == len(scores) else None
    interval = _percent(normal_interval(value / 100, stderr / 100)) if stderr else None  # of 0 nothing says how far
    return Score(value, stderr, sum(score.n for score in scores), tuple(notes), interval)


def _bootstrapped(
    suite: Suite, measured: Sequence[ColumnScore], documents: Mapping[str, Values]
) -> tuple[float, float] | None:
    """The average's interval in percent; None unless the documents of every measured task are known, and vary."""
    if any(column.weighted_by_size for column in suite.columns):
        return None
    values = [[documents.get(name) for name in column.leaves] for column in measured]
    known = [[each for each in column if each is not None] for column in values]
    if any(len(own) < len(all_) for own, all_ in zip(known, values, strict=True)):
        return None
    found = bootstrap_interval(known)
    return None if found is None or found[1] - found[0] <= _ROUNDING else _percent(found)


def _percent(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])


def _number(spec: TaskSpec, metrics: Mapping[str, Any], key: str) -> float:
    value = metrics.get(key)
    if not isinstance(value, (int, float)):
        raise SmaugError(f"the results of {spec.name} have no number {key!r}", fix="evaluate with this project's tasks")
    return value


def _measured_leaves(column: Column, results: TaskResults) -> list[TaskSpec]:
    return [leaf for leaf in column.leaves if leaf.name in results]


def _official_rows(column: Column) -> int | None:
    counts = [leaf.official_rows for leaf in column.leaves if leaf.official_rows is not None]
    return sum(counts) if len(counts) == len(column.leaves) else None


def _average_label(measured: Sequence[ColumnScore], columns: int) -> str:
    if len(measured) < columns:
        return f"mean of {len(measured)} of {columns} columns"
    name = "six" if columns == 6 else str(columns)
    return f"average of {name}" if all(column.complete for column in measured) else f"mean of {name}, not all complete"
