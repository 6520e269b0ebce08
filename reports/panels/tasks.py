"""Show every metric lm-eval reports, in lm-eval's own units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from smaug_eval.reports.families import task_families
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.values import ARROWS
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.metrics import Metric, higher_is_better
from smaug_eval.results.task_results import TaskResult


class MetricCell(NamedTuple):
    """Hold a model's value of a metric, its documents, and the difference from the baseline where comparable."""

    metric: Metric
    n: int | None
    delta: float | None


class MetricRow(NamedTuple):
    """Hold one metric of one task: a cell per model, None where it was not measured, and whether more is better."""

    task: str
    metric: str
    is_group: bool
    cells: list[MetricCell | None]
    arrow: str = ""


def tasks(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show every metric lm-eval reports, in lm-eval's own units."""
    if not comparison.models:
        return None
    rows = {
        name: [row for task in members for row in _metric_rows(comparison, task)]
        for name, members in task_families(comparison).items()
    }
    families = [_family(name, found, list(comparison.models)) for name, found in rows.items() if found]
    return {"families": families, "baseline": comparison.baseline}


def _family(name: str, rows: list[MetricRow], models: list[str]) -> Mapping[str, Any]:
    """Build the rows of a family, and the models that have anything in them."""
    kept = [place for place in range(len(models)) if any(row.cells[place] is not None for row in rows)]
    return {
        "name": name,
        "rows": [row._replace(cells=[row.cells[place] for place in kept]) for row in rows],
        "models": [models[place] for place in kept],
        "tasks": len({row.task for row in rows}),
    }


def _metric_rows(comparison: Comparison, task: str) -> Iterator[MetricRow]:
    results = {model: found.get(task) for model, found in comparison.models.items()}
    baseline = comparison.baseline_results.get(task)
    is_group = any(result.is_group for result in results.values() if result)
    for label in dict.fromkeys(metric.label for result in results.values() if result for metric in result.metrics):
        reference = _metric(baseline, label)
        cells = [
            _metric_cell(result, reference if comparison.totals_compare(model, task) else None, label)
            for model, result in results.items()
        ]
        name = label.partition(" ")[0]
        recorded = next((result.directions for result in results.values() if result), {})
        yield MetricRow(task, label, is_group, cells, ARROWS[higher_is_better(name, recorded)])


def _metric_cell(result: TaskResult | None, reference: Metric | None, label: str) -> MetricCell | None:
    metric = _metric(result, label)
    if result is None or metric is None:
        return None
    return MetricCell(metric, result.n, None if reference is None else metric.value - reference.value)


def _metric(result: TaskResult | None, label: str) -> Metric | None:
    return next((metric for metric in result.metrics if metric.label == label), None) if result else None


PANEL = Panel("tasks", "Every task", tasks)
