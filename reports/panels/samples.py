"""Show what became of every document, and a browser of those that are on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.text import some_names
from smaug_eval.reports.families import sampled_families
from smaug_eval.reports.html.anchors import Anchors
from smaug_eval.reports.html.browser import (
    SAMPLES,
    Control,
    coded,
    codes_of,
    filter_words,
    of_model,
    options,
    state,
    switch,
    word,
)
from smaug_eval.reports.panels.answers import answer_rows
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.samples.documents import Read, Sample, failure_counts, read_ahead, task_samples
from smaug_eval.reports.samples.generations import FAILURES, Failure
from smaug_eval.reports.samples.outcomes import (
    AGAINST_BASELINE,
    ALONE,
    OutcomesRow,
    SampleOutcome,
    TaskOutcomes,
    TaskRows,
    choose,
    rebased,
    task_rows,
)
from smaug_eval.results.answers import FLAWS, Flaw
from smaug_eval.results.comparison import Comparison, Given
from smaug_eval.results.fitting import misfit
from smaug_eval.results.gates import is_refused
from smaug_eval.results.metrics import higher_is_better
from smaug_eval.results.sample_index import Key

CHANGED_SHOWN = 1000
"""Most documents on the page that some model gained or lost against the baseline."""
SHOWN = 1300
"""Most documents on the page."""
ALL_MODELS = 6
"""Models up to which so many are shown; of more models fewer, so that a page of a dozen opens as quickly."""


class Item(NamedTuple):
    """Describe one document of the browser.

    Attributes:
        anchor: Its id on the page.
        task: Its task.
        sample: What is shown of it.
        outcomes: What the filter by outcome finds it under: each outcome, and each with its model's number.
        kinds: The same for the kinds of failure.
        flaws: The same for what generated answers lack.
        against: For each choice of baseline a word, a letter for each model's outcome against it.
    """

    anchor: str
    task: str
    sample: Sample
    outcomes: list[str]
    kinds: list[str]
    flaws: list[str]
    against: str = ""


class Family(NamedTuple):
    """Hold the documents of one column or group; ``documents`` counts all of them, on the page or not."""

    title: str
    documents: int
    items: list[Item]


class OutcomeRow(NamedTuple):
    """Count how many documents of a family a model answered in each way: a line of the table of outcomes.

    ``finds`` leads to those of them that are on the page.
    """

    family: str
    model: str
    counts: Mapping[SampleOutcome, int]
    unscored: int
    finds: Mapping[SampleOutcome, str]


class FailureRow(NamedTuple):
    """Hold a line of the table of failures; ``finds`` leads to those of them that are on the page."""

    task: str
    model: str
    counts: Mapping[Failure, int]
    finds: Mapping[Failure, str]


def samples(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show what became of every document against the baseline, and the documents themselves side by side.

    The documents are those of the page, whatever the baseline is: only the outcomes are made again.
    """
    located, chosen, unshown = _page(comparison.first)
    if not located:
        return {"unshown": unshown} if unshown else None
    models = list(comparison.first.models)
    baseline = _place(comparison)
    own = _against(comparison)
    shown = [row for tasks in located.values() for task in tasks for row in _chosen(comparison, task, chosen)]
    found = {
        "models": models,
        "baseline": models[baseline],
        "outcomes": AGAINST_BASELINE if len(models) > 1 else ALONE,
        "outcome_rows": list(_outcome_rows(own, models, baseline)),
        "unshown": unshown,
        "documents": sum(len(task.rows) for tasks in located.values() for task in tasks),
        "changed": sum(each.changed for tasks in own.values() for each in tasks),
        "changed_shown": sum(row.is_changed for row in shown),
        "others_shown": sum(not row.is_changed for row in shown),
    }
    return found if comparison is not comparison.first else {**found, **_browser(comparison, baseline)}


def _browser(comparison: Comparison, baseline: int) -> Mapping[str, Any]:
    """Show the documents on the page."""
    models, (located, chosen, unshown) = list(comparison.models), _page(comparison)
    anchors, codes = Anchors("sample"), codes_of((*AGAINST_BASELINE, *ALONE))
    answers = list(answer_rows(comparison))
    flaws = {(row.task, row.model): row.found for row in answers}
    against = _coded(comparison, chosen, codes)
    begun = None if comparison.given is None else _BEGUN.pop(comparison.given, None)
    read = _read(comparison) if begun is None else begun.result()
    families = []
    for title, tasks in located.items():
        items = []
        for task in tasks:
            found = [flaws.get((task.task, model)) for model in models]
            rows = chosen[task.task].rows
            try:
                shown = read[task.task].samples or task_samples(task, rows, baseline=baseline)
            except SmaugError as error:  # of another format: all else of the page stands without them
                if (text := f"{task.task}: {error.message}") not in unshown:
                    unshown.append(text)
                continue
            items += [
                _item(
                    anchors,
                    task.task,
                    sample,
                    baseline,
                    [None if each is None else each.flaws.get(row.key) for each in found],
                    " ".join(each[row.key] for each in against.get(task.task, ())),
                )
                for row, sample in zip(rows, shown, strict=True)
            ]
        families.append(Family(title, sum(len(task.rows) for task in tasks), items))
    others = [(index, model) for index, model in enumerate(models) if index != baseline] or [(0, models[0])]
    texts = {word(each): each for each in (AGAINST_BASELINE if len(models) > 1 else ALONE)}
    failure_rows = list(_failure_rows(located, models, read))
    return {
        "others": others,
        "controls": [
            Control("task", "task", [(str(number), family.title) for number, family in enumerate(families)]),
            Control("outcome", "outcome", options(texts, others)),
            *([Control("kind", "solution", options(FAILURES, list(enumerate(models))))] if failure_rows else []),
            *([Control("flaw", "answer", options(_texts(FLAWS), list(enumerate(models))))] if answers else []),
        ],
        "switch": switch(models, comparison.choices, codes, {each: each for each in AGAINST_BASELINE}),
        "partial": list(_partial(comparison)),
        "flaws": FLAWS,
        "answer_rows": answers,
        "families": families,
        "failures": FAILURES,
        "failure_rows": failure_rows,
    }


