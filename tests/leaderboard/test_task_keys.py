"""What is wrong in the YAML of a user's task is said with file, line and key before any data are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.lm_eval.settings import TaskSettings
from smaug_eval.leaderboard.lm_eval.suite import lm_eval_suite
from smaug_eval.leaderboard.lm_eval.task_keys import check_generation
from tests.lm_eval_folder import write_mirror, write_tasks


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mirror(tmp_path_factory.mktemp("data"), {"train": 2, "test": 2})


def refused(data: Path, folder: Path, name: str, **settings: Any) -> SmaugError:
    with pytest.raises(SmaugError) as error:
        lm_eval_suite([name], TaskSettings(include_path=folder, **settings), data_root=data, commits={})
    return error.value


def line_of(file: Path, key: str) -> int:
    return next(
        number for number, line in enumerate(file.read_text().splitlines(), 1) if line.lstrip("- ").startswith(key)
    )


@pytest.mark.parametrize(
    ("task", "changed", "key", "words"),
    [
        ("own_choice", {"output_type": "nonsense"}, "output_type", "output_type must be one of loglikelihood, "),
        ("own_choice", {"dataset_path": 5}, "dataset_path", "dataset_path must be text, not 5"),
        ("own_choice", {"num_fewshot": "three"}, "num_fewshot", "num_fewshot must be a whole number, 0 or more"),
        ("own_choice", {"num_fewshot": -1}, "num_fewshot", "num_fewshot must be a whole number, 0 or more, not -1"),
        ("own_choice", {"repeats": 0}, "repeats", "repeats must be a whole number above 0, not 0"),
        ("own_choice", {"repeats": "a"}, "repeats", "repeats must be a whole number above 0, not a"),
        ("own_choice", {"doc_to_txt": "x"}, "doc_to_txt", "no key 'doc_to_txt'; did you mean 'doc_to_text'?"),
        ("own_choice", {"metric_list": "acc"}, "metric_list", "metric_list must be a list of mappings"),
        ("own_choice", {"metric_list": [{"aggregation": "mean"}]}, "aggregation", "a list of entries with metric"),
        (
            "own_choice",
            {"metric_list": [{"metric": "acc", "aggregation": "nosuch"}]},
            "aggregation",
            "aggregation must be one of ",
        ),
        ("own_choice", {"process_docs": "text"}, "process_docs", "process_docs must be !function FILE.NAME, not text"),
        ("own_choice", {"process_results": "text"}, "process_results", "must be !function FILE.NAME"),
        ("own_choice", {"dataset_kwargs": "x"}, "dataset_kwargs", "dataset_kwargs must be a mapping of keys"),
        ("own_choice", {"description": 5}, "description", "description must be text"),
        ("own_choice", {"target_delimiter": 5}, "target_delimiter", "target_delimiter must be text"),
        ("own_generation", {"generation_kwargs": "x"}, "generation_kwargs", "must be a mapping of keys, not x"),
        ("own_generation", {"filter_list": "x"}, "filter_list", "filter_list must be a list of mappings, not x"),
        ("own_generation", {"filter_list": [{"filter": []}]}, "filter:", "a list of entries with name and filter"),
        (
            "own_generation",
            {"filter_list": [{"name": "a", "filter": [{"function": "nosuch"}]}]},
            "function",
            "function must be one of custom, ",
        ),
        (
            "own_generation",
            {"filter_list": [{"filter": [{"function": "regex", "regex_pattern": "("}], "name": "a"}]},
            "regex_pattern",
            "regex_pattern must be a regular expression, not (",
        ),
        (
            "own_generation",
            {"filter_list": [{"filter": [{"function": "take_first_k"}], "name": "a"}]},
            "function",
            "k must be a whole number above 0",
        ),
        ("own_group", {"task": "own_choice"}, "task", "task must be a list of names, not own_choice"),
        ("own_group", {"task": []}, "task", "task must be a list of names, not an empty list"),
        ("own_group", {"task": [5]}, "5", "a list of names, or of mappings with task or group, not 5"),
        ("own_group", {"task": ["own_choise"]}, "own_choise", "there is no task, tag or group 'own_choise'; did you"),
        (
            "own_group",
            {"aggregate_metric_list": "acc"},
            "aggregate",
            "aggregate_metric_list must be a list of mappings",
        ),
    ],
)
def test_a_wrong_key_is_named_with_its_line(
    task: str, changed: dict[str, Any], key: str, words: str, data: Path, tmp_path: Path
) -> None:
    folder = write_tasks(tmp_path, **{task: changed})
    file = folder / f"{task}.yaml"
    error = refused(data, folder, task)
    assert words in error.message
    assert error.message.startswith(f"{file}, line {line_of(file, key)}: ")
    assert error.fix


def test_a_group_that_holds_itself(data: Path, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path, own_group={"task": ["own_choice", "other"]})
    (folder / "other.yaml").write_text("group: other\ntask: [own_group]\n")
    error = refused(data, folder, "own_group")
    assert "own_group.yaml: group 'own_group' is a member of itself: own_group > other > own_group" in error.message


def test_a_metric_that_no_member_has(data: Path, tmp_path: Path) -> None:
    """lm-eval gives such a group no score, and says nothing."""
    folder = write_tasks(tmp_path, own_group={"aggregate_metric_list": [{"metric": "nosuch"}]})
    error = refused(data, folder, "own_group")
    assert (
        "own_group.yaml, line 2): none of its tasks has the metric 'nosuch'; they have acc, acc_norm" in error.message
    )


def test_names_and_files_that_lm_eval_leaves_out_in_silence(data: Path, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "name", own_choice={"task": 5})
    assert "own_choice.yaml: the name 5 is no text" in refused(data, folder, "own_choice").message
    folder = write_tasks(tmp_path / "tag", ["own_choice"], own_choice={"tag": 5})
    assert "tag must be a text or a list of texts, not 5" in str(refused(data, folder, "own_choice").fix)


def test_what_a_task_does_not_find_in_its_data_is_named_with_its_line(data: Path, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path, own_choice={"test_split": "nosuch"})
    place = f"{folder / 'own_choice.yaml'}, line {line_of(folder / 'own_choice.yaml', 'test_split')}"
    assert f"cannot be loaded ({place}): KeyError: there is no 'nosuch'" in refused(data, folder, "own_choice").message
    broken = tmp_path / "bad.json"
    broken.write_text("{no json")
    files = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(broken), "train": str(broken)}}}
    folder = write_tasks(tmp_path / "broken", own_choice=files)
    error = refused(data, folder, "own_choice")
    assert f"cannot be loaded ({folder / 'own_choice.yaml'}): " in error.message
    assert "JSON parse error" in error.message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_gen_toks": "many"}, "max_gen_toks must be a whole number above 0, not 'many'"),
        ({"max_new_tokens": -3}, "max_new_tokens must be a whole number above 0, not -3"),
        ({"temperature": "hot"}, "temperature must be a number, 0 or more, not 'hot'"),
        ({"temperature": -1.0}, "temperature must be a number, 0 or more, not -1.0"),
        ({"top_p": 2}, "top_p must be a number above 0, 1 at most, not 2"),
        ({"seed": "a"}, "seed must be a whole number, 0 or more, not 'a'"),
        ({"until": 5}, "until must be a text or a list of texts, not 5"),
        ({"until": {"a": 1}}, "until must be a text or a list of texts"),
        ({"do_sample": "yes"}, "do_sample must be true or false, not 'yes'"),
    ],
)
def test_settings_that_no_generation_can_have(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SmaugError, match="task 't': generation_kwargs") as error:
        check_generation("t", settings)
    assert words in error.value.message


def test_settings_of_the_evaluation_are_looked_at_too(data: Path, tmp_path: Path) -> None:
    error = refused(data, write_tasks(tmp_path), "own_generation", gen_kwargs={"max_gen_toks": "many"})
    assert error.message.startswith("task 'own_generation': generation_kwargs.max_gen_toks must be")
    check_generation("t", {"until": ["a"], "max_gen_toks": 3, "temperature": 0, "top_p": 1, "do_sample": False})


def test_a_task_with_code_may_have_keys_and_functions_of_its_own(data: Path, tmp_path: Path) -> None:
    """Its class reads them, and its modules register filters; the rest is looked at as ever."""
    filters = [{"name": "a", "filter": [{"function": "mine"}]}]
    folder = write_tasks(tmp_path, ["own_choice"], own_choice={"mine": 1, "filter_list": filters})
    with (folder / "own_choice.yaml").open("a") as file:
        file.write("process_docs: !function tools.docs\n")
    assert "would run code that is not lm-eval's own" in refused(data, folder, "own_choice").message
    with (folder / "own_choice.yaml").open("a") as file:
        file.write("repeats: 0\n")
    assert "repeats must be a whole number above 0" in refused(data, folder, "own_choice").message
