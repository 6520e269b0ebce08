"""Reading what a report compares: smaug-eval run directories, lm-eval's own result files, and FastChat's judgments.

Nothing here computes a score; files become dataclasses and data frames, and what cannot be read is named.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd

from reports.dialogues import JudgedSet, holds_dialogues, read_dialogues
from smaug_eval.errors import SmaugError
from smaug_eval.files import read_json
from smaug_eval.mt_bench.layout import JUDGMENTS, RUN_FOLDER
from smaug_eval.names import refuse_links_out, refuse_unreadable
from smaug_eval.rundir import RECORD

RESULTS_PATTERN = "results_*.json"
TRAINING_LOG = "log.jsonl"
REPORT_STAGE = "report"  # never done while the report is being written

_PROVENANCE_KEYS = (
    "lm_eval_version", "transformers_version", "model_source", "model_name", "max_length", "chat_template_sha",
    "system_instruction_sha", "total_evaluation_time_seconds",
)  # fmt: skip
_NOT_METRICS = frozenset({"alias", "name", "sample_len", "sample_count", "samples"})


class Metric(NamedTuple):
    """One number lm-eval reports for a task, in lm-eval's own unit."""

    name: str
    filter: str
    value: float
    stderr: float

    @property
    def label(self) -> str:
        """The name, with the filter where there is one."""
        return self.name if self.filter in {"none", ""} else f"{self.name} ({self.filter})"


@dataclass(frozen=True)
class TaskResult:
    """What one lm-eval results file says about one task (or group) and one model.

    Attributes:
        entry: lm-eval's ``results[task]``, unchanged.
        n: Documents scored; None for a group.
        available: Documents the task has; larger than ``n`` where a limit was set.
        fingerprint: lm-eval's hash over documents, prompts and targets in order, where samples were logged.
        subtasks: Names of a group's direct members.
        settings: Versions, engine, model arguments and seeds of the evaluation.
        samples: The task's samples file of the same evaluation, where there is one.
        date: Unix time at which the evaluation started, as the file says.
        notes: What the run recorded beside the numbers: unofficial data, truncated prompts.
        data: A fingerprint of the rows behind the documents and examples, where a run recorded it.
        saved: Share of the requests' tokens that the engine did not compute, where a run recorded it; NaN elsewhere.
    """

    task: str
    entry: Mapping[str, Any]
    n: int | None
    available: int | None
    fingerprint: str | None
    subtasks: tuple[str, ...]
    settings: Mapping[str, Any]
    samples: Path | None
    source: Path
    date: float
    notes: tuple[str, ...] = ()
    data: str | None = None
    saved: float = math.nan

    @property
    def is_group(self) -> bool:
        """Whether it stands for several tasks."""
        return bool(self.subtasks)

    @property
    def metrics(self) -> list[Metric]:
        """Every number of ``entry``."""
        return metrics_of(self.entry)


@dataclass(frozen=True)
class Training:
    """A training's log and summary.

    Attributes:
        name: Its name.
        rows: The log: the columns ``split``, ``step`` and whatever was logged.
        summary: What it was and came to; empty while it runs.
        diagnostics: What was measured on the held-out pairs beside the log, oldest first.
    """

    name: str
    rows: pd.DataFrame
    summary: Mapping[str, Any]
    diagnostics: Sequence[Mapping[str, Any]] = ()

    @property
    def last_diagnosis(self) -> Mapping[str, Any]:
        """The newest of ``diagnostics``; empty where there is none."""
        return self.diagnostics[-1] if self.diagnostics else {}


