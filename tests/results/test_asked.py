"""What a task was asked with: documents, shots, version, harness, as every version of a file says it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.results.asked import Asked, asked_of, documents_asked, limit_words, shot_words, words
from smaug_eval.results.scored import score_paths
from smaug_eval.results.sources import read_source
from tests.results.others import STAMP, accuracy, lines, newest, older, sample, write

GSM8K = "gsm8k"
ROWS = 1319
"""Documents of GSM8K."""


@pytest.mark.parametrize(
    ("more", "n"),
    [
        ({"n-samples": {GSM8K: {"original": ROWS, "effective": 100}}, "config": {"limit": None}}, 100),
        ({"config": {"limit": None}}, ROWS),
        ({"config": {"limit": 100}}, 100),
        ({"config": {"limit": 100.0}}, 100),
        ({"config": {"limit": "100"}}, 100),
        ({"config": {"limit": 0.1}}, 132),  # of 1,319, rounded up as lm-eval does
        ({"config": {"limit": 5000}}, ROWS),
        ({"config": {}}, None),
        ({"config": {"limit": "all"}}, None),
        ({"config_general": {"model_name": "m", "max_samples": 10}}, 10),
        ({"config_general": {"model_name": "m", "max_samples": "null"}}, ROWS),
        ({"config_tasks": {"gsm8k": {"effective_num_docs": 7, "original_num_docs": ROWS}}, "config": {}}, 7),
    ],
)
def test_documents_scored(tmp_path: Path, more: dict[str, Any], n: int | None) -> None:
    write(tmp_path / "r.json", {"results": {GSM8K: {"exact_match,strict-match": 0.5}}, "versions": {}, **more})
    ((result,),) = (list(tasks.values()) for tasks in read_source(tmp_path).results.values())
    assert result.n == n


def test_samples_say_how_many_before_the_limit_does(tmp_path: Path) -> None:
    write(tmp_path / f"results_{STAMP}.json", newest({"mine": accuracy(0.5)}, n=None, config={"limit": None}))
    rows = [sample(number, float(number < 3)) for number in range(6)]
    write(tmp_path / f"samples_mine_{STAMP}.jsonl", lines(rows))
    assert read_source(tmp_path).results["org/model"]["mine"].n == 6


def test_an_unknown_number_is_said_and_no_percentage_is_lost(tmp_path: Path) -> None:
    write(tmp_path / "r.json", newest({"mine": accuracy(0.5)}, n=None, config={"limit": None}))
    (table,) = score_paths([tmp_path]).others
    (cell,) = table.cells["org/model"]
    assert cell is not None
    assert (cell.score.value, cell.score.n) == (50.0, None)
    assert cell.score.interval == pytest.approx((50 - 19.6, 50 + 19.6), abs=0.01)  # from the standard error of 0.1
    assert "number of documents not recorded" in " ".join(cell.score.notes)


@pytest.mark.parametrize(
    ("document", "shots"),
    [
        ({"n-shot": {GSM8K: 8}, "config": {"num_fewshot": 0}}, 8),
        ({"configs": {GSM8K: {"num_fewshot": 5}}, "config": {"num_fewshot": None}}, 5),
        ({"config": {"num_fewshot": 8}}, 8),
        ({"config": {"num_fewshot": [2, 2]}}, 2),
        ({"config": {"num_fewshot": "2,3"}, "results": {"other": {}, GSM8K: {}}}, 3),
        ({"config": {"num_fewshot": [2, 3]}, "results": {"other": {}, GSM8K: {}}}, 3),
        ({"config": {"num_fewshot": [2, 3, 4]}, "results": {"other": {}, GSM8K: {}}}, None),
        ({"n-shot": {GSM8K: "N/A"}, "config": {"num_fewshot": None}}, None),
        ({}, None),
    ],
)
def test_shots(document: dict[str, Any], shots: int | None) -> None:
    assert asked_of({"results": {GSM8K: {}}, **document}, GSM8K, 1).shots == shots


@pytest.mark.parametrize("task", ["harness|gsm8k|5", "leaderboard|gsm8k|5", "lighteval|gsm8k|5|0"])
def test_shots_in_a_name(task: str) -> None:
    assert asked_of({"results": {task: {}}, "config_general": {"num_few_shot_default": 0}}, task, 0).shots == 5


@pytest.mark.parametrize(
    ("document", "harness"),
    [
        ({"lm_eval_version": "0.4.13", "results": {"t": {"acc,none": 1}}}, "lm-eval 0.4.13"),
        ({"results": {"t": {"acc,none": 1}}, "configs": {}}, "lm-eval 0.4.0 to 0.4.2"),
        ({"results": {"t": {"acc,none": 1}}, "n-samples": {}}, "lm-eval 0.4.3 or later"),
        ({"results": {"t": {"acc": 1}}, "config": {}}, "harness 0.2 or 0.3"),
        ({"results": {"t": {"acc": 1}}, "config_general": {}}, "lighteval"),
        ({"results": {"t": {"acc": 1}}, "config": {"annotator_model": "auto"}}, "evalchemy"),
    ],
)
def test_what_ran_it(document: dict[str, Any], harness: str) -> None:
    assert asked_of(document, "t", 0).harness == harness


def test_words() -> None:
    assert words(Asked(shots=25, harness="lm-eval 0.4.1")) == "25 shots, lm-eval 0.4.1"
    assert words(Asked(shots=1, limit=100.0, harness="lighteval")) == "1 shot, limit 100, lighteval"
    assert limit_words(Asked(limit=0.25)) == "limit 25%"
    assert shot_words(None) == ""


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(["config", "configs", "n-shot", "versions", "config_general", "n-samples", "gen_kwargs"]),
)
def test_whatever_a_file_holds_is_read_or_unknown(value: object, key: str) -> None:
    for document in ({key: value}, {key: {"t": value}}, {"config": {key: value, "limit": value, "num_fewshot": value}}):
        found = asked_of({"results": {"t": {}}, **document}, "t", 0)
        assert found.shots is None or found.shots >= 0
        assert found.limit is None or (found.limit > 0 and math.isfinite(found.limit))
        assert documents_asked(found, 10) in {None, *range(11)}


def not_comparable(path: Path) -> str:
    """Why the only column of the leaderboard does not compare, as ``scores`` says it."""
    (views,) = score_paths([path]).views
    return "; ".join(note for note in views.columns[0].v1.notes if note.startswith("not comparable"))


def test_shots_and_versions_decide_what_compares_with_the_leaderboard(tmp_path: Path) -> None:
    """Shots that only the configuration names, and hendrycksTest from before and after pull request 497."""
    eight = write(tmp_path / "a.json", older({GSM8K: accuracy(0.1, metric="acc")}, num_fewshot=8))
    assert not_comparable(eight) == "not comparable: 8 shots, the leaderboard's 5"
    five = write(tmp_path / "b.json", older({GSM8K: accuracy(0.1, metric="acc")}, num_fewshot=5))
    assert not_comparable(five) == ""
    subject = "hendrycksTest-anatomy"
    before = older({subject: accuracy(0.4, metric="acc_norm") | {"acc": 0.3}}, num_fewshot=5)
    old = write(tmp_path / "c.json", before)
    assert "version 0 of hendrycksTest, from before the harness's pull request 497" in not_comparable(old)
    new = write(tmp_path / "d.json", {**before, "versions": {subject: 1}})
    assert "version" not in not_comparable(new)


def test_two_versions_of_a_task_do_not_compare(tmp_path: Path) -> None:
    for model, version in (("one", 0), ("two", 1)):
        document = older(
            {"hendrycksTest-anatomy": accuracy(0.4, metric="acc")}, f"pretrained=org/{model}", num_fewshot=5
        )
        write(tmp_path / f"{model}.json", {**document, "versions": {"hendrycksTest-anatomy": version}})
    comparison = score_paths([tmp_path]).comparison
    (table,) = comparison.all_tables
    (cell,) = table.cells["org/two"]
    assert cell is not None
    assert cell.difference is None
    assert "task version: 1 for org/two, 0 for org/one" in str(cell.why_not)


def test_a_suite_s_name_is_for_what_was_run_by_its_rules(tmp_path: Path) -> None:
    """lm-eval 0.4.1 at no shots is neither suite; its own label says what was run."""
    entry = {"arc_challenge": accuracy(0.5, metric="acc_norm,none")}
    document = newest(entry, n=1172, shots=0)
    del document["lm_eval_version"], document["n-samples"]
    write(tmp_path / "r.json", document)
    (table,) = score_paths([tmp_path]).comparison.tables
    assert table.suite == "leaderboard_v1_tasks"
    assert table.labels == {"ARC": "0 shots, lm-eval 0.4.0 to 0.4.2"}
    (cell,) = table.cells["org/model"]
    assert cell is not None
    assert (cell.score.value, cell.score.n) == (50.0, 1172)


@pytest.mark.parametrize(("one", "other", "compare"), [("1.0", 1.0, True), (1, 1.0, True), ("1.0", "2.0", False)])
def test_versions_are_the_same_however_they_are_written(
    tmp_path: Path, one: object, other: object, compare: bool
) -> None:
    for name, version in (("org/a", one), ("org/b", other)):
        document = newest({"quiz": accuracy(0.5)}, model=name)
        write(tmp_path / f"{name[-1]}.json", {**document, "versions": {"quiz": version}})
    (table,) = score_paths([tmp_path]).others
    (cell,) = table.cells["org/b"]
    assert cell is not None
    assert (cell.difference is not None) is compare
