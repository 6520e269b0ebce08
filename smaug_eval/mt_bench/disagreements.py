"""Judgments whose verdict is missing or depends on who reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from smaug_eval.mt_bench.parsing import fastchat_winner, read_judgment, strict_winner
from smaug_eval.mt_bench.questions import QuestionId
from smaug_eval.mt_bench.records import FAILED, JudgmentRecord, Judgments, PairJudgmentRecord

END = 300
"""Characters shown of a judgment's end, where its verdict should be."""

_SHOWN = {1: {"A": "model_1", "B": "model_2"}, 2: {"A": "model_2", "B": "model_1"}}


@dataclass(frozen=True)
class Disagreement:
    """A judgment that needs a look.

    Attributes:
        question_id: The question.
        turn: 1 or 2.
        model: Whose answer; "a against b" for a pair.
        game: 1 or 2 for a pair; None for a single answer.
        recorded: The score or winner in the file.
        strict: By the strict reader; None where it finds none.
        problem: In plain words.
        ending: The end of the judgment's text.
    """

    question_id: QuestionId
    turn: int
    model: str
    game: int | None
    recorded: str
    strict: str | None
    problem: str
    ending: str

    @property
    def failed(self) -> bool:
        """Whether the judgment counts nowhere."""
        return self.recorded in ("none", "error")


def disagreements(judgments: Judgments) -> list[Disagreement]:
    """Every judgment that has no verdict, that the rules read differently, or that was recorded against FastChat's.

    Judgments without their text are listed only where they have no verdict.
    """
    return [*_of_single(judgments.single), *_of_pairs(judgments.pairs)]


def _of_single(records: Sequence[JudgmentRecord]) -> Iterator[Disagreement]:
    for record in records:
        strict, problem = _single_problem(record)
        if problem is not None:
            recorded = "none" if record.value is None else f"{record.value:g}"
            place = (record.question_id, record.turn, record.model, None, recorded)
            yield Disagreement(*place, None if strict is None else f"{strict:g}", problem, record.judgment[-END:])


def _single_problem(record: JudgmentRecord) -> tuple[float | None, str | None]:
    if not record.judgment:
        return None, "the judge wrote nothing, or its text was not kept" if record.value is None else None
    reading = read_judgment(record.judgment)
    score = FAILED if record.score is None else record.score
    if score != reading.score:
        return reading.strict, f"the file says {score}, FastChat's rule reads {reading.score}"
    return reading.strict, reading.disagreement


def _of_pairs(records: Sequence[PairJudgmentRecord]) -> Iterator[Disagreement]:
    for record in records:
        games = ((1, record.g1_winner, record.g1_judgment), (2, record.g2_winner, record.g2_judgment))
        for game, winner, text in games:
            strict, problem = _pair_problem(game, winner, text)
            if problem is not None:
                model = f"{record.model_1} against {record.model_2}"
                place = (record.question_id, record.turn, model, game, winner)
                yield Disagreement(*place, strict, problem, text[-END:])


def _pair_problem(game: int, winner: str, text: str) -> tuple[str | None, str | None]:
    if not text:
        return None, "the judge wrote nothing, or its text was not kept" if winner == "error" else None
    found, last = fastchat_winner(text), strict_winner(text)
    by_rule = _SHOWN[game].get(found, found)
    strict = None if last is None else _SHOWN[game].get(last, last)
    if winner != by_rule:
        return strict, f"the file says {winner}, FastChat's rule reads {by_rule}"
    if winner == "error":
        return strict, "no winner by either rule" if strict is None else f"only the strict reader finds one: {strict}"
    if strict is None:
        return None, f"only FastChat's rule finds one: {winner}"
    return strict, None if strict == winner else f"FastChat's rule says {winner}, the strict reader {strict}"
