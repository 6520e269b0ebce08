"""Find one model's numbers for a column, whatever harness wrote them under whatever name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from smaug_eval.leaderboard import v2_scores
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.rescore import leaderboard_task, prompt_notes, reported_metric
from smaug_eval.results.json_files import as_number
from smaug_eval.results.metrics import Metric, metric_in
from smaug_eval.results.task_results import TaskResult


class Entry(NamedTuple):
    """Hold a task's result as a column scores it.

    Attributes:
        result: What the file says.
        metric: The metric in the file and its samples, ``name,filter``.
        values: lm-eval's ``results`` of the task by the column's metric, with ``sample_len`` where known.
        notes: What to say beside the number.
    """

    result: TaskResult
    metric: str
    values: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def reported(self) -> float:
        """Return the metric as the file has it; NaN where it has no number."""
        if self.metric.startswith(v2_scores.BOTH):
            return as_number(self.values.get(f"{v2_scores.STRICT},none"))
        found = metric_in(self.result.metrics, self.metric)
        return math.nan if found is None else found.value


def own_entry(result: TaskResult, column: Column) -> Entry | None:
    """Return the result of a suite's own task, or of a group; None where it lacks the column's metric."""
    if column.metric == v2_scores.STRICT:
        return _both_levels(result, result.notes)
    found = metric_in(result.metrics, column.metric)
    if found is None or not _is_same(found, column.metric):
        return None
    return Entry(
        result,
        found.key if "," in column.metric else column.metric,
        _values(result, column.metric, found),
        result.notes,
    )


def any_entry(result: TaskResult, metric: str) -> Entry | None:
    """Return the result of any task by one of its metrics, ``name,filter``; None where it has no number of it."""
    found = metric_in(result.metrics, metric)
    if found is None or not math.isfinite(found.value):
        return None
    return Entry(result, found.key, _values(result, metric, found), result.notes)


def leaderboard_entry(result: TaskResult, column: Column) -> Entry | None:
    """Return the result of one of the leaderboard's six benchmarks, as any harness names it.

    None where it says nothing of the column's metric, as TruthfulQA's mc1.
    """
    spec = leaderboard_task(result.task)
    reported = None if spec is None else reported_metric(result.task, spec, result.entry)
    if spec is None or reported is None:
        return None
    found = metric_in(result.metrics, reported.key)
    if found is None:
        return None
    notes = (*result.notes, *prompt_notes(result.task, spec, result.settings), *reported.notes)
    return Entry(result, found.key, _values(result, column.metric, found), notes)


def v2_entry(result: TaskResult, column: Column) -> Entry | None:
    """Return the result of a task of the second leaderboard; None where it lacks the column's metric."""
    notes = list(result.notes)
    shots, expected = result.asked.shots, v2_scores.SHOTS[column.title]
    if shots is not None and shots != expected:
        notes.append(f"not comparable: {shots} shots, the leaderboard's {expected}")
    if column.metric == v2_scores.STRICT:
        return _both_levels(result, tuple(notes))
    found = metric_in(result.metrics, column.metric)
    if found is None or not math.isfinite(found.value):
        return None
    return Entry(result, found.key, _values(result, column.metric, found), tuple(notes))


def _both_levels(result: TaskResult, notes: tuple[str, ...]) -> Entry | None:
    """IFEval's result as the mean of its two levels; None where one is missing."""
    made = v2_scores.ifeval_entry({**result.entry, **_count(result)})
    return None if made is None else Entry(result, f"{v2_scores.BOTH},none", {**made, **_count(result)}, notes)


def _is_same(found: Metric, wanted: str) -> bool:
    """Return whether a metric is the wanted one, by name and filter; a bare name means the one without a filter."""
    return (found.filter or "none") == (wanted.partition(",")[2] or "none")


def _values(result: TaskResult, metric: str, found: Metric) -> dict[str, Any]:
    name, _, filter_name = metric.partition(",")
    end = filter_name or "none"
    values: dict[str, Any] = {f"{name},{end}": found.value, **_count(result)}
    if math.isfinite(as_number(found.stderr)):
        values[f"{name}_stderr,{end}"] = found.stderr
    return values


def _count(result: TaskResult) -> dict[str, Any]:
    return {} if result.n is None else {"sample_len": result.n}
