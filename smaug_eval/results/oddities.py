"""Describe what is odd about results beside their numbers: limits, and metrics that are no number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial

from smaug_eval.common.suggest import nearest
from smaug_eval.common.text import is_missing, some_names
from smaug_eval.results.asked import limit_words
from smaug_eval.results.boards import TASKS
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.metrics import Metric, label_of, metric_in
from smaug_eval.results.task_results import TaskResult


def result_notes(comparison: Comparison) -> Iterator[str]:
    """Yield what is odd about results, a sentence without its period, said once for all models it is true of."""
    affected: dict[str, list[str]] = {}
    for model, results in comparison.models.items():
        for text in _oddities(results.values(), partial(_is_scored, comparison)):
            affected.setdefault(text, []).append(model)
    for model, text in _of_other_metrics(comparison):
        affected.setdefault(text, []).append(model)
    for text, models in affected.items():
        yield f"{', '.join(models)}: {text}"
    yield from _silent(comparison)
    yield from _vain_choices(comparison)


def _silent(comparison: Comparison) -> Iterator[str]:
    """Name the tasks that stand in no table, so that none vanishes without a word."""
    shown = {task for board in comparison.boards for task in board.homes}
    told = {task for own in comparison.models.values() for task, result in own.items() if result.metrics}
    told |= {task for own in comparison.models.values() for task, result in own.items() if result.is_group}
    silent = [task for task in comparison.tasks if task not in shown and task not in told]
    if silent:
        yield f"without a number: {some_names(silent)}"


def _vain_choices(comparison: Comparison) -> Iterator[str]:
    """Name the metrics that were chosen for tasks, and that none of these tasks has."""
    given = () if comparison.given is None else comparison.given.metrics
    for task, metric in given:
        results = [own[name] for own in comparison.models.values() for name in own if task in ("", name)]
        asked = f"--metric {task}={metric}" if task else f"--metric {metric}"
        if not results:
            yield f"{asked} changes nothing: there is no task {task}{nearest(task, comparison.tasks).rstrip('?')}"
        elif not any(metric_in(each.metrics, metric) for each in results):
            names = sorted({each.name for own in results for each in own.metrics})
            yield f"{asked} changes nothing: no task has this metric{nearest(metric, names).rstrip('?')}"
        elif task and any(task in board.homes for board in comparison.boards if board.name != TASKS):
            yield f"{asked} changes nothing: {task} is a suite's task, and the suite says which metric counts"


def _of_other_metrics(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """List the tasks that a model has numbers of, but none of the metric that stands for the task."""
    for board in comparison.boards:
        if board.name != TASKS:
            continue
        for column in board.board.columns:
            for model, results in comparison.models.items():
                own = results.get(column.task)
                if own is None or column.task in board.entries.get(model, {}) or not _numbers(own):
                    continue
                wanted = label_of(column.metric)
                yield (
                    model,
                    f"{column.title}: not shown, with {', '.join(_numbers(own))} but no {wanted} (see --metric)",
                )


def _numbers(result: TaskResult) -> list[str]:
    return [metric.label for metric in result.metrics if not is_missing(metric.value)]


def _is_scored(comparison: Comparison, task: str, metric: Metric) -> bool:
    """Return whether a suite scores a single task by a metric.

    It then has a score although it is no number.
    """
    if not any(task in board.homes for board in comparison.boards if board.board.is_averaged):
        return False
    name, _, filter_name = (comparison.headline_metric(task) or "").partition(",")
    return (metric.name, metric.filter or "none") == (name, filter_name or "none")


def _oddities(results: Collection[TaskResult], scored: Callable[[str, Metric], bool]) -> Iterator[str]:
    limited = [each for each in results if each.n and each.available and each.n < each.available]
    early = [each for each in limited if each.stopped is not None]
    limited = [each for each in limited if each.stopped is None]
    if early:
        counts = some_names(f"{each.task} ({each.n:,} of {each.available:,})" for each in early)
        yield f"stopped as soon as it was decided, with anytime-valid intervals and no p values: {counts}"
    if limited:
        counts = some_names(f"{each.task} ({each.n:,} of {each.available:,})" for each in limited)
        yield f"scored on part of the documents: {counts}"
    unknown = [each for each in results if each.asked.limit is not None and not each.is_group and not each.available]
    if unknown:
        limits = some_names(f"{each.task} ({limit_words(each.asked)})" for each in unknown)
        yield f"scored on the first documents alone: {limits}"
    metrics = [(each.task, metric) for each in results for metric in each.metrics]
    undefined = {
        f"{task} ({metric.label})": scored(task, metric) for task, metric in metrics if is_missing(metric.value)
    }
    for is_scored, what in ((True, "counted as 0 in the scores, as on the leaderboard"), (False, "shown as n/a")):
        if names := [name for name, found in undefined.items() if found is is_scored]:
            yield f"not a number, {what}: {some_names(names)}"
