"""What lm-eval's own tasks read: a mirror, or the Hub at known commits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
from lm_eval.tasks import TaskManager

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import modern, v1
from smaug_eval.leaderboard.lm_eval_data import reading_at
from smaug_eval.leaderboard.protocol import data_revisions
from tests.hub.contents import json_lines, parquet, pushed
from tests.hub.fixtures import HubHere
from tests.hub.repositories import Content


@pytest.fixture(scope="module")
def manager() -> TaskManager:
    return TaskManager()


def test_the_suite_names_lm_eval_s_own_tasks(manager: TaskManager) -> None:
    assert set(modern.SUITE.lm_eval_tasks()) <= set(manager.all_tasks)
    assert {leaf.name for column in modern.SUITE.columns for leaf in column.leaves} <= set(manager.all_subtasks)
    assert [column.leaves[0].num_fewshot for column in modern.SUITE.columns] == [25, 10, 5, 0, 5, 5]


def test_its_requests_are_lm_eval_s() -> None:
    with pytest.raises(SmaugError, match="the requests of lm_eval_0413 are made by lm-eval"):
        modern.SUITE.documents("gsm8k")


@pytest.mark.parametrize("name", ["arc_challenge", "mmlu_anatomy", "truthfulqa_mc2", "gsm8k"])
def test_lm_eval_s_tasks_load_from_the_mirror(name: str, shared: Path, manager: TaskManager) -> None:
    with reading_at(shared / "data", {}):
        task: Any = manager.load([name])["tasks"][name]
    rows = list(task.eval_docs)
    assert len(rows) == modern.SUITE.task(name).official_rows
    if name == "mmlu_anatomy":
        assert {row["subject"] for row in rows} == {"anatomy"}
        assert len(task.dataset["dev"]) == 5


def test_what_the_mirror_lacks_is_named(tmp_path: Path) -> None:
    with (
        reading_at(tmp_path, {}),
        pytest.raises(SmaugError, match=r"does not hold allenai/winogrande \(winogrande_xl\)"),
    ):
        datasets.load_dataset(v1.WINOGRANDE.evaluated.hub_id, "winogrande_xl")


def test_the_hub_is_back_afterwards(tmp_path: Path) -> None:
    before = datasets.load_dataset
    with reading_at(tmp_path, {}):
        assert datasets.load_dataset is not before
    with pytest.raises(SmaugError), reading_at(tmp_path, {}):
        datasets.load_dataset("made/up")
    assert datasets.load_dataset is before
    with reading_at(None, {}):
        assert datasets.load_dataset is not before
    assert datasets.load_dataset is before


def texts(data: Any) -> list[str]:
    return list(data["text"])


@pytest.fixture
def commits(hub_here: HubHere) -> list[str]:
    """Two commits of a set of two configurations, the second on ``main``."""

    def files(mark: str) -> dict[str, Content]:
        rows = {name: [{"text": f"{mark} {name} {n}"} for n in range(3)] for name in ("one", "two")}
        sets = {name: {"train": rows[name], "test": rows[name][:1]} for name in rows}
        return {**pushed(sets), "extra/odd.jsonl": json_lines([{"text": f"{mark} odd"}])}

    repository = hub_here.hub.add_dataset("org/set", files("old"))
    repository.tag("v1")
    return [repository.branches["main"], hub_here.hub.commit("org/set", files("new"))]


def test_every_way_to_name_a_set_gives_the_known_commit(hub_here: HubHere, commits: list[str]) -> None:
    old, new = commits
    known = {"org/set": old}
    file = "hf://datasets/org/set/extra/odd.jsonl"
    with reading_at(None, known):
        read = datasets.load_dataset
        assert texts(read("org/set", "one")["train"]) == ["old one 0", "old one 1", "old one 2"]
        assert texts(read(path="org/set", name="two", split="test", revision="main")) == ["old two 0"]
        assert texts(read("org/set", "one", split="train[1:]", trust_remote_code=True)) == ["old one 1", "old one 2"]
        assert texts(read("org/set", data_files={"test": "extra/odd.jsonl"}, split="test")) == ["old odd"]
        assert texts(read("org/set", data_dir="two", split="test", streaming=True)) == ["old two 0"]
        assert texts(read("json", data_files={"test": file})["test"]) == ["old odd"]
        assert texts(read("json", data_files=file.replace("set/", f"set@{new}/"), split="train")) == ["new odd"]
        assert known == {"org/set": old, f"org/set@{new}": new}


def test_what_was_not_known_is_read_at_one_commit_which_is_noted(hub_here: HubHere, commits: list[str]) -> None:
    found: dict[str, str] = {}
    with reading_at(None, found):
        assert texts(datasets.load_dataset("org/set", "one", split="test")) == ["new one 0"]
        assert texts(datasets.load_dataset("org/set", "one", revision="v1")["test"]) == ["old one 0"]
        hub_here.hub.commit("org/set", {"one/test-00000-of-00001.parquet": parquet([{"text": "newer"}])})
        assert texts(datasets.load_dataset("org/set", "one", split="test")) == ["new one 0"]
    assert found == {"org/set": commits[1], "org/set@v1": commits[0]}
    assert data_revisions(found.items()) == {"org/set": f"{commits[1]}, {commits[0]}"}


def test_what_a_task_does_to_its_data_is_its_own_affair(hub_here: HubHere, commits: list[str]) -> None:
    with reading_at(None, {"org/set": commits[0]}):
        one = datasets.load_dataset("org/set", "one")
        one["train"].set_format("numpy")
        one["test"] = one.pop("train")
        other = datasets.load_dataset("org/set", "one")
    assert list(other) == ["train", "test"]
    assert texts(other["test"]) == ["old one 0"]
    assert other["train"].format["type"] is None


def test_a_module_that_keeps_the_function_follows_the_next_reading(hub_here: HubHere, commits: list[str]) -> None:
    with reading_at(None, {"org/set": commits[0]}):
        kept = datasets.load_dataset
    with reading_at(None, {"org/set": commits[1]}):
        assert texts(kept("org/set", "one", split="test")) == ["new one 0"]


def test_files_of_other_places_are_read_as_always(hub_here: HubHere, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json_lines([{"text": "here"}]))
    for root in (None, tmp_path):
        with reading_at(root, {}):
            assert texts(datasets.load_dataset("json", data_files=str(file), split="train")) == ["here"]
    assert hub_here.hub.requests() == []


def test_a_subject_is_the_configuration_that_lm_eval_reads(hub_here: HubHere) -> None:
    def rows(subject: str, mark: str) -> list[dict[str, Any]]:
        return [
            {"question": f"{mark} {n}?", "subject": subject, "choices": list("abcd"), "answer": 1} for n in range(5)
        ]

    names = ("anatomy", "virology")
    sets = {name: {"test": rows(name, "own"), "dev": rows(name, "own")} for name in names}
    everything = [row for name in names for row in rows(name, "all")]
    files = pushed({"all": {"test": everything, "dev": everything}, **sets})
    commit = hub_here.hub.add_dataset(v1.MMLU[0].evaluated.hub_id, files).branches["main"]
    suite = modern.SUITE.pinned(["mmlu"], None)
    task = suite.task("mmlu_anatomy")
    assert task.evaluated.pinned == commit
    assert suite.rows(task) == (sets["anatomy"]["dev"], sets["anatomy"]["test"])
    with reading_at(None, suite.commits(suite.select(["mmlu"])[0], None)):
        given = datasets.load_dataset(path="cais/mmlu", name="anatomy")
    assert given["test"].to_list() == sets["anatomy"]["test"]


def test_the_mirrors_subjects_are_those_of_its_whole(shared: Path) -> None:
    (column,) = modern.SUITE.select(["mmlu"])
    (whole,) = v1.SUITE.select(["mmlu"])
    assert modern.SUITE.column_rows(column, shared / "data") == v1.SUITE.column_rows(whole, shared / "data")
    assert modern.SUITE.data_notes(column, shared / "data") == []
    for name in ("mmlu_anatomy", "mmlu_world_religions"):
        pair = modern.SUITE.task(name), v1.SUITE.task(f"open_llm_v1_{name}")
        assert modern.SUITE.rows(pair[0], shared / "data") == v1.SUITE.rows(pair[1], shared / "data")
