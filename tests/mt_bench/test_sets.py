"""Question sets of others: more than two turns, part of a set, own categories of references, own forms of verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.generation import Generation
from smaug_eval.mt_bench.answers import Answerer, AnswerSettings, answer_questions
from smaug_eval.mt_bench.files.question_files import load_question_set
from smaug_eval.mt_bench.files.questions import JudgePrompt, Selection
from smaug_eval.mt_bench.files.record_files import read_answers
from smaug_eval.mt_bench.judge.prompts import for_turn, pair_prompt, single_prompt
from tests.mt_bench.conftest import judge_prompt_lines, write_lines

FastChats = JudgePrompt(
    "single-v1-multi-turn",
    "single",
    "Your evaluation should focus on the assistant's answer to the second user question.",
    "<A>\n\n### User:\n{question_1}\n\n### Assistant:\n{answer_1}\n\n### User:\n{question_2}\n\n"
    "### Assistant:\n{answer_2}\n\n</A> {{}}",
    "[[rating]]",
)


def bench(folder: Path, questions: list[dict[str, Any]], answers: dict[str, list[list[str]]], **more: Any) -> Path:
    write_lines(folder / "question.jsonl", questions)
    write_lines(folder / "judge_prompts.jsonl", more.get("prompts") or judge_prompt_lines())
    ids = [question.get("question_id", question.get("id")) for question in questions]
    for model, own in answers.items():
        rows = [{"question_id": n, "choices": [{"turns": turns}]} for n, turns in zip(ids, own, strict=True)]
        write_lines(folder / "model_answer" / f"{model}.jsonl", rows)
    return folder


def rate_length(system: str, user: str) -> str:
    return f"[[{len(user) % 10 + 1}]]"


def test_the_prompt_of_later_turns_repeats_that_of_the_second_in_its_own_words() -> None:
    third = for_turn(FastChats, 3)
    assert third.system_prompt.endswith("answer to the third user question.")
    assert third.prompt_template == (
        "<A>\n\n### User:\n{question_1}\n\n### Assistant:\n{answer_1}\n\n### User:\n{question_2}\n\n"
        "### Assistant:\n{answer_2}\n\n### User:\n{question_3}\n\n### Assistant:\n{answer_3}\n\n</A> {{}}"
    )


def test_the_real_prompts_for_a_third_turn(shared: Path) -> None:
    prompts = load_question_set(shared / "mt_bench").judge_prompts
    for name, blocks in (("single-v1", 1), ("single-math-v1", 2), ("pair-v2", 2), ("pair-math-v1", 3)):
        second, third = prompts[f"{name}-multi-turn"], for_turn(prompts[f"{name}-multi-turn"], 3)
        assert third.prompt_template.count("{question_3}") == second.prompt_template.count("{question_2}") == blocks
        assert "third " in third.system_prompt
        assert "second " not in third.system_prompt
        assert for_turn(prompts[f"{name}-multi-turn"], 4).prompt_template.count("_4}") == 2 * blocks


def test_dialogues_of_four_turns_from_the_answer_to_the_report(tmp_path: Path) -> None:
    """In MT-Bench-101's form."""
    history = [{"user": f"Turn {n}?", "bot": f"Gold {n}."} for n in range(1, 5)]
    rows = [{"id": n, "task": "CM", "history": history} for n in (1, 2)]
    folder = bench(tmp_path / "b", rows, {"m": [[f"Answer {n}." for n in range(1, 5)]] * 2})
    questions = load_question_set(folder)
    assert questions.questions[0].turns == ("Turn 1?", "Turn 2?", "Turn 3?", "Turn 4?")
    assert (questions.questions[0].category, questions.questions[0].reference) == (
        "CM",
        tuple(f"Gold {n}." for n in range(1, 5)),
    )
    scores = {1: 4, 2: 6, 3: 9, 4: 3}

    def judge(system: str, user: str) -> str:
        return f"[[{scores[max(n for n in scores if f'Turn {n}?' in user)]}]]"

    result = smaug_eval.judge_mt_bench(folder, judge=judge, questions=folder)
    found = smaug_eval.score_mt_bench(result.file, details=True)["m"]
    assert (found["turn1"], found["turn2"], found["later"]) == (4, 6, {"3": 9, "4": 3})
    assert found["average"] == pytest.approx(22 / 4)
    assert found["n"] == 8
    page = smaug_eval.report(folder, tmp_path / "r.html").read_text()
    assert '<th scope="col">turn 4</th>' in page
    frame = smaug_eval.judged_scores(folder)
    assert frame.set_index("column")["score"].to_dict() == {
        "turn 1": 4, "turn 2": 6, "average": 5.5, "turn 3": 9, "turn 4": 3, "CM": 5.5,
    }  # fmt: skip
    first_two = smaug_eval.judge_mt_bench(folder, tmp_path / "two", judge=judge, questions=folder, turns=2)
    assert smaug_eval.score_mt_bench(first_two.file)["m"]["n"] == 4


