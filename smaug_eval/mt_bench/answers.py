"""A model answers a question set by FastChat's protocol (gen_model_answer.py): its first turns, then its second ones.

While a model answers, every finished turn is appended to ``<model>.turns``; from those ``<model>.jsonl`` is written at
the end, in the order of the questions. Stopped at any moment, the same call goes on with the turns that are missing.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smaug_eval.engines.generation import Generation, Generator, Sampling
from smaug_eval.files import canonical_json, sha256_of_text, write_json, write_text
from smaug_eval.mt_bench.layout import answers_file, read_settings, set_aside, settings_file
from smaug_eval.mt_bench.lines import Line, mend, read_lines, sound_lines
from smaug_eval.mt_bench.questions import Question, QuestionId, question_id
from smaug_eval.mt_bench.records import AnswerRecord, RecordWriter
from smaug_eval.mt_bench.templates import Template

TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
    "arena-hard-200": 0.0,
}
"""By category (temperature_config in FastChat's common.py)."""
OTHER_TEMPERATURE = 0.7

GOOD, EMPTY, TRUNCATED, FAILED = "ok", "empty", "truncated", "failed"
"""What an answer is: as it should be; without text; cut off before the model ended it; not there at all."""

NO_ROOM = "no room"
"""Why a failed answer is not there: the conversation fills the model's context."""

Progress = Callable[[int, int, str], None]
Notice = Callable[[str], None]


@dataclass(frozen=True)
class Answerer:
    """A model in memory.

    Attributes:
        generator: Continues texts.
        context: Tokens it can read and write together.
    """

    generator: Generator
    context: int


@dataclass(frozen=True)
class AnswerSettings:
    """What decides a model's answers.

    Attributes:
        model: Its name in the files.
        model_sha256: Of its checkpoint.
        question_set: What results on the questions may be called.
        questions_sha256: Of the questions.
        template: Name of the chat template.
        system_prompt: In the place of the template's own; None keeps that.
        seed: From which each turn's is derived.
        max_new_tokens: Longest answer.
        engine: What runs the model.
        dtype: Its precision.
    """

    model: str
    model_sha256: str
    question_set: str
    questions_sha256: str
    template: str
    system_prompt: str | None
    seed: int
    max_new_tokens: int
    engine: str
    dtype: str


@dataclass(frozen=True)
class Turn:
    """One answer of a conversation.

    Attributes:
        question_id: The question.
        turn: 1 or 2.
        text: The answer as the judge will see it.
        tokens: Tokens written, those cut off included.
        finish_reason: ``stop``, ``length``, or ``NO_ROOM``.
        seed: Of its sampling.
    """

    question_id: QuestionId
    turn: int
    text: str
    tokens: int
    finish_reason: str
    seed: int

    @property
    def mark(self) -> str:
        """What the answer is."""
        if self.finish_reason == NO_ROOM:
            return FAILED
        if not self.text:
            return EMPTY
        return TRUNCATED if self.finish_reason == "length" else GOOD

    def as_json(self) -> dict[str, Any]:
        """The line of ``<model>.turns``."""
        return asdict(self)


def temperature(category: str) -> float:
    """At which questions of a category are answered."""
    return TEMPERATURES.get(category, OTHER_TEMPERATURE)


def seed_of(seed: int, question: QuestionId, turn: int) -> int:
    """A turn's own seed, of 32 bits: the same whatever else is answered beside it."""
    return int(sha256_of_text(canonical_json([seed, question, turn]))[:8], 16)


def turns_file(folder: Path, model: str) -> Path:
    """The finished turns of a model that has not answered everything."""
    return folder / f"{model}.turns"


def check_prompts(template: Template, questions: Sequence[Question]) -> None:
    """Try a template on every first turn, before a model is loaded.

    Raises:
        SmaugError: it refuses one.
    """
    for question in questions:
        template.token_ids(question.turns[:1], [])


def answer_questions(
    load: Callable[[], Answerer],
    template: Template,
    questions: Sequence[Question],
    settings: AnswerSettings,
    folder: Path,
    *,
    report: Progress,
    notice: Notice,
) -> dict[str, Any]:
    """Let a model answer every turn that it has not answered yet.

    Args:
        load: Gives the model; called only where something is left to answer.
        template: How it is spoken to.
        questions: What it is asked.
        settings: What decides the answers; answers made with others are set aside.
        folder: Receives ``<model>.jsonl`` and, beside it, the settings.
        report: Receives progress.
        notice: Receives lines for the user.

    Returns:
        Numbers of turns by mark, tokens written, and warnings.

    Raises:
        SmaugError: a file is damaged or cannot be written, or the template refuses a conversation.
    """
    file, unfinished = answers_file(folder, settings.model), turns_file(folder, settings.model)
    _set_other_answers_aside(file, unfinished, asdict(settings), notice)
    if not file.is_file():
        answering = _Answering(load(), template, settings, report)
        mend(unfinished, notice, _turn_of)
        answering.load(unfinished)
        with RecordWriter(unfinished) as journal:
            if journal.repaired:
                notice(journal.repaired)
            answering.run(questions, journal)
        _write_answers(file, questions, answering.turns, settings)
    unfinished.unlink(missing_ok=True)
    return summary(file)


def summary(file: Path) -> dict[str, Any]:
    """Numbers of turns by mark in a file of our answers, tokens written, warnings, and a digest of the answers."""
    answers = [line.content for line in read_lines(file)]
    lines = [answer.get("smaug", {}) for answer in answers]
    marks = Counter(mark for extra in lines for mark in extra.get("marks", []))
    result = sha256_of_text(canonical_json([[answer.get("question_id"), answer.get("choices")] for answer in answers]))
    words = {
        EMPTY: "empty answers",
        TRUNCATED: "answers cut off at the longest length",
        FAILED: "turns without an answer, as the conversation fills the model's context",
    }
    warnings = [f"{file.stem}: {text}: {marks[mark]}" for mark, text in words.items() if marks[mark]]
    tokens = sum(sum(extra.get("tokens", [])) for extra in lines)
    return {"turns": dict(marks), "tokens": tokens, "warnings": warnings, "result": result}


class _Answering:
    """Turns finished so far, and finishing the rest."""

    def __init__(self, model: Answerer, template: Template, settings: AnswerSettings, report: Progress) -> None:
        self.turns: dict[tuple[QuestionId, int], Turn] = {}
        self._model, self._template, self._settings, self._report = model, template, settings, report

    def load(self, file: Path) -> None:
        """Take over what was finished before."""
        for turn in sound_lines(file, _turn_of):
            self.turns[turn.question_id, turn.turn] = turn

    def run(self, questions: Sequence[Question], journal: RecordWriter) -> None:
        """All first turns, then all second ones."""
        total = sum(len(question.turns) for question in questions)
        for number in (1, 2):
            asked = [question for question in questions if len(question.turns) >= number]
            self._answer(
                [question for question in asked if (question.question_id, number) not in self.turns],
                number,
                journal,
                total,
            )

    def _answer(self, questions: Sequence[Question], number: int, journal: RecordWriter, total: int) -> None:
        asked: list[Question] = []
        prompts: list[list[int]] = []
        samplings: list[Sampling] = []

        def keep(question: Question, generation: Generation) -> None:
            sampling = self._sampling(question, number)
            text = self._template.finished(generation.text)
            turn = Turn(question.question_id, number, text, generation.tokens, generation.finish_reason, sampling.seed)
            journal.append(turn)
            self.turns[turn.question_id, number] = turn
            self._report(len(self.turns), total, f"turn {number}")

        for question in questions:
            prompt = self._prompt(question, number)
            if prompt is None:
                keep(question, Generation("", 0, NO_ROOM))
            else:
                asked.append(question)
                prompts.append(prompt)
                samplings.append(self._sampling(question, number))
        again: list[int] = []

        def done(index: int, generation: Generation) -> None:
            if self._template.stop and not generation.text and generation.finish_reason == "stop":
                again.append(index)
            else:
                keep(asked[index], generation)

        if prompts:
            self._model.generator.generate(prompts, samplings, done)
        if again:  # ended at its very beginning: at a stop text, which does not count there (Template.finished)
            again.sort()
            self._model.generator.generate(
                [prompts[index] for index in again],
                [replace(samplings[index], stop=()) for index in again],
                lambda place, generation: keep(asked[again[place]], generation),
            )

    def _sampling(self, question: Question, number: int) -> Sampling:
        return Sampling(
            temperature=temperature(question.category),
            max_new_tokens=self._settings.max_new_tokens,
            stop=self._template.stop,
            stop_token_ids=self._template.stop_token_ids,
            seed=seed_of(self._settings.seed, question.question_id, number),
        )

    def _prompt(self, question: Question, number: int) -> list[int] | None:
        """The conversation so far in tokens; None where there is no room for an answer, or was none before."""
        before = [self.turns[question.question_id, earlier] for earlier in range(1, number)]
        if any(turn.mark == FAILED for turn in before):
            return None
        prompt = self._template.token_ids(question.turns[:number], [turn.text for turn in before])
        return prompt if len(prompt) < self._model.context else None


def _turn_of(line: Line) -> Turn:
    known = {key: line.value(key) for key in ("turn", "tokens", "finish_reason", "seed")}
    return Turn(question_id(line), text=line.text("text"), **known)


def _set_other_answers_aside(file: Path, unfinished: Path, settings: Mapping[str, Any], notice: Notice) -> None:
    """Keep, under other names, what was answered with other settings, and record the present ones."""
    if read_settings(file) != settings:
        for old in (file, unfinished):
            if old.is_file():
                notice(f"{old} was made with other settings and is now {set_aside(old).name}")
    write_json(settings_file(file), settings)


def _write_answers(
    file: Path,
    questions: Sequence[Question],
    turns: Mapping[tuple[QuestionId, int], Turn],
    settings: AnswerSettings,
) -> None:
    lines = []
    for question in questions:
        answered = [turns[question.question_id, number] for number in range(1, len(question.turns) + 1)]
        record = AnswerRecord(
            question_id=question.question_id,
            answer_id=uuid.uuid4().hex,
            model_id=settings.model,
            choices=(tuple(turn.text for turn in answered),),
            tstamp=time.time(),
            smaug={
                "template": settings.template,
                "temperature": temperature(question.category),
                "seeds": [turn.seed for turn in answered],
                "marks": [turn.mark for turn in answered],
                "tokens": [turn.tokens for turn in answered],
                "finish_reasons": [turn.finish_reason for turn in answered],
            },
        )
        lines.append(json.dumps(record.as_json()) + "\n")
    write_text(file, "".join(lines))
