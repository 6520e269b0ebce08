"""Decide whether a model's results of a task may be compared with the baseline's, from what is on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from smaug_eval.results.asked import model_arguments
from smaug_eval.results.comparable import Comparability, Comparable, Conditions, Setting, compare_conditions
from smaug_eval.results.documents import logged
from smaug_eval.results.fitting import misfit
from smaug_eval.results.json_files import mapping
from smaug_eval.results.task_results import TaskResult

NO_VALUES = "have no value of the metric or no hashes of documents"


def conditions(label: str, result: TaskResult, metric: str | None = None) -> Conditions:
    """Read how a model was evaluated on a task, from lm-eval's results file and samples.

    Args:
        label: What to call the model.
        result: Its result.
        metric: The metric compared; where None, documents are known by number alone.

    Raises:
        SmaugError: the samples are damaged.
    """
    config, found, unpaired = mapping(result.settings.get("config")), None, ""
    arguments = model_arguments(config)
    if metric is not None and result.samples is not None:
        found = logged(result.samples, metric)
        lacks = found is None or found.documents is None
        unpaired = NO_VALUES if lacks else misfit(result) or ""
    asked = result.asked
    return Conditions(
        label=label,
        documents=None if found is None else found.documents,
        unpaired=unpaired,
        n=result.n,
        limit=_limit(result),
        available=result.available,
        fingerprint=result.fingerprint,
        task_version=_setting(asked.version),
        num_fewshot=_setting(asked.shots),
        data=result.data,
        chat_template=_setting(asked.chat_template),
        system_prompt=_setting(asked.system_prompt),
        engine=_setting(asked.engine),
        dtype=_dtype(arguments.get("dtype"), result.settings),
        batch_size=_setting(config.get("batch_size")),
        max_tokens=_setting(asked.max_tokens),
        sampling=_setting(asked.generation),
        max_length=_setting(result.settings.get("max_length")),
        lm_eval_version=_setting(asked.harness.removeprefix("lm-eval ")),
        transformers_version=_setting(result.settings.get("transformers_version")),
    )


def comparability(
    model: str,
    result: TaskResult,
    baseline: str,
    reference: TaskResult,
    metric: str | None = None,
    *,
    read: Callable[[str, TaskResult, str | None], Conditions] = conditions,
) -> Comparability:
    """Decide whether a model's result of a task compares with the baseline's, on which documents, and why not.

    Args:
        model: The model.
        result: Its result.
        baseline: What it is held against.
        reference: That model's result.
        metric: The metric compared.
        read: :func:`conditions`, or what keeps its answers.

    Raises:
        SmaugError: samples are damaged.
    """
    return compare_conditions(read(model, result, metric), read(baseline, reference, metric))


class KnownConditions:
    """Keep how models were evaluated, which is the same whatever they are compared with."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str | None], tuple[TaskResult, Conditions]] = {}

    def of(self, label: str, result: TaskResult, metric: str | None) -> Conditions:
        """Return :func:`conditions`."""
        held = self._found.get((label, result.task, metric))
        if held is None or held[0] is not result:
            held = self._found[label, result.task, metric] = (result, conditions(label, result, metric))
        return held[1]


def is_refused(found: Comparability) -> bool:
    """Return whether no difference may be shown."""
    return found.outcome is Comparable.REFUSED


def group_gate(members: Mapping[str, Comparability | None]) -> Comparability:
    """Decide whether groups compare: as their members do, since lm-eval records nothing of a group by itself.

    Args:
        members: Task to whether its results compare; None where one side lacks it.
    """
    for task, gate in members.items():
        if gate is None:
            return Comparability(Comparable.REFUSED, (f"{task}: measured by one of them only",), (), 0, None)
        if is_refused(gate):
            reasons = tuple(f"{task}: {reason}" for reason in gate.reasons)
            return Comparability(Comparable.REFUSED, reasons, (), 0, None)
    gates = [gate for gate in members.values() if gate is not None]
    known = [gate.n for gate in gates if gate.n is not None]
    partly = [gate for gate in gates if gate.outcome is Comparable.ON_COMMON_DOCUMENTS]
    outcome = Comparable.ON_COMMON_DOCUMENTS if partly else Comparable.COMPARABLE
    reasons = tuple(dict.fromkeys(reason for gate in partly for reason in gate.reasons))
    return Comparability(outcome, reasons, (), sum(known) if len(known) == len(gates) else None, None)


def _limit(result: TaskResult) -> Setting:
    if not result.asked.is_limit_recorded:
        return None
    return "none" if result.asked.limit is None else result.asked.limit


def _dtype(given: object, settings: Mapping[str, Any]) -> Setting:
    """Return the precision that was set; the model's own where that was left to it."""
    recorded = (mapping(settings.get("config")), mapping(settings.get("config_general")))
    own = next((found for each in recorded if (found := each.get("model_dtype")) is not None), None)
    found = _setting(given if given not in (None, "", "auto") else own)
    return found.removeprefix("torch.") if isinstance(found, str) else found


def _setting(value: object) -> Setting:
    return value if isinstance(value, str | int | float) and value != "" else None
