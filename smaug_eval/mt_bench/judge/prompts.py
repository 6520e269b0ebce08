"""Build a judge's messages: exactly the text of FastChat's ``run_judge_single`` and ``run_judge_pair`` (common.py)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from string import Formatter

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files.questions import JudgePrompt, Question, QuestionSet

_ORDINALS = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_NUMBERED = re.compile(r"(?P<stem>[a-z_]+)_(?P<number>\d+)")
_NAMES = {"single": ("single-v1", "single-math-v1"), "pairwise": ("pair-v2", "pair-math-v1")}


@dataclass(frozen=True)
class JudgeRequest:
    """Hold one request to a judge.

    Attributes:
        prompt_name: The judge prompt's name, which a judgment records.
        system: The system message.
        user: The user message.
    """

    prompt_name: str
    system: str
    user: str


def judge_prompt(question: Question, turn: int, kind: str, questions: QuestionSet) -> JudgePrompt:
    """Return the prompt a turn of a question is judged with.

    Args:
        question: Its category decides whether the prompt carries a reference answer.
        turn: From 1; the second has a prompt of its own, which shows both, and each later one the second's with as many
            turns more, or one called ``<name>-turn-<turn>`` where the set has that.
        kind: ``single`` or ``pairwise``.
        questions: Holds the prompts.

    Raises:
        SmaugError: the set has no such prompt, or the question has no such turn.
    """
    if not 1 <= turn <= len(question.turns):
        raise SmaugError(f"question {question.question_id} has no turn {turn}", fix="judge the turns that it has")
    first = _NAMES[kind][question.needs_reference]
    name = first + ("-multi-turn" if turn > 1 else "")
    own = questions.judge_prompts.get(f"{first}-turn-{turn}")
    prompt = own or questions.judge_prompts.get(name)
    if prompt is None:
        here = ", ".join(questions.judge_prompts)
        raise SmaugError(f"the judge prompts have none called {name!r}: {here}", fix="add it to judge_prompts.jsonl")
    if prompt.type != kind:
        raise SmaugError(
            f"judge prompt {name!r} is of type {prompt.type}, not {kind}", fix="correct judge_prompts.jsonl"
        )
    return prompt if own or turn <= 2 else for_turn(prompt, turn)


def for_turn(prompt: JudgePrompt, turn: int) -> JudgePrompt:
    """Return the prompt of second turns made one for a later turn, in its own words.

    What stands from ``{question_1}`` to ``{answer_1}`` and again to ``{answer_2}`` is repeated for every further turn;
    a field of the second turn that stands alone becomes one of the last; and the system message's "second user
    question" becomes the third, and so on.

    Args:
        prompt: FastChat's for second turns, or one like it.
        turn: 3 or more.
    """
    pieces = list(Formatter().parse(prompt.prompt_template))
    text, place = "", 0
    while place < len(pieces):
        literal, name = pieces[place][:2]
        length = _repeated(pieces, place)
        if not length:
            text += _escaped(literal) + ("" if name is None else f"{{{_of_last(name, turn)}}}")
            place += 1
            continue
        again = pieces[place + length : place + 2 * length]
        text += "".join(f"{_escaped(each[0])}{{{each[1]}}}" for each in pieces[place : place + 2 * length])
        for number in range(3, turn + 1):
            text += "".join(f"{_escaped(each[0])}{{{_of_last(str(each[1]), number)}}}" for each in again)
        place += 2 * length
    ordinal = _ORDINALS[turn] if turn < len(_ORDINALS) else f"{turn}th"
    system = re.sub(r"\bsecond (?=user question|question|turn)", f"{ordinal} ", prompt.system_prompt)
    return replace(prompt, system_prompt=system, prompt_template=text)


def _repeated(pieces: Sequence[tuple[str, str | None, str | None, str | None]], start: int) -> int:
    """How many fields in a row of the first turn, from ``start``, stand again for the second; 0 where they do not."""
    for length in range((len(pieces) - start) // 2, 0, -1):
        first = [str(piece[1]) for piece in pieces[start : start + length]]
        second = [str(piece[1]) for piece in pieces[start + length : start + 2 * length]]
        if all(name.endswith("_1") for name in first) and second == [f"{name[:-2]}_2" for name in first]:
            return length
    return 0


def _of_last(name: str, turn: int) -> str:
    found = _NUMBERED.fullmatch(name)
    return f"{found['stem']}_{turn}" if found and found["number"] == "2" else name


def _escaped(literal: str) -> str:
    return literal.replace("{", "{{").replace("}", "}}")


def single_prompt(question: Question, answers: Sequence[str], turn: int, questions: QuestionSet) -> JudgeRequest:
    """Return the request to rate an answer.

    Args:
        question: The question.
        answers: What the model answered to each turn, up to ``turn`` at least.
        turn: Which one to rate.
        questions: Judge prompts and reference answers.

    Raises:
        SmaugError: the set lacks the prompt or the reference answer, or there is no answer to the turn.
    """
    prompt = judge_prompt(question, turn, "single", questions)
    answered = _answered(question, answers, turn)
    texts = {f"answer_{n}": answer for n, answer in enumerate(answered, 1)} if turn > 1 else {"answer": answered[0]}
    return _request(prompt, question, turn, texts, questions)


def pair_prompt(
    question: Question, answers_a: Sequence[str], answers_b: Sequence[str], turn: int, questions: QuestionSet
) -> JudgeRequest:
    """Return the request to compare two answers, ``answers_a`` shown first.

    Args and errors as in :func:`single_prompt`.
    """
    prompt = judge_prompt(question, turn, "pairwise", questions)
    texts = {}
    for side, answers in (("a", answers_a), ("b", answers_b)):
        for number, answer in enumerate(_answered(question, answers, turn), 1):
            texts[f"answer_{side}_{number}" if turn > 1 else f"answer_{side}"] = answer
    return _request(prompt, question, turn, texts, questions)


def _request(
    prompt: JudgePrompt, question: Question, turn: int, texts: Mapping[str, str], questions: QuestionSet
) -> JudgeRequest:
    asked = {f"question_{n}": text for n, text in enumerate(question.turns, 1)} if turn > 1 else {}
    asked = asked or {"question": question.turns[0]}
    try:
        user = prompt.prompt_template.format(**asked, **texts, **_references(question, turn, questions))
    except KeyError as error:
        raise SmaugError(
            f"judge prompt {prompt.name!r} has the field {error}, which turn {turn} of question "
            f"{question.question_id} does not fill",
            fix="correct judge_prompts.jsonl, or add the reference answer",
        ) from error
    return JudgeRequest(prompt.name, prompt.system_prompt, user)


def _references(question: Question, turn: int, questions: QuestionSet) -> dict[str, str]:
    if not question.needs_reference:
        return {}
    answers = questions.references.get(question.question_id, ())
    return {f"ref_answer_{number}": answer for number, answer in enumerate(answers[:turn], 1)}


def _answered(question: Question, answers: Sequence[str], turn: int) -> Sequence[str]:
    if len(answers) < turn:
        raise SmaugError(
            f"there is no answer to turn {turn} of question {question.question_id}", fix="answer it before judging"
        )
    return answers[:turn]
