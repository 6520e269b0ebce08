"""The records beside answers and judgments: what one class writes it reads, and damage never breaks a reader."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.mt_bench.files.layout import settings_file
from smaug_eval.mt_bench.files.settings import AnswerSettings, JudgmentSettings, RecordedAnswers
from smaug_eval.mt_bench.judge.judgments_file import missing_in

WHOLE = JudgmentSettings(
    judge="gpt-4",
    base_url="http://127.0.0.1:1/v1",
    mode="pairwise-baseline",
    baseline="base",
    repeats=2,
    question_set="MT-Bench",
    official=True,
    references="original",
    questions_sha256="ab",
    planned=3,
    not_judged=("m, 81, turn 2",),
    thinking={"m": 4},
    others={"verdict": "json"},
    missing=({"question_id": 81, "turn": 1, "models": ["m"], "repeat": 0, "reason": "refused"},),
)
KEYS = [*WHOLE.as_json(), "own"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def written(folder: Path, content: Any) -> Path:
    file = folder / "gpt-4_pair.jsonl"
    settings_file(file).write_text(json.dumps(content))
    return file


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = written(tmp_path, WHOLE.as_json())
    assert JudgmentSettings.read(file) == WHOLE
    assert JudgmentSettings.read(file).recorded == WHOLE.as_json()
    assert list(WHOLE.as_json())[:3] == ["judge", "demo", "base_url"]
    assert WHOLE.as_json()["verdict"] == "json"
    assert missing_in(JudgmentSettings.read(file), file) == [dict(each) for each in WHOLE.missing or ()]


def test_files_of_others_have_none(tmp_path: Path) -> None:
    assert JudgmentSettings.read(tmp_path / "fastchat.jsonl") == JudgmentSettings()
    assert AnswerSettings.read(tmp_path / "fastchat.jsonl") == RecordedAnswers("", "", "")
    assert "missing" not in JudgmentSettings(planned=2).as_json()  # the judging goes on


def test_answers(tmp_path: Path) -> None:
    settings = AnswerSettings("m", "0", "own", "ab", "plain", None, 1, 16, "torch", "float32", thinking="keep")
    file = written(tmp_path, settings.as_json())
    assert AnswerSettings.read(file) == RecordedAnswers("own", "ab", "keep")


def test_a_stopped_judging_counts_what_is_not_there(tmp_path: Path) -> None:
    file = written(tmp_path, {"planned": 2})
    file.touch()
    assert missing_in(JudgmentSettings.read(file), file) == [{"reason": "the judging was stopped"}] * 2


@given(st.dictionaries(st.sampled_from(KEYS), JSON) | JSON)
def test_anything_can_be_read(content: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = written(Path(folder), content)
        found = JudgmentSettings.read(file)
        AnswerSettings.read(file)
        again = written(Path(folder), found.as_json())
        assert JudgmentSettings.read(again) == found


@pytest.mark.parametrize("value", ["yes", 1, [True]])
def test_only_true_is_the_demo(tmp_path: Path, value: Any) -> None:
    assert not JudgmentSettings.read(written(tmp_path, {"demo": value})).demo
