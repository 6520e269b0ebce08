"""The panels of the report: one function and one template each.

A panel's function turns a :class:`~reports.comparison.Comparison` into the variables of the template that bears its
key (``scores`` -> ``templates/scores.html.j2``), or into None where there is nothing to show. To add a panel, write
both and list it in ``PANELS``. The larger ones have modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from reports import study_panels
from reports.comparison import Comparison
from reports.dialogue_panel import dialogue_warnings, dialogues
from reports.families import task_families
from reports.forest import differences
from reports.headline import headline
from reports.judge_panel import judgments
from reports.provenance_panel import provenance
from reports.sample_panel import samples
from reports.scores_panel import scores
from reports.sources import Metric, TaskResult
from reports.subjects import subjects
from reports.text import is_missing, some_names
from reports.training_panel import training
from reports.views_panel import views


@dataclass(frozen=True)
class Panel:
    """One part of the page: ``key`` names its anchor, and its template where that has no name of its own; ``title`` is
    its entry in the contents."""

    key: str
    title: str
    build: Callable[[Comparison], Mapping[str, Any] | None]
    template: str = ""


def warnings(comparison: Comparison) -> Mapping[str, Any] | None:
    """What a reader must know before trusting a number."""
    items = warning_lines(comparison)
    return {"items": items} if items else None


def warning_lines(comparison: Comparison) -> list[str]:
    """The warnings as sentences, each once."""
    items = [
        *_source_warnings(comparison),
        *_result_warnings(comparison),
        *dialogue_warnings(comparison),
        *comparison.incomparable(),
        *comparison.remarks(),
    ]
    return list(dict.fromkeys(items))


def _source_warnings(comparison: Comparison) -> Iterator[str]:
    many = len(comparison.sources) > 1
    for source in comparison.sources:
        prefix = f"{source.label}: " if many else ""
        recorded = (source.manifest or {}).get("warnings")
        texts = [str(text) for text in recorded] if isinstance(recorded, list) else []
        if comparison.study is not None:
            texts = study_panels.warnings_of_all(comparison.study, texts)
        for text in texts:
            yield f"{prefix}{text}"
        if source.missing:
            yield f"{prefix}This run is not complete: {'; '.join(source.missing)}."
        for note in source.notes:
            yield f"{prefix}{note}."


def _result_warnings(comparison: Comparison) -> Iterator[str]:
    """What is odd about results, said once for all models it is true of."""
    affected: dict[str, list[str]] = {}
    for model, results in comparison.models.items():
        for text in _oddities(results.values(), partial(_is_scored, comparison)):
            affected.setdefault(text, []).append(model)
    for text, models in affected.items():
        yield f"{', '.join(models)}: {text}."


def _is_scored(comparison: Comparison, task: str, metric: Metric) -> bool:
    """Whether a metric is what a suite scores a single task by, so that it has a score although it is no number."""
    name, _, filter_name = (comparison.headline_metric(task) or "").partition(",")
    is_leaf = any(
        task == leaf.name for suite in comparison.suites for column in suite.columns for leaf in column.leaves
    )
    return is_leaf and (metric.name, metric.filter) == (name, filter_name or "none")


def _oddities(results: Collection[TaskResult], scored: Callable[[str, Metric], bool]) -> Iterator[str]:
    limited = [each for each in results if each.n and each.available and each.n < each.available]
    if limited:
        counts = some_names(f"{each.task} ({each.n:,} of {each.available:,})" for each in limited)
        yield f"scored on part of the documents: {counts}"
    metrics = [(each.task, metric) for each in results for metric in each.metrics]
    undefined = {
        f"{task} ({metric.label})": scored(task, metric) for task, metric in metrics if is_missing(metric.value)
    }
    for is_scored, what in ((True, "counted as 0 in the scores, as on the leaderboard"), (False, "shown as n/a")):
        if names := [name for name, found in undefined.items() if found is is_scored]:
            yield f"not a number, {what}: {some_names(names)}"


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
        for name, members in task_families(comparison).items()
    }
    families = [
        {"name": name, "rows": found, "tasks": len({row.task for row in found})}
        for name, found in rows.items()
        if found
    ]
    return {"families": families, "models": list(comparison.models), "baseline": comparison.baseline}


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
        yield MetricRow(task, label, is_group, cells)


def _metric_cell(result: TaskResult | None, reference: Metric | None, label: str) -> MetricCell | None:
    metric = _metric(result, label)
    if result is None or metric is None:
        return None
    return MetricCell(metric, result.n, None if reference is None else metric.value - reference.value)


def _metric(result: TaskResult | None, label: str) -> Metric | None:
    return next((metric for metric in result.metrics if metric.label == label), None) if result else None


def single_headline(comparison: Comparison) -> Mapping[str, Any] | None:
    """The headline, but for a study: there its verdicts stand first, and single trainings would contradict them."""
    return None if comparison.study is not None else headline(comparison)


PANELS = (
    Panel("study", "The study in short", study_panels.study),
    *(
        Panel(
            f"rq{place + 1}", f"RQ{place + 1}: {title}", partial(study_panels.question, place=place), "study_question"
        )
        for place, title in enumerate(study_panels.QUESTIONS)
    ),
    Panel("positions", "Where in the answers (Fig. 4)", study_panels.positions, "study_positions"),
    Panel("arms", "Arms and trainings", study_panels.arms, "study_arms"),
    Panel("headline", "In short", single_headline),
    Panel("warnings", "Read this first", warnings),
    Panel("scores", "Scores", scores),
    Panel("differences", "Differences", differences),
    Panel("training", "Training", training),
    Panel("dialogues", "Judged answers", dialogues),
    Panel("subjects", "Subjects", subjects),
    Panel("views", "Two sets of rules", views),
    Panel("tasks", "Every task", tasks),
    Panel("samples", "Samples", samples),
    Panel("judgments", "Judges' reasons", judgments),
    Panel("provenance", "Provenance", provenance),
)