def test_first_questions_and_first_turns_are_no_whole_set(tmp_path: Path, question_folder: Path) -> None:
    whole = load_question_set(question_folder)
    part = load_question_set(question_folder, selection=Selection(limit=3, turns=1))
    assert [len(question.turns) for question in part.questions] == [1, 1, 1]
    assert part.title == "questions, first 3 questions, first turn only"
    assert part.fingerprint != whole.fingerprint
    assert load_question_set(question_folder, selection=Selection()) == whole


def test_mt_bench_s_first_questions_are_called_so(shared: Path) -> None:
    assert load_question_set(shared / "mt_bench", selection=Selection(limit=5)).title == "MT-Bench, first 5 questions"


def test_categories_of_references_are_a_setting(tmp_path: Path) -> None:
    rows = [
        {"question_id": 1, "category": "math", "turns": ["2 + 2?"]},
        {"question_id": 2, "category": "推論", "turns": ["なぜ?"]},
    ]
    folder = bench(tmp_path / "b", rows, {"m": [["4"], ["さあ"]]})
    with pytest.raises(SmaugError, match=r"there are no reference answers|reference_categories"):
        load_question_set(folder)
    without = load_question_set(folder, selection=Selection(reference_categories=()))
    assert single_prompt(without.questions[0], ["4"], 1, without).prompt_name == "single-v1"
    assert smaug_eval.judge_mt_bench(folder, judge=rate_length, questions=folder, reference_categories=[]).summary
    write_lines(folder / "reference_answer" / "gpt-4.jsonl", [{"question_id": 2, "choices": [{"turns": ["だから"]}]}])
    own = load_question_set(folder, selection=Selection(reference_categories=("推論",)))
    assert "だから" in single_prompt(own.questions[1], ["さあ"], 1, own).user
    assert pair_prompt(own.questions[0], ["4"], ["5"], 1, own).prompt_name == "pair-v2"
    with pytest.raises(SmaugError, match="no question is of category 'Math'; did you mean 'math'"):
        load_question_set(folder, selection=Selection(reference_categories=("Math",)))


def test_what_of_a_set_is_not_used_is_said(tmp_path: Path) -> None:
    rows = [{"question_id": 1, "category": "Math", "turns": ["?"], "system": "Be brief."}]
    folder = bench(tmp_path / "b", rows, {"m": [["4"]]})
    summary = smaug_eval.judge_mt_bench(folder, judge=rate_length, questions=folder).summary
    assert summary is not None
    text = " ".join(summary["warnings"])
    assert "key 'system' of 1 questions is not used" in text
    assert "category 'Math' is not 'math' to FastChat" in text


def test_other_forms_of_questions(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "7", "category": "글쓰기", "questions": ["하나?", "둘?"], "references": [None, None]},
        {"uid": "q-1", "category": "hard", "prompt": "One?"},
        {"question_id": 3.0, "category": "x", "turns": [{"content": "First?"}, {"content": "Then?"}]},
    ]
    write_lines(tmp_path / "question.jsonl", rows)
    write_lines(tmp_path / "judge_prompts.jsonl", judge_prompt_lines())
    found = load_question_set(tmp_path).questions
    assert [(each.question_id, each.turns) for each in found] == [
        (7, ("하나?", "둘?")), ("q-1", ("One?",)), (3, ("First?", "Then?")),
    ]  # fmt: skip


