"""Merge several sources: names tell apart what is different, and join what is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from smaug_eval.results.arms import arms_of
from smaug_eval.results.judged import JudgedSet, merged_sets
from smaug_eval.results.sources import Source
from smaug_eval.results.task_results import TaskResult
from smaug_eval.results.trainings import Training


def with_distinct_labels(sources: Sequence[Source]) -> list[Source]:
    """Name the sources so that labels tell them apart, numbered where two paths end alike.

    Names of models that mean the same are the same in all of them.
    """
    seen: dict[str, int] = {}
    for source in sources:
        seen[source.label] = seen.get(source.label, 0) + 1
        if seen[source.label] > 1:
            source.label = f"{source.label} ({seen[source.label]})"
    _name_across(sources)
    return list(sources)


def _name_across(sources: Sequence[Source]) -> None:
    """Name one model's evaluations in several sources apart by what was set differently, as in one folder."""
    free = [source for source in sources if not source.names_its_models and source.evaluations]
    if len(free) < 2:
        return
    arms = arms_of([each for source in free for each in source.evaluations])
    for source in free:
        shown = {id(result) for found in source.results.values() for result in found.values()}
        own = {id(each) for each in source.evaluations}
        results: dict[str, dict[str, TaskResult]] = {}
        for arm in arms:
            for each in arm.evaluations:
                kept = {task: result for task, result in each.tasks.items() if id(result) in shown}
                if id(each) in own and kept:
                    results.setdefault(arm.name, {}).update(kept)
        source.recorded = dict.fromkeys(results, next(iter(source.recorded.values()))) if source.recorded else {}
        source.results = results


def names_on_page(sources: Sequence[Source]) -> dict[str, dict[str, str]]:
    """Name each source's models and trainings on the page, by the source's label.

    A name is kept where it means one thing, and written ``source/name`` where it means several: two runs hold it, or
    two sources that evaluated, judged or trained what may not be joined. It is the same in every panel.
    """
    held = {source.label: _names(source) for source in sources}
    ambiguous = {name for names in held.values() for name in names if _is_ambiguous(name, sources)}
    return {
        label: {name: f"{label}/{name}" if name in ambiguous else name for name in names}
        for label, names in held.items()
    }


def merge_models(sources: Sequence[Source]) -> dict[str, dict[str, TaskResult]]:
    """Merge the evaluated models of all sources, by their names on the page."""
    names = names_on_page(sources)
    merged: dict[str, dict[str, TaskResult]] = {}
    for source in sources:
        for model, results in source.results.items():
            merged.setdefault(names[source.label][model], {}).update(results)
    return merged


def descriptions(sources: Sequence[Source]) -> dict[str, Mapping[str, object]]:
    """Return what the runs' manifests say of each model, by its name on the page; models of others are left out."""
    names = names_on_page(sources)
    found = {names[source.label][model]: source.described(model) for source in sources for model in source.results}
    return {model: about for model, about in found.items() if about}


def merge_trainings(sources: Sequence[Source]) -> list[Training]:
    """Merge the trainings of all sources, by their names on the page."""
    names = names_on_page(sources)
    return [replace(each, name=names[source.label][each.name]) for source in sources for each in source.trainings]


def merge_dialogues(sources: Sequence[Source]) -> list[JudgedSet]:
    """Merge the judged answers of all sources, by names on the page; one table for what can stand in one."""
    names = names_on_page(sources)
    return merged_sets([(source.label, each, names[source.label]) for source in sources for each in source.dialogues])


def _names(source: Source) -> list[str]:
    trainings = (training.name for training in source.trainings)
    judged = (model for each in source.dialogues for model in each.models)
    return list(dict.fromkeys([*source.results, *trainings, *judged]))


def _is_ambiguous(name: str, sources: Sequence[Source]) -> bool:
    holders = [source for source in sources if name in _names(source)]
    if sum(source.names_its_models for source in holders) > 1:
        return True
    tasks = Counter(task for source in holders for task in source.results.get(name, ()))
    trained = sum(name in {training.name for training in source.trainings} for source in holders)
    judged = Counter(
        key for source in holders for key in {each.key for each in source.dialogues if name in each.models}
    )
    evaluated = [source for source in holders if name in source.results]
    joins_a_run = len(evaluated) > 1 and any(source.names_its_models for source in evaluated)
    return joins_a_run or trained > 1 or max([*tasks.values(), *judged.values()], default=0) > 1
