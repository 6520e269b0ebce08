"""Several sources as one: names that tell apart what is different, and join what is the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.sources import Source, TaskResult, Training


def with_distinct_labels(sources: Sequence[Source]) -> list[Source]:
    """The sources with labels that tell them apart, numbered where two paths end alike."""
    seen: dict[str, int] = {}
    for source in sources:
        seen[source.label] = seen.get(source.label, 0) + 1
        if seen[source.label] > 1:
            source.label = f"{source.label} ({seen[source.label]})"
    return list(sources)


def _can_merge(sources: Sequence[Source], model: str) -> bool:
    """Plain results of one model name are one model's, unless two sources hold the same task."""
    tasks = [task for source in sources for task in source.results[model]]
    return not any(source.is_run for source in sources) and len(tasks) == len(set(tasks))


def merge_models(sources: Sequence[Source]) -> dict[str, dict[str, TaskResult]]:
    """Every model of every source; a name that means different models is written ``source/model``."""
    merged: dict[str, dict[str, TaskResult]] = {}
    for source in sources:
        for model, results in source.results.items():
            holders = [other for other in sources if model in other.results]
            if len(holders) == 1 or _can_merge(holders, model):
                merged.setdefault(model, {}).update(results)
            else:
                merged[f"{source.label}/{model}"] = results
    return merged


def merge_trainings(sources: Sequence[Source]) -> list[Training]:
    """Every training of every source, named ``source/training`` where several sources are given one each."""
    many = sum(bool(source.trainings) for source in sources) > 1
    return [
        replace(each, name=f"{source.label}/{each.name}") if many else each
        for source in sources
        for each in source.trainings
    ]
