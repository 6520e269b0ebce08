"""Several sources as one: names that tell apart what is different, and join what is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from reports.dialogues import JudgedSet, merged_sets
from reports.sources import Source, TaskResult, Training


def with_distinct_labels(sources: Sequence[Source]) -> list[Source]:
    """The sources with labels that tell them apart, numbered where two paths end alike."""
    seen: dict[str, int] = {}
    for source in sources:
        seen[source.label] = seen.get(source.label, 0) + 1
        if seen[source.label] > 1:
            source.label = f"{source.label} ({seen[source.label]})"
    return list(sources)


def names_on_page(sources: Sequence[Source]) -> dict[str, dict[str, str]]:
    """What each source's models and trainings are called on the page, by the source's label.

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
    """Every evaluated model of every source, by its name on the page."""
    names = names_on_page(sources)
    merged: dict[str, dict[str, TaskResult]] = {}
    for source in sources:
        for model, results in source.results.items():
            merged.setdefault(names[source.label][model], {}).update(results)
    return merged


def merge_trainings(sources: Sequence[Source]) -> list[Training]:
    """Every training of every source, by its name on the page."""
    names = names_on_page(sources)
    return [replace(each, name=names[source.label][each.name]) for source in sources for each in source.trainings]


def merge_dialogues(sources: Sequence[Source]) -> list[JudgedSet]:
    """Judged answers of all sources, models by their names on the page; one table for what can stand in one."""
    names = names_on_page(sources)
    return merged_sets([(source.label, each, names[source.label]) for source in sources for each in source.dialogues])


def _names(source: Source) -> list[str]:
    trainings = (training.name for training in source.trainings)
    judged = (model for each in source.dialogues for model in each.models)
    return list(dict.fromkeys([*source.results, *trainings, *judged]))


def _is_ambiguous(name: str, sources: Sequence[Source]) -> bool:
    holders = [source for source in sources if name in _names(source)]
    if sum(source.is_run for source in holders) > 1:
        return True
    tasks = Counter(task for source in holders for task in source.results.get(name, ()))
    trained = sum(name in {training.name for training in source.trainings} for source in holders)
    judged = Counter(
        key for source in holders for key in {each.key for each in source.dialogues if name in each.models}
    )
    evaluated = [source for source in holders if name in source.results]
    joins_a_run = len(evaluated) > 1 and any(source.is_run for source in evaluated)
    return joins_a_run or trained > 1 or max([*tasks.values(), *judged.values()], default=0) > 1
