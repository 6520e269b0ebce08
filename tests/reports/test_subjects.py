"""Columns of many subjects, and the radar of judged categories."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from smaug_eval.leaderboard.scores import Score
from smaug_eval.leaderboard.v1 import MMLU
from smaug_eval.mt_bench.files.records import JudgmentRecord
from smaug_eval.mt_bench.scores.single import single_scores
from smaug_eval.reports.charts.radar import radar
from smaug_eval.reports.panels.mmlu_categories import CATEGORIES
from smaug_eval.reports.panels.subjects import heat, subjects
from smaug_eval.results.comparison import compare
from smaug_eval.results.differences import unpaired_difference
from smaug_eval.results.sources import read_source
from smaug_eval.results.tables import ScoreCell

PREFIX = "open_llm_v1_mmlu_"


def samples(values: list[float]) -> list[dict[str, Any]]:
    hashes = ("doc_hash", "prompt_hash", "target_hash")
    return [
        {"doc_id": i, "doc": {}, "target": "0", "arguments": {"gen_args_0": {"arg_0": "q", "arg_1": " a"}},
         "resps": [[[-1.0, False]]], "filtered_resps": [["-1.0", "False"]], "filter": "none", "metrics": ["acc"],
         **dict.fromkeys(hashes, str(i)), "acc": value}
        for i, value in enumerate(values)
    ]  # fmt: skip


def test_every_subject_has_its_category() -> None:
    assert set(CATEGORIES) == {spec.subject for spec in MMLU}
    assert Counter(CATEGORIES.values()) == {"STEM": 19, "humanities": 13, "social sciences": 12, "other": 13}


def test_subjects_stand_under_their_category_with_paired_differences(run: Any, page: Callable[..., Any]) -> None:
    values = {"anatomy": [1.0] * 30 + [0.0] * 10, "astronomy": [0.0] * 40, "virology": [1.0, 0.0] * 20}
    for subject, own in values.items():
        run.evaluation("base", {PREFIX + subject: 0.5}, n=40, samples=samples([0.0] * 20 + [1.0] * 20))
        run.evaluation("dpop", {PREFIX + subject: float(np.mean(own))}, n=40, samples=samples(own))
    context = subjects(compare([read_source(run.path)], title=None, baseline=None))
    assert context is not None
    (table,) = context["tables"]
    assert [category.mean.title for category in table.categories] == ["STEM", "other"]
    stem = table.categories[0]
    assert [row.title for row in stem.subjects] == ["anatomy", "astronomy"]
    mean = stem.mean.cells[1]
    assert mean.score.value == pytest.approx(37.5)
    assert mean.delta == pytest.approx(-12.5)
    anatomy = stem.subjects[0].cells[1].difference  # gains the first 20, loses the last 10
    assert (anatomy.points, anatomy.gained, anatomy.lost) == (pytest.approx(25.0), 20, 10)
    report = page(run.path)
    assert report.row("astronomy", "40")[3].startswith("0.0 −50.0")
    assert report.row("astronomy", "40")[3].endswith("worse")


def test_a_column_of_one_task_has_no_subjects(run: Any) -> None:
    run.evaluation("base", {"open_llm_v1_winogrande": 0.5})
    assert subjects(compare([read_source(run.path)], title=None, baseline=None)) is None


@pytest.mark.parametrize(
    ("points", "shade"), [(0.0, ""), (0.1, "up-1"), (5.0, "up-1"), (-5.1, "down-2"), (-40.0, "down-3")]
)
def test_shades_go_by_five_points(points: float, shade: str) -> None:
    score = Score(50.0 + points, 1.0, 10)
    difference = unpaired_difference(score, Score(50.0, 1.0, 10))
    assert heat(ScoreCell(score, None, difference, None)) == shade


def judged(model: str, categories: dict[str, float]) -> list[JudgmentRecord]:
    return [
        JudgmentRecord(number, model, ("gpt-4", "single-v1"), "q", f"[[{score}]]", score, 1, 0.0, {"category": name})
        for number, (name, score) in enumerate(categories.items(), start=81)
    ]


def test_the_radar_says_its_values() -> None:
    scores = single_scores(judged("a<b", {"writing": 9.0, "math": 3.0, "stem": 8.0}))
    found = radar(scores, ["writing", "math", "stem"], key="radar-0", title="MT-Bench")
    assert found is not None
    assert "a&lt;b: writing 9.00, math 3.00, stem 8.00." in found
    assert radar(scores, ["writing", "math"], key="radar-0", title="MT-Bench") is None
    assert math.isfinite(scores["a<b"].by_category["math"].mean)
