"""Plan the judge's calls: FastChat's matches (gen_judgment.py) over the answers of some models."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.suggest import nearest
from smaug_eval.common.thinking import split_thinking
from smaug_eval.mt_bench.answers import FAILED
from smaug_eval.mt_bench.config import ALL_PAIRS, MODES, SINGLE
from smaug_eval.mt_bench.files.questions import Question, QuestionId, QuestionSet
from smaug_eval.mt_bench.files.record_files import read_answers
from smaug_eval.mt_bench.files.records import AnswerRecord
from smaug_eval.mt_bench.judge.prompts import JudgeRequest, pair_prompt, single_prompt

FASTCHATS_FAILURES = ("ERROR", "$ERROR$")
"""What FastChat's scripts write where a model gave no answer."""

Answers = Mapping[str, Mapping[QuestionId, AnswerRecord]]
"""By model and question."""
Key = tuple[QuestionId, int, tuple[str, ...], str, int]
"""Question, turn, models, name of the judge prompt, and repeat."""


@dataclass(frozen=True)
class Match:
    """Describe one judgment to make.

    Attributes:
        question: The question.
        turn: The turn to judge, from 1.
        models: Whose answer; two where they are compared.
        repeat: From 1.
        requests: The requests to the judge; for two models once in each order.
        lengths: Characters of each model's answer to the turn.
    """

    question: Question
    turn: int
    models: tuple[str, ...]
    repeat: int
    requests: tuple[JudgeRequest, ...]
    lengths: tuple[int, ...] = ()

    @property
    def key(self) -> Key:
        """Return a key that identifies it among the judgments of a judge."""
        return self.question.question_id, self.turn, self.models, self.requests[0].prompt_name, self.repeat


@dataclass(frozen=True)
class JudgingPlan:
    """Hold every judgment to make, and the turns that have no answer to judge.

    Attributes:
        matches: In order.
        not_judged: Question, turn and model of each.
        thinking: Model to number of turns whose answer has a block of thinking.
    """

    matches: tuple[Match, ...]
    not_judged: tuple[dict[str, Any], ...]
    thinking: Mapping[str, int] = field(default_factory=dict)


def load_answers(files: Iterable[Path]) -> Answers:
    """Load the answers by model, which is the file's name, and question, of which the last line counts.

    Both as in FastChat.

    Raises:
        SmaugError: a file is malformed or empty, or two files are of one model.
    """
    answers: dict[str, dict[QuestionId, AnswerRecord]] = {}
    for file in files:
        if file.stem in answers:
            raise SmaugError(f"{file}: there are other answers of a model {file.stem!r}", fix="rename one of the files")
        answers[file.stem] = {record.question_id: record for record in read_answers([file])}
        if not answers[file.stem]:
            raise SmaugError(f"{file} holds no answers", fix="answer the questions first (smaug-eval mt-bench answer)")
    return answers


def sides(models: Sequence[str], mode: str, baseline: str | None = None) -> list[tuple[str, ...]]:
    """Return whose answers are judged together: each model's alone, or those of two.

    Args:
        models: All there are.
        mode: One of ``MODES``.
        baseline: The model that the others are compared with, for ``pairwise-baseline``.

    Raises:
        SmaugError: there is no such mode or baseline, or nothing to compare with.
    """
    if mode not in MODES:
        raise SmaugError(f"mode {mode!r}: unknown{nearest(mode, MODES)}")
    if mode == SINGLE:
        return [(model,) for model in models]
    if len(models) < 2:
        raise SmaugError(f"mode {mode} compares models, and there is one", fix="give the answers of another")
    if mode == ALL_PAIRS:
        return list(itertools.combinations(models, 2))
    if baseline is None or baseline not in models:
        raise SmaugError(
            f"baseline {baseline!r}: there are no answers of that model{nearest(baseline or '', models)}",
            fix="name one of the models (--baseline)",
        )
    return [(model, baseline) for model in models if model != baseline]


def make_plan(
    questions: QuestionSet,
    answers: Answers,
    mode: str,
    *,
    baseline: str | None = None,
    repeats: int = 1,
    keep_thinking: bool = False,
) -> JudgingPlan:
    """Make the judgments of a mode.

    Args:
        questions: The questions, judge prompts and references.
        answers: Of the models to judge.
        mode: One of ``MODES``.
        baseline: The model that the others are compared with, for ``pairwise-baseline``.
        repeats: Times each is requested.
        keep_thinking: Whether the judge sees blocks of thinking in the answers.

    Raises:
        SmaugError: a model did not answer a question, there are too few models, or there is no such baseline.
    """
    for model, answered in answers.items():
        absent = [question.question_id for question in questions.questions if question.question_id not in answered]
        if absent:
            raise SmaugError(
                f"{model} has not answered {len(absent)} of {len(questions.questions)} questions, such as {absent[0]}",
                fix="let it answer all of them, or give the questions it was asked",
            )
        for question in questions.questions:
            if len(answered[question.question_id].turns) < len(question.turns):
                turn = len(answered[question.question_id].turns) + 1
                raise SmaugError(
                    f"{model} has not answered turn {turn} of question {question.question_id}",
                    fix="let it answer all of them, or judge fewer turns (turns=1)",
                )
    thinking = {model: _thinking_turns(answered.values()) for model, answered in answers.items()}
    if not keep_thinking:
        answers = {model: _without_thinking(answered) for model, answered in answers.items()}
    matches, not_judged = [], []
    compared = sides(tuple(answers), mode, baseline)
    for models, question in itertools.product(compared, questions.questions):
        for turn in range(1, len(question.turns) + 1):
            given = [answers[model][question.question_id] for model in models]
            failed = [model for model, record in zip(models, given, strict=True) if _has_failed(record, turn)]
            not_judged += [{"question_id": question.question_id, "turn": turn, "model": model} for model in failed]
            if not failed:
                requests = _requests(question, given, turn, questions)
                lengths = tuple(len(record.turns[turn - 1]) for record in given)
                matches += [
                    Match(question, turn, models, number, requests, lengths) for number in range(1, repeats + 1)
                ]
    matches.sort(key=lambda match: match.repeat)
    return JudgingPlan(tuple(matches), tuple(not_judged), {model: n for model, n in thinking.items() if n})


def _thinking_turns(records: Iterable[AnswerRecord]) -> int:
    return sum(split_thinking(text).found for record in records for text in record.turns)


def _without_thinking(answered: Mapping[QuestionId, AnswerRecord]) -> dict[QuestionId, AnswerRecord]:
    return {
        question: replace(record, choices=(tuple(map(_answer_in, record.turns)),))
        for question, record in answered.items()
    }


def _answer_in(text: str) -> str:
    found = split_thinking(text)
    return found.answer if found.found else text


def _requests(
    question: Question, given: Sequence[AnswerRecord], turn: int, questions: QuestionSet
) -> tuple[JudgeRequest, ...]:
    if len(given) == 1:
        return (single_prompt(question, given[0].turns, turn, questions),)
    first, second = (record.turns for record in given)
    return pair_prompt(question, first, second, turn, questions), pair_prompt(question, second, first, turn, questions)


def _has_failed(record: AnswerRecord, turn: int) -> bool:
    """Whether there is no answer to a turn, or to one before it, which the judge would be shown too."""
    marks = record.smaug.get("marks")
    if isinstance(marks, list):
        return FAILED in marks[:turn]
    return any(text in FASTCHATS_FAILURES for text in record.turns[:turn])