@dataclass
class Source:
    """What one given path holds.

    Attributes:
        label: The path's last component, or the run's name.
        is_run: Whether it is a smaug-eval run directory.
        results: model name -> task name -> newest result.
        dialogues: Judged answers, by question set and judge.
        pair_sets: Name to what its builder counted, for every set of pairs.
        missing: In plain words, what a finished run would have.
        notes: In plain words, what was decided while reading.
        folder: The run directory; None for other sources.
    """

    label: str
    is_run: bool
    manifest: Mapping[str, Any] | None = None
    trainings: list[Training] = field(default_factory=list)
    results: dict[str, dict[str, TaskResult]] = field(default_factory=dict)
    dialogues: list[JudgedSet] = field(default_factory=list)
    pair_sets: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folder: Path | None = None


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        SmaugError: unreadable, not JSON (naming the line), or not an object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise SmaugError(f"{path}: expected a JSON object, found {type(value).__name__}", fix="leave the file out")
    return value


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file, one at a time.

    A last line that lacks its line feed and does not parse is still being written, and is left out.

    Raises:
        SmaugError: any other line is not a JSON object (naming the line).
    """
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                if not line.endswith("\n"):
                    return
                raise SmaugError(
                    f"{path}, line {number}: not valid JSON ({error})", fix="remove the line, or write the file again"
                ) from error
            if not isinstance(value, dict):
                raise SmaugError(f"{path}, line {number}: expected a JSON object", fix="remove the line")
            yield value


def as_number(value: object) -> float:
    """``value`` as a float; NaN for everything that is not a number (lm-eval writes "N/A" for a missing error)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # an integer beyond the range of a double
            return math.nan
    return math.nan


