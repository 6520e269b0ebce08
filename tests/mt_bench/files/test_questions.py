from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fastchat.llm_judge.common import NEED_REF_CATS

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files.question_files import (
    load_judge_prompts,
    load_question_set,
    load_questions,
    load_references,
)
from smaug_eval.mt_bench.files.questions import CATEGORIES, REFERENCE_CATEGORIES, official_category

QUESTION = {"question_id": 1, "category": "math", "turns": ["What is 2 + 2?", "And twice that?"]}
PROMPT = {
    "name": "single-v1",
    "type": "single",
    "system_prompt": "Judge.",
    "prompt_template": "{question} / {answer}",
    "output_format": "[[rating]]",
}
REFERENCE = {"question_id": 1, "choices": [{"index": 0, "turns": ["4", "8"]}]}


def write(path: Path, *lines: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A question set of one question."""
    folder = tmp_path / "sums"
    write(folder / "question.jsonl", QUESTION)
    write(folder / "judge_prompts.jsonl", PROMPT)
    write(folder / "reference_answer" / "gpt-4.jsonl", REFERENCE)
    return folder


def test_a_set_of_one_s_own(folder: Path) -> None:
    loaded = load_question_set(folder)
    assert loaded.questions[0].turns == ("What is 2 + 2?", "And twice that?")
    assert loaded.judge_prompts["single-v1"].prompt_template == "{question} / {answer}"
    assert loaded.references == {1: ("4", "8")}
    assert (loaded.official, loaded.title, loaded.name) == (False, "sums", "sums")
    assert load_question_set(folder, name="easy sums").title == "easy sums"


@pytest.mark.parametrize("name", ["mt_bench", "MT-Bench", "my mt bench 2"])
def test_a_set_of_one_s_own_is_never_called_mt_bench(folder: Path, name: str) -> None:
    assert load_question_set(folder, name=name).title == "own questions"


def test_judge_prompts_may_stand_one_folder_up_as_in_fastchat_s_tree(folder: Path) -> None:
    here = load_question_set(folder).fingerprint
    (folder / "judge_prompts.jsonl").rename(folder.parent / "judge_prompts.jsonl")
    assert load_question_set(folder).fingerprint == here


def test_the_fingerprint_follows_the_content_and_not_the_line_ends(folder: Path) -> None:
    before = load_question_set(folder).fingerprint
    path = folder / "question.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_question_set(folder).fingerprint == before
    write(folder / "question.jsonl", QUESTION | {"category": "coding"})
    assert load_question_set(folder).fingerprint != before


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("question.jsonl", "{", "line 2: not valid JSON in UTF-8"),
        ("question.jsonl", "[1]", "line 2: not a JSON object"),
        ("question.jsonl", {"category": "math", "turns": ["?"]}, "line 2: key 'question_id' is missing"),
        ("question.jsonl", QUESTION | {"question_id": 2.5}, "line 2: key 'question_id' is not a number or a text"),
        ("question.jsonl", QUESTION | {"question_id": True}, "line 2: key 'question_id' is not a number or a text"),
        ("question.jsonl", QUESTION | {"question_id": 2, "turns": "?"}, "line 2: key 'turns' is not a list of texts"),
        ("question.jsonl", QUESTION | {"question_id": 2, "turns": []}, "line 2: key 'turns' is not a list of texts"),
        ("question.jsonl", QUESTION | {"question_id": 2, "turns": [1]}, "line 2: key 'turns' is not a list of texts"),
        ("question.jsonl", QUESTION | {"question_id": 2, "category": None}, "line 2: key 'category' is not a text"),
        ("question.jsonl", QUESTION | {"question_id": "1"}, "line 2: question 1 stands twice"),
        ("judge_prompts.jsonl", PROMPT | {"type": "triple"}, "line 2: key 'type' is 'triple'"),
        ("judge_prompts.jsonl", PROMPT | {"output_format": "[[A]]"}, "line 2: key 'output_format' is '[[A]]'"),
        ("judge_prompts.jsonl", PROMPT | {"prompt_template": "{x}"}, "line 2: key 'prompt_template' has the unknown"),
        ("judge_prompts.jsonl", PROMPT | {"prompt_template": "{}"}, "line 2: key 'prompt_template' has the unknown"),
        ("judge_prompts.jsonl", PROMPT | {"prompt_template": "{answer:9}"}, "line 2: key 'prompt_template' has the"),
        ("judge_prompts.jsonl", PROMPT | {"prompt_template": "{answer!r}"}, "line 2: key 'prompt_template' has the"),
        ("judge_prompts.jsonl", PROMPT | {"prompt_template": "{"}, "line 2: key 'prompt_template':"),
        (
            "judge_prompts.jsonl",
            PROMPT | {"prompt_template": "{question.__class__}"},
            "line 2: key 'prompt_template' has the unknown field 'question.__class__'",
        ),
        ("reference_answer/gpt-4.jsonl", {"question_id": 1, "choices": []}, "line 2: key 'choices' is not a list"),
        (
            "reference_answer/gpt-4.jsonl",
            {"question_id": 1, "choices": [{"turns": [4]}]},
            "line 2: key 'turns' is not a list of texts",
        ),
    ],
)  # fmt: skip
def test_malformed_lines_are_named(folder: Path, name: str, line: Any, message: str) -> None:
    path = folder / name
    write(path, path.read_text().strip(), line)
    with pytest.raises(SmaugError) as refused:
        load_question_set(folder)
    assert f"{path}, {message}" in str(refused.value)


def test_bytes_that_are_no_text_are_named(folder: Path) -> None:
    (folder / "question.jsonl").write_bytes(b'{"question_id": "\xff"}\n')
    with pytest.raises(SmaugError, match="line 1: not valid JSON in UTF-8"):
        load_questions(folder)


@pytest.mark.parametrize("turns", [["4"], None])
def test_a_question_without_the_reference_it_needs_is_refused(folder: Path, turns: list[str] | None) -> None:
    write(
        folder / "reference_answer" / "gpt-4.jsonl",
        *([{"question_id": 1, "choices": [{"turns": turns}]}] if turns else []),
    )
    with pytest.raises(
        SmaugError, match=r"gpt-4\.jsonl: question 1 \(math\) has no reference answer for each of its 2"
    ):
        load_question_set(folder)


def test_missing_files_say_what_there_is(folder: Path) -> None:
    with pytest.raises(
        SmaugError, match=r"no reference answers 'corrected' \(gpt-4-1106-preview\.jsonl\) in .*: gpt-4"
    ):
        load_question_set(folder, "corrected")
    with pytest.raises(SmaugError, match="no reference answers"):
        load_references(folder, "../reference_answer/gpt-4")
    (folder / "question.jsonl").unlink()
    with pytest.raises(SmaugError, match=r"question\.jsonl is not there\n  fix: give a folder in FastChat's layout"):
        load_question_set(folder)


@pytest.mark.parametrize("load", [load_questions, load_judge_prompts])
def test_empty_files_are_refused(folder: Path, load: Any) -> None:
    for name in ("question.jsonl", "judge_prompts.jsonl"):
        write(folder / name)
    with pytest.raises(SmaugError, match=r"has no (question|prompt)"):
        load(folder)


def test_categories_by_number() -> None:
    assert [official_category(number) for number in (81, 90, 91, 111, 160)] == [
        "writing", "writing", "roleplay", "math", "humanities",
    ]  # fmt: skip
    assert [official_category(number) for number in (80, 161, "81", -1)] == [None] * 4
    assert frozenset(NEED_REF_CATS) == REFERENCE_CATEGORIES


def test_the_real_files(shared: Path, tmp_path: Path) -> None:
    original = load_question_set(shared / "mt_bench")
    assert (original.official, original.title, len(original.questions)) == (True, "MT-Bench", 80)
    assert Counter(question.category for question in original.questions) == dict.fromkeys(CATEGORIES, 10)
    assert all(official_category(question.question_id) == question.category for question in original.questions)
    assert sorted(original.references) == list(range(101, 131))
    assert len(original.judge_prompts) == 8
    corrected = load_question_set(shared / "mt_bench", "corrected")
    assert (corrected.official, corrected.title) == (True, "MT-Bench, corrected references")
    assert corrected.fingerprint != original.fingerprint
    assert load_question_set(shared / "mt_bench", "gpt-4") == original
    shutil.copytree(shared / "mt_bench", tmp_path / "mt_bench")
    path = tmp_path / "mt_bench" / "question.jsonl"
    path.write_text(path.read_text().replace("Hawaii", "Iceland"))
    changed = load_question_set(tmp_path / "mt_bench")
    assert (changed.official, changed.title) == (False, "own questions")
