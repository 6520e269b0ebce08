"""Read FastChat's lines of answers and judgments, of any of its versions, and write them so that it reads them.

What FastChat does not know stands under the key ``smaug``, which it ignores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from smaug_eval.common.files import GrowingFile, unwritable
from smaug_eval.common.redaction import values_without_keys
from smaug_eval.mt_bench.files.lines import ascii_line, torn_line
from smaug_eval.mt_bench.files.questions import QuestionId

FAILED = -1
"""FastChat's score of a judgment without a verdict."""

MOST_TURNS = 99
"""Of a dialogue."""

WINNERS = ("model_1", "model_2", "tie", "inconsistent", "error")
"""What a game's winner can be; "inconsistent" stands only in files that give both games one winner."""


Extra = Mapping[str, Any]
Score = int | float


@dataclass(frozen=True)
class AnswerRecord:
    """Hold a model's answer to one question.

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
        """Return the first choice's answers."""
        return self.choices[0]

    def as_json(self) -> dict[str, Any]:
        """Return FastChat's line as a dictionary."""
        choices = [{"index": index, "turns": list(turns)} for index, turns in enumerate(self.choices)]
        return _as_json(self) | {"choices": choices}


class _OwnNotes:
    """What this package notes of a judgment under the key ``smaug``."""

    smaug: Extra

    @property
    def repeat(self) -> int | None:
        """Return which of several judgments of the same this is; None where it was not recorded."""
        repeat = self.smaug.get("repeat")
        return repeat if isinstance(repeat, int) else None

    @property
    def verdict(self) -> str | None:
        """Return the set's own pattern by which the verdict was read; None for FastChat's rule."""
        pattern = self.smaug.get("verdict")
        return pattern if isinstance(pattern, str) else None


@dataclass(frozen=True)
class JudgmentRecord(_OwnNotes):
    """Hold a judge's judgment of one answer.

    Attributes:
        question_id: The question.
        model: Who answered.
        judge: The judge model's name and the prompt's.
        user_prompt: What the judge was sent.
        judgment: What it wrote.
        score: As it was recorded; None where nothing, or no number, was, and -1 where no verdict was found.
        turn: From 1.
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
        """Return the score where it counts, None where show_result leaves it out."""
        return None if self.score is None or self.score == FAILED else float(self.score)

    def as_json(self) -> dict[str, Any]:
        """Return FastChat's line as a dictionary."""
        return _as_json(self) | {"score": FAILED if self.score is None else self.score}


@dataclass(frozen=True)
class PairJudgmentRecord(_OwnNotes):
    """Hold a judge's judgment of two answers in both orders: game 1 shows ``model_1`` first, game 2 ``model_2``.

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
        turn: From 1.
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

    def as_json(self) -> dict[str, Any]:
        """Return FastChat's line as a dictionary."""
        return _as_json(self)


class Writable(Protocol):
    """Define what can be a line of a file."""

    def as_json(self) -> dict[str, Any]:
        """Return the line as a dictionary."""
        ...


@dataclass
class Judgments:
    """Hold the judgments of some files, in order.

    Attributes:
        single: Scores of single answers.
        pairs: Winners of pairs.
        notes: What was left out, as text.
        missing: What the settings beside the files say was not judged, with reasons.
    """

    single: list[JudgmentRecord] = field(default_factory=list)
    pairs: list[PairJudgmentRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)

    @property
    def every(self) -> list[JudgmentRecord | PairJudgmentRecord]:
        """Return both kinds in one list."""
        return [*self.single, *self.pairs]

    def add(self, records: Iterable[JudgmentRecord | PairJudgmentRecord]) -> None:
        """Add some judgments, each with its kind."""
        for record in records:
            if isinstance(record, JudgmentRecord):
                self.single.append(record)
            else:
                self.pairs.append(record)


class RecordWriter:
    """Append records to a file, each on disk as soon as it is written.

    A last line that was never finished is removed first, and a line feed that is missing is added, so that a file
    continues after a crash.

    Args:
        path: The file; made where it does not exist.

    Attributes:
        repaired: What was removed, as text; None where nothing was.

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
    """Make a file end in a line feed; what had to be removed for that, as text."""
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
