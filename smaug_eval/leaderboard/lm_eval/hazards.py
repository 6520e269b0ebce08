"""Name what lm-eval does in silence and a reader of its numbers should know, before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from smaug_eval.engines.sampled import is_sampled
from smaug_eval.leaderboard.lm_eval.loading import LoadedTasks, documents_of

_NAMED = 3


def hazards_of(loaded: LoadedTasks) -> list[str]:
    """Return what to say of a task or group: drawn shots, shots from the scored documents, the weights of a group."""
    told = [*_drawn(loaded), *_overlap(loaded), *_weights(loaded), *_sampled(loaded)]
    return [f"{loaded.name}: {text}" for text in told]


def _shots(task: Any) -> int:
    return int(task.config.num_fewshot or 0)


def _drawn(loaded: LoadedTasks) -> Iterable[str]:
    """Shots that are drawn document after document by one generator."""
    from lm_eval.api.samplers import ContextSampler, FirstNSampler

    drawn = [
        task.task_name
        for task in loaded.tasks
        if _shots(task)
        and isinstance(getattr(task, "sampler", None), ContextSampler)
        and not isinstance(task.sampler, FirstNSampler)
    ]
    if drawn:
        yield (
            f"the shots of {_few(drawn)} are drawn document after document, so lm-eval in several processes "
            "(accelerate launch, data parallel) draws others; compare with results of one process, as these are"
        )


def _overlap(loaded: LoadedTasks) -> Iterable[str]:
    """Shots from the documents that are scored, above all where a prompt may hold its own answer."""
    own: list[str] = []
    shared: list[str] = []
    for task in loaded.tasks:
        if not _shots(task):
            continue
        pool = {_key(document) for document in _pool(task)}
        scored = [_key(document) for document in documents_of(task)]
        common = sum(document in pool for document in scored)
        if common:
            text = f"{task.task_name} ({common:,} of {len(scored):,} scored documents are among the shots)"
            (shared if _leaves_own_out(task) else own).append(text)
    if own:
        yield (
            f"shots come from the scored documents, and lm-eval does not leave a document out of its own shots: "
            f"{_few(own)}; a prompt may hold its own answer"
        )
    if shared:
        yield f"shots come from the scored documents, without the document itself: {_few(shared)}"


def _leaves_own_out(task: Any) -> bool:
    """Whether lm-eval takes a document out of its own shots: where the shots' split is the test split by name."""
    shots = getattr(getattr(task, "fewshot_cfg", None), "split", None)
    return shots is not None and shots == task.config.test_split


def _pool(task: Any) -> Iterable[Any]:
    sampler = getattr(task, "sampler", None)
    found = task.fewshot_docs() if sampler is None else sampler.df
    return found if found is not None else ()


def _weights(loaded: LoadedTasks) -> Iterable[str]:
    """How a group's score is made of its tasks'."""
    if loaded.group is None:
        return
    for group in [loaded.group, *loaded.group.get_all_groups()]:
        tasks = len(group.get_all_tasks())
        name = f"group {group.name}" if group is not loaded.group else "the group"
        metrics = group.aggregate_metric_list or []
        if not metrics and group is loaded.group:
            yield f"lm-eval gives the group no score of its own, only its {tasks} tasks"
        for weighted in sorted({bool(each.weight_by_size) for each in metrics}):
            names = ", ".join(str(each.metric) for each in metrics if bool(each.weight_by_size) == weighted)
            how = "weighted by their documents" if weighted else "each with the same weight"
            limited = "; a limit changes the weights" if weighted else ""
            yield f"{name} is the mean of its {tasks} single tasks, {how} ({names}){limited}"


def _sampled(loaded: LoadedTasks) -> Iterable[str]:
    """Answers that are drawn at random."""
    sampled = [
        task.task_name
        for task in loaded.tasks
        if task.get_config("output_type") == "generate_until" and is_sampled(task.get_config("generation_kwargs") or {})
    ]
    if sampled:
        yield f"the answers of {_few(sampled)} are sampled, not greedy: another batch size or engine draws others"


def _key(document: Any) -> str:
    return json.dumps(document, default=str, sort_keys=True, ensure_ascii=False)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
