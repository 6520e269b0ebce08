"""Generate a model's answers to a question set by FastChat's protocol (gen_model_answer.py), turn by turn.

What a reasoning model thinks before it answers is no part of the answer: unless configured otherwise, it is taken out
before the next turn and the judge read on, and recorded.

While a model answers, every finished turn is appended to ``<model>.turns``; from those ``<model>.jsonl`` is written at
the end, in the order of the questions. Stopped at any moment, the same call resumes with the turns that are missing.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from smaug_eval.common.files import canonical_json, sha256_of_text, write_json, write_text
from smaug_eval.common.thinking import opens_thinking, split_thinking
from smaug_eval.engines.generation import NO_ROOM, REFUSED, Generation, Sampling
from smaug_eval.mt_bench.config import STRIP
from smaug_eval.mt_bench.files.layout import answers_file, read_settings, set_aside, settings_file
from smaug_eval.mt_bench.files.lines import JsonLine, mend, read_lines, sound_lines
from smaug_eval.mt_bench.files.questions import Question, QuestionId, question_id
from smaug_eval.mt_bench.files.records import AnswerRecord, RecordWriter
from smaug_eval.mt_bench.files.settings import AnswerSettings
from smaug_eval.mt_bench.templates import Prompt, Template

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

GOOD, EMPTY, TRUNCATED, FAILED, THOUGHT = "ok", "empty", "truncated", "failed", "only thinking"
"""What an answer is: as it should be; without text; cut off before the model ended it; not there at all; without text
since the model thought to the end."""

Progress = Callable[[int, int, str], None]
Notice = Callable[[str], None]


class Writer(Protocol):
    """Continue prompts, as a :class:`~smaug_eval.engines.generation.Generator` does those of tokens."""

    def generate(
        self,
        prompts: Sequence[Any],
        samplings: Sequence[Sampling],
        on_done: Callable[[int, Generation], None] | None = None,
    ) -> list[Generation]:
        """Continue prompts of the kind that the template makes."""
        ...


@dataclass(frozen=True)
class Answerer:
    """Hold a model that answers, in memory or at a server.

    Attributes:
        generator: Continues texts.
        context: Tokens it can read and write together; None where its server counts them.
    """

    generator: Writer
    context: int | None


@dataclass(frozen=True)
class Turn:
    """Hold one answer of a conversation.

    Attributes:
        question_id: The question.
        turn: From 1.
        text: The answer as the judge will see it.
        tokens: Tokens written, those cut off included.
        finish_reason: ``stop``, ``length``, or why there is none: ``NO_ROOM`` or ``REFUSED``.
        seed: Of its sampling.
        thinking: What the model thought before, where that was taken out of the text; empty where it was not.
        left_out: Keys of its sampling that the model's server does not take.
    """

    question_id: QuestionId
    turn: int
    text: str
    tokens: int
    finish_reason: str
    seed: int
    thinking: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """Return what the answer is."""
        if self.finish_reason in (NO_ROOM, REFUSED):
            return FAILED
        if not self.text:
            return THOUGHT if self.thinking else EMPTY
        return TRUNCATED if self.finish_reason == "length" else GOOD

    def as_json(self) -> dict[str, Any]:
        """Return the line of ``<model>.turns``."""
        line = asdict(self)
        for name in ("thinking", "left_out"):
            if not line[name]:
                del line[name]
        return line


def temperature(category: str) -> float:
    """Return the temperature at which questions of a category are answered."""
    return TEMPERATURES.get(category, OTHER_TEMPERATURE)


def seed_of(seed: int, question: QuestionId, turn: int) -> int:
    """Return a turn's own seed, of 32 bits: the same whatever else is answered beside it."""
    return int(sha256_of_text(canonical_json([seed, question, turn]))[:8], 16)


def turns_file(folder: Path, model: str) -> Path:
    """Return the finished turns of a model that has not answered everything."""
    return folder / f"{model}.turns"


def turns_left(folder: Path, settings: AnswerSettings, questions: Sequence[Question]) -> list[tuple[Question, int]]:
    """Return the turns, from 1, that a model has not answered yet with these settings.

    Args:
        folder: Of ``<model>.jsonl``.
        settings: What decides the answers.
        questions: The questions to answer.

    Raises:
        SmaugError: a file is damaged.
    """
    file = answers_file(folder, settings.model)
    every = [(question, turn) for question in questions for turn in range(1, len(question.turns) + 1)]
    if read_settings(file) != settings.as_json():
        return every
    if file.is_file():
        return []
    known = {(turn.question_id, turn.turn) for turn in sound_lines(turns_file(folder, settings.model), _turn_of)}
    return [(question, turn) for question, turn in every if (question.question_id, turn) not in known]


