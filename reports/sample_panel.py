"""The panel of samples: what became of every document, and a browser of those that are on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reports.anchors import Anchors
from reports.browser import Control, filter_words, of_model, options, state, word
from reports.comparison import Comparison
from reports.families import sampled_families
from reports.gates import is_refused
from reports.generations import FAILURES, Failure
from reports.outcomes import AGAINST_BASELINE, ALONE, Outcome, TaskRows, choose, task_rows
from reports.samples import Sample, failure_counts, task_samples

CHANGED_SHOWN = 1000
"""Most documents on the page that some model gained or lost against the baseline."""
SHOWN = 1300
"""Most documents on the page."""


class Item(NamedTuple):
    """One document of the browser.

    Attributes:
        anchor: Its id on the page.
        task: Its task.
        sample: What is shown of it.
        outcomes: What the filter by outcome finds it under: each outcome, and each with its model's number.
        kinds: The same for the kinds of failure.
    """

    anchor: str
    task: str
    sample: Sample
    outcomes: list[str]
    kinds: list[str]


class Family(NamedTuple):
    """The documents of one column or group; ``documents`` counts all of them, on the page or not."""

    title: str
    documents: int
    items: list[Item]


class OutcomeRow(NamedTuple):
    """A line of the table of outcomes: how many documents of a family a model answered in how many of each way.

    ``finds`` leads to those of them that are on the page.
    """

    family: str
    model: str
    counts: Mapping[Outcome, int]
    unscored: int
    finds: Mapping[Outcome, str]


class FailureRow(NamedTuple):
    """A line of the table of failures; ``finds`` leads to those of them that are on the page."""

    task: str
    model: str
    counts: Mapping[Failure, int]
    finds: Mapping[Failure, str]


def samples(comparison: Comparison) -> Mapping[str, Any] | None:
    """What became of every document against the baseline, and the documents themselves side by side."""
    models = list(comparison.models)
    baseline = _baseline(comparison)
    located = _located(comparison, baseline)
    if not located:
        return None
    chosen = choose(located, changed=CHANGED_SHOWN, total=SHOWN)
    anchors = Anchors("sample")
    families = [
        Family(
            title,
            sum(len(task.rows) for task in tasks),
            [
                _item(anchors, task.task, sample, baseline)
                for task in tasks
                for sample in task_samples(task, chosen[task.task], baseline=baseline)
            ],
        )
        for title, tasks in located.items()
    ]
    tasks = [task for found in located.values() for task in found]
    changed = sum(row.is_changed for task in tasks for row in task.rows)
    others = [(index, model) for index, model in enumerate(models) if index != baseline] or [(0, models[0])]
    outcomes = AGAINST_BASELINE if len(models) > 1 else ALONE
    outcome_rows, failure_rows = list(_outcome_rows(located, models, baseline)), list(_failure_rows(located, models))
    return {
        "models": models,
        "baseline": models[baseline],
        "others": others,
        "controls": [
            Control("task", "task", [(str(number), family.title) for number, family in enumerate(families)]),
            Control("outcome", "outcome", options({word(each): each for each in outcomes}, others)),
            *([Control("kind", "solution", options(FAILURES, list(enumerate(models))))] if failure_rows else []),
        ],
        "families": families,
        "outcomes": outcomes,
        "outcome_rows": outcome_rows,
        "failures": FAILURES,
        "failure_rows": failure_rows,
        "documents": sum(family.documents for family in families),
        "changed": changed,
        "changed_shown": sum(row.is_changed for rows in chosen.values() for row in rows),
        "others_shown": sum(not row.is_changed for rows in chosen.values() for row in rows),
    }


def sample_counts(comparison: Comparison) -> tuple[list[OutcomeRow], list[FailureRow]]:
    """The lines of both tables: what became of the documents, and how solutions end."""
    models, baseline = list(comparison.models), _baseline(comparison)
    located = _located(comparison, baseline)
    return list(_outcome_rows(located, models, baseline)), list(_failure_rows(located, models))


def _baseline(comparison: Comparison) -> int:
    models = list(comparison.models)
    return models.index(comparison.baseline) if comparison.baseline in models else 0


def _located(comparison: Comparison, baseline: int) -> dict[str, list[TaskRows]]:
    """The documents of every task with samples, by family."""
    located: dict[str, list[TaskRows]] = {}
    for title, tasks in sampled_families(comparison).items():
        for task in tasks:
            results = [models.get(task) for models in comparison.models.values()]
            files = [result.samples if result else None for result in results]
            metric, refused = comparison.headline_metric(task), _refused(comparison, task)
            rows = task_rows(task, files, metric=metric, baseline=baseline, refused=refused)
            located.setdefault(title, []).append(rows)
    return located


def _refused(comparison: Comparison, task: str) -> list[int]:
    """The models whose results of a task must not be held against the baseline's."""
    gates = (comparison.gates.get(model, {}).get(task) for model in comparison.models)
    return [index for index, gate in enumerate(gates) if gate is not None and is_refused(gate)]


def _item(anchors: Anchors, task: str, sample: Sample, baseline: int) -> Item:
    outcomes = [None if verdict is None else verdict.outcome for verdict in sample.verdicts]
    if any(index != baseline and outcome for index, outcome in enumerate(outcomes)):
        outcomes[baseline] = None  # the others' outcomes say it
    kinds = [None if answer is None else answer.failure for answer in sample.answers]
    anchor = anchors.of(task, sample.document)
    return Item(anchor, task, sample, filter_words(outcomes), filter_words(kinds))


def _outcome_rows(
    located: Mapping[str, Sequence[TaskRows]], models: Sequence[str], baseline: int
) -> Iterator[OutcomeRow]:
    ways, others = (AGAINST_BASELINE, len(models) - 1) if len(models) > 1 else (ALONE, 1)
    for number, (title, tasks) in enumerate(located.items()):
        counts = [task.counts() for task in tasks]
        for index, model in enumerate(models):
            if index == baseline and len(models) > 1:
                continue
            total = sum((count[index] for count in counts), Counter[Outcome]())
            measured = sum(row.found[index] is not None for task in tasks for row in task.rows)
            finds = {each: state("samples", task=number, outcome=of_model(each, index, others)) for each in ways}
            yield OutcomeRow(title, model, total, measured - sum(total[each] for each in ways), finds)


def _failure_rows(located: Mapping[str, Sequence[TaskRows]], models: Sequence[str]) -> Iterator[FailureRow]:
    for number, tasks in enumerate(located.values()):
        for task in tasks:
            for index, counts in enumerate(failure_counts(task) or ()):
                if task.files[index] is not None:
                    kinds = {each: of_model(each, index, len(models)) for each in counts}
                    finds = {each: state("samples", task=number, kind=kind) for each, kind in kinds.items()}
                    yield FailureRow(task.task, models[index], counts, finds)
