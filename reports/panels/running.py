"""Show how the models were run and what that took, side by side; what differs is marked."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from smaug_eval.common.text import significant, some_names
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.panels.provenance import duration
from smaug_eval.results.asked import limit_words, model_arguments, shot_words
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.costs import ModelCost, model_cost
from smaug_eval.results.json_files import mapping
from smaug_eval.results.task_results import TaskResult


class RunningRow(NamedTuple):
    """Hold one setting or quantity: a text for each model, empty where it is not recorded."""

    name: str
    cells: list[str]
    differs: bool


def running(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show engine, precision, shots, versions, time and hardware of each model."""
    if not comparison.models or comparison.study is not None:
        return None
    rows = [*_setting_rows(comparison), *_cost_rows(comparison)]
    return {"models": list(comparison.models), "rows": rows} if rows else None


def costs(comparison: Comparison) -> dict[str, Mapping[str, Any]]:
    """Return seconds, documents and tokens a second, and hardware of each model whose files say so."""
    found: dict[str, Mapping[str, Any]] = {}
    for model, results in comparison.models.items():
        if (cost := model_cost(results)) is not None:
            found[model] = {
                "seconds": cost.seconds,
                "documents_per_second": cost.documents_per_second,
                "tokens_per_second": cost.tokens_per_second,
                "hardware": cost.hardware,
            }
    return found


def _setting_rows(comparison: Comparison) -> list[RunningRow]:
    rows = []
    for name, of in _SETTINGS.items():
        cells = [some_names(filter(None, map(of, results.values()))) for results in comparison.models.values()]
        if any(cells):
            rows.append(RunningRow(name, cells, len({cell for cell in cells if cell}) > 1))
    return rows


def _cost_rows(comparison: Comparison) -> list[RunningRow]:
    found = [model_cost(results) for results in comparison.models.values()]
    rows = []
    for name, of in _COSTS.items():
        cells = ["" if cost is None else of(cost) for cost in found]
        if any(cells):
            rows.append(RunningRow(name, cells, name == "hardware" and len({cell for cell in cells if cell}) > 1))
    return rows


def _time(cost: ModelCost) -> str:
    if not math.isfinite(cost.seconds):
        return ""
    timed, every = cost.files
    return duration(cost.seconds) + (f" ({timed} of {every} files)" if timed < every else "")


def _per_second(value: float) -> str:
    return significant(value, 3) if math.isfinite(value) else ""


def _argument(result: TaskResult, name: str) -> str:
    value = model_arguments(mapping(result.settings.get("config"))).get(name)
    return "" if value is None else str(value)


def _config(result: TaskResult, name: str) -> str:
    value = mapping(result.settings.get("config")).get(name)
    return "" if value in (None, "") else str(value)


def _day(result: TaskResult) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(result.date, datetime.timezone.utc):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return ""


def _precision(result: TaskResult) -> str:
    given = _argument(result, "dtype")
    return given if given not in ("", "auto") else _config(result, "model_dtype").removeprefix("torch.")


_SETTINGS: Mapping[str, Callable[[TaskResult], str]] = {
    "harness": lambda result: result.asked.harness,
    "engine": lambda result: result.asked.engine or "",
    "precision": _precision,
    "batch size": lambda result: _config(result, "batch_size"),
    "shots": lambda result: shot_words(result.asked.shots),
    "limit": lambda result: limit_words(result.asked),
    "chat template": lambda result: (result.asked.chat_template or "")[:12],
    "system prompt": lambda result: (result.asked.system_prompt or "")[:12],
    "most new tokens": lambda result: "" if result.asked.max_tokens is None else f"{result.asked.max_tokens:,}",
    "started": _day,
}
_COSTS: Mapping[str, Callable[[ModelCost], str]] = {
    "time": _time,
    "documents a second": lambda cost: _per_second(cost.documents_per_second),
    "tokens a second": lambda cost: _per_second(cost.tokens_per_second),
    "hardware": lambda cost: cost.hardware,
}


PANEL = Panel("running", "How they were run", running, same_for_all=True)
