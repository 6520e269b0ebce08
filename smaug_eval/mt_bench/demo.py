"""Provide the demo's question set and its judge, a fixed rule. Nothing here is MT-Bench, and no model judges.

A good answer gets ten points: one to begin with, five for what it should say, two where no sum in it is wrong, one
where it does not break off, and one where it does not repeat itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from smaug_eval.common.files import canonical_json, sha256_of_text
from smaug_eval.demo.arithmetic import OPERATIONS
from smaug_eval.demo.dialogues import DIALOGUES, QUESTION_SET, DemoTurn
from smaug_eval.mt_bench.files.questions import REFERENCE_CATEGORIES, JudgePrompt, Question, QuestionId, QuestionSet

JUDGE_NAME = "demo-rule-judge"

_RATE = "You rate an answer from 1 to 10 by a fixed rule and end with [[rating]]."
_CHOOSE = "You say by a fixed rule which answer is better: [[A]], [[B]], or [[C]] for a tie."
_FIRST, _BEFORE, _SECOND = "[Question]\n", "[Earlier question and answers]\n", "[Next question]\n"
_REFERENCE, _ANSWER, _OTHER = "\n\n[A right answer]\n", "\n\n[Answer]\n", "\n\n[Other answer]\n"
_EQUATION = re.compile(r"(\d+) ([+*-]) (\d+) = (\d+)")
_BROKEN_OFF = re.compile(r"(?:[=+*,:(-]|\b(?:and|the|a|of|with))$")


@dataclass(frozen=True)
class RuleVerdict:
    """Hold what the rule finds in an answer.

    Attributes:
        points: From 1 to 10.
        reasons: Why, one for each criterion.
    """

    points: float
    reasons: tuple[str, ...]


def demo_question_set() -> QuestionSet:
    """Return the demo's dialogues in the form of a question set."""
    questions = tuple(
        Question(number, dialogue.category, tuple(asked.question for asked in dialogue.turns))
        for number, dialogue in enumerate(DIALOGUES, 1)
    )
    references: dict[QuestionId, tuple[str, ...]] = {
        number: tuple(asked.solution for asked in dialogue.turns)
        for number, dialogue in enumerate(DIALOGUES, 1)
        if dialogue.category in REFERENCE_CATEGORIES
    }
    kinds = itertools.product(("single", "pairwise"), (1, 2), (False, True))
    prompts = [_judge_prompt(kind, turn, with_reference=reference) for kind, turn, reference in kinds]
    content = [[asdict(dialogue) for dialogue in DIALOGUES], [asdict(prompt) for prompt in prompts]]
    return QuestionSet(
        name=QUESTION_SET,
        questions=questions,
        judge_prompts={prompt.name: prompt for prompt in prompts},
        references=references,
        reference_name="own",
        fingerprint=sha256_of_text(canonical_json(content)),
        official=False,
    )


def demo_judgment(system: str, user: str) -> str:
    """Return the rule's judgment for a prompt of the demo's question set, with its verdict at the end.

    Raises:
        ValueError: the prompt is none of them.
    """
    asked, text = _asked(user)
    answers = text.split(_OTHER, 1) if system == _CHOOSE else [text]
    verdicts = [rate(asked, answer) for answer in answers]
    if len(verdicts) == 1:
        return "\n".join([*verdicts[0].reasons, f"Rating: [[{verdicts[0].points:g}]]"])
    first, second = (verdict.points for verdict in verdicts)
    winner = "[[C]]" if first == second else "[[A]]" if first > second else "[[B]]"
    return f"By the rule the first answer gets {first:g} points and the other {second:g}.\nVerdict: {winner}"


def rate(asked: DemoTurn, answer: str) -> RuleVerdict:
    """Apply the rule to an answer."""
    if not answer.strip():
        return RuleVerdict(1, ("There is no answer.",))
    right = sum(expected.lower() in _claims(asked, answer) for expected in asked.expected)
    equations = list(_equations(answer))
    wrong = sum(not holds for holds in equations)
    complete = not _BROKEN_OFF.search(answer.strip())
    sentences = [part.strip() for part in re.split(r"[.!?\n]+", answer) if part.strip()]
    once = len(set(sentences)) == len(sentences)
    points = 1 + 5 * right / len(asked.expected) + 2 * (wrong == 0) + complete + once
    return RuleVerdict(
        round(points, 1),
        (
            f"It says {right} of {len(asked.expected)} things that it should say.",
            f"Of {len(equations)} sums in it {wrong} are wrong." if equations else "There is no sum in it.",
            "It is complete." if complete else "It breaks off.",
            "It says nothing twice." if once else "It repeats itself.",
        ),
    )


def _claims(asked: DemoTurn, answer: str) -> list[str]:
    """The words of an answer; of one that is to be a number, the last number only."""
    words: list[str] = re.findall(r"\w+", answer.lower())
    if asked.expected[0].isdigit():
        return [word for word in words if word.isdigit()][-1:]
    return words


def _equations(answer: str) -> Iterator[bool]:
    """Whether each sum in an answer is right."""
    for left, sign, right, result in _EQUATION.findall(answer):
        yield OPERATIONS[sign](int(left[:9]), int(right[:9])) == int(result[:18])


def _judge_prompt(kind: str, turn: int, *, with_reference: bool) -> JudgePrompt:
    name = {"single": ("single-v1", "single-math-v1"), "pairwise": ("pair-v2", "pair-math-v1")}[kind][with_reference]
    if turn == 1:
        template = f"{_FIRST}{{question}}"
    else:
        template = f"{_BEFORE}{{question_1}}{_answer_fields(kind, '_1')}\n\n{_SECOND}{{question_2}}"
    if with_reference:
        template += f"{_REFERENCE}{{ref_answer_{turn}}}"
    template += _answer_fields(kind, "_2" if turn == 2 else "")
    if turn == 2:
        name += "-multi-turn"
    if kind == "single":
        return JudgePrompt(name, kind, _RATE, template, "[[rating]]")
    return JudgePrompt(name, kind, _CHOOSE, template, "[[A]]")


def _answer_fields(kind: str, number: str) -> str:
    if kind == "single":
        return f"{_ANSWER}{{answer{number}}}"
    return f"{_ANSWER}{{answer_a{number}}}{_OTHER}{{answer_b{number}}}"


def _asked(prompt: str) -> tuple[DemoTurn, str]:
    """Which question a prompt is about, and the answers to it that are to be judged."""
    for dialogue in DIALOGUES:
        first, second = dialogue.turns
        if prompt.startswith(f"{_FIRST}{first.question}\n"):
            return first, prompt.partition(_ANSWER)[2]
        if prompt.startswith(f"{_BEFORE}{first.question}\n"):
            return second, prompt.rpartition(f"\n\n{_SECOND}{second.question}")[2].partition(_ANSWER)[2]
    raise ValueError("the demo judge knows only the demo's questions")
