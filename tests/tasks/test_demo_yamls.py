"""The demo suite: its YAML files, the packaged data, and the reader on made-up data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.demo import demo_suite
from smaug_eval.leaderboard.protocol import requests
from smaug_eval.leaderboard.registry import find_suite


@pytest.fixture(scope="module")
def manager() -> TaskManager:
    return TaskManager(include_path=str(demo_suite().folder), include_defaults=False)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Made-up files for the tasks that read something of their own: preamble and subjects."""
    quiz = [
        {"question": f"{subject} {n}?", "subject": subject, "choices": ["a", "b", "c", "d"], "answer": n % 4}
        for subject in ("sea_animals", "tools")
        for n in range(5)
    ]
    write_lines(tmp_path / "demo_subjects" / "dev.jsonl", quiz)
    write_lines(tmp_path / "demo_subjects" / "test.jsonl", quiz)
    write_lines(
        tmp_path / "demo_truth" / "test.jsonl",
        [
            {
                "question": "Do\u2028elves fly?",
                "mc1_targets": {"choices": ["No.", "Yes."], "labels": [1, 0]},
                "mc2_targets": {"choices": ["No.", "Yes."], "labels": [1, 0]},
            }
        ],
    )
    (tmp_path / "demo_truth" / "preamble.txt").write_text("Q: Who sings?\nA: Elves sing.\n", encoding="utf-8")
    return tmp_path


def test_subjects_come_from_the_data(data: Path) -> None:
    suite = demo_suite(data)
    (subjects,) = suite.select(["Subjects"])
    assert [leaf.name for leaf in subjects.leaves] == ["demo_subjects_sea_animals", "demo_subjects_tools"]
    documents = suite.documents("demo_subjects_sea_animals")
    assert sorted(document["doc"] for document in documents) == [0, 1, 2, 3, 4]
    opening = "The following are multiple choice questions (with answers) about sea animals.\n\nsea_animals 0?\nA. a\n"
    assert all(document["ctx"].startswith(opening) for document in documents)
    assert all(document["ctx"].count("Answer: ") == 5 for document in documents)


def test_the_preamble_comes_from_the_data(data: Path) -> None:
    (document,) = demo_suite(data).documents("demo_truth")
    assert document["ctx"] == "Q: Who sings?\nA: Elves sing.\n\nQ: Do\u2028elves fly?\nA:"


def test_a_damaged_line_is_named(data: Path) -> None:
    suite = demo_suite(data)
    write_lines(data / "demo_truth" / "test.jsonl", [{"question": "Who?"}])
    with pytest.raises(SmaugError, match=r"demo_truth/test\.jsonl, line 1 .*mc1_targets"):
        suite.documents("demo_truth")
    with pytest.raises(SmaugError, match=r"demo_facts/train\.jsonl cannot be read"):
        suite.documents("demo_facts")


def test_index_holds_the_suite_and_nothing_else(manager: TaskManager) -> None:
    suite = find_suite("demo")
    assert set(manager.all_subtasks) == {leaf.name for column in suite.columns for leaf in column.leaves}
    assert set(manager.all_groups) == {"demo", "demo_subjects"}
    assert [column.title for column in suite.columns] == [
        "Facts",
        "Endings",
        "Subjects",
        "Truth",
        "Pronouns",
        "Arithmetic",
    ]


def test_lm_eval_asks_the_protocol_s_requests(manager: TaskManager) -> None:
    suite = find_suite("demo")
    for name, task in manager.load(["demo"])["tasks"].items():
        task.build_all_requests()
        spec = suite.task(name)
        expected = [pair for document in suite.documents(name) for pair in requests(spec, document)]
        asked = [instance.args for instance in task.instances]
        if spec.generation:
            assert task.config.generation_kwargs == {
                "until": list(spec.generation.stops),
                "do_sample": False,
                "max_gen_toks": spec.generation.max_new_tokens,
            }
            asked = [(context, json.dumps({"until": settings["until"]})) for context, settings in asked]
        assert asked == expected, name
