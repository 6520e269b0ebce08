"""Say where every number comes from: checkpoints, losses, data, versions, hardware, times, result files."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

from smaug_eval.common.text import fixed, is_missing, some_names
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.json_files import as_number
from smaug_eval.results.sources import Source
from smaug_eval.results.task_results import TaskResult

_HASH_SHOWN = 12
_MACHINE_KEYS = ("command", "git_commit", "python", "packages", "hardware", "seeds")


class ModelOrigin(NamedTuple):
    """Say where a model comes from, as far as its run recorded it.

    Attributes:
        model: Its name in the report.
        about: Source, architecture, dtype and the beginning of its weights' digest.
        training: What made it: loss, its numbers, steps and pairs; empty for a model that was given.
        formula: The loss, written out; empty where there is none.
    """

    model: str
    about: Mapping[str, str]
    training: Mapping[str, object]
    formula: str


class DataOrigin(NamedTuple):
    """Describe rows that stages of a run read: their digest, and the stages."""

    name: str
    digest: str
    stages: str


class RunOrigin(NamedTuple):
    """Hold what a run's manifest says beside its models.

    Attributes:
        label: The run.
        machine: What to call a setting, and the setting, nested ones flattened.
        stages: Name, status and duration of each stage.
        total: All durations together.
        data: What was read.
        manifest: All of it.
    """

    label: str
    machine: list[tuple[str, str]]
    stages: list[tuple[str, str, str]]
    total: str
    data: list[DataOrigin]
    manifest: Mapping[str, Any]


def provenance(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show manifests, result files, engines, versions and seeds."""
    runs = [_run_origin(source, source.manifest) for source in comparison.sources if source.manifest]
    if not runs and not comparison.models:
        return None
    return {
        "origins": [origin for model in comparison.models if (origin := model_origin(comparison, model)).about],
        "runs": runs,
        "models": {name: _origins(each) for name, each in comparison.models.items()},
    }


def model_origin(comparison: Comparison, model: str) -> ModelOrigin:
    """Return what the manifest and the training of the same name say of a model."""
    about = comparison.described.get(model, {})
    summary = next((each.summary for each in comparison.trainings if each.name == model), {})
    keys = ("loss", "normalisation", "beta", "lambda", "steps", "pairs", "dtype", "seed", "train_sha256")
    return ModelOrigin(
        model,
        {key: _short(key, about[key]) for key in ("source", "architecture", "dtype", "sha256") if about.get(key)},
        {key.replace("_", " "): _short(key, summary[key]) for key in keys if summary.get(key) is not None},
        str(summary.get("formula") or ""),
    )


def duration(seconds: float) -> str:
    """Word a time, such as "4.2 s", "3 min 20 s" or "2 h 5 min"; "n/a" where it is not known."""
    if is_missing(seconds) or seconds < 60:
        return fixed(seconds) if is_missing(seconds) else f"{fixed(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def _run_origin(source: Source, manifest: Mapping[str, Any]) -> RunOrigin:
    listed = manifest.get("stages")
    stages = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    seconds = [as_number(stage.get("seconds")) for stage in stages]
    return RunOrigin(
        label=source.label,
        machine=[row for key in _MACHINE_KEYS if key in manifest for row in _flat(key, manifest[key])],
        stages=[
            (str(stage.get("name")), str(stage.get("status")), duration(own))
            for stage, own in zip(stages, seconds, strict=True)
        ],
        total=duration(sum(own for own in seconds if not is_missing(own))),
        data=_data(manifest.get("data")),
        manifest=manifest,
    )


def _data(recorded: object) -> list[DataOrigin]:
    """List each set of rows once, with the stages that read it."""
    stages: dict[tuple[str, str], list[str]] = {}
    for stage, digests in recorded.items() if isinstance(recorded, Mapping) else ():
        for name, digest in digests.items() if isinstance(digests, Mapping) else ():
            stages.setdefault((str(name), _short("sha256", digest)), []).append(str(stage))
    return [DataOrigin(name, digest, some_names(found)) for (name, digest), found in stages.items()]


def _flat(name: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [row for key, part in value.items() for row in _flat(f"{name}: {key}", part)]
    if isinstance(value, list):
        return [(name, ", ".join(map(str, value)) or "none")]
    return [] if value is None else [(name.replace("_", " "), str(value))]


def _short(key: str, value: object) -> str:
    return str(value)[:_HASH_SHOWN] if key.endswith("sha256") else str(value)


def _origins(results: Mapping[str, TaskResult]) -> Mapping[str, Any]:
    shared: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for task, result in results.items():
        settings = {key: value for key, value in result.settings.items() if key not in {"task_version", "num_fewshot"}}
        settings.pop("total_evaluation_time_seconds", None)
        shared.setdefault(repr(settings), (settings, []))[1].append(task)
    return {
        "tasks": [(result, _utc(result.date), _share(result.saved)) for result in results.values()],
        "settings": [{"tasks": some_names(names), "settings": settings} for settings, names in shared.values()],
    }


def _share(value: float) -> str:
    """Word a share in percent; empty where it is not known, as of other engines than ours."""
    return "" if is_missing(value) else f"{fixed(100 * value)}%"


def _utc(seconds: float) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return fixed(None)


PANEL = Panel("provenance", "Provenance", provenance, same_for_all=True)