def sample_counts(comparison: Comparison) -> tuple[list[OutcomeRow], list[FailureRow]]:
    """Return the lines of both tables: what became of the documents, and how solutions end."""
    located, _, _ = _page(comparison.first)
    return outcome_rows(comparison), list(_failure_rows(located, list(comparison.first.models)))


def outcome_rows(comparison: Comparison) -> list[OutcomeRow]:
    """Return what became of the documents against the baseline."""
    models = list(comparison.first.models)
    return list(_outcome_rows(_against(comparison), models, _place(comparison)))


def shown_of(most: int, models: int) -> int:
    """Return how many documents are on the page where ``most`` are for few models."""
    return most if models <= ALL_MODELS else most * ALL_MODELS // models


Located = dict[str, list[TaskRows]]
_Page = tuple[Located, dict[str, TaskRows], list[str]]
_PAGES: WeakKeyDictionary[Given, _Page] = WeakKeyDictionary()


def _page(first: Comparison) -> _Page:
    """Return all documents, those that are shown, and what cannot be shown; read once for all baselines."""
    found = _PAGES.get(first.given) if first.given is not None else None
    if found is None:
        located, unshown = _located(first, _place(first))
        changed, total = (shown_of(most, len(first.models)) for most in (CHANGED_SHOWN, SHOWN))
        rows = choose(located, changed=changed, total=total)
        chosen = {task.task: replace(task, rows=rows[task.task]) for tasks in located.values() for task in tasks}
        found = (located, chosen, unshown)
        if first.given is not None:
            _PAGES[first.given] = found
    return found


_BEGUN: WeakKeyDictionary[Given, Future[dict[str, Read]]] = WeakKeyDictionary()


def begin(comparison: Comparison) -> None:
    """Start to read what is shown of the samples: where processes do it, this one builds other panels meanwhile."""
    if comparison.given is not None:
        _page(comparison.first)
        thread = ThreadPoolExecutor(1)
        _BEGUN[comparison.given] = thread.submit(_read, comparison.first)
        thread.shutdown(wait=False)


def _read(comparison: Comparison) -> dict[str, Read]:
    """Return what processes read of each task."""
    located, chosen, _ = _page(comparison)
    every = [task for tasks in located.values() for task in tasks]
    ahead = read_ahead([(task, chosen[task.task].rows) for task in every], baseline=_place(comparison))
    return {task.task: own for task, own in zip(every, ahead, strict=True)}


def _against(comparison: Comparison) -> dict[str, list[TaskOutcomes]]:
    """Count what became of the documents of each task against a comparison's baseline, by family."""
    place = _place(comparison)
    return {
        title: [
            task.against(place, refused=_refused(comparison, task.task), is_right=_is_right(comparison, task.task))
            for task in tasks
        ]
        for title, tasks in _page(comparison.first)[0].items()
    }


def _chosen(comparison: Comparison, task: TaskRows, chosen: Mapping[str, TaskRows]) -> Sequence[OutcomesRow]:
    """Return the documents of a task that are on the page, with their outcomes against a comparison's baseline."""
    refused, is_right = _refused(comparison, task.task), _is_right(comparison, task.task)
    return rebased(chosen[task.task], _place(comparison), refused=refused, is_right=is_right).rows


def _place(comparison: Comparison) -> int:
    """Return the baseline's place among the models of the page."""
    models = list(comparison.first.models)
    return models.index(comparison.baseline) if comparison.baseline in models else 0


def _coded(
    comparison: Comparison, chosen: Mapping[str, TaskRows], codes: Mapping[str, str]
) -> dict[str, list[dict[Key, str]]]:
    """Return for each task and choice of baseline the outcomes of the documents on the page, as words."""
    found: dict[str, list[dict[Key, str]]] = {}
    for baseline in comparison.choices:
        other = comparison.against(baseline)
        for task in (task for tasks in _page(comparison)[0].values() for task in tasks):
            rows = _chosen(other, task, chosen)
            found.setdefault(task.task, []).append({row.key: coded(row.outcomes, codes) for row in rows})
    return found


