"""FastChat's lines for answers and judgments, read from files of any of its versions and written so that it reads them.

What FastChat does not know stands under the key ``smaug``, which it ignores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from smaug_eval.files import GrowingFile, unwritable
from smaug_eval.mt_bench.lines import Line, ascii_line, read_lines, torn_line
from smaug_eval.mt_bench.questions import QuestionId, question_id
from smaug_eval.redaction import values_without_keys

FAILED = -1
"""FastChat's score of a judgment without a verdict."""

WINNERS = ("model_1", "model_2", "tie", "inconsistent", "error")
"""What a game's winner can be; "inconsistent" stands only in files that give both games one winner."""

_MULTI_TURN = "multi-turn"

Extra = Mapping[str, Any]
Score = int | float


@dataclass(frozen=True)
class AnswerRecord:
    """What a model answered to one question.

    Attributes:
        question_id: The question.
        answer_id: Of this answer.
        model_id: The model's name.
        choices: One answer for each turn, for each choice; the judge sees the first choice.
        tstamp: Unix time.
        smaug: Seeds, temperature, marks of each turn and the like.
    """

    question_id: QuestionId
    answer_id: str
    model_id: str
    choices: tuple[tuple[str, ...], ...]
    tstamp: float = 0.0
    smaug: Extra = field(default_factory=dict)

    @property
    def turns(self) -> tuple[str, ...]:
        """The first choice's answers."""
        return self.choices[0]

    def as_json(self) -> dict[str, Any]:
        """FastChat's line as a dictionary."""
        choices = [{"index": index, "turns": list(turns)} for index, turns in enumerate(self.choices)]
        return _as_json(self) | {"choices": choices}


@dataclass(frozen=True)
class JudgmentRecord:
    """What a judge said of one answer.

    Attributes:
        question_id: The question.
        model: Who answered.
        judge: The judge model's name and the prompt's.
        user_prompt: What the judge was sent.
        judgment: What it wrote.
        score: As it was recorded; None where nothing, or no number, was, and -1 where no verdict was found.
        turn: 1 or 2.
        tstamp: Unix time.
        smaug: The repeat, the tokens used, the question's category and the like.
    """

    question_id: QuestionId
    model: str
    judge: tuple[str, str]
    user_prompt: str
    judgment: str
    score: Score | None
    turn: int
    tstamp: float = 0.0
    smaug: Extra = field(default_factory=dict)

    @property
    def value(self) -> float | None:
        """The score where it counts, None where show_result leaves it out."""
        return None if self.score is None or self.score == FAILED else float(self.score)

    @property
    def repeat(self) -> int | None:
        """Which of several judgments of the same answer this is; None where it was not recorded."""
        repeat = self.smaug.get("repeat")
        return repeat if isinstance(repeat, int) else None

    def as_json(self) -> dict[str, Any]:
        """FastChat's line as a dictionary."""
        return _as_json(self) | {"score": FAILED if self.score is None else self.score}


@dataclass(frozen=True)
class PairJudgmentRecord:
    """What a judge said of two answers, shown in both orders: game 1 has ``model_1`` first, game 2 ``model_2``.

    Attributes:
        question_id: The question.
        model_1: Shown first in game 1.
        model_2: Shown first in game 2.
        g1_winner: One of ``WINNERS``.
        g2_winner: One of ``WINNERS``.
        judge: The judge model's name and the prompt's.
        g1_user_prompt: What the judge was sent in game 1.
        g1_judgment: What it wrote.
        g2_user_prompt: What the judge was sent in game 2.
        g2_judgment: What it wrote.
        turn: 1 or 2.
        tstamp: Unix time.
        smaug: As in :class:`JudgmentRecord`.
    """

    question_id: QuestionId
    model_1: str
    model_2: str
    g1_winner: str
    g2_winner: str
    judge: tuple[str, str]
    g1_user_prompt: str
    g1_judgment: str
    g2_user_prompt: str
    g2_judgment: str
    turn: int
    tstamp: float = 0.0
    smaug: Extra = field(default_factory=dict)

    @property
    def repeat(self) -> int | None:
        """Which of several judgments of the same pair of answers this is; None where it was not recorded."""
        repeat = self.smaug.get("repeat")
        return repeat if isinstance(repeat, int) else None

    def as_json(self) -> dict[str, Any]:
        """FastChat's line as a dictionary."""
        return _as_json(self)


class Writable(Protocol):
    """What can be a line of a file."""

    def as_json(self) -> dict[str, Any]:
        """The line as a dictionary."""
        ...