def test_a_form_of_verdict_that_nothing_reads_is_refused_before_any_call(tmp_path: Path) -> None:
    prompts = [line | {"output_format": '{"score": n}'} for line in judge_prompt_lines()]
    rows = [{"question_id": 1, "category": "x", "turns": ["?"]}]
    folder = bench(tmp_path / "b", rows, {"m": [["yes"]]}, prompts=prompts)
    asked: list[str] = []

    def judge(system: str, user: str) -> str:
        asked.append(user)
        return 'Thus: {"reason": "it is [[1]]", "score": 8}'

    with pytest.raises(SmaugError, match=r"asks for '\{\"score\": n\}', not \[\[rating\]\]") as caught:
        smaug_eval.judge_mt_bench(folder, judge=judge, questions=folder)
    assert "--" not in str(caught.value)
    assert not asked
    for verdict in ("json", "json:score", r'"score":\s*(\d+)'):
        result = smaug_eval.judge_mt_bench(folder, judge=judge, questions=folder, verdict=verdict)
        assert smaug_eval.score_mt_bench(result.file)["m"]["average"] == 8
    assert len(asked) == 1
    with pytest.raises(SmaugError, match="no regular expression"):
        smaug_eval.judge_mt_bench(folder, judge=judge, questions=folder, verdict="(")


def test_answers_to_another_set_with_the_same_numbers_are_refused(tmp_path: Path) -> None:
    for name, text in (("one", "What?"), ("two", "Why?")):
        rows = [{"question_id": n, "category": "x", "turns": [text]} for n in (1, 2, 3)]
        bench(tmp_path / name, rows, {})
    made = answered(tmp_path / "one", tmp_path / "out", lambda prompt: Generation("Yes.", 3, "stop"))
    assert smaug_eval.judge_mt_bench(made, judge=rate_length, questions=tmp_path / "one").summary
    assert smaug_eval.judge_mt_bench(made, judge=rate_length, questions=tmp_path / "one", limit=2).summary
    with pytest.raises(SmaugError, match="answers another question set") as caught:
        smaug_eval.judge_mt_bench(made, judge=rate_length, questions=tmp_path / "two", dry_run=True)
    assert "(questions)" in str(caught.value)


class Written:
    """A generator that writes what ``say`` says of the prompt's text."""

    def __init__(self, say: Callable[[str], Generation]) -> None:
        self.say = say
        self.prompts: list[str] = []

    def generate(self, prompts: Any, samplings: Any, on_done: Any = None) -> list[Generation]:
        texts = [bytes(prompt).decode() for prompt in prompts]
        self.prompts += texts
        found = [self.say(text) for text in texts]
        for number, each in enumerate(found):
            on_done(number, each)
        return found


class Bytes:
    """A template whose tokens are bytes."""

    name, stop, stop_token_ids = "bytes", (), ()

    def text(self, questions: Any, answers: Any) -> str:
        return "\n".join((*questions, *answers))

    def prompt(self, questions: Any, answers: Any) -> list[int]:
        return list(self.text(questions, answers).encode())

    def finished(self, text: str) -> str:
        return text.strip()


def answered(folder: Path, out: Path, say: Callable[[str], Generation], thinking: str = "strip") -> Path:
    from smaug_eval.mt_bench.files.questions import questions_hash

    questions = load_question_set(folder)
    model = Written(say)
    settings = AnswerSettings(
        "m", "0", questions.title, questions_hash(questions.questions), "bytes", None, 1, 99, "torch", "auto", thinking
    )
    answer_questions(
        lambda: Answerer(model, 10_000),
        Bytes(),
        questions.questions,
        settings,
        out / "model_answer",
        report=lambda done, total, note: None,
        notice=lambda text: None,
    )
    (out / "prompts.json").write_text(json.dumps(model.prompts))
    return out / "model_answer" / "m.jsonl"


def think(prompt: str) -> Generation:
    if "Third" in prompt:
        return Generation("<think>Hm, and so on", 99, "length")
    return Generation(f"<think>\nHm {len(prompt)}\n</think>\n\nYes.", 9, "stop")


