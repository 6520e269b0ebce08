"""What is said of a training beside its numbers: processes that did not come, and pairs that were left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smaug_eval
from smaug_eval.common.files import read_json, write_text
from smaug_eval.trainers.checkpoints import TrainingResult, finished_result, mark_finished
from smaug_eval.trainers.pairs.build import build_pairs
from smaug_eval.trainers.pairs.config import RowPairs
from smaug_eval.trainers.shortfalls import built_warnings, process_warnings

Run = Callable[..., TrainingResult]
Sums = Callable[..., list[dict[str, str]]]


def test_processes_that_did_not_come_are_said() -> None:
    assert process_warnings(None, 1, 16) == process_warnings(2, 2, 16) == []
    (text,) = process_warnings(4, 1, 16)
    assert text.startswith("launch asks for 4 processes, but 1 trained together: a step took 16 pairs, not 64")


def test_a_worker_that_sees_only_itself_says_so(run: Run) -> None:
    """As on a cluster whose processes do not find each other."""
    told: list[str] = []
    result = run(config={"steps": 1}, processes_asked=2, on_warning=told.append)
    assert (result.processes, result.processes_asked) == (1, 2)
    assert told == result.warnings
    assert "a step took 4 pairs, not 8" in told[0]
    assert run("plain", config={"steps": 1}).processes_asked is None


@pytest.mark.parametrize(
    ("rows", "kept", "dropped", "said"),
    [
        (100, 95, {"duplicate": 5}, None),
        (100, 94, {"duplicate": 4, "empty_completion": 2}, "x: of 100 rows read 6 (6.0%) are left out: 4 duplicate, 2"),
        (100, 10, {"duplicate": 5}, None),  # a limit leaves out what is no fault of the rows
        (100, 300, {"empty_choice": 15}, None),  # rows that make three pairs
        (100, 100, {}, None),
    ],
)
def test_a_pair_set_that_shrank_is_said(rows: int, kept: int, dropped: dict[str, int], said: str | None) -> None:
    found = built_warnings("x", rows, kept, dropped)
    assert [text.startswith(said) for text in found] == [True] if said else found == []


def test_rows_that_repeat_are_said_of_their_set(tmp_path: Path, sums: Sums) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in [*sums(18), *sums(2)]))
    stats = build_pairs(RowPairs(source="rows", path=str(file), holdout=0), data_root=None, out_dir=tmp_path / "built")
    assert stats.warnings == ["pairs.jsonl: of 20 rows read 2 (10.0%) are left out: 2 duplicate"]
    assert (stats.rows, stats.train) == (20, 18)


@pytest.mark.slow
def test_a_set_that_shrank_is_on_the_report(
    tmp_path: Path, model_path: Path, sums: Sums, page: Callable[..., Any]
) -> None:
    """Prompts too long for the limit: known only where there are tokens."""
    rows = sums(20)
    for row in rows[:3]:
        row["prompt"] = "word " * 60 + row["prompt"]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    settings: dict[str, Any] = {"steps": 1, "batch_size": 2, "long_prompts": "drop", "gradient_cosine_pairs": 0}
    pair_settings = {"holdout": 0}
    result = smaug_eval.train(
        model_path, file, loss="dpo", name="shrunk", runs=tmp_path, pair_settings=pair_settings, **settings
    )
    said = "dpo: 3 of 20 training pairs were left out: 3 prompt too long"
    assert said in read_json(result.path / "manifest.json")["warnings"]
    assert said in page(result.path).text


def test_a_summary_of_an_earlier_version_is_a_result(run: Run, tmp_path: Path, page: Callable[..., Any]) -> None:
    result = run(config={"steps": 1})
    folder = tmp_path / "run"
    summary = read_json(folder / "summary.json")
    for name in ("processes_asked", "lora"):
        del summary[name]
    write_text(folder / "summary.json", json.dumps(summary))
    mark_finished(folder, "identity")
    assert finished_result(folder, "identity") == result
    assert "processes" not in page(folder).text.split("Warnings")[0].split("formula")[0]