def check_prompts(template: Template, questions: Sequence[Question]) -> None:
    """Try a template on every first turn, before a model is loaded.

    Raises:
        SmaugError: it refuses one.
    """
    for question in questions:
        template.prompt(question.turns[:1], [])


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
    """Generate a model's answers to every turn that it has not answered yet.

    Args:
        load: Gives the model; called only where something is left to answer.
        template: How it is spoken to.
        questions: The questions to answer.
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
    _set_other_answers_aside(file, unfinished, settings.as_json(), notice)
    if not file.is_file():
        answering = _Conversations(load(), template, settings, report)
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
    """Summarise a file of our answers: turns by mark, tokens written, warnings, and a digest."""
    answers = [line.content for line in read_lines(file)]
    lines = [answer.get("smaug", {}) for answer in answers]
    marks = Counter(mark for extra in lines for mark in extra.get("marks", []))
    result = sha256_of_text(canonical_json([[answer.get("question_id"), answer.get("choices")] for answer in answers]))
    words = {
        EMPTY: "empty answers",
        THOUGHT: "answers that are thinking to the end (raise max_new_tokens)",
        TRUNCATED: "answers cut off at the longest length",
    }
    without = {
        NO_ROOM: "turns without an answer, as the conversation fills the model's context",
        REFUSED: "turns without an answer, as the model's server refuses the conversation",
    }
    ends = Counter(end for extra in lines for end in extra.get("finish_reasons", []))
    warnings = [f"{file.stem}: {text}: {marks[mark]}" for mark, text in words.items() if marks[mark]]
    warnings += [f"{file.stem}: {text}: {ends[end]}" for end, text in without.items() if ends[end]]
    left_out = Counter(key for extra in lines for keys in extra.get("left_out", []) for key in keys)
    if own := left_out["temperature"]:
        warnings.append(f"{file.stem}: answers at the server's own temperature, as it takes no other: {own}")
    if thinking := sum(bool(thoughts) for extra in lines for thoughts in extra.get("thinking", [])):
        warnings.append(f"{file.stem}: answers whose thinking was taken out before anyone reads on: {thinking}")
    tokens = sum(sum(extra.get("tokens", [])) for extra in lines)
    return {"turns": dict(marks), "tokens": tokens, "warnings": warnings, "result": result}


class _Conversations:
    """Turns finished so far, and finishing the rest."""

    def __init__(self, model: Answerer, template: Template, settings: AnswerSettings, report: Progress) -> None:
        self.turns: dict[tuple[QuestionId, int], Turn] = {}
        self._model, self._template, self._settings, self._report = model, template, settings, report
        # Some templates end inside a block of thinking, so that the model's text has no tag that opens it.
        self._opened = opens_thinking(template.text(["?"], []))

    def load(self, file: Path) -> None:
        """Take over what was finished before."""
        for turn in sound_lines(file, _turn_of):
            self.turns[turn.question_id, turn.turn] = turn

    def run(self, questions: Sequence[Question], journal: RecordWriter) -> None:
        """All first turns, then all second ones, and so on."""
        total = sum(len(question.turns) for question in questions)
        for number in range(1, max((len(question.turns) for question in questions), default=0) + 1):
            asked = [question for question in questions if len(question.turns) >= number]
            self._answer(
                [question for question in asked if (question.question_id, number) not in self.turns],
                number,
                journal,
                total,
            )

    def _answer(self, questions: Sequence[Question], number: int, journal: RecordWriter, total: int) -> None:
        asked: list[Question] = []
        prompts: list[Prompt] = []
        samplings: list[Sampling] = []

        def keep(question: Question, generation: Generation) -> None:
            sampling = self._sampling(question, number)
            text, thinking = self._finished(generation.text)
            told = generation.tokens, generation.finish_reason, sampling.seed
            thought = "\n".join(filter(None, (generation.thinking, thinking)))
            turn = Turn(question.question_id, number, text, *told, thought, generation.left_out)
            journal.append(turn)
            self.turns[turn.question_id, number] = turn
            self._report(len(self.turns), total, f"turn {number}")

        for question in questions:
            prompt, lacking = self._prompt(question, number)
            if lacking:
                keep(question, Generation("", 0, lacking))
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

    def _finished(self, text: str) -> tuple[str, str]:
        """The answer in what the model wrote, and what it thought before, where that is taken out."""
        if self._settings.thinking == STRIP:
            found = split_thinking(text, opened=self._opened)
            if found.found:
                return self._template.finished(found.answer), found.thoughts or "\n"
        return self._template.finished(text), ""

    def _sampling(self, question: Question, number: int) -> Sampling:
        return Sampling(
            temperature=temperature(question.category),
            max_new_tokens=self._settings.max_new_tokens,
            stop=self._template.stop,
            stop_token_ids=self._template.stop_token_ids,
            seed=seed_of(self._settings.seed, question.question_id, number),
        )

    def _prompt(self, question: Question, number: int) -> tuple[Prompt, str]:
        """The conversation so far, and why it has no answer: no room for one, or none before; empty where it has."""
        before = [self.turns[question.question_id, earlier] for earlier in range(1, number)]
        if failed := next((turn for turn in before if turn.mark == FAILED), None):
            return "", failed.finish_reason
        prompt = self._template.prompt(question.turns[:number], [turn.text for turn in before])
        context = self._model.context
        return prompt, NO_ROOM if context is not None and len(prompt) >= context else ""


def _turn_of(line: JsonLine) -> Turn:
    known = {key: line.value(key) for key in ("turn", "tokens", "finish_reason", "seed")}
    thinking = line.text("thinking") if "thinking" in line.content else ""
    left_out = tuple(map(str, line.content.get("left_out") or ()))
    return Turn(question_id(line), text=line.text("text"), thinking=thinking, left_out=left_out, **known)


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
                **({"thinking": thoughts} if any(thoughts := [turn.thinking for turn in answered]) else {}),
                **({"left_out": without} if any(without := [list(turn.left_out) for turn in answered]) else {}),
            },
        )
        lines.append(json.dumps(record.as_json()) + "\n")
    write_text(file, "".join(lines))