def test_thinking_is_taken_out_before_the_next_turn_and_the_judge_and_recorded(tmp_path: Path) -> None:
    rows = [{"question_id": 1, "category": "x", "turns": ["First?", "Second?", "Third?"]}]
    folder = bench(tmp_path / "b", rows, {})
    file = answered(folder, tmp_path / "out", think)
    (record,) = read_answers([file])
    assert record.turns == ("Yes.", "Yes.", "")
    assert record.smaug["marks"] == ["ok", "ok", "only thinking"]
    assert record.smaug["thinking"] == ["Hm 6", "Hm 19", "Hm, and so on"]
    assert not any("think" in prompt for prompt in json.loads((tmp_path / "out" / "prompts.json").read_text()))
    page = smaug_eval.report(tmp_path / "out", tmp_path / "r.html").read_text()
    assert "thinking taken out" in page

    kept = answered(folder, tmp_path / "kept", think, "keep")
    (record,) = read_answers([kept])
    assert record.turns[0] == "<think>\nHm 6\n</think>\n\nYes."
    assert "thinking" not in record.smaug
    seen: list[str] = []

    def judge(system: str, user: str) -> str:
        seen.append(user)
        return "[[5]]"

    smaug_eval.judge_mt_bench(kept, judge=judge, questions=folder)  # as they were made
    assert any("<think>" in user for user in seen)
    seen.clear()
    smaug_eval.judge_mt_bench(kept, tmp_path / "other", judge=judge, questions=folder, thinking="strip")
    assert len(seen) == 3
    assert not any("think" in user for user in seen)


def test_thinking_in_answers_of_others_is_taken_out_and_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [{"question_id": 1, "category": "x", "turns": ["?"]}]
    folder = bench(tmp_path / "b", rows, {"m": [["<think>Hm</think>Yes."]]})
    seen: list[str] = []

    def judge(system: str, user: str) -> str:
        seen.append(user)
        return "[[5]]"

    result = smaug_eval.judge_mt_bench(folder, judge=judge, questions=folder)
    assert seen == ["? Yes."]
    settings = json.loads(result.file.with_suffix(".settings.json").read_text())
    assert settings["thinking"] == {"m": 1}


def test_a_turn_without_an_answer_names_the_model(tmp_path: Path) -> None:
    rows = [{"question_id": 1, "category": "x", "turns": ["?", "And?"]}]
    folder = bench(tmp_path / "b", rows, {"good": [["a", "b"]], "short": [["a"]]})
    with pytest.raises(SmaugError, match="short has not answered turn 2 of question 1"):
        smaug_eval.judge_mt_bench(folder, judge=rate_length, questions=folder)
    assert smaug_eval.judge_mt_bench(folder, judge=rate_length, questions=folder, turns=1).summary


def test_a_function_as_judge_and_answers_in_memory(tmp_path: Path) -> None:
    rows = [{"question_id": n, "category": "x", "turns": ["?"]} for n in (1, 2)]
    folder = bench(tmp_path / "b", rows, {})
    lines = [{"question_id": n, "model_id": "m", "choices": [{"turns": [f"says {n}"]}]} for n in (1, 2)]
    for number, answers in enumerate((lines, pd.DataFrame(lines))):
        result = smaug_eval.judge_mt_bench(answers, tmp_path / str(number), judge=rate_length, questions=folder)
        assert (result.judge, result.summary and result.summary["judgments"]) == ("rate_length", 2)

    def broken(system: str, user: str) -> str:
        raise RuntimeError("out of luck")

    with pytest.raises(SmaugError, match="RuntimeError: out of luck") as caught:
        smaug_eval.judge_mt_bench(lines, tmp_path / "x", judge=broken, questions=folder, backoff=0)
    assert caught.value.exit_code == 5
    with pytest.raises(SmaugError, match="judge: a function is wanted, not a str"):
        smaug_eval.judge_mt_bench(lines, judge="gpt-4", questions=folder)  # type: ignore[arg-type]
    with pytest.raises(SmaugError, match="judge: a function cannot be recorded"):
        smaug_eval.run_mt_bench("embedded:demo-model", judge=rate_length, runs=tmp_path)  # type: ignore[arg-type]