@dataclass
class Judgments:
    """The judgments of some files, in order.

    Attributes:
        single: Scores of single answers.
        pairs: Winners of pairs.
        notes: What was left out, in plain words.
    """

    single: list[JudgmentRecord] = field(default_factory=list)
    pairs: list[PairJudgmentRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_answers(paths: Iterable[Path]) -> list[AnswerRecord]:
    """The answers of some files, in order; a last line that was never finished is left out.

    Raises:
        SmaugError: a file cannot be read or a line is no answer; the message names the file and the line.
    """
    return [_answer(line) for path in paths for line in read_lines(path)]


def read_judgments(paths: Iterable[Path]) -> Judgments:
    """The judgments of some files, single and pairwise told apart by their keys.

    Older and foreign lines are taken where their meaning is clear: ``judge`` as a plain name, a missing ``tstamp``,
    ``score`` as a text or null, one ``winner`` for both games, ``turn`` only in the prompt's name.

    Raises:
        SmaugError: a file cannot be read or a line is no judgment; the message names the file and the line.
    """
    found = Judgments()
    for path in paths:
        for line in read_lines(path):
            record = judgment_of(line)
            if isinstance(record, JudgmentRecord):
                found.single.append(record)
            else:
                found.pairs.append(record)
        if torn_line(path) is not None:
            found.notes.append(f"{path.name}: the last line was never finished and is left out")
    return found


def judgment_of(line: Line) -> JudgmentRecord | PairJudgmentRecord:
    """The judgment that a line holds; see :func:`read_judgments`.

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


class RecordWriter:
    """Appends records to a file, each on disk as soon as it is written.

    A last line that was never finished is removed first, and a line feed that is missing is added, so that a file
    continues after a crash.

    Args:
        path: The file; made where it does not exist.

    Attributes:
        repaired: What was removed, in plain words; None where nothing was.

    Raises:
        SmaugError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.repaired = _repair(path)
            self._stream = GrowingFile(path)
        except OSError as error:
            raise unwritable(path, error) from error

    def append(self, record: Writable) -> None:
        """Write one line; a key in it, as of a judge that repeats what it was sent, is masked.

        Raises:
            SmaugError: the disk refuses it.
        """
        self._stream.append(ascii_line(values_without_keys(record.as_json())).encode("ascii"))

    def close(self) -> None:
        """Close the file; nothing is pending."""
        self._stream.close()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _repair(path: Path) -> str | None:
    """Make a file end in a line feed; what had to be removed for that, in plain words."""
    if not path.is_file():
        return None
    torn = torn_line(path)
    with path.open("r+b") as file:
        if torn is not None:
            size = file.seek(0, 2)
            file.truncate(torn)
            return f"{path}: removed a last line of {size - torn} bytes that was never finished"
        if file.seek(0, 2) and (file.seek(-1, 2), file.read(1))[1] != b"\n":
            file.write(b"\n")
    return None


def _as_json(record: AnswerRecord | JudgmentRecord | PairJudgmentRecord) -> dict[str, Any]:
    """The attributes under their names, in FastChat's order; ours only where there are any."""
    line = {attribute.name: getattr(record, attribute.name) for attribute in fields(record)}
    if not line["smaug"]:
        del line["smaug"]
    return line | {"judge": list(line["judge"])} if "judge" in line else line


def _answer(line: Line) -> AnswerRecord:
    choices = line.value("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        line.refuse("key 'choices' is not a list of objects")
    return AnswerRecord(
        question_id=question_id(line),
        answer_id=str(line.content.get("answer_id", "")),
        model_id=line.text("model_id") if "model_id" in line.content else line.path.stem,
        choices=tuple(Line(line.path, line.number, choice).texts("turns") for choice in choices),
        tstamp=_time(line),
        smaug=_extra(line),
    )


def _single(line: Line) -> JudgmentRecord:
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


def _pair(line: Line) -> PairJudgmentRecord:
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


def _judge(line: Line) -> tuple[str, str]:
    """Name of the judge and of its prompt; empty where a file does not say."""
    judge = line.content.get("judge") or ""
    parts = [judge] if isinstance(judge, str) else judge
    if not isinstance(parts, list) or not 1 <= len(parts) <= 2 or not all(isinstance(part, str) for part in parts):
        line.refuse("key 'judge' is neither a name nor [name, prompt]")
    return parts[0], parts[1] if len(parts) == 2 else ""


def _score(line: Line) -> Score | None:
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


def _turn(line: Line, prompt: str) -> int:
    turn = line.content.get("turn")
    if turn is None:
        return 2 if _MULTI_TURN in prompt else 1
    if isinstance(turn, bool) or turn not in (1, 2):
        line.refuse(f"key 'turn' is {turn!r}, not 1 or 2")
    return int(turn)


def _winner(line: Line, key: str) -> str:
    winner = line.value(key)
    if winner is None:
        return "error"
    if winner not in WINNERS:
        line.refuse(f"key {key!r} is {winner!r}, none of {', '.join(WINNERS)}")
    return str(winner)


def _optional_text(line: Line, key: str) -> str:
    return "" if line.content.get(key) is None else line.text(key)


def _time(line: Line) -> float:
    """The time stamp where it is a number: nothing depends on it."""
    time = line.content.get("tstamp")
    return float(time) if isinstance(time, float) or (isinstance(time, int) and abs(time) < 1 << 60) else 0.0


def _extra(line: Line) -> Extra:
    extra = line.content.get("smaug")
    return extra if isinstance(extra, dict) else {}
