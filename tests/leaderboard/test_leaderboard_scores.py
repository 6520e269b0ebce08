from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.benchmarks import mmlu
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.scores import BOOTSTRAP, FORMULA, SuiteScores, suite_scores
from smaug_eval.leaderboard.suite import Suite

HEADLINES = {"ARC": "acc_norm", "HellaSwag": "acc_norm", "TruthfulQA": "mc2", "Winogrande": "acc", "GSM8K": "acc"}


def result(metric: str, value: float, stderr: float | str, n: int) -> dict[str, object]:
    return {"alias": "x", "sample_len": n, f"{metric},none": value, f"{metric}_stderr,none": stderr}


def spec(name: str) -> TaskSpec:
    return TaskSpec(name, mmlu.FORM, DataSplit("made/up", "default", "test"), subject=name)


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
    ],
)
def test_results_that_cannot_be_read(results: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(SmaugError, match=message):
        suite_scores(v1.SUITE, results)


def test_without_a_number_of_documents_that_is_said() -> None:
    (hellaswag,) = suite_scores(v1.SUITE, {"open_llm_v1_hellaswag": {"acc_norm,none": 0.5}}).columns
    assert (hellaswag.score.value, hellaswag.score.n) == (50.0, None)
    assert hellaswag.score.notes == ("number of documents not recorded",)


def test_notes_reach_the_column_and_the_average_once() -> None:
    results = {"left": result("acc", 0.8, 0.03, 10), "right": result("acc", 0.4, 0.04, 90)}
    notes = {"left": ("not the official data: x",), "right": ("not the official data: x", "3 of 4 prompts truncated")}
    scores = suite_scores(PAIR, results, notes=notes)
    assert scores.columns[0].score.notes == ("not the official data: x", "3 of 4 prompts truncated")
    assert scores.average.notes == ("Both: not the official data: x", "Both: 3 of 4 prompts truncated")


def test_intervals_from_standard_errors() -> None:
    scores = suite_scores(v1.SUITE, official_results())
    mmlu = scores.columns[2].score
    assert mmlu.interval == pytest.approx((50 - 1.959964 * 5.7 / math.sqrt(57), 50 + 1.959964 * 5.7 / math.sqrt(57)))
    half = 1.959964 * (scores.average.stderr or 0.0)
    assert scores.average.interval == pytest.approx((50 - half, 50 + half))
    assert scores.interval_method == FORMULA


def test_a_share_of_zeros_and_ones_gets_wilson_s_interval() -> None:
    # 1 of 20: scipy.stats.binomtest(1, 20).proportion_ci(method="wilson")
    stderr = math.sqrt(0.05 * 0.95 / 19)
    (arc,) = suite_scores(v1.SUITE, {"open_llm_v1_arc_challenge": result("acc_norm", 0.05, stderr, 20)}).columns
    assert arc.score.interval == pytest.approx((0.88814, 23.61308), abs=1e-4)


def test_the_average_is_bootstrapped_where_all_documents_are_known() -> None:
    left, right = np.array([1.0, 0.0] * 50), np.array([0.0, 0.0, 0.0, 1.0] * 50)
    stderr = {"left": left.std(ddof=1) / 10, "right": right.std(ddof=1) / math.sqrt(200)}
    results = {"left": result("acc", 0.5, stderr["left"], 100), "right": result("acc", 0.25, stderr["right"], 200)}
    scores = suite_scores(PAIR, results, documents={"left": left, "right": right})
    half = 1.96 * (scores.average.stderr or 0.0)
    assert scores.interval_method == BOOTSTRAP
    assert scores.average.interval == pytest.approx((37.5 - half, 37.5 + half), abs=0.3)
    assert suite_scores(PAIR, results, documents={"left": left}).interval_method == FORMULA


def test_a_column_may_weigh_its_tasks_by_their_documents() -> None:
    weighted = Suite(
        "w", (Column("Both", "both", "acc", (spec("left"), spec("right")), weighted_by_size=True),), Path(), PAIR.read
    )
    results = {"left": result("acc", 0.8, 0.03, 10), "right": result("acc", 0.4, 0.04, 90)}
    (both,) = suite_scores(weighted, results).columns
    assert both.score.value == pytest.approx(44.0)
    assert both.score.stderr == pytest.approx(math.hypot(0.1 * 3, 0.9 * 4))


def test_a_filter_s_metric() -> None:
    column = Column("Maths", "left", "exact_match,strict-match", (spec("left"),))
    entry = {"sample_len": 4, "exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.25}
    (maths,) = suite_scores(Suite("m", (column,), Path(), PAIR.read), {"left": entry}).columns
    assert (maths.score.value, maths.score.stderr) == (50.0, 25.0)
