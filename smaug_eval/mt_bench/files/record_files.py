"""Read answers and judgments from files of FastChat, of ours and of others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from smaug_eval.mt_bench.files.foreign import foreign_lines
from smaug_eval.mt_bench.files.lines import JsonLine, read_lines, torn_line
from smaug_eval.mt_bench.files.questions import question_id
from smaug_eval.mt_bench.files.records import (
    MOST_TURNS,
    WINNERS,
    AnswerRecord,
    Extra,
    JudgmentRecord,
    Judgments,
    PairJudgmentRecord,
    Score,
)

_MULTI_TURN = "multi-turn"


def read_answers(paths: Iterable[Path]) -> list[AnswerRecord]:
    """Read the answers of some files, in order; a last line that was never finished is left out.

    Raises:
        SmaugError: a file cannot be read or a line is no answer; the message names the file and the line.
    """
    return [_answer(line) for path in paths for line in read_lines(path)]


def read_judgments(paths: Iterable[Path]) -> Judgments:
    """Read the judgments of some files, single and pairwise told apart by their keys.

    Older and foreign lines are taken where their meaning is clear: ``judge`` as a plain name, a missing ``tstamp``,
    ``score`` as a text or null, one ``winner`` for both games, ``turn`` only in the prompt's name; and people's votes
    on MT-Bench, arena-hard's and alpaca_eval's files (:mod:`smaug_eval.mt_bench.files.foreign`).

    Raises:
        SmaugError: a file cannot be read or a line is no judgment; the message names the file and the line.
    """
    found = Judgments()
    for path in paths:
        for line in read_lines(path):
            found.add(judgments_of(line))
        if torn_line(path) is not None:
            found.notes.append(f"{path.name}: the last line was never finished and is left out")
    return found


def judgments_of(line: JsonLine) -> Iterator[JudgmentRecord | PairJudgmentRecord]:
    """Yield the judgments that a line holds, ours, FastChat's or others'; see :func:`read_judgments`.

    Raises:
        SmaugError: it holds none; the message names the file and the line.
    """
    for each in foreign_lines(line):
        yield judgment_of(each)


def judgment_of(line: JsonLine) -> JudgmentRecord | PairJudgmentRecord:
    """Return the judgment that a line holds; see :func:`read_judgments`.

    Raises:
        SmaugError: it is none; the message names the file and the line.
    """
    if "model_1" in line.content and "model_2" in line.content:
        return _pair(line)
    if "model" not in line.content or not ("score" in line.content or "judgment" in line.content):
        line.refuse(
            "neither a judgment of one answer (model, score) nor of two (model_1, model_2)",
            fix="give files that FastChat's gen_judgment or smaug-eval mt-bench judge wrote",
        )
    return _single(line)


def _answer(line: JsonLine) -> AnswerRecord:
    choices = line.value("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        line.refuse("key 'choices' is not a list of objects")
    return AnswerRecord(
        question_id=question_id(line),
        answer_id=str(line.content.get("answer_id", "")),
        model_id=line.text("model_id") if "model_id" in line.content else line.path.stem,
        choices=tuple(JsonLine(line.path, line.number, choice).texts("turns") for choice in choices),
        tstamp=_time(line),
        smaug=_extra(line),
    )


def _single(line: JsonLine) -> JudgmentRecord:
    judge = _judge(line)
    return JudgmentRecord(
        question_id=question_id(line),
        model=line.text("model"),
        judge=judge,
        user_prompt=_optional_text(line, "user_prompt"),
        judgment=_optional_text(line, "judgment"),
        score=_score(line),
        turn=_turn(line, judge[1]),
        tstamp=_time(line),
        smaug=_extra(line),
    )


def _pair(line: JsonLine) -> PairJudgmentRecord:
    judge = _judge(line)
    both = "winner" if "winner" in line.content and "g1_winner" not in line.content else None
    return PairJudgmentRecord(
        question_id=question_id(line),
        model_1=line.text("model_1"),
        model_2=line.text("model_2"),
        g1_winner=_winner(line, both or "g1_winner"),
        g2_winner=_winner(line, both or "g2_winner"),
        judge=judge,
        g1_user_prompt=_optional_text(line, "g1_user_prompt"),
        g1_judgment=_optional_text(line, "g1_judgment"),
        g2_user_prompt=_optional_text(line, "g2_user_prompt"),
        g2_judgment=_optional_text(line, "g2_judgment"),
        turn=_turn(line, judge[1]),
        tstamp=_time(line),
        smaug=_extra(line),
    )


def _judge(line: JsonLine) -> tuple[str, str]:
    """Name of the judge and of its prompt; empty where a file does not say."""
    judge = line.content.get("judge") or ""
    parts = [judge] if isinstance(judge, str) else judge
    if not isinstance(parts, list) or not 1 <= len(parts) <= 2 or not all(isinstance(part, str) for part in parts):
        line.refuse("key 'judge' is neither a name nor [name, prompt]")
    return parts[0], parts[1] if len(parts) == 2 else ""


def _score(line: JsonLine) -> Score | None:
    score = line.content.get("score")
    if isinstance(score, str):
        try:
            score = float(score)
        except ValueError:
            line.refuse(f"key 'score' is {score!r}, not a number")
    if isinstance(score, bool) or not isinstance(score, int | float | None):
        line.refuse(f"key 'score' is not a number but {type(score).__name__}")
    try:
        return score if score is not None and math.isfinite(score) else None
    except OverflowError:
        return None  # an integer of hundreds of digits


def _turn(line: JsonLine, prompt: str) -> int:
    turn = line.content.get("turn")
    if turn is None:
        return 2 if _MULTI_TURN in prompt else 1
    number = int(turn) if isinstance(turn, str) and turn.isascii() and turn.strip().isdecimal() else turn
    if isinstance(number, bool) or not isinstance(number, int | float) or number not in range(1, MOST_TURNS + 1):
        line.refuse(f"key 'turn' is {turn!r}, not 1 or 2, or a later one")
    return int(number)


def _winner(line: JsonLine, key: str) -> str:
    winner = line.value(key)
    if winner is None:
        return "error"
    if winner not in WINNERS:
        line.refuse(f"key {key!r} is {winner!r}, none of {', '.join(WINNERS)}")
    return str(winner)


def _optional_text(line: JsonLine, key: str) -> str:
    return "" if line.content.get(key) is None else line.text(key)


def _time(line: JsonLine) -> float:
    """The time stamp where it is a number: nothing depends on it."""
    time = line.content.get("tstamp")
    return float(time) if isinstance(time, float) or (isinstance(time, int) and abs(time) < 1 << 60) else 0.0


def _extra(line: JsonLine) -> Extra:
    extra = line.content.get("smaug")
    return extra if isinstance(extra, dict) else {}
