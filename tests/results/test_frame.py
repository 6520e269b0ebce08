"""Runs on a tiny model: what was recorded beside the numbers reaches them everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import smaug_eval

pytestmark = pytest.mark.slow

REBUILT = "not the official data: the content of HellaSwag validation was rebuilt from preprocessed text"


def test_marks_stand_on_every_number(shared: Path, tmp_path: Path) -> None:
    model = shared / "models" / "stories260K"
    result = smaug_eval.evaluate(
        model, tasks=["HellaSwag"], limit=2, dtype="float32", data_root=shared / "data", runs=tmp_path
    )
    marks = (
        "not the official data: HellaSwag train has 5,000 rows, official 39,905",
        REBUILT,
        "8 of 8 prompts truncated (the model's context holds 512 tokens)",
        "2 of 10,042 documents",
    )
    (views,) = smaug_eval.score_views([result.path])
    assert views.columns[0].v1.notes == marks
    assert views.scores.average.notes == tuple(f"HellaSwag: {mark}" for mark in marks)
    frame = smaug_eval.scores([result.path])
    assert frame["notes"].iloc[0] == "; ".join(marks)
    assert REBUILT in result.report.read_text(encoding="utf-8")
    manifest = json.loads((result.path / "manifest.json").read_text())
    assert f"HellaSwag: {REBUILT}" in manifest["warnings"]
    assert manifest["data_revisions"] == {}  # read from the mirror


def test_lm_eval_s_own_tasks_run_by_name(shared: Path, tmp_path: Path) -> None:
    result = smaug_eval.evaluate(
        shared / "models" / "stories260K",
        suite="lm_eval_0413",
        tasks=["winogrande", "gsm8k"],
        limit=2,
        dtype="float32",
        data_root=shared / "data",
        runs=tmp_path,
    )
    (views,) = smaug_eval.score_views([result.path])
    winogrande, gsm8k = views.columns
    assert views.origin == "lm-eval's own tasks, re-scored"
    assert (winogrande.v1.n, gsm8k.v1.n) == (2, 2)
    assert winogrande.v1.notes == ("not the leaderboard's shots: lm-eval's own draw", "2 of 1,267 documents")
    assert gsm8k.modern is not None
    assert {cause.name: cause.run for cause in gsm8k.causes} == {"equality": None, "':' stop": None}
    stage = next(result.path.glob("eval/base/*/gsm8k/stage.json"))
    assert json.loads(stage.read_text())["summary"]["documents"] == 2
