"""What a judge is sent, against what FastChat's own functions send and what real judgments recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastchat.llm_judge import common, gen_judgment

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files.question_files import load_question_set
from smaug_eval.mt_bench.files.questions import JudgePrompt, Question, QuestionSet
from smaug_eval.mt_bench.files.record_files import read_answers, read_judgments
from smaug_eval.mt_bench.judge.prompts import pair_prompt, single_prompt

MODELS = ("vicuna-7b-v1.3", "llama-13b")
ODD = ["{question} {0} }{ %s \\n", "日本 \u2028 [[10]]"]


class Sent(Exception):
    """Carries what FastChat was about to send."""


@pytest.fixture
def fastchat(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(model: str, conversation: Any, temperature: float, max_tokens: int) -> str:
        assert (model, temperature, max_tokens) == ("gpt-4", 0, 2048)
        raise Sent(conversation.to_openai_api_messages())

    monkeypatch.setattr(common, "chat_completion_openai", send)


def sent(match: Any, play: Any) -> tuple[str, str]:
    with pytest.raises(Sent) as caught:
        play(match, None)
    system, user = caught.value.args[0]
    assert (system["role"], user["role"]) == ("system", "user")
    return system["content"], user["content"]


def matches(folder: Path, reference: str, mode: str, answers: dict[str, Any]) -> Iterator[Any]:
    """All of gen_judgment's matches for two models, as its main part makes them."""
    questions = common.load_questions(str(folder / "question.jsonl"), None, None)
    prompts = common.load_judge_prompts(str(folder / "judge_prompts.jsonl"))
    references = {"gpt-4": common.load_model_answers(str(folder / "reference_answer"))[reference]}
    math = [question for question in questions if question["category"] in common.NEED_REF_CATS]
    default = [question for question in questions if question["category"] not in common.NEED_REF_CATS]
    single = mode == "single"
    judges = (gen_judgment.make_judge_single if single else gen_judgment.make_judge_pairwise)("gpt-4", prompts)
    make = gen_judgment.make_match_single if single else gen_judgment.make_match_all_pairs
    for turn, suffix in ((1, ""), (2, "-mt")):
        plain, with_reference = judges["default" + suffix], judges["math" + suffix]
        yield from make(default, MODELS, answers, plain, None, multi_turn=turn == 2)
        yield from make(math, MODELS, answers, with_reference, None, references, multi_turn=turn == 2)


@pytest.mark.parametrize(("references", "stem"), [("original", "gpt-4"), ("corrected", "gpt-4-1106-preview")])
def test_single_prompts_equal_those_fastchat_sends(shared: Path, fastchat: None, references: str, stem: str) -> None:
    questions = load_question_set(shared / "mt_bench", references)
    by_id = {question.question_id: question for question in questions.questions}
    answers = common.load_model_answers(str(shared / "mt_bench" / "model_answer"))
    count = 0
    for match in matches(shared / "mt_bench", stem, "single", answers):
        turns = match.answer["choices"][0]["turns"]
        request = single_prompt(by_id[match.question["question_id"]], turns, 1 + match.multi_turn, questions)
        assert (request.system, request.user) == sent(match, common.play_a_match_single)
        assert request.prompt_name == match.judge.prompt_template["name"]
        count += 1
    assert count == 80 * 2 * 2


def test_pair_prompts_equal_those_fastchat_sends(shared: Path, fastchat: None) -> None:
    questions = load_question_set(shared / "mt_bench")
    by_id = {question.question_id: question for question in questions.questions}
    answers = common.load_model_answers(str(shared / "mt_bench" / "model_answer"))
    answers["llama-13b"][81]["choices"][0]["turns"] = ODD
    count = 0
    for match in matches(shared / "mt_bench", "gpt-4", "pair", answers):
        question = by_id[match.question["question_id"]]
        first, second = (each["choices"][0]["turns"] for each in (match.answer_1, match.answer_2))
        request = pair_prompt(question, first, second, 1 + match.multi_turn, questions)
        assert (request.system, request.user) == sent(match, common.play_a_match_pair)
        assert request.prompt_name == match.judge.prompt_template["name"]
        count += 1
    assert count == 80 * 2


def test_prompts_equal_those_of_real_judgments_of_the_same_answers(shared: Path) -> None:
    folder = shared / "mt_bench"
    questions = load_question_set(folder)
    by_id = {question.question_id: question for question in questions.questions}
    answers = {each.question_id: each.turns for each in read_answers([folder / "model_answer" / f"{MODELS[0]}.jsonl"])}
    equal = {False: 0, True: 0}
    for record in read_judgments([folder / "model_judgment" / "medusa_gpt-4_single.jsonl"]).single:
        turns, question = answers[record.question_id], by_id[record.question_id]
        # Some of this model's answers were made again before they were judged: their prompts hold other texts.
        if record.model == MODELS[0] and all(text in record.user_prompt for text in turns[: record.turn]):
            request = single_prompt(question, turns, record.turn, questions)
            assert (request.prompt_name, request.user) == (record.judge[1], record.user_prompt)
            equal[question.needs_reference] += 1
    assert equal == {False: 73, True: 48}


