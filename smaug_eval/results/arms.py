"""Join evaluations of one model where they are of different tasks, and tell them apart by their settings.

A sweep over shots, limits, templates or thinking budgets writes many files that name one model. Each setting becomes a
row of its own, labelled by the settings in which the rows differ; of the same settings twice the newest is kept, and
said.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from smaug_eval.results.asked import digest_of, harness_of, model_arguments
from smaug_eval.results.json_files import mapping
from smaug_eval.results.metrics import headline
from smaug_eval.results.names import ModelName, folder_of
from smaug_eval.results.task_results import Evaluation, TaskResult

FOLDER, SHOTS, LIMIT, TEMPLATE, SYSTEM, ENGINE, HARNESS = (
    "folder",
    "shots",
    "limit",
    "chat template",
    "system prompt",
    "engine",
    "harness",
)
_FIRST = (FOLDER, SHOTS, LIMIT, TEMPLATE, SYSTEM)
_LAST = (ENGINE, "dtype", "model_dtype", "max_length", "revision", HARNESS)
_LABELLED = 3
"""Settings in a label beyond those needed to tell rows apart."""
_MOST_KEYS = 3
_LONGEST = 40
"""Characters of a setting in a label."""
_LEVELS = 4
"""Folders above a file that may tell evaluations apart."""

_NO_SETTINGS = frozenset(
    {
        *("pretrained", "model", "path", "model_name", "peft", "lora_local_path", "delta", "tokenizer"),
        *("batch_size", "max_batch_size", "max_num_seqs", "device", "device_map", "device_map_option", "parallelize"),
        *("use_accelerate", "max_memory_per_gpu", "max_cpu_memory", "offload_folder", "low_cpu_mem_usage"),
        *("tensor_parallel_size", "data_parallel_size", "pipeline_parallel_size", "gpu_memory_utilization"),
        *("swap_space", "enable_prefix_caching", "enforce_eager", "num_concurrent", "max_retries", "timeout"),
        *("tokenized_requests", "tokenizer_backend", "verify_certificate", "trust_remote_code", "api_key", "header"),
        *("auth_token", "use_auth_token", "cache_dir", "num_gpus", "dp_size", "tp_size", "mem_fraction_static"),
    }
)
"""Arguments that name the model or the machine, not what changes its answers."""
_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")
_OFF = ("", "none", "null", "{}")

Settings = Mapping[str, str]


@dataclass
class ComparedArm:
    """Hold evaluations that stand in one row.

    Attributes:
        model: The model.
        label: The settings in which it differs from the model's other arms; empty where there is one.
        evaluations: Its files.
        results: Task to result.
        notes: Says what was decided.
    """

    model: ModelName
    label: str
    evaluations: list[Evaluation]
    results: dict[str, TaskResult] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the name of the row."""
        return f"{self.model}, {self.label}" if self.label else str(self.model)


def arms_of(evaluations: Sequence[Evaluation]) -> list[ComparedArm]:
    """Join the evaluations of each model, and part what was set differently."""
    by_model: dict[ModelName, list[Evaluation]] = defaultdict(list)
    for each in evaluations:
        by_model[each.model].append(each)
    arms = [arm for own in by_model.values() for arm in _arms(own)]
    shown_variants = {arm.model.name for arm in arms if len({each.model for each in arms if _same(each, arm)}) > 1}
    for arm in arms:
        if arm.model.variant and arm.model.name not in shown_variants and not _is_quantised(arm.model):
            arm.model = ModelName(arm.model.name, "")  # one revision: the model's name says enough
        _settle(arm)
    return arms


def settings_of(evaluation: Evaluation) -> Settings:
    """Return the settings of an evaluation as texts; what only the machine needs is left out."""
    document = evaluation.document
    config = mapping(document.get("config"))
    shots = {str(result.asked.shots) for result in evaluation.tasks.values() if result.asked.shots is not None}
    first = next(iter(evaluation.tasks.values()), None)
    found: dict[str, object] = {
        FOLDER: folder_of(document),
        SHOTS: "/".join(sorted(shots, key=int)),
        LIMIT: None if first is None else first.asked.limit,
        TEMPLATE: digest_of(document, "chat_template"),
        SYSTEM: digest_of(document, "system_instruction"),
        ENGINE: None if first is None else first.asked.engine,
        HARNESS: harness_of(document, next(iter(evaluation.tasks), "")) if first is None else first.asked.harness,
        "fewshot_as_multiturn": document.get("fewshot_as_multiturn"),
        "dtype": config.get("model_dtype"),
        **{key: config.get(key) for key in _SEEDS},
        **{key: value for key, value in model_arguments(config).items() if key not in _NO_SETTINGS},
        **_flat(config.get("gen_kwargs")),
    }
    return {key: text for key, value in found.items() if (text := _text(value))}


