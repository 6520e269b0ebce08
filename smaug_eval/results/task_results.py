"""Read what one results file says of each task: numbers, documents, settings, and where the samples are."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v2_scores
from smaug_eval.leaderboard.columns import PERCENT
from smaug_eval.leaderboard.rescore import leaderboard_task
from smaug_eval.results.asked import Asked, asked_of, documents_asked
from smaug_eval.results.documents import logged_documents
from smaug_eval.results.files import samples_of
from smaug_eval.results.json_files import as_number, mapping, number_of_text, read_object, whole_number
from smaug_eval.results.layout import RECORD
from smaug_eval.results.metrics import (
    NO_FILTER,
    TEXT_KEYS,
    Metric,
    configured_metrics,
    metrics_of,
    recorded_directions,
    unit_of,
)
from smaug_eval.results.names import ModelName, model_of
from smaug_eval.results.sample_files import Samples
from smaug_eval.results.stopping import EarlyStop, stopped_of

_PROVENANCE_KEYS = (
    "lm_eval_version", "transformers_version", "model_source", "model_name", "max_length", "chat_template_sha",
    "system_instruction_sha", "total_evaluation_time_seconds",
)  # fmt: skip
_GPU = re.compile(r"GPU \d+: (.+)")
_AVERAGE = re.compile(r"(?P<head>.*):_average(?P<tail>\|.*)?")


IN_PERCENT = "given in percent"
"""What is said of a share that a file has in percent."""


class Cost(NamedTuple):
    """Hold what an evaluation took, as far as its file says.

    Attributes:
        seconds: Of the whole evaluation; NaN where unknown.
        hardware: The accelerators, else the device; empty where unknown.
        tokens: Tokens of its requests; NaN where unknown.
    """

    seconds: float
    hardware: str
    tokens: float = math.nan


UNKNOWN_COST = Cost(math.nan, "")


@dataclass(frozen=True)
class TaskResult:
    """Hold what one results file says about one task (or group) and one model.

    Attributes:
        entry: lm-eval's ``results[task]``, with numbers for texts that are numbers.
        n: Documents scored; None for a group, and where nothing says so.
        available: Documents the task has; larger than ``n`` where a limit was set.
        fingerprint: lm-eval's hash over documents, prompts and targets in order, where samples were logged.
        subtasks: Names of a group's direct members.
        settings: Versions, engine, model arguments and seeds of the evaluation.
        samples: The task's samples of the same evaluation, where there are any.
        date: Unix time at which the evaluation started, as the file says.
        notes: What the run recorded beside the numbers: unofficial data, truncated prompts.
        data: A fingerprint of the rows behind the documents and examples, where a run recorded it.
        saved: Share of the requests' tokens that the engine did not compute, where a run recorded it; NaN elsewhere.
        asked: What the task was asked with.
        directions: Metric to whether more is better, where the file says so.
        configured: Names of the task's metrics in its own order, where the file holds its configuration.
        config: The task's configuration; empty where the file does not hold it.
        cost: What the evaluation took, all of its tasks together.
        stopped: Where the evaluation of the task's column stopped before its last document; None elsewhere.
    """

    task: str
    entry: Mapping[str, Any]
    n: int | None
    available: int | None
    fingerprint: str | None
    subtasks: tuple[str, ...]
    settings: Mapping[str, Any]
    samples: Samples | None
    source: Path
    date: float
    notes: tuple[str, ...] = ()
    data: str | None = None
    saved: float = math.nan
    asked: Asked = field(default_factory=Asked)
    directions: Mapping[str, bool] = field(default_factory=dict)
    configured: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = UNKNOWN_COST
    stopped: EarlyStop | None = None

    @property
    def is_group(self) -> bool:
        """Return whether it stands for several tasks."""
        return bool(self.subtasks)

    @property
    def metrics(self) -> list[Metric]:
        """Return every number of ``entry``."""
        return metrics_of(self.entry)


@dataclass(frozen=True)
class Evaluation:
    """Hold one results file.

    Attributes:
        source: The file.
        model: The model that it names.
        document: What it holds beside its results and samples.
        tasks: Task to its result.
    """

    source: Path
    model: ModelName
    document: Mapping[str, Any]
    tasks: Mapping[str, TaskResult]

    @property
    def date(self) -> float:
        """Return the Unix time at which it started, as the file says; NaN where it does not."""
        return next((result.date for result in self.tasks.values()), math.nan)


def read_results(path: Path) -> dict[str, TaskResult]:
    """Read every task and group of one results file, with the samples beside it; see :func:`evaluation_of`.

    Raises:
        SmaugError: not JSON, or not lm-eval's format (naming the file and the key).
    """
    document = read_object(path)
    beside = sorted(each for each in path.parent.glob("*.json*") if each != path)
    return dict(evaluation_of(path, document, samples_of(path, document, beside, is_only=False)).tasks)


def evaluation_of(path: Path, document: Mapping[str, Any], samples: Mapping[str, Samples]) -> Evaluation:
    """Read what a results file holds.

    Args:
        path: The file.
        document: What it holds.
        samples: Task to its samples.

    Raises:
        SmaugError: not lm-eval's format (naming the file and the key).
    """
    entries = document.get("results")
    if not isinstance(entries, dict):
        raise SmaugError(
            f"{path}: key 'results' is missing or not an object; this is not an lm-eval results file",
            fix="leave the file out, or give the folder lm-eval wrote (--output_path)",
        )
    record = _stage_record(path.parent / RECORD)
    tasks = {}
    has_mean_of_all = "config_general" in document or any("|" in task for task in entries)  # lighteval's "all"
    for position, (task, entry) in enumerate(entries.items()):
        if not isinstance(entry, dict):
            raise SmaugError(f"{path}: results[{task!r}] is not an object", fix="leave the file out")
        if task != "all" or not has_mean_of_all:
            numbers = {key: _without_quotes(key, value) for key, value in entry.items()}
            shares = _as_shares(task, numbers)
            own = _task_result(path, document, record, task, shares, position, samples.get(task))
            tasks[task] = own if shares is numbers else replace(own, notes=(*own.notes, IN_PERCENT))
    kept = {key: value for key, value in document.items() if key not in {"results", "samples", "configs"}}
    return Evaluation(path, model_of(document, path), kept, tasks)


def _without_quotes(key: str, value: object) -> object:
    """Turn a number that was written as text into a number; a task's alias and all other texts stay."""
    number = None if key in TEXT_KEYS else number_of_text(value)
    return value if number is None else number


