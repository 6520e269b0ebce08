from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.results import documents
from smaug_eval.results.comparable import Document
from smaug_eval.results.documents import logged_values
from smaug_eval.results.sources import read_source


def lines(path: Path, *samples: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return path


def logged(value: object, **more: Any) -> dict[str, Any]:
    """The keys in lm-eval's order; a text that looks like the key the metrics begin with."""
    text = {"doc_id": 0, "doc": {"text": 'x", "metrics": ["acc"], "acc": 7}'}, "filter": "none", **more}
    return {**text, "metrics": ["acc"], "doc_hash": "1", "acc": value}


def test_values_per_line(tmp_path: Path) -> None:
    path = lines(tmp_path / "samples.jsonl", logged(1.0), logged(0.0), logged(math.nan), logged("N/A"))
    values = logged_values(path, "acc")
    assert values is not None
    assert values[:2].tolist() == [1.0, 0.0]
    assert [math.isnan(value) for value in values[2:]] == [True, True]
    assert logged_values(path, "acc_norm") is None


def test_one_filter_s_lines(tmp_path: Path) -> None:
    path = lines(tmp_path / "samples.jsonl", logged(1.0, filter="strict"), logged(0.0, filter="flexible"))
    values = logged_values(path, "acc,flexible")
    assert values is not None
    assert values.tolist() == [0.0]


def test_other_key_orders_are_read_whole(tmp_path: Path) -> None:
    path = lines(tmp_path / "samples.jsonl", {"acc": 1.0, "doc_id": 0})
    values = logged_values(path, "acc")
    assert values is not None
    assert values.tolist() == [1.0]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = lines(tmp_path / "samples.jsonl", logged(1.0))
    logged_values(path, "acc")
    lines(path, logged(0.0))
    os.utime(path, ns=(1, 1))
    values = logged_values(path, "acc")
    assert values is not None
    assert values.tolist() == [0.0]


def test_damaged_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"metrics": ["acc"], "acc": 1.0}\nnonsense\n')
    with pytest.raises(SmaugError, match=r"samples.jsonl, line 2"):
        logged_values(path, "acc")


def test_a_run_s_notes_stand_beside_its_results(tmp_path: Path) -> None:
    folder = tmp_path / "study/eval/base/main/gsm8k"
    folder.mkdir(parents=True)
    (folder / "results_2026.json").write_text(json.dumps({"results": {"open_llm_v1_gsm8k": {"acc,none": 0.5}}}))
    (folder / "stage.json").write_text(json.dumps({"summary": {"notes": ["3 of 4 prompts truncated"]}}))
    (result,) = read_source(tmp_path / "study").results["base"].values()
    assert result.notes == ("3 of 4 prompts truncated",)


def test_documents_have_hashes_where_every_line_has_all_three(tmp_path: Path) -> None:
    hashes = {"doc_hash": "d", "prompt_hash": "p", "target_hash": "t"}
    whole = lines(tmp_path / "whole.jsonl", {**logged(1.0), **hashes}, {**logged(2**2000), **hashes})
    found = documents.logged(whole, "acc")
    assert found is not None
    assert found.documents == (Document("d", "p", "t"),) * 2
    assert (found.values[0], math.isnan(found.values[1])) == (1.0, True)  # no double is as large
    for lacking in ({"target_hash": 3}, {"prompt_hash": None}):
        part = lines(tmp_path / f"{next(iter(lacking))}.jsonl", {**logged(1.0), **hashes, **lacking})
        assert documents.logged(part, "acc").documents is None
