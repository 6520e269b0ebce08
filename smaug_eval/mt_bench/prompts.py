"""What a judge is sent: exactly the text of FastChat's ``run_judge_single`` and ``run_judge_pair`` (common.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smaug_eval.errors import SmaugError
from smaug_eval.mt_bench.questions import JudgePrompt, Question, QuestionSet

_NAMES = {"single": ("single-v1", "single-math-v1"), "pairwise": ("pair-v2", "pair-math-v1")}


@dataclass(frozen=True)
class JudgeRequest:
    """One question to a judge.

    Attributes:
        prompt_name: The judge prompt's name, which a judgment records.
        system: The system message.
        user: The user message.
    """

    prompt_name: str
    system: str
    user: str


def judge_prompt(question: Question, turn: int, kind: str, questions: QuestionSet) -> JudgePrompt:
    """The prompt a turn of a question is judged with.

    Args:
        question: Its category decides whether the prompt carries a reference answer.
        turn: 1 or 2; the second has a prompt of its own, which shows both.
        kind: ``single`` or ``pairwise``.
        questions: Holds the prompts.

    Raises:
        SmaugError: the set has no such prompt, or the question has no such turn.
    """
    if not 1 <= turn <= len(question.turns):
        raise SmaugError(f"question {question.question_id} has no turn {turn}", fix="judge the turns that it has")
    name = _NAMES[kind][question.needs_reference] + ("-multi-turn" if turn == 2 else "")
    prompt = questions.judge_prompts.get(name)
    if prompt is None:
        here = ", ".join(questions.judge_prompts)
        raise SmaugError(f"the judge prompts have none called {name!r}: {here}", fix="add it to judge_prompts.jsonl")
    if prompt.type != kind:
        raise SmaugError(f"judge prompt {name!r} is of type {prompt.type}, not {kind}", fix="mend judge_prompts.jsonl")
    return prompt


def single_prompt(question: Question, answers: Sequence[str], turn: int, questions: QuestionSet) -> JudgeRequest:
    """How a judge is asked to rate an answer.

    Args:
        question: What was asked.
        answers: What the model answered to each turn, up to ``turn`` at least.
        turn: Which one to rate.
        questions: Judge prompts and reference answers.

    Raises:
        SmaugError: the set lacks the prompt or the reference answer, or there is no answer to the turn.
    """
    prompt = judge_prompt(question, turn, "single", questions)
    answered = _answered(question, answers, turn)
    texts = {f"answer_{n}": answer for n, answer in enumerate(answered, 1)} if turn == 2 else {"answer": answered[0]}
    return _request(prompt, question, turn, texts, questions)


def pair_prompt(
    question: Question, answers_a: Sequence[str], answers_b: Sequence[str], turn: int, questions: QuestionSet
) -> JudgeRequest:
    """How a judge is asked which of two answers is better, ``answers_a`` shown first.

    Args and errors as in :func:`single_prompt`.
    """
    prompt = judge_prompt(question, turn, "pairwise", questions)
    texts = {}
    for side, answers in (("a", answers_a), ("b", answers_b)):
        for number, answer in enumerate(_answered(question, answers, turn), 1):
            texts[f"answer_{side}_{number}" if turn == 2 else f"answer_{side}"] = answer
    return _request(prompt, question, turn, texts, questions)


def _request(
    prompt: JudgePrompt, question: Question, turn: int, texts: Mapping[str, str], questions: QuestionSet
) -> JudgeRequest:
    asked = {f"question_{n}": text for n, text in enumerate(question.turns, 1)} if turn == 2 else {}
    asked = asked or {"question": question.turns[0]}
    try:
        user = prompt.prompt_template.format(**asked, **texts, **_references(question, turn, questions))
    except KeyError as error:
        raise SmaugError(
            f"judge prompt {prompt.name!r} has the field {error}, which turn {turn} of question "
            f"{question.question_id} does not fill",
            fix="mend judge_prompts.jsonl, or add the reference answer",
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