def _located(comparison: Comparison, baseline: int) -> tuple[dict[str, list[TaskRows]], list[str]]:
    """Locate the documents of every task with samples, by family, and say why some cannot be shown."""
    located: dict[str, list[TaskRows]] = {}
    unshown: list[str] = []
    for title, tasks in sampled_families(comparison).items():
        for task in tasks:
            results = [models.get(task) for models in comparison.models.values()]
            files = [result.samples if result else None for result in results]
            metric, refused = comparison.headline_metric(task), _refused(comparison, task)
            is_right = _is_right(comparison, task)
            try:
                rows = task_rows(task, files, metric=metric, baseline=baseline, refused=refused, is_right=is_right)
            except SmaugError as error:
                unshown.append(f"{task}: {error.message}")
            else:
                located.setdefault(title, []).append(rows)
    return located, unshown


def _partial(comparison: Comparison) -> Iterator[str]:
    """Say which samples are fewer or others than the results they lie beside."""
    for model, results in comparison.models.items():
        reasons: dict[str, list[str]] = {}
        for task, result in results.items():
            if (reason := misfit(result)) is not None:
                reasons.setdefault(reason, []).append(task)
        yield from (f"{model}, {some_names(tasks)}: the samples {reason}" for reason, tasks in reasons.items())


def _refused(comparison: Comparison, task: str) -> list[int]:
    """Return the models whose results of a task must not be held against the baseline's, by their place on the page."""
    gates = (comparison.gates.get(model, {}).get(task) for model in comparison.first.models)
    return [index for index, gate in enumerate(gates) if gate is not None and is_refused(gate)]


def _is_right(comparison: Comparison, task: str) -> bool:
    """Return whether a value of 1 is right; not so where less is better."""
    name = (comparison.headline_metric(task) or "").partition(",")[0]
    results = (own.get(task) for own in comparison.models.values())
    return all(higher_is_better(name, each.directions) is not False for each in results if each)


def _item(
    anchors: Anchors,
    task: str,
    sample: Sample,
    baseline: int,
    flaws: Sequence[Sequence[Flaw] | None],
    against: str,
) -> Item:
    outcomes = [None if verdict is None else verdict.outcome for verdict in sample.verdicts]
    if any(index != baseline and outcome for index, outcome in enumerate(outcomes)):
        outcomes[baseline] = None  # the others' outcomes say it
    kinds = [None if answer is None else answer.failure for answer in sample.answers]
    anchor = anchors.of(task, sample.document)
    words = [word for place in range(len(FLAWS)) for word in filter_words([_nth(own, place) for own in flaws])]
    return Item(anchor, task, sample, filter_words(outcomes), filter_words(kinds), list(dict.fromkeys(words)), against)


def _nth(flaws: Sequence[Flaw] | None, place: int) -> Flaw | None:
    return flaws[place] if flaws is not None and place < len(flaws) else None


def _outcome_rows(
    counted: Mapping[str, Sequence[TaskOutcomes]], models: Sequence[str], baseline: int
) -> Iterator[OutcomeRow]:
    ways, others = (AGAINST_BASELINE, len(models) - 1) if len(models) > 1 else (ALONE, 1)
    for number, (title, tasks) in enumerate(counted.items()):
        for index, model in enumerate(models):
            if index == baseline and len(models) > 1:
                continue
            total = sum((each.counts[index] for each in tasks), Counter[SampleOutcome]())
            measured = sum(each.measured[index] for each in tasks)
            finds = {each: state(SAMPLES, task=number, outcome=of_model(each, index, others)) for each in ways}
            yield OutcomeRow(title, model, total, measured - sum(total[each] for each in ways), finds)


_UNREAD = Read(None, None)


def _failure_rows(
    located: Mapping[str, Sequence[TaskRows]], models: Sequence[str], read: Mapping[str, Read] | None = None
) -> Iterator[FailureRow]:
    for number, tasks in enumerate(located.values()):
        for task in tasks:
            for index, counts in enumerate((read or {}).get(task.task, _UNREAD).failures or _failures(task)):
                if task.files[index] is not None:
                    kinds = {each: of_model(each, index, len(models)) for each in counts}
                    finds = {each: state(SAMPLES, task=number, kind=kind) for each, kind in kinds.items()}
                    yield FailureRow(task.task, models[index], counts, finds)


def _failures(task: TaskRows) -> Sequence[Mapping[Failure, int]]:
    """Say how solutions fail; nothing where the task wants none, or its samples are of another format."""
    try:
        return failure_counts(task) or ()
    except SmaugError:
        return ()


def _texts(words: Mapping[Flaw, str]) -> dict[str, str]:
    return {str(word): text for word, text in words.items()}


PANEL = Panel(SAMPLES, "Samples", samples, list_template="samples_list", begin=begin)