def _as_shares(task: str, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Divide the numbers of a leaderboard's task by 100 where a file has them in percent.

    Every harness writes them between 0 and 1.
    """
    if leaderboard_task(task) is None and task not in v2_scores.TASKS:
        return entry
    large = {
        metric.key for metric in metrics_of(entry) if 1 < metric.value <= 100 and unit_of(metric.name, ()) == PERCENT
    }
    if not large:
        return entry
    names = {key.removesuffix(f",{NO_FILTER}") for key in large} | large
    errors = {f"{name.partition(',')[0]}_stderr{name[len(name.partition(',')[0]) :]}" for name in names}
    return {
        key: value / 100 if key in names | errors and isinstance(value, int | float) else value
        for key, value in entry.items()
    }


def _task_result(
    path: Path,
    document: Mapping[str, Any],
    record: Mapping[str, Any],
    task: str,
    entry: Mapping[str, Any],
    position: int,
    samples: Samples | None,
) -> TaskResult:
    members, asked = _members(document, task), asked_of(document, task, position)
    stopped = stopped_of(document)
    counts = _counts(document, task)
    available = whole_number(counts.get("original"))
    return TaskResult(
        task=task,
        entry=entry,
        n=None if members else _documents(task, entry, counts, samples, asked, available),
        available=available,
        fingerprint=_fingerprint(document, task),
        subtasks=members,
        settings=_settings(document, task, asked),
        samples=samples,
        source=path,
        date=as_number(document.get("date")),
        notes=_with_stop(_stage_notes(record), stopped),
        data=_stage_data(record),
        saved=as_number(mapping(mapping(record.get("summary")).get("tokens")).get("saved")),
        asked=asked,
        directions=recorded_directions(document, task),
        configured=configured_metrics(mapping(mapping(document.get("configs")).get(task))),
        config=mapping(mapping(document.get("configs")).get(task)),
        cost=_cost(document, record),
        stopped=stopped if stopped is not None and stopped.is_early else None,
    )


def _members(document: Mapping[str, Any], task: str) -> tuple[str, ...]:
    members = mapping(document.get("group_subtasks")).get(task)
    if isinstance(members, list):
        return tuple(map(str, members))
    if task in mapping(document.get("groups")) and not isinstance(members, list):
        return _indented_below(document, task)
    if average := _AVERAGE.fullmatch(task):  # lighteval's mean over a benchmark's parts
        head = f"{average['head']}:"
        return tuple(name for name in mapping(document.get("results")) if name.startswith(head) and name != task)
    return ()


def _indented_below(document: Mapping[str, Any], group: str) -> tuple[str, ...]:
    """Find the tasks below a group by their aliases, which lm-eval 0.4.0 and 0.4.1 indent; they do not list members."""
    found: list[str] = []
    depth: int | None = None
    for name, entry in mapping(document.get("results")).items():
        alias = mapping(entry).get("alias")
        own = len(alias) - len(alias.lstrip(" ")) if isinstance(alias, str) else 0
        if name == group:
            depth = own
        elif depth is not None and own <= depth:
            break
        elif depth is not None and name not in mapping(document.get("groups")):
            found.append(name)
    return tuple(found)


def _counts(document: Mapping[str, Any], task: str) -> Mapping[str, Any]:
    """Count a task's documents: lm-eval's ``n-samples``, or what lighteval says of its configuration."""
    counts = mapping(mapping(document.get("n-samples")).get(task))
    if counts:
        return counts
    listed = mapping(document.get("config_tasks"))
    parts = task.split("|")
    for name in (task, "|".join(parts[:2]), *(key for key in listed if key.split("|")[-1] == parts[0])):
        found = mapping(listed.get(name))
        if "effective_num_docs" in found:
            return {"original": found.get("original_num_docs"), "effective": found["effective_num_docs"]}
    return {}


def _documents(
    task: str,
    entry: Mapping[str, Any],
    counts: Mapping[str, Any],
    samples: Samples | None,
    asked: Asked,
    available: int | None,
) -> int | None:
    """Count documents scored: as recorded, else as logged, else by the limit.

    None where nothing says so.
    """
    keys = ("sample_len", "num_examples", "num_total")
    recorded = counts.get("effective", next((entry[key] for key in keys if key in entry), None))
    if (n := whole_number(recorded)) is not None and n >= 0:
        return n
    if samples is not None:
        try:
            return logged_documents(samples) or None
        except (SmaugError, OSError):  # said where the samples are used
            pass
    return documents_asked(asked, official_documents(task) if available is None else available)


def official_documents(task: str) -> int | None:
    """Return the number of documents that a task of either leaderboard has, whatever harness names it; else None."""
    if (spec := leaderboard_task(task)) is not None:
        return spec.official_rows
    column = v2_scores.TASKS.get(task)
    return None if column is None else next(leaf.official_rows for leaf in column.leaves if leaf.name == task)


def _fingerprint(document: Mapping[str, Any], task: str) -> str | None:
    hashes = mapping(document.get("task_hashes"))
    return str(hashes[task]) if hashes.get(task) else None


def _settings(document: Mapping[str, Any], task: str, asked: Asked) -> dict[str, Any]:
    """Return the parts of a results file that say how a task was evaluated."""
    shown = {key: document[key] for key in _PROVENANCE_KEYS if document.get(key) is not None}
    general = {"config_general": document["config_general"]} if isinstance(document.get("config_general"), dict) else {}
    return {
        "task_version": mapping(document.get("versions")).get(task),
        "num_fewshot": asked.shots,
        **({"harness": asked.harness} if asked.harness and "lm_eval_version" not in shown else {}),
        **shown,
        **{
            f"{name}_sha": digest
            for name, digest in (("chat_template", asked.chat_template), ("system_instruction", asked.system_prompt))
            if digest is not None
        },
        **general,
        "config": mapping(document.get("config")),
    }


def _cost(document: Mapping[str, Any], record: Mapping[str, Any]) -> Cost:
    general = mapping(document.get("config_general"))
    seconds = _seconds(document.get("total_evaluation_time_seconds"))
    if math.isnan(seconds):
        seconds = _seconds(general.get("total_evaluation_time_secondes", general.get("total_evaluation_time_seconds")))
    if math.isnan(seconds):
        seconds = _seconds(record.get("seconds"))
    text = document.get("pretty_env_info")
    devices = _GPU.findall(text) if isinstance(text, str) else []
    kinds = [f"{devices.count(each)} x {each.strip()}" for each in dict.fromkeys(devices)]
    device = mapping(document.get("config")).get("device")
    tokens = as_number(mapping(mapping(record.get("summary")).get("tokens")).get("requested"))
    return Cost(seconds, ", ".join(kinds) or (device if isinstance(device, str) else ""), tokens)


def _seconds(value: object) -> float:
    """Parse a time in seconds, which lm-eval writes as text."""
    try:
        number = float(value) if isinstance(value, str) else as_number(value)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) and number > 0 else math.nan


def _stage_record(path: Path) -> Mapping[str, Any]:
    """Return a run's record beside a results file; empty for results of others."""
    return read_object(path) if path.is_file() else {}


def _stage_notes(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a run's record says of its numbers."""
    notes = mapping(record.get("summary")).get("notes")
    return tuple(map(str, notes)) if isinstance(notes, list) else ()


def _with_stop(notes: tuple[str, ...], stopped: EarlyStop | None) -> tuple[str, ...]:
    """Add that an evaluation stopped early, which results without a run's record say, too."""
    if stopped is None or not stopped.is_early or stopped.words in notes:
        return notes
    return (stopped.words, *notes)


def _stage_data(record: Mapping[str, Any]) -> str | None:
    """Return one digest of all rows that a stage read."""
    digests = mapping(mapping(record.get("inputs")).get("data"))
    if len(digests) == 1:
        return str(next(iter(digests.values())))
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest() if digests else None
