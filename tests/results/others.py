"""Small results files as other programs and versions write them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STAMP = "2024-05-01T10-00-00.123456"


def write(path: Path, value: object) -> Path:
    """JSON at a path, compressed where it ends in ``.gz``; text as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = (value if isinstance(value, str) else json.dumps(value)).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def newest(
    results: Mapping[str, Mapping[str, Any]],
    *,
    model: str = "org/model",
    n: Mapping[str, int] | int | None = 4,
    shots: int | None = 0,
    date: float = 1.7e9,
    **more: Any,
) -> dict[str, Any]:
    """As lm-eval 0.4.9 writes results; its keys are ``metric,filter``."""
    counts = {task: (n if isinstance(n, int) else (n or {}).get(task)) for task in results}
    config = {"model": "hf", "model_args": {"pretrained": model}, "limit": None, **more.pop("config", {})}
    return {
        "results": {task: {"alias": task, **entry} for task, entry in results.items()},
        "group_subtasks": {task: [] for task in results},
        "configs": {task: {"task": task, "num_fewshot": shots} for task in results},
        "versions": dict.fromkeys(results, 1.0),
        **({} if shots is None else {"n-shot": dict.fromkeys(results, shots)}),
        "n-samples": {task: {"original": count, "effective": count} for task, count in counts.items() if count},
        "config": config,
        "date": date,
        "lm_eval_version": "0.4.9",
        "model_name": model,
        **more,
    }


def older(
    results: Mapping[str, Mapping[str, Any]], arguments: str = "pretrained=org/model,dtype=float16", **config: Any
) -> dict[str, Any]:
    """As harness 0.2 and 0.3 write results: no filters in keys, arguments as text."""
    return {
        "results": {task: dict(entry) for task, entry in results.items()},
        "versions": dict.fromkeys(results, 0),
        "config": {"model": "hf-causal", "model_args": arguments, "limit": None, "num_fewshot": 0, **config},
    }


def accuracy(value: float, stderr: float = 0.1, metric: str = "acc,none") -> dict[str, float]:
    """An entry of one metric with its standard error."""
    name, _, filter_name = metric.partition(",")
    return {metric: value, f"{name}_stderr,{filter_name}" if filter_name else f"{name}_stderr": stderr}


def sample(number: int, value: object, metric: str = "acc", **more: Any) -> dict[str, Any]:
    """A scored choice."""
    return {
        "doc_id": number, "doc": {"question": f"q{number}"}, "target": "0",
        "arguments": {"gen_args_0": {"arg_0": f"Q{number}", "arg_1": " a"}}, "resps": [[[-1.0, False]]],
        "filtered_resps": [["-1.0", "False"]], "filter": "none", "metrics": [metric], metric: value,
        "doc_hash": f"d{number}", "prompt_hash": f"p{number}", "target_hash": f"t{number}", **more,
    }  # fmt: skip


def generated(
    number: int, text: str, value: float = 1.0, *, metric: str = "exact_match", **more: Any
) -> dict[str, Any]:
    """A scored text."""
    settings = {"until": ["\n\n"], "max_gen_toks": 20, **more.pop("settings", {})}
    return {
        **sample(number, value, metric),
        "arguments": {"gen_args_0": {"arg_0": more.pop("prompt", "Q"), "arg_1": settings}},
        "resps": [[text]],
        "filtered_resps": [text],
        **more,
    }
