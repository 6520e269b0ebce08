"""lm-eval's own tasks over a mirror."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
from lm_eval.tasks import TaskManager

from smaug_eval.errors import SmaugError
from smaug_eval.hub_mirror import hub_from_mirror
from smaug_eval.leaderboard import modern, v1


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
    with hub_from_mirror(shared / "data"):
        task: Any = manager.load([name])["tasks"][name]
    rows = list(task.eval_docs)
    assert len(rows) == modern.SUITE.task(name).official_rows
    if name == "mmlu_anatomy":
        assert {row["subject"] for row in rows} == {"anatomy"}
        assert len(task.dataset["dev"]) == 5


def test_what_the_mirror_lacks_is_named(tmp_path: Path) -> None:
    with (
        hub_from_mirror(tmp_path),
        pytest.raises(SmaugError, match=r"does not hold allenai/winogrande \(winogrande_xl\)"),
    ):
        datasets.load_dataset(v1.WINOGRANDE.evaluated.hub_id, "winogrande_xl")


def test_the_hub_is_back_afterwards(tmp_path: Path) -> None:
    before = datasets.load_dataset
    with hub_from_mirror(tmp_path):
        assert datasets.load_dataset is not before
    with pytest.raises(SmaugError), hub_from_mirror(tmp_path):
        datasets.load_dataset("made/up")
    assert datasets.load_dataset is before
    with hub_from_mirror(None):
        assert datasets.load_dataset is before
