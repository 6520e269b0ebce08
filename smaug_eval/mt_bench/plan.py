"""What a judge is asked: FastChat's matches (gen_judgment.py) over the answers of some models."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.errors import SmaugError
from smaug_eval.mt_bench.answers import FAILED
from smaug_eval.mt_bench.config import ALL_PAIRS, MODES, SINGLE
from smaug_eval.mt_bench.prompts import JudgeRequest, pair_prompt, single_prompt
from smaug_eval.mt_bench.questions import Question, QuestionId, QuestionSet
from smaug_eval.mt_bench.records import AnswerRecord, read_answers
from smaug_eval.suggest import nearest

FASTCHATS_FAILURES = ("ERROR", "$ERROR$")
"""What FastChat's scripts write where a model gave no answer."""

Answers = Mapping[str, Mapping[QuestionId, AnswerRecord]]
"""By model and question."""
Key = tuple[QuestionId, int, tuple[str, ...], str, int]
"""Question, turn, models, name of the judge prompt, and repeat."""


@dataclass(frozen=True)
class Match:
    """One judgment to make.

    Attributes:
        question: What was asked.
        turn: The turn to judge, 1 or 2.
        models: Whose answer; two where they are compared.
        repeat: From 1.
        requests: What the judge is asked; for two models once in each order.
    """

    question: Question
    turn: int
    models: tuple[str, ...]
    repeat: int
    requests: tuple[JudgeRequest, ...]

    @property
    def key(self) -> Key:
        """What tells it from the other judgments of a judge."""
        return self.question.question_id, self.turn, self.models, self.requests[0].prompt_name, self.repeat


@dataclass(frozen=True)
class Plan:
    """Every judgment to make, and the turns that have no answer to judge.

    Attributes:
        matches: In order.
        not_judged: Question, turn and model of each.
    """

    matches: tuple[Match, ...]
    not_judged: tuple[dict[str, Any], ...]


def load_answers(files: Iterable[Path]) -> Answers:
    """Answers by model, which is the file's name, and question, of which the last line counts; both as in FastChat.

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
    """Whose answers are judged together: each model's alone, or those of two.

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
    questions: QuestionSet, answers: Answers, mode: str, *, baseline: str | None = None, repeats: int = 1
) -> Plan:
    """The judgments of a mode.

    Args:
        questions: The questions, judge prompts and references.
        answers: Of the models to judge.
        mode: One of ``MODES``.
        baseline: The model that the others are compared with, for ``pairwise-baseline``.
        repeats: Times each is asked for.

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
    matches, not_judged = [], []
    compared = sides(tuple(answers), mode, baseline)
    for models, question in itertools.product(compared, questions.questions):
        for turn in range(1, len(question.turns) + 1):
            given = [answers[model][question.question_id] for model in models]
            failed = [model for model, record in zip(models, given, strict=True) if _has_failed(record, turn)]
            not_judged += [{"question_id": question.question_id, "turn": turn, "model": model} for model in failed]
            if not failed:
                requests = _requests(question, given, turn, questions)
                matches += [Match(question, turn, models, repeat, requests) for repeat in range(1, repeats + 1)]
    matches.sort(key=lambda match: match.repeat)
    return Plan(tuple(matches), tuple(not_judged))


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