@pytest.mark.parametrize("name", ["medusa_gpt-4_single", "routellm_gpt-4_single", "gpt-4_pair"])
def test_prompts_equal_those_of_all_real_judgments_around_the_answers(shared: Path, name: str) -> None:
    questions = load_question_set(shared / "mt_bench")
    by_id = {question.question_id: question for question in questions.questions}
    found = read_judgments([shared / "mt_bench" / "model_judgment" / f"{name}.jsonl"])
    for record in found.single:
        question = by_id[record.question_id]
        frame = single_prompt(question, ["\x00", "\x00"], record.turn, questions)
        answers = between(frame.user, record.user_prompt)
        again = single_prompt(question, answers, record.turn, questions)
        assert (again.prompt_name, again.user) == (record.judge[1], record.user_prompt)
    for pair in found.pairs:
        question = by_id[pair.question_id]
        frame = pair_prompt(question, ["\x00"], ["\x00"], pair.turn, questions)
        first, second = between(frame.user, pair.g1_user_prompt)
        assert pair_prompt(question, [first], [second], pair.turn, questions).user == pair.g1_user_prompt
        assert pair_prompt(question, [second], [first], pair.turn, questions).user == pair.g2_user_prompt
    assert len(found.single) + len(found.pairs) in (480, 320, 75)


def between(frame: str, text: str) -> list[str]:
    """What stands in a text where its frame has a NUL."""
    first, *others = frame.split("\x00")
    assert text.startswith(first)
    rest, parts = text[len(first) :], []
    for piece in others[:-1]:
        part, _, rest = rest.partition(piece)
        parts.append(part)
    assert rest.endswith(others[-1])
    return [*parts, rest[: len(rest) - len(others[-1])]]


SET = QuestionSet(
    name="sums",
    questions=(),
    judge_prompts={
        "single-v1": JudgePrompt("single-v1", "single", "Judge.", "Q {question} A {answer}", "[[rating]]"),
        "single-math-v1-multi-turn": JudgePrompt(
            "single-math-v1-multi-turn",
            "single",
            "",
            "{question_1}{ref_answer_1}{question_2}{ref_answer_2}|{answer_1}{answer_2}",
            "[[rating]]",
        ),
        "pair-v2": JudgePrompt("pair-v2", "single", "", "", "[[rating]]"),
    },
    references={1: ("r1", "r2")},
    reference_name="original",
    fingerprint="",
    official=False,
)
SUM = Question(1, "math", ("q1", "q2"))


def test_prompts_of_a_set_of_one_s_own() -> None:
    assert single_prompt(SUM, ["a1", "a2", "a3"], 2, SET).user == "q1r1q2r2|a1a2"
    plain = single_prompt(replace(SUM, category="writing"), ["a1"], 1, SET)
    assert (plain.prompt_name, plain.system, plain.user) == ("single-v1", "Judge.", "Q q1 A a1")
    assert single_prompt(replace(SUM, category="poems", turns=("{q}",)), ["{a}"], 1, SET).user == "Q {q} A {a}"


@pytest.mark.parametrize(
    ("question", "answers", "turn", "message"),
    [
        (SUM, ["a1", "a2"], 1, "the judge prompts have none called 'single-math-v1': single-v1"),
        (SUM, ["a1"], 2, "there is no answer to turn 2 of question 1"),
        (SUM, ["a1", "a2"], 3, "question 1 has no turn 3"),
        (replace(SUM, category="stem", turns=("q1",)), ["a1", "a2"], 2, "question 1 has no turn 2"),
        (replace(SUM, question_id=2), ["a1", "a2"], 2, "has the field 'ref_answer_1', which turn 2 of question 2"),
    ],
)
def test_what_is_missing_is_named(question: Question, answers: list[str], turn: int, message: str) -> None:
    with pytest.raises(SmaugError) as refused:
        single_prompt(question, answers, turn, SET)
    assert message in str(refused.value)


def test_a_prompt_of_the_other_kind_is_refused() -> None:
    with pytest.raises(SmaugError, match="judge prompt 'pair-v2' is of type single, not pairwise"):
        pair_prompt(replace(SUM, category="stem"), ["a"], ["b"], 1, SET)


def test_answers_are_put_in_as_they_are(shared: Path) -> None:
    questions = load_question_set(shared / "mt_bench")
    request = single_prompt(questions.questions[0], ODD, 2, questions)
    assert all(text in request.user for text in ODD)
    assert json.dumps(request.user)
