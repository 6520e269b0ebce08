from __future__ import annotations

import math
from pathlib import Path

import pytest

from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard import forms, v1
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.scores import SuiteScores, suite_scores
from smaug_eval.leaderboard.suite import Column, Suite

HEADLINES = {"ARC": "acc_norm", "HellaSwag": "acc_norm", "TruthfulQA": "mc2", "Winogrande": "acc", "GSM8K": "acc"}


def result(metric: str, value: float, stderr: float | str, n: int) -> dict[str, object]:
    return {"alias": "x", "sample_len": n, f"{metric},none": value, f"{metric}_stderr,none": stderr}


def spec(name: str) -> TaskSpec:
    return TaskSpec(name, forms.MMLU, DataSplit("made/up", "default", "test"), subject=name)


PAIR = Suite("pair", (Column("Both", "both", "acc", (spec("left"), spec("right"))),), Path(), lambda *_: [])


def official_results() -> dict[str, dict[str, object]]:
    """Every column 0.5 with standard error 0.01 over the official documents; MMLU from its 57 leaves."""
    results = {
        column.task: result(HEADLINES[column.title], 0.5, 0.01, column.leaves[0].official_rows or 0)
        for column in v1.SUITE.columns
        if column.title != "MMLU"
    }
    return results | {leaf.name: result("acc", 0.5, 0.057, leaf.official_rows or 0) for leaf in v1.MMLU}


def column_values(scores: SuiteScores) -> dict[str, float]:
    return {column.title: column.score.value for column in scores.columns}


def test_macro_mean_weighs_tasks_equally() -> None:
    (both,) = suite_scores(PAIR, {"left": result("acc", 0.8, 0.03, 10), "right": result("acc", 0.4, 0.04, 90)}).columns
    assert both.score.value == pytest.approx(60.0)  # the micro mean would be 44
    assert both.score.stderr == pytest.approx(2.5)  # sqrt(3^2 + 4^2) / 2
    assert both.score.n == 100
    assert both.leaves["right"].value == pytest.approx(40.0)


def test_a_column_of_some_of_its_tasks_says_so() -> None:
    scores = suite_scores(PAIR, {"left": result("acc", 0.8, 0.03, 10)})
    assert scores.columns[0].score.notes == ("1 of 2 tasks",)
    assert not scores.columns[0].complete
    assert scores.average_label == "mean of 1, not all complete"


def test_average_of_six() -> None:
    scores = suite_scores(v1.SUITE, official_results())
    assert column_values(scores) == pytest.approx(dict.fromkeys(("ARC", "MMLU", *HEADLINES), 50.0))
    mmlu = scores.columns[2].score
    assert mmlu.stderr == pytest.approx(5.7 / math.sqrt(57))
    assert mmlu.n == 14_042
    assert scores.average.value == pytest.approx(50.0)
    assert scores.average.stderr == pytest.approx(math.sqrt(5 * 1.0**2 + 5.7**2 / 57) / 6)
    assert (scores.average_label, scores.missing, scores.average.notes) == ("average of six", (), ())


def test_a_subset_is_not_called_the_average_of_six() -> None:
    results = official_results()
    scores = suite_scores(
        v1.SUITE, {name: results[name] for name in ("open_llm_v1_arc_challenge", "open_llm_v1_gsm8k")}
    )
    assert scores.average_label == "mean of 2 of 6 columns"
    assert scores.missing == ("HellaSwag", "MMLU", "TruthfulQA", "Winogrande")
    incomplete = {name: metrics for name, metrics in results.items() if name != v1.MMLU[0].name}
    assert suite_scores(v1.SUITE, incomplete).average_label == "mean of six, not all complete"


def test_a_limited_run_is_noted_on_column_and_average() -> None:
    scores = suite_scores(v1.SUITE, {"open_llm_v1_arc_challenge": result("acc_norm", 0.25, 0.1, 20)})
    assert scores.columns[0].score.notes == ("20 of 1,172 documents",)
    assert scores.average.notes == ("ARC: 20 of 1,172 documents",)


def test_nan_counts_as_zero_as_on_the_leaderboard() -> None:
    results = {"open_llm_v1_truthfulqa": result("mc2", math.nan, math.nan, 817)}
    (truth,) = suite_scores(v1.SUITE, results).columns
    assert (truth.score.value, truth.score.stderr) == (0.0, None)
    assert truth.score.notes == ("open_llm_v1_truthfulqa: mc2 is not a number, counted as 0",)


def test_without_a_standard_error_there_is_none_on_the_average() -> None:
    results = {"left": result("acc", 1.0, "N/A", 1), "right": result("acc", 0.5, 0.01, 9)}
    scores = suite_scores(PAIR, results)
    assert scores.columns[0].score.stderr is None
    assert scores.average.stderr is None


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"hellaswag": result("acc_norm", 0.5, 0.1, 10)}, "no task of open_llm_v1"),
        (
            {"open_llm_v1_hellaswag": result("acc", 0.5, 0.1, 10)},
            "hellaswag have no number 'acc_norm,none'",
        ),
        ({"open_llm_v1_hellaswag": {"acc_norm,none": 0.5}}, "have no number 'sample_len'"),
    ],
)
def test_results_that_cannot_be_read(results: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(SmaugError, match=message):
        suite_scores(v1.SUITE, results)