def _flat(value: object) -> Mapping[str, object]:
    if isinstance(value, str):
        return model_arguments({"model_args": value})
    return mapping(value)


def _text(value: object) -> str:
    if value is None or value is False:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = json.dumps(value, sort_keys=True, default=str) if isinstance(value, dict | list) else str(value)
    return "" if text.lower() in _OFF else text


def _same(one: ComparedArm, other: ComparedArm) -> bool:
    return one.model.name == other.model.name


def _is_quantised(model: ModelName) -> bool:
    return not model.variant.startswith("revision") or "," in model.variant


def _arms(evaluations: Sequence[Evaluation]) -> list[ComparedArm]:
    settings = [settings_of(each) for each in evaluations]
    conflicts = [
        (one, other)
        for one, other in combinations(range(len(evaluations)), 2)
        if settings[one] != settings[other] and evaluations[one].tasks.keys() & evaluations[other].tasks.keys()
    ]
    if not conflicts:
        return [ComparedArm(evaluations[0].model, "", list(evaluations))]
    keys = _differing(settings, conflicts)
    ways = (groups for groups in _partitions(evaluations, settings, keys) if _parts_all(groups, conflicts))
    groups = min(ways, key=len)  # the first of those with the fewest rows
    return [
        ComparedArm(evaluations[group[0]].model, label, [evaluations[place] for place in group])
        for group, label in zip(groups, _labels(groups, evaluations, settings, keys), strict=True)
    ]


def _differing(settings: Sequence[Settings], conflicts: Iterable[tuple[int, int]]) -> list[str]:
    """Return the settings in which evaluations of one task differ, those that say most first."""
    found = {
        key
        for one, other in conflicts
        for key in settings[one].keys() | settings[other].keys()
        if settings[one].get(key) != settings[other].get(key)
    }
    order = {
        **{key: place for place, key in enumerate(_FIRST)},
        **{key: 100 + place for place, key in enumerate(_LAST)},
    }
    return sorted(found, key=lambda key: (order.get(key, 50), key))


def _partitions(
    evaluations: Sequence[Evaluation], settings: Sequence[Settings], keys: Sequence[str]
) -> Iterator[list[list[int]]]:
    """Yield ways to part the evaluations, the best first: by few settings other than shots, by folder, by shots, too.

    Shots stand back because the tasks of one suite have different ones.
    """
    others = [key for key in keys if key != SHOTS]
    parents = [each.source.resolve().parents for each in evaluations]
    levels = [[str(own[level]) if level < len(own) else "" for own in parents] for level in range(_LEVELS)]

    def parted(names: Iterable[str], *more: Sequence[str]) -> list[list[int]]:
        chosen, groups = list(names), defaultdict(list)
        for place, own in enumerate(settings):
            key = (*(own.get(name, "") for name in chosen), *(each[place] for each in more))
            groups[key].append(place)
        return list(groups.values())

    for size in range(1, _MOST_KEYS + 1):
        yield from (parted(names) for names in combinations(others, size))
    yield from (parted((), level) for level in levels)
    yield parted([SHOTS])
    for size in range(1, _MOST_KEYS + 1):
        yield from (parted([SHOTS, *names]) for names in combinations(others, size))
    yield parted(keys)
    yield parted(keys, levels[0])
    yield [[place] for place in range(len(evaluations))]


def _parts_all(groups: Sequence[Sequence[int]], conflicts: Iterable[tuple[int, int]]) -> bool:
    home = {place: number for number, group in enumerate(groups) for place in group}
    return all(home[one] != home[other] for one, other in conflicts)


