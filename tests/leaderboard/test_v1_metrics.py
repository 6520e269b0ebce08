from __future__ import annotations

import math

import pytest

from smaug_eval.leaderboard.benchmarks.gsm8k import final_answer
from smaug_eval.leaderboard.benchmarks.gsm8k import metrics as gsm8k_metrics
from smaug_eval.leaderboard.benchmarks.truthfulqa import mc1, mc2
from smaug_eval.leaderboard.benchmarks.truthfulqa import metrics as truthfulqa_metrics


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so 18.\n#### 18", "18"),
        ("#### 1,234,567", "1234567"),
        ("#### -3", "-3"),
        ("#### 18.", "18."),
        ("#### 18.50", "18.50"),
        ("#### 5\n#### 7", "5"),
        ("#### 5 apples", "5"),
        ("#### $5", None),
        ("####5", None),
        ("The answer is 5", None),
        ("### 5", None),
        ("", None),
    ],
)
def test_final_answer(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("generated", "acc"),
    [
        (" It is 2 * 9 = 18.\n#### 18", 1.0),
        ("#### 18.", 0.0),  # string equality: a trailing period is part of the match
        ("#### 18.0", 0.0),
        ("#### 1,8", 1.0),
        ("#### $18", 0.0),
        ("18", 0.0),
    ],
)
def test_gsm8k_metrics_compare_strings(generated: str, acc: float) -> None:
    assert gsm8k_metrics({"gold": "18", "answer": "9 * 2 = 18\n#### 18"}, [generated])["acc"] == acc


def test_mc1_prefers_the_first_of_equals() -> None:
    assert mc1([-1.0, -1.0, -2.0]) == 1.0
    assert mc1([-1.5, -1.0, -2.0]) == 0.0


def test_mc2_is_the_share_of_the_true_answers() -> None:
    # Probabilities in the ratio 4 : 2 : 1.
    halves = [math.log(4.0), math.log(2.0), math.log(1.0)]
    assert mc2(halves, 1) == pytest.approx(4 / 7)
    assert mc2(halves, 2) == pytest.approx(6 / 7)


def test_mc2_survives_log_likelihoods_below_the_smallest_float() -> None:
    assert mc2([-2000.0, -2000.0 + math.log(3.0)], 1) == pytest.approx(0.25)


def test_truthfulqa_counts_answers_after_the_first_false_one_as_false() -> None:
    # mc2 labels 1, 0, 1 with equal probabilities: masking the labels would give 2/3.
    document = {"n_mc1": 2, "n_true": 1}
    results = [(-1.0, False), (-0.5, True), (-3.0, False), (-3.0, False), (-3.0, False)]
    assert truthfulqa_metrics(document, results) == {"mc1": 0.0, "mc2": pytest.approx(1 / 3)}


def test_truthfulqa_passes_nan_on() -> None:
    metrics = truthfulqa_metrics({"n_mc1": 1, "n_true": 1}, [(-1.0, False), (math.nan, False), (-1.0, False)])
    assert math.isnan(metrics["mc2"])
