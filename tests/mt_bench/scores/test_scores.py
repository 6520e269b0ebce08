"""Averages, medians over repeats, intervals and comparisons, worked out by hand or by scipy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files.records import JudgmentRecord, Judgments, PairJudgmentRecord
from smaug_eval.mt_bench.scores.cells import mean_interval_over_questions
from smaug_eval.mt_bench.scores.disagreements import disagreements
from smaug_eval.mt_bench.scores.pairs import PositionBias, pair_scores, position_bias
from smaug_eval.mt_bench.scores.single import (
    CategoryScore,
    JudgeVariance,
    Means,
    compare,
    scores_as_json,
    single_scores,
)


def judged(question: int, turn: int, score: float, model: str = "m", text: str | None = None, **smaug: Any) -> Any:
    text = f"[[{score}]]" if text is None else text
    return JudgmentRecord(question, model, ("gpt-4", "single-v1"), "", text, score, turn, 0.0, smaug)


def pair(question: int, g1: str, g2: str, models: tuple[str, str] = ("a", "b"), **smaug: Any) -> PairJudgmentRecord:
    return PairJudgmentRecord(question, *models, g1, g2, ("gpt-4", "pair-v2"), "", "", "", "", 1, 0.0, smaug)


def test_the_average_is_over_judgments_and_leaves_out_failures() -> None:
    (scores,) = single_scores(
        [judged(81, 1, 9), judged(82, 1, 7), judged(81, 2, 5), judged(82, 2, -1, text="no")]
    ).values()
    assert (scores.turn1, scores.turn2, scores.average) == (8, 5, 7)  # (9 + 7 + 5) / 3, not (8 + 5) / 2
    assert (scores.n, scores.failed) == (3, 1)
    assert scores.notes == ()
    assert scores.variance is None


def test_a_turn_that_nobody_judged_has_no_mean() -> None:
    (scores,) = single_scores([judged(81, 1, 9)]).values()
    assert (scores.turn1, scores.turn2, scores.average, scores.intervals["turn2"]) == (9, None, 9, None)
    (failed,) = single_scores([judged(81, 1, -1, text="")]).values()
    assert (failed.turn1, failed.average, failed.n, failed.failed, failed.strict) == (None, None, 0, 1, None)


def test_models_come_best_first() -> None:
    scores = single_scores(
        [judged(81, 1, 3, "low"), judged(81, 1, 9, "high"), judged(81, 1, -1, "none"), judged(81, 1, 3, "also")]
    )
    assert list(scores) == ["high", "also", "low", "none"]


def test_the_strict_reader_has_averages_of_its_own() -> None:
    records = [
        judged(81, 1, 7, text="[[7]] ... [[3]]"),
        judged(82, 1, 15, text="[[15]]"),
        judged(81, 2, -1, text="[[8/10]]"),
        judged(82, 2, 4),
    ]
    (scores,) = single_scores(records).values()
    assert (scores.turn1, scores.turn2, scores.average, scores.n, scores.failed) == (11, 4, 26 / 3, 3, 1)
    assert scores.strict == Means(turn1=3, turn2=6, average=5, n=3, failed=1)


def test_repeats_count_once_by_their_median() -> None:
    rows = {(81, 1): [9, 2, 8], (82, 1): [4, 4, 7], (81, 2): [6, -1, 5], (82, 2): [-1, -1, -1]}
    records = [judged(*place, score, repeat=number) for place, own in rows.items() for number, score in enumerate(own)]
    (scores,) = single_scores(records).values()
    assert (scores.turn1, scores.turn2) == (6, 5.5)  # medians 8 and 4; 5.5 of the two that have a score
    assert scores.average == pytest.approx((8 + 4 + 5.5) / 3)
    assert (scores.n, scores.failed) == (3, 4)
    # Standard deviations within: of 9, 2, 8; of 4, 4, 7; of 6, 5. Averages of the repeats: 19/3, 3, 20/3.
    assert scores.variance == JudgeVariance(
        repeats=3,
        within=pytest.approx((3.785939 + 1.732051 + 0.707107) / 3, abs=1e-6),
        of_averages=pytest.approx(np.std([19 / 3, 3, 20 / 3], ddof=1)),
    )
    assert scores.notes == ()


def test_lines_that_are_there_again_count_as_in_show_result_with_a_note() -> None:
    (scores,) = single_scores([judged(81, 1, 9), judged(81, 1, 3), judged(82, 1, 6), judged(81, 1, 9)]).values()
    assert (scores.average, scores.n) == (6.75, 4)
    assert scores.notes == (
        "judgments of a question and turn that an earlier line judges: 2; each counts, as in show_result",
    )


def test_categories_are_recorded_given_or_mt_bench_s() -> None:
    records = [
        judged(81, 1, 9),
        judged(82, 2, 7),
        judged(111, 1, 4),
        judged(5, 1, 2),
        judged(6, 1, 3, category="riddles"),
    ]
    (scores,) = single_scores(records).values()
    assert {name: (own.mean, own.n) for name, own in scores.by_category.items()} == {
        "writing": (8, 2), "math": (4, 1), "riddles": (3, 1),
    }  # fmt: skip
    assert scores.by_category["math"] == CategoryScore(4, 1, None)
    (given,) = single_scores(records, categories={81: "riddles", 5: "poems"}).values()
    assert {name: own.mean for name, own in given.by_category.items()} == {
        "writing": 7, "math": 4, "poems": 2, "riddles": 6,
    }  # fmt: skip


def test_several_judges_need_a_choice() -> None:
    records = [judged(81, 1, 9), replace(judged(81, 1, 5), judge=("claude", "single-v1"))]
    with pytest.raises(SmaugError, match=r"by several judges: claude, gpt-4\n  fix: choose one of them with --judge"):
        single_scores(records)
    assert single_scores(records, judge="claude")["m"].average == 5
    with pytest.raises(SmaugError, match="no judgment is by 'gpt-5', only by claude, gpt-4"):
        single_scores(records, judge="gpt-5")
    with pytest.raises(SmaugError, match="several judges"):
        pair_scores([pair(1, "tie", "tie"), replace(pair(1, "tie", "tie"), judge=("claude", "pair-v2"))])


def values(by_question: Iterable[Iterable[float]]) -> list[tuple[int, float]]:
    return [(question, value) for question, own in enumerate(by_question) for value in own]


def test_the_interval_is_student_s_over_questions() -> None:
    generator = np.random.default_rng(1)
    by_question = np.clip(generator.normal(7, 2, size=(10, 1)) + generator.normal(0, 1, size=(10, 2)), 1, 10)
    expected = ttest_1samp(by_question.mean(axis=1), 0.0).confidence_interval()
    found = mean_interval_over_questions(values(by_question))
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_both_turns_of_a_question_count_as_one() -> None:
    # Each question is all 1 or all 9: 20 questions vary as 20 values do, not as 40. 2.093 is t with 19 degrees.
    by_question = [[1.0, 1.0], [9.0, 9.0]] * 10
    half = 2.0930240544 * 4 * (20 / 19) ** 0.5 / 20**0.5
    assert mean_interval_over_questions(values(by_question)) == pytest.approx((5 - half, 5 + half))


def test_the_interval_ends_where_the_scale_does() -> None:
    some = values([[9.0], [10.0], [10.0]])
    low, high = mean_interval_over_questions(some) or (0.0, 0.0)
    assert high > 10
    assert mean_interval_over_questions(some, scale=(1.0, 10.0)) == (pytest.approx(low), 10.0)
    assert (mean_interval_over_questions(values([[9.0], [85.0]]), scale=(1.0, 10.0)) or (0, 0))[1] == 85.0


def test_there_is_no_interval_where_nothing_varies_between_questions() -> None:
    assert mean_interval_over_questions(values([[1.0, 2.0]])) is None
    assert mean_interval_over_questions(values([[7.0, 7.0]] * 8)) is None
    assert mean_interval_over_questions([]) is None


def test_two_models_on_the_same_turns() -> None:
    records = [
        *[judged(question, turn, 8, "a") for question in (81, 82, 83) for turn in (1, 2)],
        *[judged(question, 1, 6, "b") for question in (81, 82, 84)],
        judged(81, 2, 3, "b"),
        judged(82, 2, -1, "b"),
    ]
    found = compare(records, "a", "b")
    assert found is not None
    # Question 81: (2 + 5) / 2 = 3.5; question 82: 2, since its second turn has no score of b; 83 and 84: not of both.
    assert (found.difference, found.n) == (2.75, 2)
    # Both differences are positive: of the four ways to exchange names, two are as far from 0.
    assert found.p_value == pytest.approx(0.5)
    # With one degree of freedom t is 12.7062, and the standard error 0.75; a difference is 9 at most.
    assert found.interval == (pytest.approx(2.75 - 12.7062047 * 0.75), 9.0)
    swapped = compare(records, "b", "a")
    assert swapped is not None
    assert swapped.difference == -2.75


def test_the_p_value_is_that_of_all_ways_to_exchange_names() -> None:
    differences = [0.5, 1.0, -0.25, 2.0, 1.5, -1.0, 0.75, 3.0]
    records = [judged(81 + n, 1, 5 + value, "a") for n, value in enumerate(differences)]
    records += [judged(81 + n, 1, 5, "b") for n in range(len(differences))]
    found = compare(records, "a", "b")
    signs = np.array(np.meshgrid(*[[1, -1]] * 8)).reshape(8, -1).T
    means = (signs * np.array(differences)).mean(axis=1)
    expected = float((abs(means) >= abs(np.mean(differences)) - 1e-9).mean())
    assert found is not None
    assert found.p_value == pytest.approx(expected)


def test_the_p_value_of_many_questions_agrees_with_another_test() -> None:
    differences = np.round(np.random.default_rng(3).normal(0.4, 1.5, 80), 3)
    records = [judged(81 + n, 1, float(value), "a") for n, value in enumerate(differences)]
    records += [judged(81 + n, 1, 0.0, "b") for n in range(80)]
    found = compare(records, "a", "b")
    assert found is not None
    assert found.p_value == pytest.approx(ttest_1samp(differences, 0).pvalue, abs=0.01)
    assert found == compare(records, "a", "b")


def test_models_that_do_not_compare() -> None:
    records = [judged(81, 1, 5, "a"), judged(82, 1, 5, "b")]
    assert compare(records, "a", "b") is None
    with pytest.raises(SmaugError, match="c has no score; those with judgments are: a, b"):
        compare(records, "a", "c")
    found = compare([*records, judged(81, 1, 4, "b")], "a", "b")
    assert found is not None
    assert (found.difference, found.interval, found.p_value, found.n) == (1, None, None, 1)


@pytest.mark.parametrize(
    ("g1", "g2", "counts"),
    [
        ("model_1", "model_1", (1, 0, 0)),
        ("model_2", "model_2", (0, 1, 0)),
        ("tie", "tie", (0, 0, 1)),
        ("model_1", "model_2", (0, 0, 1)),
        ("model_1", "tie", (0, 0, 1)),
        ("tie", "model_2", (0, 0, 1)),
        ("inconsistent", "inconsistent", (0, 0, 1)),
    ],
)
def test_how_two_games_count(g1: str, g2: str, counts: tuple[int, int, int]) -> None:
    scores = pair_scores([pair(1, g1, g2)])
    assert (scores["a"].win, scores["a"].loss, scores["a"].tie) == counts
    assert (scores["b"].loss, scores["b"].win, scores["b"].tie) == counts


def test_pairs_without_a_verdict_count_nowhere() -> None:
    scores = pair_scores([pair(1, "error", "model_1"), pair(2, "model_1", "model_1")])
    assert (scores["a"].n, scores["a"].failed, scores["a"].win_rate_adjusted) == (1, 1, 1)
    assert pair_scores([pair(1, "error", "error")]) == {}


def test_rates_by_hand() -> None:
    records = [
        pair(1, "model_1", "model_1"),
        pair(2, "model_1", "model_1"),
        pair(3, "tie", "tie"),
        pair(4, "model_2", "model_2"),
    ]
    scores = pair_scores(records)
    assert list(scores) == ["a", "b"]
    assert (scores["a"].win_rate, scores["a"].loss_rate, scores["a"].win_rate_adjusted) == (0.5, 0.25, 0.625)
    assert scores["b"].win_rate_adjusted == 0.375
    low, high = scores["a"].interval or (0, 0)
    assert 0 <= low < 0.625 < high <= 1


def test_against_a_baseline() -> None:
    records = [
        pair(1, "model_1", "model_1", ("a", "base")),
        pair(1, "model_2", "model_2", ("base", "b")),
        pair(1, "tie", "tie"),
    ]
    assert {model: (own.win, own.n) for model, own in pair_scores(records, baseline="base").items()} == {
        "a": (1, 1), "b": (1, 1),
    }  # fmt: skip
    with pytest.raises(SmaugError, match="baseline 'x' is in no pair; the models are: a, b, base"):
        pair_scores(records, baseline="x")


def test_repeats_of_a_pair_count_once() -> None:
    records = [pair(1, g, g, repeat=n) for n, g in enumerate(("model_1", "model_1", "model_2"))]
    assert (pair_scores(records)["a"].win, pair_scores(records)["a"].n) == (1, 1)
    records = [pair(1, g, g, repeat=n) for n, g in enumerate(("model_1", "tie"))]
    assert pair_scores(records)["a"].win == 1
    records = [pair(1, g, g, repeat=n) for n, g in enumerate(("model_1", "model_2"))]
    assert pair_scores(records)["a"].tie == 1
    again = pair_scores([pair(1, "tie", "tie"), pair(1, "tie", "tie")])["a"]
    assert (again.tie, again.notes) == (
        2, ("judgments of a pair and turn that an earlier line judges: 1; each counts, as in show_result",),
    )  # fmt: skip


def test_position_bias_by_hand() -> None:
    games = [
        ("model_1", "model_1"), ("tie", "tie"),  # the order decides nothing
        ("model_1", "model_2"), ("model_1", "tie"), ("tie", "model_2"),  # for the first shown
        ("model_2", "model_1"), ("tie", "model_1"), ("model_2", "tie"),  # for the second
        ("error", "model_1"), ("inconsistent", "inconsistent"),  # nothing to see
    ]  # fmt: skip
    assert position_bias([pair(n, *each) for n, each in enumerate(games)]) == PositionBias(8, 2, 3, 3)


def test_scores_as_plain_data() -> None:
    both = Judgments(single=[judged(81, 1, 9, "a")], pairs=[pair(81, "model_1", "model_1")])
    assert scores_as_json(both) == {
        "a": {
            "turn1": 9, "turn2": None, "average": 9, "n": 1, "failed": 0,
            "win": 1, "loss": 0, "tie": 0, "win_rate_adjusted": 1.0,
        },
        "b": {"win": 0, "loss": 1, "tie": 0, "win_rate_adjusted": 0.0},
    }  # fmt: skip
    assert scores_as_json(Judgments()) == {}


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (judged(81, 1, 7), None),
        (judged(81, 1, 7, text=""), None),
        (judged(81, 1, -1, text="none"), "no score by either rule"),
        (judged(81, 1, -1, text=""), "the judge wrote nothing, or its text was not kept"),
        (judged(81, 1, -1, text="[[7/10]]"), "only the strict reader finds one: 7"),
        (judged(81, 1, 15), "only FastChat's rule finds one: 15"),
        (judged(81, 1, 7, text="[[7]] [[3]]"), "FastChat's rule says 7, the strict reader 3"),
        (judged(81, 1, 7, text="[[8]]"), "the file says 7, FastChat's rule reads 8"),
        (replace(judged(81, 1, 7, text="[[8]]"), score=None), "the file says -1, FastChat's rule reads 8"),
    ],
)
def test_what_is_listed_of_single_judgments(record: JudgmentRecord, problem: str | None) -> None:
    assert [each.problem for each in disagreements(Judgments(single=[record]))] == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("g1", "text1", "g2", "text2", "problems"),
    [
        ("model_1", "[[A]]", "model_1", "[[B]]", []),
        ("tie", "", "tie", "[[C]]", []),
        ("error", "?", "model_1", "[[B]]", [(1, "no winner by either rule")]),
        ("error", "", "model_1", "[[B]]", [(1, "the judge wrote nothing, or its text was not kept")]),
        ("model_1", "[[A]]", "model_2", "[[B]]", [(2, "the file says model_2, FastChat's rule reads model_1")]),
        ("model_1", "[[A]] [[B]]", "tie", "[[C]]", [(1, "FastChat's rule says model_1, the strict reader model_2")]),
        ("error", "[[Ｂ]]", "tie", "[[C]]", [(1, "only the strict reader finds one: model_2")]),
    ],
)
def test_what_is_listed_of_pairs(g1: str, text1: str, g2: str, text2: str, problems: list[Any]) -> None:
    record = replace(pair(81, g1, g2), g1_judgment=text1, g2_judgment=text2)
    assert [(each.game, each.problem) for each in disagreements(Judgments(pairs=[record]))] == problems


def test_only_the_end_of_a_judgment_is_listed() -> None:
    (found,) = disagreements(Judgments(single=[judged(81, 2, -1, text="x" * 1000 + "end")]))
    assert (len(found.ending), found.ending[-4:], found.turn, found.model) == (300, "xend", 2, "m")
