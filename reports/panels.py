"""The panels of the report: one function and one template each.

A panel's function turns a :class:`~reports.comparison.Comparison` into the variables of the template that bears its
key (``scores`` -> ``templates/scores.html.j2``), or into None where there is nothing to show. To add a panel, write
both and list it in ``PANELS``.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from reports.charts import LOG_RATIOS, MAX_POINTS, log_ratio_chart, series, shared_scale, thinned
from reports.comparison import Comparison, why_incomparable
from reports.dialogue_panel import dialogue_warnings, dialogues
from reports.samples import Sample, task_samples
from reports.sources import Metric, TaskResult, Training
from reports.text import fixed, is_missing, signed

NAMES_SHOWN = 3
SPLITS = {"eval": "held-out", "train": "training"}
FINAL_COLUMNS = {
    "loss": "loss",
    LOG_RATIOS["chosen"]: "chosen log-ratio",
    LOG_RATIOS["rejected"]: "rejected log-ratio",
    "rewards/margins": "reward margin",
    "rewards/accuracies": "chosen ranked first",
    "penalty/active": "pairs with penalty",
}


@dataclass(frozen=True)
class Panel:
    """One part of the page: ``key`` names its template and anchor, ``title`` its entry in the contents."""

    key: str
    title: str
    build: Callable[[Comparison], Mapping[str, Any] | None]


class Fall(NamedTuple):
    """Where a training left the preferred answers, against the reference model.

    Attributes:
        training: The training's name.
        split: ``eval``, or ``train`` where no held-out pairs were logged.
        step: The last logged step.
        log_ratio: Mean of log pi(y_w) - log pi_ref(y_w) there, in nats.
    """

    training: str
    split: str
    step: int
    log_ratio: float

    @property
    def below_reference(self) -> bool:
        return self.log_ratio < 0

    @property
    def pairs(self) -> str:
        return SPLITS[self.split]


def some_names(names: Iterable[str]) -> str:
    """Up to ``NAMES_SHOWN`` names, and how many more there are."""
    every = list(dict.fromkeys(names))
    more = len(every) - NAMES_SHOWN
    return ", ".join(every[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def preferred_likelihood(training: Training) -> Fall | None:
    """The last mean log-ratio of the preferred answers, on held-out pairs where there are any."""
    for split in SPLITS:
        values = series(training, split, LOG_RATIOS["chosen"])
        if not values.empty:
            return Fall(training.name, split, int(values.index[-1]), float(values.iloc[-1]))
    return None


def headline(comparison: Comparison) -> Mapping[str, Any] | None:
    """What the numbers say, in sentences made from them alone."""
    falls = [fall for training in comparison.trainings if (fall := preferred_likelihood(training))]
    averages = [
        {"suite": table.suite, "model": model, "cell": cell, "label": table.average_label or "average"}
        for table in comparison.tables
        for model, cell in table.averages.items()
        if model != comparison.baseline or len(table.averages) == 1
    ]
    if not averages and not falls:
        return None
    return {"averages": averages, "falls": falls, "baseline": comparison.baseline}


def warnings(comparison: Comparison) -> Mapping[str, Any] | None:
    """What a reader must know before trusting a number."""
    items = [
        *_source_warnings(comparison),
        *_result_warnings(comparison),
        *dialogue_warnings(comparison),
        *comparison.incomparable(),
    ]
    return {"items": list(dict.fromkeys(items))} if items else None


def _source_warnings(comparison: Comparison) -> Iterator[str]:
    many = len(comparison.sources) > 1
    for source in comparison.sources:
        prefix = f"{source.label}: " if many else ""
        recorded = (source.manifest or {}).get("warnings")
        for text in recorded if isinstance(recorded, list) else []:
            yield f"{prefix}{text}"
        if source.missing:
            yield f"{prefix}This run is not complete: {'; '.join(source.missing)}."
        for note in source.notes:
            yield f"{prefix}{note}."


def _result_warnings(comparison: Comparison) -> Iterator[str]:
    """What is odd about results, said once for all models it is true of."""
    affected: dict[str, list[str]] = {}
    for model, results in comparison.models.items():
        for text in _oddities(results.values()):
            affected.setdefault(text, []).append(model)
    for text, models in affected.items():
        yield f"{', '.join(models)}: {text}."


def _oddities(results: Collection[TaskResult]) -> Iterator[str]:
    partial = [each for each in results if each.n and each.available and each.n < each.available]
    if partial:
        counts = some_names(f"{each.task} ({each.n:,} of {each.available:,})" for each in partial)
        yield f"scored on part of the documents: {counts}"
    metrics = [(each.task, metric) for each in results for metric in each.metrics]
    undefined = [f"{task} ({metric.label})" for task, metric in metrics if is_missing(metric.value)]
    if undefined:
        yield f"not a number, shown as n/a: {some_names(undefined)}"


def scores(comparison: Comparison) -> Mapping[str, Any] | None:
    """Models against the columns of each suite."""
    return {"tables": comparison.tables, "baseline": comparison.baseline} if comparison.tables else None


def training(comparison: Comparison) -> Mapping[str, Any] | None:
    """How the likelihood of chosen and rejected answers moved during each training."""
    if not comparison.trainings:
        return None
    scale = shared_scale(comparison.trainings)
    logged = [name for name in FINAL_COLUMNS if any(name in each.rows.columns for each in comparison.trainings)]
    curves = [
        {
            "name": each.name,
            "summary": {
                key: value
                for key in ("loss", "beta", "lambda", "steps")
                if (value := each.summary.get(key)) is not None
            },
            "formula": each.summary.get("formula"),
            "fall": preferred_likelihood(each),
            "chart": log_ratio_chart(
                each,
                scale,
                key=f"log-ratios-{number}",
                title=f"Log-ratios during the training {each.name}",
                description=_describe_curves(each),
            )
            if _has_curves(each)
            else None,
        }
        for number, each in enumerate(comparison.trainings)
    ]
    return {
        "trainings": curves,
        "linear_within": scale.linear_within,
        "averaged": any(len(thinned(rows)) < len(rows) for rows in _curves(comparison.trainings)),
        "max_points": MAX_POINTS,
        "columns": [FINAL_COLUMNS[name] for name in logged],
        "final": [row for each in comparison.trainings for row in _final_rows(each, logged)],
    }


def _curves(trainings: Iterable[Training]) -> list[pd.Series]:
    return [series(each, split, column) for each in trainings for split in SPLITS for column in LOG_RATIOS.values()]


def _has_curves(training: Training) -> bool:
    return any(not values.empty for values in _curves([training]))


def _describe_curves(training: Training) -> str:
    """The curves' first and last values in words: the chart's text alternative."""
    parts = []
    for (split, pairs), (name, column) in itertools.product(SPLITS.items(), LOG_RATIOS.items()):
        values = series(training, split, column)
        if not values.empty:
            first, last = signed(values.iloc[0], 2), signed(values.iloc[-1], 2)
            start, end = values.index[0], values.index[-1]
            parts.append(f"{name} answers of {pairs} pairs: {first} nats at step {start}, {last} at step {end}")
    return "; ".join(parts) + ". Zero is the reference model."


def _final_rows(training: Training, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The last value of each of the columns ``names``, per split."""
    for split, pairs in SPLITS.items():
        columns = {name: series(training, split, name) for name in names}
        steps = [values.index[-1] for values in columns.values() if not values.empty]
        if steps:
            last = [values.iloc[-1] if not values.empty else None for values in columns.values()]
            yield {"training": training.name, "pairs": pairs, "step": int(max(steps)), "values": last}


