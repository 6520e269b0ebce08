"""What evaluations took, as their files say it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from smaug_eval.reports import build_report
from smaug_eval.results.costs import model_cost
from smaug_eval.results.sources import read_source
from tests.results.others import accuracy, newest, write

GPUS = "Is CUDA available: True\nGPU 0: NVIDIA H200\nGPU 1: NVIDIA H200\nNvidia driver version: 1"


def cost(folder: Path) -> Any:
    (results,) = read_source(folder).results.values()
    return model_cost(results)


def test_seconds_documents_and_hardware(tmp_path: Path) -> None:
    for place, task in enumerate(("piqa", "boolq")):
        document = newest({task: accuracy(0.5)}, n=100 * (place + 1))
        more = {"total_evaluation_time_seconds": f"{50.0 * (place + 1)}", "pretty_env_info": GPUS}
        write(tmp_path / f"{task}.json", {**document, **more})
    found = cost(tmp_path)
    assert (found.seconds, found.documents, found.documents_per_second) == (150.0, 300, 2.0)
    assert (found.hardware, found.files) == ("2 x NVIDIA H200", (2, 2))
    assert math.isnan(found.tokens_per_second)
    numbers = json.loads(build_report([tmp_path], tmp_path / "r.json", format_="json").read_text())
    (shown,) = numbers["costs"].values()
    assert shown["seconds"] == 150.0
    assert shown["documents_per_second"] == 2.0


def test_lighteval_and_files_that_say_nothing(tmp_path: Path) -> None:
    general = {"model_name": "org/model", "total_evaluation_time_secondes": "12.5"}
    write(tmp_path / "a.json", {"config_general": general, "results": {"gsm8k|0": {"em": 0.5}}})
    assert cost(tmp_path).seconds == 12.5
    write(tmp_path / "a.json", {"config_general": {"model_name": "m"}, "results": {"gsm8k|0": {"em": 0.5}}})
    assert cost(tmp_path) is None


def test_one_file_without_a_time_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a.json", {**newest({"piqa": accuracy(0.5)}), "total_evaluation_time_seconds": "10"})
    write(tmp_path / "b.json", newest({"boolq": accuracy(0.5)}))
    found = cost(tmp_path)
    assert (found.documents, found.files) == (4, (1, 2))
