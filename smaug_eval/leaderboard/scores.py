"""The leaderboard's view of lm-eval results: a score per column, and their average.

Scores and standard errors are in percent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard.protocol import TaskSpec
from smaug_eval.leaderboard.suite import Column, Suite

TaskResults = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Score:
    """A mean over documents, or an unweighted mean of such means.

    Attributes:
        value: In percent.
        stderr: Its standard error in percent; None where lm-eval gave none (a single document, or switched off).
        n: Documents behind it.
        notes: What a reader must know beside the number; empty for a plain official one.
    """

    value: float
    stderr: float | None
    n: int
    notes: tuple[str, ...] = ()


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
    """

    suite: str
    columns: tuple[ColumnScore, ...]
    missing: tuple[str, ...]
    average: Score
    average_label: str


def suite_scores(suite: Suite, results: TaskResults) -> SuiteScores:
    """Columns and average of a suite from lm-eval's per-task metrics.

    Args:
        suite: The suite.
        results: lm-eval's ``results``: task name to ``{"acc,none": ..., "acc_stderr,none": ..., "sample_len": ...}``.
            Groups and tasks of other suites are ignored; a subset of the suite's tasks is enough.

    Raises:
        SmaugError: no task of the suite is there, or one lacks its headline metric.
    """
    measured = [column_score(column, results) for column in suite.columns if _measured_leaves(column, results)]
    if not measured:
        raise SmaugError(f"the results hold no task of {suite.name}", fix=f"evaluate the tasks of {suite.name}")
    titles = {column.title for column in measured}
    missing = tuple(column.title for column in suite.columns if column.title not in titles)
    notes = [f"{column.title}: {note}" for column in measured for note in column.score.notes]
    return SuiteScores(
        suite=suite.name,
        columns=tuple(measured),
        missing=missing,
        average=mean_of_means([column.score for column in measured], notes),
        average_label=_average_label(measured, len(suite.columns)),
    )


def column_score(column: Column, results: TaskResults) -> ColumnScore:
    """One column from lm-eval's per-task metrics: the unweighted mean of its measured tasks.

    Raises:
        SmaugError: none of the column's tasks was measured, or one lacks the column's metric.
    """
    leaves = {
        leaf.name: task_score(leaf, column.metric, results[leaf.name]) for leaf in _measured_leaves(column, results)
    }
    if not leaves:
        raise SmaugError(f"the results hold no task of column {column.title}", fix=f"evaluate {column.task}")
    notes = [note for score in leaves.values() for note in score.notes]
    if len(leaves) < len(column.leaves):
        notes.append(f"{len(leaves)} of {len(column.leaves)} tasks")
    n, official = sum(score.n for score in leaves.values()), _official_rows(column)
    if official is not None and n != official:
        notes.append(f"{n:,} of {official:,} documents")
    return ColumnScore(
        title=column.title,
        metric=column.metric,
        score=mean_of_means(list(leaves.values()), notes),
        leaves=leaves,
        complete=len(leaves) == len(column.leaves),
    )


def task_score(spec: TaskSpec, metric: str, metrics: Mapping[str, Any]) -> Score:
    """One task's headline metric.

    NaN counts as 0 and the score says so, as on the leaderboard.

    Raises:
        SmaugError: ``metrics`` lacks the metric or the number of documents.
    """
    value, n = _number(spec, metrics, f"{metric},none"), int(_number(spec, metrics, "sample_len"))
    if math.isnan(value):
        return Score(0.0, None, n, (f"{spec.name}: {metric} is not a number, counted as 0",))
    stderr = metrics.get(f"{metric}_stderr,none")
    return Score(100 * value, 100 * stderr if isinstance(stderr, (int, float)) else None, n)


def mean_of_means(scores: Sequence[Score], notes: Sequence[str] = ()) -> Score:
    r"""Unweighted mean of k independent scores, with standard error :math:`\sqrt{\sum_i se_i^2} / k`.

    The standard error is None where one of theirs is.
    """
    k = len(scores)
    errors = [score.stderr for score in scores if score.stderr is not None]
    return Score(
        value=math.fsum(score.value for score in scores) / k,
        stderr=math.hypot(*errors) / k if len(errors) == k else None,
        n=sum(score.n for score in scores),
        notes=tuple(notes),
    )


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