class MetricCell(NamedTuple):
    """One model's value of a metric, its number of documents, and the difference from the baseline where comparable."""

    metric: Metric
    n: int | None
    delta: float | None


class MetricRow(NamedTuple):
    """One metric of one task: a cell per model, None where it was not measured."""

    task: str
    metric: str
    is_group: bool
    cells: list[MetricCell | None]


def tasks(comparison: Comparison) -> Mapping[str, Any] | None:
    """Every metric lm-eval reports, in lm-eval's own units."""
    if not comparison.models:
        return None
    rows = {
        name: [row for task in members for row in _metric_rows(comparison, task)]
        for name, members in _families(comparison).items()
    }
    families = [
        {"name": name, "rows": found, "tasks": len({row.task for row in found})}
        for name, found in rows.items()
        if found
    ]
    return {"families": families, "models": list(comparison.models), "baseline": comparison.baseline}


def _families(comparison: Comparison) -> dict[str, list[str]]:
    """Tasks under the suite column they belong to, else under the group lm-eval puts them in, else by themselves."""
    homes: dict[str, str] = {}
    for suite in comparison.suites:
        for column in suite.columns:
            homes |= dict.fromkeys(
                [column.task, *(leaf.name for leaf in column.leaves)], f"{suite.name}: {column.title}"
            )
    for results in comparison.models.values():
        for group in (result for result in results.values() if result.is_group):
            for member in (group.task, *group.subtasks):
                homes.setdefault(member, homes.get(group.task, group.task))
    families: dict[str, list[str]] = {home: [] for home in homes.values()}
    for task in comparison.tasks:
        families.setdefault(homes.get(task, task), []).append(task)
    return {home: members for home, members in families.items() if members}