def metrics_of(entry: Mapping[str, Any]) -> list[Metric]:
    """The metrics in one ``results[task]`` of lm-eval: keys are ``metric,filter`` and ``metric_stderr,filter``."""
    metrics = []
    for key, value in entry.items():
        name, _, filter_name = key.partition(",")
        if key in _NOT_METRICS or name.endswith("_stderr"):
            continue
        if isinstance(value, int | float) or value in ("N/A", None):
            stderr_key = f"{name}_stderr,{filter_name}" if filter_name else f"{name}_stderr"
            metrics.append(Metric(name, filter_name, as_number(value), as_number(entry.get(stderr_key))))
    return metrics


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _settings(document: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The parts of a results file that say how a task was evaluated."""
    shown = {key: document[key] for key in _PROVENANCE_KEYS if document.get(key) is not None}
    version = _mapping(document.get("versions")).get(task)
    shots = _mapping(document.get("n-shot")).get(task)
    return {"task_version": version, "num_fewshot": shots, **shown, "config": _mapping(document.get("config"))}


def read_results(path: Path) -> dict[str, TaskResult]:
    """Every task and group of one lm-eval results file.

    Raises:
        SmaugError: not JSON, or not lm-eval's format (naming the file and the key).
    """
    document = read_object(path)
    entries = document.get("results")
    if not isinstance(entries, dict):
        raise SmaugError(
            f"{path}: key 'results' is missing or not an object; this is not an lm-eval results file",
            fix="leave the file out, or give the folder lm-eval wrote (--output_path)",
        )
    subtasks = _mapping(document.get("group_subtasks"))
    counts = _mapping(document.get("n-samples"))
    hashes = _mapping(document.get("task_hashes"))
    beside = {each.name: each for each in path.parent.glob("samples_*.jsonl")}
    written = path.name.removeprefix("results_").removesuffix(".json")
    record = _stage_record(path.parent / RECORD)
    notes, data = _stage_notes(record), _stage_data(record)
    results = {}
    for task, entry in entries.items():
        if not isinstance(entry, dict):
            raise SmaugError(f"{path}: results[{task!r}] is not an object", fix="leave the file out")
        members = subtasks.get(task)
        count = _mapping(counts.get(task))
        results[task] = TaskResult(
            task=task,
            entry=entry,
            n=_count(count.get("effective", entry.get("sample_len") if not members else None)),
            available=_count(count.get("original")),
            fingerprint=str(hashes[task]) if task in hashes else None,
            subtasks=tuple(map(str, members)) if isinstance(members, list) else (),
            settings=_settings(document, task),
            samples=beside.get(f"samples_{task}_{written}.jsonl"),
            source=path,
            date=as_number(document.get("date")),
            notes=notes,
            data=data,
            saved=as_number(_mapping(_mapping(record.get("summary")).get("tokens")).get("saved")),
        )
    return results


def _stage_record(path: Path) -> Mapping[str, Any]:
    """A run's record beside a results file; empty for results of others."""
    return read_object(path) if path.is_file() else {}


def _stage_notes(record: Mapping[str, Any]) -> tuple[str, ...]:
    """What a run's record says of its numbers."""
    notes = _mapping(record.get("summary")).get("notes")
    return tuple(map(str, notes)) if isinstance(notes, list) else ()


def _stage_data(record: Mapping[str, Any]) -> str | None:
    """One digest of all rows that a stage read."""
    digests = _mapping(_mapping(record.get("inputs")).get("data"))
    if len(digests) == 1:
        return str(next(iter(digests.values())))
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest() if digests else None


def _age(result: TaskResult) -> tuple[float, str]:
    return (-math.inf if math.isnan(result.date) else result.date, result.source.name)


def newest_results(files: Iterable[Path]) -> dict[str, TaskResult]:
    """One result per task: of several evaluations the one that started last."""
    newest: dict[str, TaskResult] = {}
    for path in files:
        for task, result in read_results(path).items():
            if task not in newest or _age(result) > _age(newest[task]):
                newest[task] = result
    return newest


def plain_model_name(document: Mapping[str, Any], path: Path) -> str:
    """A model's name from an lm-eval results file: a Hub id as it is, the last component of a local path.

    Falls back on the folder the file lies in.
    """
    arguments = _mapping(_mapping(document.get("config")).get("model_args"))
    name = document.get("model_name") or arguments.get("pretrained")
    if not isinstance(name, str) or not name.strip("/"):
        return path.parent.name
    is_local = name.startswith(("/", ".", "~")) or name.count("/") > 1
    return PurePosixPath(name).name if is_local else name


def _log_rows(log: Path) -> Iterator[dict[str, Any]]:
    """The rows of a training's log.

    Raises:
        SmaugError: a row does not say of which split it is.
    """
    for number, row in enumerate(json_lines(log), start=1):
        if not isinstance(row.get("split", ""), str) or isinstance(row.get("step"), list | dict):
            raise SmaugError(f"{log}, row {number}: split is no text, or step no number", fix="remove the line")
        yield {_plain(key): _plain(value) if key == "split" else _logged(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    """A text without halves of surrogate pairs, which no table holds."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _logged(value: object) -> int | float:
    """A number that a table holds; NaN for everything else."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53:
        return value
    return as_number(value)


def read_training(folder: Path) -> Training | None:
    """A training's folder, or None while it has neither a log nor a summary."""
    log, summary, diagnostics = folder / TRAINING_LOG, folder / "summary.json", folder / "diagnostics.jsonl"
    if not log.is_file() and not summary.is_file():
        return None
    rows = pd.DataFrame(list(_log_rows(log)) if log.is_file() else [])
    for column in {"split", "step"} - set(rows.columns):
        rows[column] = pd.Series(dtype=object)
    rows = rows.drop_duplicates(subset=["split", "step"], keep="last")
    return Training(
        folder.name,
        rows.sort_values("step"),
        read_object(summary) if summary.is_file() else {},
        list(json_lines(diagnostics)) if diagnostics.is_file() else [],
    )


def is_training(path: Path) -> bool:
    """Whether ``path`` is a training's folder or its log."""
    return path.name == TRAINING_LOG if path.is_file() else (path / TRAINING_LOG).is_file()


def _folders(parent: Path) -> list[Path]:
    return sorted(child for child in parent.iterdir() if child.is_dir()) if parent.is_dir() else []


def is_run_directory(path: Path) -> bool:
    """Whether ``path`` is laid out as smaug-eval leaves a run: a manifest, training logs, results or judgments."""
    return (
        (path / "manifest.json").is_file()
        or any(path.glob("train/*/log.jsonl"))
        or any(path.glob(f"eval/*/*/*/{RESULTS_PATTERN}"))
        or any(path.glob(f"{RUN_FOLDER}/*/{JUDGMENTS}/*/*.jsonl"))
    )


def _stage_gaps(manifest: Mapping[str, Any]) -> list[str]:
    stages = manifest.get("stages")
    listed = [_mapping(stage) for stage in stages] if isinstance(stages, list) else []
    return [
        f"stage {stage.get('name')} is not done"
        for stage in listed
        if stage.get("name") != REPORT_STAGE and stage.get("status") != "done"
    ]


def _repeated_tasks(model_folder: Path) -> Iterator[str]:
    """A note for each task that several evaluations of one model hold."""
    seen: dict[str, set[str]] = {}
    for path in model_folder.glob(f"*/*/{RESULTS_PATTERN}"):
        seen.setdefault(path.parent.name, set()).add(path.parent.parent.name)
    for task, evaluations in sorted(seen.items()):
        if len(evaluations) > 1:
            where = ", ".join(sorted(evaluations))
            yield f"{model_folder.name}: task {task} was evaluated in {where}; the newest is shown"


def read_run(path: Path) -> Source:
    """A smaug-eval run directory, finished or not."""
    manifest_file = path / "manifest.json"
    manifest = read_object(manifest_file) if manifest_file.is_file() else None
    source = Source(
        str((manifest or {}).get("name") or path.resolve().name), is_run=True, manifest=manifest, folder=path
    )
    source.trainings = [training for folder in _folders(path / "train") if (training := read_training(folder))]
    source.dialogues = [judged for folder in _folders(path / RUN_FOLDER) for judged in read_dialogues(folder)]
    for folder in _folders(path / "pairs"):
        if (stats := folder / "stats.json").is_file():
            source.pair_sets[folder.name] = read_object(stats)
    declared = list(_mapping((manifest or {}).get("models")))
    for folder in _folders(path / "eval"):
        if results := newest_results(sorted(folder.rglob(RESULTS_PATTERN))):
            source.results[folder.name] = results
            source.notes += _repeated_tasks(folder)
    order = [*(name for name in declared if name in source.results), *source.results]
    source.results = {name: source.results[name] for name in dict.fromkeys(order)}
    unmeasured = [name for name in declared if name not in source.results]
    source.missing = [
        *([] if manifest else ["no manifest.json: versions, seeds and hardware are not known"]),
        *_stage_gaps(manifest or {}),
        *([] if source.results or source.dialogues else ["no evaluation results yet"]),
        *(f"model {name} has no evaluation results" for name in unmeasured if source.results),
        *(f"training {each.name} has not finished (no summary.json)" for each in source.trainings if not each.summary),
        *(f"training {each.name} has logged nothing yet" for each in source.trainings if each.rows.empty),
    ]
    return source


def read_plain(path: Path) -> Source:
    """lm-eval results that were not made by a run of ours: one file, or every results file below a directory."""
    files = [path] if path.is_file() else sorted(path.rglob(RESULTS_PATTERN))
    by_model: dict[str, list[Path]] = {}
    for file in files:
        by_model.setdefault(plain_model_name(read_object(file), file), []).append(file)
    results = {model: newest_results(files) for model, files in by_model.items()}
    return Source(path.parent.resolve().name if path.is_file() else path.resolve().name, is_run=False, results=results)


def read_source(path: Path) -> Source:
    """Whatever ``path`` holds.

    Raises:
        SmaugError: it does not exist, holds nothing to report on, or holds a file that cannot be read.
    """
    if not path.exists():
        raise SmaugError(
            f"{path} does not exist",
            fix="give a run directory, a file or folder of lm-eval results, or a file of FastChat judgments",
        )
    if path.is_file():
        refuse_unreadable(str(path), "results")
    else:
        refuse_links_out(path)
    if is_training(path):
        folder = path.resolve().parent if path.is_file() else path.resolve()
        found = read_training(folder)
        return Source(folder.name, is_run=False, trainings=[found] if found else [])
    if holds_dialogues(path):
        told = [each for each in read_dialogues(path) if each.models or each.settings or each.judgments.notes]
        source = Source(path.resolve().stem, is_run=False, dialogues=told)
    else:
        source = read_run(path) if is_run_directory(path) else read_plain(path)
    if not (source.results or source.trainings or source.dialogues or source.manifest):
        raise SmaugError(
            f"no lm-eval results, judgments, training logs or manifest under {path}",
            fix=f"give a smaug-eval run directory, or a folder with lm-eval's {RESULTS_PATTERN}",
        )
    return source
