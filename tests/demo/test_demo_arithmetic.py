"""The word problems: every written equation holds, and one changed result contradicts the rest."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from smaug_eval.demo import arithmetic
from smaug_eval.demo.world import task_data

EQUATION = re.compile(r"(\d+) ([-+*]) (\d+) = (\d+)")
ANSWERS = [row["answer"] for split in task_data()["demo_arithmetic"].splits.values() for row in split]
QUESTIONS = [row["question"] for split in task_data()["demo_arithmetic"].splits.values() for row in split]


def equations(text: str) -> list[tuple[int, str, int, int]]:
    return [(int(a), op, int(b), int(c)) for a, op, b, c in EQUATION.findall(text)]


def evaluated(left: int, operator: str, right: int) -> int:
    if operator == "*":
        return sum([left] * right)
    return left + right if operator == "+" else left - right


@pytest.mark.parametrize("answer", ANSWERS[:1] + ANSWERS[-1:])
def test_an_answer_has_gsm8ks_form(answer: str) -> None:
    solution, _, final = answer.rpartition("\n#### ")
    assert final.isdigit()
    assert "\n" not in solution


def test_every_equation_holds_and_the_last_result_is_the_answer() -> None:
    for answer in ANSWERS:
        steps = equations(answer)
        assert 2 <= len(steps) <= 3
        assert answer.count("=") == len(steps)
        assert all(evaluated(left, operator, right) == result for left, operator, right, result in steps)
        assert answer.endswith(f"\n#### {steps[-1][3]}")


def test_later_steps_start_from_the_result_before() -> None:
    for answer in ANSWERS:
        steps = equations(answer)
        for (*_, result), (left, *_) in itertools.pairwise(steps):
            assert left == result


def test_every_solution_has_an_intermediate_result_to_corrupt() -> None:
    for answer in ANSWERS:
        *intermediate, final = [result for *_, result in equations(answer)]
        assert any(result != final for result in intermediate)


def test_numbers_have_one_or_two_digits() -> None:
    numbers = [int(number) for text in QUESTIONS + ANSWERS for number in re.findall(r"\d+", text)]
    assert min(numbers) >= 1
    assert max(numbers) <= 99


def test_the_leaderboards_stops_cut_no_gold_answer() -> None:
    assert not [answer for answer in ANSWERS if ":" in answer or "Question" in answer]


def test_the_question_names_every_number_that_the_solution_takes_from_it() -> None:
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        steps = equations(answer)
        taken = [steps[0][0], *(right for _, _, right, _ in steps)]
        assert [int(number) for number in re.findall(r"\d+", question)] == taken


def test_train_and_test_questions_differ() -> None:
    assert len(set(QUESTIONS)) == len(QUESTIONS) == 1700


def test_problems_depend_on_the_seed_alone() -> None:
    assert arithmetic.problems("a", 5) == arithmetic.problems("a", 5)
    assert arithmetic.problems("a", 5) != arithmetic.problems("b", 5)
    first = arithmetic.problem(random.Random(3))
    random.seed(0)
    assert arithmetic.problem(random.Random(3)) == first


def test_excluded_questions_are_passed_over() -> None:
    first, second = arithmetic.problems("a", 2)
    assert arithmetic.problems("a", 1, excluded=frozenset({first.question})) == [second]
