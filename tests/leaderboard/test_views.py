from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.benchmarks import mmlu
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.rescore import summary
from smaug_eval.leaderboard.scores import suite_scores
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.leaderboard.views import ColumnViews, average_difference, column_views

SUBJECTS = tuple(
    TaskSpec(name, mmlu.FORM, DataSplit("made/up", "default", "test"), 5, draws_shots=False, subject=name)
    for name in ("small", "large")
)
PAIR = Suite("pair", (Column("Both", "both", "acc", SUBJECTS),), Path(), lambda *_: [])


def views_of(suite: Suite, documents: dict[str, dict[str, np.ndarray]], *, own: bool = True) -> ColumnViews:
    scores = suite_scores(suite, {name: summary(values) for name, values in documents.items()})
    column = next(column for column in suite.columns if column.title == scores.columns[0].title)
    return column_views(column, scores.columns[0], documents, own_prompts=own)


def solutions(**metrics: list[float]) -> dict[str, dict[str, np.ndarray]]:
    names = ("acc", "acc_unstopped", "strict_match", "flexible_extract", "open", "open_flexible")
    return {v1.GSM8K.name: {name: np.array(metrics.get(name, [0.0] * 4)) for name in names}}


def test_documents_or_tasks_are_weighted() -> None:
    right = {"small": [1.0, 1.0], "large": [0.0] * 7 + [1.0]}
    views = views_of(PAIR, {name: {"acc": np.array(values)} for name, values in right.items()})
    assert views.modern is not None
    assert (views.v1.value, views.modern.value) == (pytest.approx(56.25), pytest.approx(30.0))  # (1 + 1/8)/2, 3/10
    weighting, bos = views.causes
    assert (weighting.name, weighting.points) == ("weighting", pytest.approx(-26.25))
    assert (bos.name, bos.points, bos.run) == ("BOS", None, "mmlu")


def test_truths_after_a_false_answer() -> None:
    values = {"mc2": np.array([0.5, 0.25]), "mc2_masked": np.array([0.5, 0.5]), "mc1": np.array([1.0, 0.0])}
    views = views_of(v1.SUITE, {v1.TRUTHFULQA.name: values})
    assert views.modern is not None
    assert (views.v1.value, views.modern.value) == (37.5, 50.0)
    assert views.causes[0].points == 12.5
    assert "1 documents differ" in views.causes[0].detail
    assert views.others["mc1"].value == 50.0


def test_each_rule_s_part_sums_to_the_difference() -> None:
    # As lm-eval ran it: one answer lost to ":", one to a period at the end.
    values = solutions(acc=[1, 0, 0, 0], acc_unstopped=[1, 1, 0, 0], strict_match=[1, 1, 1, 0])
    views = views_of(v1.SUITE, values, own=False)
    assert views.modern is not None
    assert {cause.name: cause.points for cause in views.causes} == {"equality": 25.0, "':' stop": 25.0}
    assert views.modern.value - views.v1.value == 50.0
    assert not views.modern_is_least


def test_stopped_outputs_give_bounds_and_are_counted() -> None:
    values = solutions(acc=[1, 0, 0, 0], acc_unstopped=[1, 0, 0, 0], strict_match=[1, 0, 0, 0], open=[0, 1, 1, 0])
    views = views_of(v1.SUITE, values)
    stop = next(cause for cause in views.causes if cause.name == "':' stop")
    assert (stop.points, stop.run) == (None, "gsm8k")
    assert "2 of 4 outputs have no final answer" in stop.detail
    assert "between 25.00 and 75.00" in stop.detail
    assert views.modern_is_least
    assert views.modern is not None
    assert views.modern.notes == ("at least: 2 of 4 outputs may have been cut at ':'",)
    assert [cause.name for cause in views.causes] == ["equality", "':' stop", "shots", "BOS"]


def test_without_samples_the_modern_value_is_not_known() -> None:
    entry = {"acc,none": 0.5, "acc_stderr,none": 0.1, "sample_len": 1319}
    scores = suite_scores(v1.SUITE, {v1.GSM8K.name: entry})
    views = column_views(v1.SUITE.columns[-1], scores.columns[0], {})
    assert views.modern is None
    assert average_difference([views]) is None


def test_difference_of_the_averages() -> None:
    values = {"acc": np.array([1.0, 0.0]), "acc_norm": np.array([1.0, 1.0])}
    same = views_of(v1.SUITE, {v1.ARC.name: values})
    assert (same.v1.value, same.causes[0].run, same.others["acc"].value) == (100.0, "arc_challenge", 50.0)
    more = views_of(v1.SUITE, {v1.TRUTHFULQA.name: {"mc2": np.array([0.0, 0.5]), "mc2_masked": np.array([0.5, 0.5])}})
    assert average_difference([same, more]) == (75.0, 12.5)
