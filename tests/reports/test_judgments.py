"""The panel of judges' reasons."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smaug_eval.mt_bench.files.layout import judgments_stage, settings_file
from smaug_eval.mt_bench.files.records import JudgmentRecord, PairJudgmentRecord, RecordWriter
from smaug_eval.reports.panels.judgments import ITEMS_SHOWN

Build = Callable[..., Any]


def single(question: int, turn: int, model: str, score: float, repeat: int = 1) -> JudgmentRecord:
    extra = {"repeat": repeat, "category": "math"}
    prompt, text = f"Q{question} for {model}", f"because {model} {score:g}. [[{score:g}]]"
    return JudgmentRecord(question, model, ("gpt-4-0613", "single-v1"), prompt, text, score, turn, 0.0, extra)


def pair(question: int, g1: str, g2: str) -> PairJudgmentRecord:
    judge = ("gpt-4-0613", "pair-v2")
    return PairJudgmentRecord(question, "base", "dpop", g1, g2, judge, "saw 1", "wrote 1", "saw 2", "wrote 2", 1)


def write(run: Any, what: str, *records: Any) -> Path:
    path: Path = run.path / judgments_stage("main", what) / "judge_single.jsonl"
    with RecordWriter(path) as writer:
        for record in records:
            writer.append(record)
    settings_file(path).write_text(json.dumps({"judge": "gpt-4-0613", "question_set": "MT-Bench"}))
    return path


def items(report: Any) -> dict[str, list[str]]:
    """Id of each judged question to the words that filters find it by."""
    return {
        attributes["id"]: (attributes["data-outcome"] or "").split()
        for tag, attributes in report.elements
        if tag == "details" and (attributes.get("id") or "").startswith("judgment-")
    }


def test_each_answer_is_held_against_the_baseline_s(run: Any, page: Build) -> None:
    write(
        run, "all",
        single(81, 1, "dpo", 4), single(81, 1, "base", 9), single(81, 1, "dpop", 9),
        single(81, 2, "base", 5), single(81, 2, "dpo", 6), single(81, 2, "dpop", -1),
    )  # fmt: skip
    report = page(run.path)
    assert items(report) == {
        "judgment-MT-Bench-gpt-4-0613-81-1": ["lower", "same", "1:lower", "2:same"],
        "judgment-MT-Bench-gpt-4-0613-81-2": ["higher", "failed", "1:higher", "2:failed"],
    }
    assert "question 81, turn 1 math dpo lower dpop same base: score 9; dpo: score 4; dpop: score 9" in report.text
    assert "dpop no score what the judge saw Q81 for dpop what it wrote because dpop -1. [[-1]]" in report.text


def test_repeats_are_averaged_for_the_outcome_and_shown_one_by_one(run: Any, page: Build) -> None:
    write(run, "all", single(81, 1, "base", 6), *(single(81, 1, "dpo", score, i) for i, score in enumerate((9, 4), 1)))
    report = page(run.path)
    # (9 + 4) / 2 = 6.5 against 6.
    assert list(items(report).values()) == [["higher", "1:higher"]]
    assert "dpo: score 9; dpo, repeat 2: score 4" in report.text


def test_a_pair_is_won_in_both_orders_or_not_at_all(run: Any, page: Build) -> None:
    write(
        run, "pairs",
        pair(1, "model_2", "model_2"), pair(2, "model_1", "model_1"), pair(3, "model_2", "model_1"),
        pair(4, "tie", "tie"), pair(5, "model_2", "error"),
    )  # fmt: skip
    report = page(run.path)
    assert [words[0] for words in items(report).values()] == ["higher", "lower", "same", "same", "failed"]
    assert "base shown before dpop dpop wins what the judge saw saw 1 what it wrote wrote 1" in report.text
    assert "dpop shown before base base wins what the judge saw saw 2 what it wrote wrote 2" in report.text


def test_a_long_set_is_cut_and_says_so(run: Any, page: Build) -> None:
    write(run, "all", *(single(number, 1, "base", 5) for number in range(ITEMS_SHOWN + 20)))
    report = page(run.path)
    assert f"question by question: {ITEMS_SHOWN} of {ITEMS_SHOWN + 20} questions and turns" in report.text
    assert len(items(report)) == ITEMS_SHOWN


def test_ids_are_unique_whatever_the_names(run: Any, page: Build) -> None:
    names = ["a b", "a/b", "a<b"]
    records = [JudgmentRecord(name, "base", ("j", "single-v1"), "", "", 5, 1) for name in names]
    write(run, "all", *records)
    report = page(run.path)
    assert list(items(report)) == [
        "judgment-MT-Bench-j-a-b-1", "judgment-MT-Bench-j-a-b-1~2", "judgment-MT-Bench-j-a-b-1~3",
    ]  # fmt: skip
    assert "what it wrote was not kept" in report.text