def _labels(
    groups: Sequence[Sequence[int]],
    evaluations: Sequence[Evaluation],
    settings: Sequence[Settings],
    keys: Sequence[str],
) -> list[str]:
    """Name each group: the settings in which they differ, as few as tell all apart and some more."""
    values = {
        key: ["/".join(sorted({settings[place].get(key, "") for place in group})) for group in groups] for key in keys
    }
    differing = [key for key in keys if len(set(values[key])) > 1]
    shown: list[str] = []
    for key in differing:
        rows = list(zip(*(values[name] for name in shown), strict=True)) if shown else []
        if rows and len(set(rows)) == len(groups) and len(shown) >= min(_LABELLED, len(differing)):
            break
        if rows and len(set(rows)) == len(groups) and key in _LAST:
            break
        shown.append(key)
    labels = [
        ", ".join(filter(None, (_words(key, values[key][place]) for key in shown))) for place in range(len(groups))
    ]
    labels = [label or "default settings" for label in labels]
    if len(set(labels)) == len(labels):
        return labels
    folders = [evaluations[group[0]].source.parent.name for group in groups]
    files = [evaluations[group[0]].source.name for group in groups]
    for more in (folders, files):
        longer = [f"{label}, {name}" for label, name in zip(labels, more, strict=True)]
        if len(set(longer)) == len(longer):
            return longer
    return [f"{label}, {number}" for number, label in enumerate(labels, start=1)]


def _words(key: str, value: str) -> str:
    """Word a setting as a phrase, such as "5 shots" or "max_gen_toks 512".

    Empty where it is not set and needs no word.
    """
    if key == FOLDER:
        return f"in {value if len(value) <= _LONGEST else f'…{value[-_LONGEST:]}'}"
    if key == SHOTS:
        many = value.split("/")
        numbers = sorted({int(each) for each in many if each.isdecimal()})
        if not numbers:
            return "shots not recorded"
        span = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
        return f"{span} shot{'' if span == '1' else 's'}"
    if key == LIMIT:
        return f"limit {value}" if value else "no limit"
    if key in (TEMPLATE, SYSTEM):
        return f"{key} {value[:8]}" if value else f"no {key}"
    if key in (ENGINE, HARNESS):
        return value
    if key == "dtype":
        return value.removeprefix("torch.")
    return f"{key} {value[:_LONGEST]}" if value else f"no {key}"


def _settle(arm: ComparedArm) -> None:
    """Take the newest of several results of one task, and say what it stands for."""
    repeated: dict[str, list[TaskResult]] = defaultdict(list)
    for each in arm.evaluations:
        for task, result in each.tasks.items():
            repeated[task].append(result)
    arm.results = {task: max(found, key=_age) for task, found in repeated.items()}
    many = {task: sorted(found, key=_age) for task, found in repeated.items() if len(found) > 1}
    sets: dict[tuple[Path, ...], list[str]] = defaultdict(list)
    for task, found in many.items():
        sets[tuple(result.source for result in found)].append(task)
    for files, tasks in sets.items():
        names = _file_names(files)
        older = "; ".join(f"{name}: {_values(many, tasks, place)}" for place, name in enumerate(names[:-1]))
        what = tasks[0] if len(tasks) == 1 else f"{tasks[0]} and {len(tasks) - 1} more tasks"
        arm.notes.append(
            f"{arm.name}: {what}: evaluated {len(names)} times with the same settings; the newest is shown "
            f"({names[-1]}: {_values(many, tasks, len(names) - 1)}), not {older}"
        )


def _file_names(files: Sequence[Path]) -> list[str]:
    """Return names of files, with the folder where two are called alike."""
    names = [file.name for file in files]
    if len(set(names)) == len(names):
        return names
    common = Path(os.path.commonpath([file.parent for file in files]))
    return [str(file.relative_to(common)) for file in files]


def _values(many: Mapping[str, Sequence[TaskResult]], tasks: Sequence[str], place: int) -> str:
    result = many[tasks[0]][place]
    metric = headline(result.metrics, result.configured)
    return "no number" if metric is None else f"{metric.label} {metric.value:.4g}"


def _age(result: TaskResult) -> tuple[float, str]:
    return (-math.inf if math.isnan(result.date) else result.date, result.source.name)
