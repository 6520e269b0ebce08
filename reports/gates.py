"""Whether a model's results of a task may be held against the baseline's: what decides is on disk beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.documents import logged
from reports.sources import TaskResult
from smaug_eval.comparable import Comparability, Conditions, Outcome, Setting, compare_conditions


def conditions(label: str, result: TaskResult, metric: str | None = None) -> Conditions:
    """How a model was evaluated on a task, from lm-eval's results file and samples.

    Args:
        label: What to call the model.
        result: Its result.
        metric: The metric compared; where None, or where the samples lack it, documents are known by number alone.
    """
    config, found = _mapping(result.settings.get("config")), None
    arguments = _mapping(config.get("model_args"))
    if metric is not None and result.samples is not None:
        found = logged(result.samples, metric)
    return Conditions(
        label=label,
        documents=None if found is None else found.documents,
        n=result.n,
        available=result.available,
        fingerprint=result.fingerprint,
        task_version=_setting(result.settings.get("task_version")),
        num_fewshot=_setting(result.settings.get("num_fewshot")),
        data=result.data,
        chat_template=_setting(result.settings.get("chat_template_sha")),
        system_prompt=_setting(result.settings.get("system_instruction_sha")),
        engine=_setting(arguments.get("engine")) or _engine(config),
        dtype=_setting(arguments.get("dtype") or config.get("model_dtype")),
        batch_size=_setting(config.get("batch_size")),
        max_length=_setting(result.settings.get("max_length")),
        lm_eval_version=_setting(result.settings.get("lm_eval_version")),
        transformers_version=_setting(result.settings.get("transformers_version")),
    )


def comparability(
    model: str, result: TaskResult, baseline: str, reference: TaskResult, metric: str | None = None
) -> Comparability:
    """Whether a model's result of a task compares with the baseline's, on which documents, and why not."""
    return compare_conditions(conditions(model, result, metric), conditions(baseline, reference, metric))


def is_refused(found: Comparability) -> bool:
    """Whether no difference may be shown."""
    return found.outcome is Outcome.REFUSED


def _engine(config: Mapping[str, Any]) -> Setting:
    """What ran the model: lm-eval's name of it. A run of ours writes a path there, which says nothing."""
    name = config.get("model")
    return name if isinstance(name, str) and "/" not in name else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _setting(value: object) -> Setting:
    return value if isinstance(value, str | int | float) and value != "" else None
