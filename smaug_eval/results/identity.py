"""Identify the model of the Hub that a row of results is of, and its size: for published rows and ranks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smaug_eval.models.size import checkpoint_billions
from smaug_eval.results.json_files import mapping
from smaug_eval.results.task_results import TaskResult

_SIZE = re.compile(r"([\d.]+) ?GB")
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "8bit": 1}


def hub_name(model: str, about: Mapping[str, Any], results: Mapping[str, TaskResult]) -> str:
    """Return a model's name on the Hub as far as its run or its files give it, without labels of settings.

    Args:
        model: Its name on the page.
        about: What a run's manifest says of it; empty for others'.
        results: Its results.
    """
    recorded = about.get("source")
    if isinstance(recorded, str) and recorded:
        return recorded
    names = {str(name) for each in results.values() if (name := _named(each))}
    return names.pop() if len(names) == 1 else model.partition(", ")[0]


def billions(about: Mapping[str, Any], results: Mapping[str, TaskResult]) -> float | None:
    """Return a model's size in billions of parameters, from its checkpoint or its files; None where unknown."""

    path = about.get("path")
    found = checkpoint_billions(Path(path)) if isinstance(path, str) and path else None
    if found is not None:
        return found
    for each in results.values():
        config, general = mapping(each.settings.get("config")), mapping(each.settings.get("config_general"))
        count = config.get("model_num_parameters")
        if isinstance(count, int) and not isinstance(count, bool) and count > 0:
            return count / 1e9
        size, dtype = _SIZE.match(str(general.get("model_size"))), str(general.get("model_dtype")).rpartition(".")[2]
        if size and dtype in _BYTES:
            return float(size[1]) * 2**30 / _BYTES[dtype] / 1e9
    return None


def _named(result: TaskResult) -> object:
    general = mapping(result.settings.get("config_general"))
    name = general.get("model_name") or result.settings.get("model_name")
    return name if isinstance(name, str) and name.count("/") == 1 and not name.startswith(("/", ".")) else None