def _metric_rows(comparison: Comparison, task: str) -> Iterator[MetricRow]:
    results = [models.get(task) for models in comparison.models.values()]
    baseline = comparison.baseline_results.get(task)
    for label in dict.fromkeys(metric.label for result in results if result for metric in result.metrics):
        cells = [_metric_cell(result, baseline, label) for result in results]
        yield MetricRow(task, label, any(result.is_group for result in results if result), cells)


def _metric_cell(result: TaskResult | None, baseline: TaskResult | None, label: str) -> MetricCell | None:
    metric, reference = _metric(result, label), _metric(baseline, label)
    if result is None or metric is None:
        return None
    is_fair = baseline is not None and result is not baseline and why_incomparable(baseline, result) is None
    return MetricCell(metric, result.n, metric.value - reference.value if reference and is_fair else None)


def _metric(result: TaskResult | None, label: str) -> Metric | None:
    return next((metric for metric in result.metrics if metric.label == label), None) if result else None


def samples(comparison: Comparison) -> Mapping[str, Any] | None:
    """The first documents of every task with each model's answers side by side."""
    shown: dict[str, list[Sample]] = {}
    for task in comparison.tasks:
        results = [models.get(task) for models in comparison.models.values()]
        files = [result.samples if result else None for result in results]
        if found := task_samples(files, metric=comparison.headline_metric(task)):
            shown[task] = found
    return {"tasks": shown, "models": list(comparison.models)} if shown else None


def provenance(comparison: Comparison) -> Mapping[str, Any] | None:
    """Where every number comes from: manifests, result files, engines, versions and seeds."""
    manifests = {source.label: source.manifest for source in comparison.sources if source.manifest}
    if not manifests and not comparison.models:
        return None
    return {"manifests": manifests, "models": {name: _origins(each) for name, each in comparison.models.items()}}


def _origins(results: Mapping[str, TaskResult]) -> Mapping[str, Any]:
    shared: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for task, result in results.items():
        settings = {key: value for key, value in result.settings.items() if key not in {"task_version", "num_fewshot"}}
        settings.pop("total_evaluation_time_seconds", None)
        shared.setdefault(repr(settings), (settings, []))[1].append(task)
    return {
        "tasks": [(result, _utc(result.date)) for result in results.values()],
        "settings": [{"tasks": some_names(names), "settings": settings} for settings, names in shared.values()],
    }


def _utc(seconds: float) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return fixed(None)


PANELS = (
    Panel("headline", "In short", headline),
    Panel("warnings", "Read this first", warnings),
    Panel("scores", "Scores", scores),
    Panel("dialogues", "Judged answers", dialogues),
    Panel("training", "Training", training),
    Panel("tasks", "Every task", tasks),
    Panel("samples", "Samples", samples),
    Panel("provenance", "Provenance", provenance),
)
