"""Find judgments whose verdict is missing or depends on the parsing rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from smaug_eval.common.thinking import split_thinking
from smaug_eval.mt_bench.files.questions import QuestionId
from smaug_eval.mt_bench.files.records import FAILED, JudgmentRecord, Judgments, PairJudgmentRecord
from smaug_eval.mt_bench.judge.parsing import fastchat_winner, read_judgment, read_winner, strict_winner

END = 300
"""Characters shown of a judgment's end, where its verdict should be."""

_SHOWN = {1: {"A": "model_1", "B": "model_2"}, 2: {"A": "model_2", "B": "model_1"}}


@dataclass(frozen=True)
class Disagreement:
    """Hold a judgment that needs a look.

    Attributes:
        question_id: The question.
        turn: From 1.
        model: Whose answer; "a against b" for a pair.
        game: 1 or 2 for a pair; None for a single answer.
        recorded: The score or winner in the file.
        strict: By the strict reader; None where it finds none.
        problem: What is wrong, as text.
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
        """Return whether the judgment counts nowhere."""
        return self.recorded in ("none", "error")


def disagreements(judgments: Judgments) -> list[Disagreement]:
    """Find every judgment without a verdict, read differently by the rules, or recorded against FastChat's.

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
    reading = read_judgment(record.judgment, record.verdict)
    score = FAILED if record.score is None else record.score
    if record.verdict is not None:
        is_read = score == reading.score
        return (
            reading.strict,
            None
            if is_read and score != FAILED
            else f"the file says {score}, the set's own pattern reads {reading.score}",
        )
    if score not in (reading.score, reading.raw):
        return reading.strict, f"the file says {score}, FastChat's rule reads {reading.score}"
    return reading.strict, reading.disagreement


def _of_pairs(records: Sequence[PairJudgmentRecord]) -> Iterator[Disagreement]:
    for record in records:
        games = ((1, record.g1_winner, record.g1_judgment), (2, record.g2_winner, record.g2_judgment))
        for game, winner, text in games:
            strict, problem = _pair_problem(game, winner, text, record.verdict)
            if problem is not None:
                model = f"{record.model_1} against {record.model_2}"
                place = (record.question_id, record.turn, model, game, winner)
                yield Disagreement(*place, strict, problem, text[-END:])


def _pair_problem(game: int, winner: str, text: str, pattern: str | None) -> tuple[str | None, str | None]:
    if not text:
        return None, "the judge wrote nothing, or its text was not kept" if winner == "error" else None
    read, raw = read_winner(text, pattern), fastchat_winner(text)
    last = read if pattern is not None else strict_winner(split_thinking(text).answer)
    by_rule, by_raw = _SHOWN[game].get(read, read), _SHOWN[game].get(raw, raw)
    strict = None if last in (None, "error") else _SHOWN[game].get(str(last), last)
    rule = "FastChat's rule" if pattern is None else "the set's own pattern"
    if winner not in (by_rule, by_raw if pattern is None else by_rule):
        return strict, f"the file says {winner}, {rule} reads {by_rule}"
    if pattern is None and by_raw != by_rule:
        return strict, f"FastChat's rule takes {by_raw} from the judge's thinking; behind it stands {by_rule}"
    if winner == "error":
        return (
            strict,
            "no winner by either rule"
            if strict is None and pattern is None
            else f"no winner by {rule}"
            if pattern is not None
            else f"only the strict reader finds one: {strict}",
        )
    if strict is None:
        return None, f"only FastChat's rule finds one: {winner}"
    return strict, None if strict == winner else f"FastChat's rule says {winner}, the strict reader {strict}"
