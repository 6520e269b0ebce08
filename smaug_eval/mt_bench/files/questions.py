"""Read a question set in FastChat's layout: questions, judge prompts and reference answers, checked before use.

``question.jsonl``, ``judge_prompts.jsonl`` (or one folder up, as in FastChat's own tree) and
``reference_answer/<model>.jsonl``. Source: fastchat/llm_judge at the commit of :mod:`smaug_eval.mt_bench.files.fetch`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import canonical_json, sha256_of_text
from smaug_eval.common.suggest import nearest
from smaug_eval.mt_bench.files.lines import JsonLine

QUESTION_FILE = "question.jsonl"
PROMPT_FILE = "judge_prompts.jsonl"
REFERENCE_FOLDER = "reference_answer"

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
"""MT-Bench's, in the order of its questions: ten each, from question 81."""

REFERENCE_CATEGORIES = frozenset({"math", "reasoning", "coding", "arena-hard-200"})
"""Categories whose judge is shown a reference answer (NEED_REF_CATS in FastChat's common.py)."""

REFERENCE_FILES = {"original": "gpt-4", "corrected": "gpt-4-1106-preview"}
"""Names for files of reference answers: FastChat's own, of which 13 of 30 are wrong (FastChat PR #3158), and those of
a later model, as SimPO's evaluation publishes them. Any other name is a file's own."""

OFFICIAL = {
    QUESTION_FILE: "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
    PROMPT_FILE: "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6",
    f"{REFERENCE_FOLDER}/gpt-4.jsonl": "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
    f"{REFERENCE_FOLDER}/gpt-4-1106-preview.jsonl": "fe030678a33dbbd3d729e7569375150b8830a53f5b11f820a75b630db317f56f",
}
"""SHA-256 of MT-Bench's files."""

_FIRST_QUESTION, _PER_CATEGORY = 81, 10
OUTPUT_FORMATS = {"single": "[[rating]]", "pairwise": "[[A]]"}
"""What FastChat's rules read; prompts that ask for another form need a verdict pattern."""

_ID_KEYS = ("question_id", "id", "uid")

QuestionId = int | str
References = Mapping[QuestionId, tuple[str, ...]]


@dataclass(frozen=True)
class Question:
    """Hold the turns of a question.

    Attributes:
        question_id: Its number, 81 to 160 in MT-Bench.
        category: Decides the temperature and whether the judge sees a reference answer.
        turns: One question or several; each later one is about the answers to those before.
        reference: Short answers that stand beside some questions; no prompt shows them.
        with_reference: Categories of its set that are judged with a reference answer.
    """

    question_id: QuestionId
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] | None = None
    with_reference: frozenset[str] = REFERENCE_CATEGORIES

    @property
    def needs_reference(self) -> bool:
        """Return whether the judge is shown a reference answer."""
        return self.category in self.with_reference


@dataclass(frozen=True)
class Selection:
    """Select which part of a question set is used, and how the set is to be taken.

    Attributes:
        limit: First questions, in the order of the file; all if None.
        turns: First turns of each question; all if None.
        reference_categories: Those judged with a reference answer; FastChat's if None, and none if empty.
    """

    limit: int | None = None
    turns: int | None = None
    reference_categories: tuple[str, ...] | None = None

    @property
    def words(self) -> str:
        """Return the selection as part of a title; empty where all is used."""
        parts = [] if self.limit is None else [f"first {self.limit} questions"]
        if self.turns is not None:
            parts.append("first turn only" if self.turns == 1 else f"first {self.turns} turns")
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Return what differs from the whole set, as plain data."""
        found = {"limit": self.limit, "turns": self.turns, "reference_categories": self.reference_categories}
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class JudgePrompt:
    """Hold the prompt of a judge.

    Attributes:
        name: Such as ``single-v1`` or ``pair-math-v1-multi-turn``.
        type: ``single`` or ``pairwise``.
        system_prompt: The system message.
        prompt_template: The user message, with fields in braces.
        output_format: ``[[rating]]`` or ``[[A]]``.
    """

    name: str
    type: str
    system_prompt: str
    prompt_template: str
    output_format: str


@dataclass(frozen=True)
class QuestionSet:
    """Hold everything that answering and judging need.

    Attributes:
        name: What a set that is not MT-Bench is called.
        questions: In the order of the file.
        judge_prompts: By name.
        references: Reference answers of each turn, by question.
        reference_name: ``original``, ``corrected``, or the stem of another file.
        fingerprint: Hexadecimal SHA-256 of the three files' content.
        official: Whether the three files are MT-Bench's, and are taken as FastChat takes them.
        part: Which part of the set this is, as text; empty for all of it.
        notes: What of the files is not used, as text.
        whole: The questions with all their turns, whichever are selected; empty where these are all.
    """

    name: str
    questions: tuple[Question, ...]
    judge_prompts: Mapping[str, JudgePrompt]
    references: References
    reference_name: str
    fingerprint: str
    official: bool
    part: str = ""
    notes: tuple[str, ...] = ()
    whole: tuple[Question, ...] = ()

    @property
    def title(self) -> str:
        """Return what results are called: MT-Bench only where the three files are MT-Bench's own."""
        if self.official:
            name = "MT-Bench" if self.reference_name == "original" else f"MT-Bench, {self.reference_name} references"
        else:
            squeezed = "".join(filter(str.isalnum, self.name.lower()))
            name = "own questions" if "mtbench" in squeezed else self.name
        return f"{name}, {self.part}" if self.part else name

    @property
    def turns(self) -> int:
        """Return most turns of a question."""
        return max(len(question.turns) for question in self.questions)


def questions_hash(questions: Sequence[Question]) -> str:
    """Return the SHA-256 of the questions; judge prompts and references do not matter to a model's answers."""
    return sha256_of_text(canonical_json([[each.question_id, each.category, each.turns] for each in questions]))


def select(questions: QuestionSet, selection: Selection) -> QuestionSet:
    """Return a part of a question set, with a fingerprint of its own; the whole as it is.

    Raises:
        SmaugError: a category of references is none of the set's.
    """
    if selection == Selection():
        return questions
    kept = [
        replace(question, turns=question.turns[: selection.turns])
        for question in questions.questions[: selection.limit]
    ]
    if (named := selection.reference_categories) is not None:
        known = {question.category for question in questions.questions}
        if unknown := sorted(set(named) - known):
            raise SmaugError(
                f"reference_categories: no question is of category {unknown[0]!r}{nearest(unknown[0], known)}",
                fix="name categories of the set, or none for a set without reference answers",
            )
        kept = [replace(question, with_reference=frozenset(named)) for question in kept]
    return replace(
        questions,
        questions=tuple(kept),
        fingerprint=sha256_of_text(canonical_json([questions.fingerprint, selection.as_json()])),
        official=questions.official and named is None,
        part=selection.words,
        whole=questions.whole or questions.questions,
    )


def official_category(question_id: QuestionId) -> str | None:
    """Return the category of a question of MT-Bench by its number; None for numbers that are not MT-Bench's."""
    if not isinstance(question_id, int):
        return None
    place = question_id - _FIRST_QUESTION
    return CATEGORIES[place // _PER_CATEGORY] if 0 <= place < _PER_CATEGORY * len(CATEGORIES) else None


def question_id(line: JsonLine) -> QuestionId:
    """Return the question a line is about.

    A number, also where it was written as a text or with a point, or another text.
    """
    key = next((key for key in _ID_KEYS if key in line.content), _ID_KEYS[0])
    value = line.value(key)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        line.refuse(f"key {key!r} is not a number or a text but {type(value).__name__}")
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19 else value
