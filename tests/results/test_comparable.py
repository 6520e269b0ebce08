"""Which evaluations compare, on which documents, and what is said where they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.results.comparable import Comparable, Conditions, Document, compare_conditions


def documents(*names: str, prompt: str = "p", target: str = "t") -> list[Document]:
    return [Document(name, f"{prompt} {name}", f"{target} {name}") for name in names]


def conditions(label: str, **changed: Any) -> Conditions:
    settings: dict[str, Any] = {
        "task_version": "1.0",
        "metric": "acc",
        "num_fewshot": 25,
        "data": "d1",
        "engine": "hf",
        "dtype": "bfloat16",
    }
    return Conditions(label=label, **settings | {"documents": documents("x", "y", "z")} | changed)


A, B = conditions("a"), conditions("b")


def test_the_same_documents_prompts_and_settings_compare() -> None:
    found = compare_conditions(A, B)
    assert (found.outcome, found.reasons, found.remarks, found.n) == (Comparable.COMPARABLE, (), (), 3)
    assert found.rows is not None
    assert [rows.tolist() for rows in found.rows] == [[0, 1, 2], [0, 1, 2]]
    assert found.words == "comparable"


def test_documents_are_matched_whatever_their_order() -> None:
    found = compare_conditions(A, replace(B, documents=documents("z", "x", "y")))
    assert found.outcome is Comparable.COMPARABLE
    assert found.rows is not None
    assert [rows.tolist() for rows in found.rows] == [[0, 1, 2], [1, 2, 0]]


def test_a_limited_evaluation_compares_on_the_documents_in_common() -> None:
    limited = conditions("b", documents=documents("y", "w"), available=1000)
    found = compare_conditions(A, limited)
    assert (found.outcome, found.n) == (Comparable.ON_COMMON_DOCUMENTS, 1)
    assert found.words == "comparable on the 1 document in common: a has 3 documents, b 2"
    assert found.remarks == ("b was limited to 2 of 1,000 documents",)
    assert found.rows is not None
    assert [rows.tolist() for rows in found.rows] == [[1], [0]]


def test_documents_there_twice_are_matched_one_by_one() -> None:
    found = compare_conditions(
        conditions("a", documents=documents("x", "x", "y")), conditions("b", documents=documents("y", "x", "x", "x"))
    )
    assert found.rows is not None
    assert [rows.tolist() for rows in found.rows] == [[0, 1, 2], [1, 2, 0]]
    assert found.n == 3


def test_other_prompts_refuse_and_the_settings_say_why() -> None:
    other = [*documents("x", prompt="q"), *documents("y", "z")]
    found = compare_conditions(A, conditions("b", documents=other, num_fewshot=5))
    assert found.outcome is Comparable.REFUSED
    assert (found.n, found.rows) == (0, None)
    assert found.words == (
        "not comparable: the prompts of 1 of 3 documents in common differ; few-shot examples: 25 for a, 5 for b"
    )


def test_other_right_answers_refuse() -> None:
    found = compare_conditions(A, replace(B, documents=documents("x", "y", "z", target="u")))
    assert found.words == "not comparable: the right answers of 3 of 3 documents in common differ"


def test_no_document_in_common_refuses() -> None:
    found = compare_conditions(A, replace(B, documents=documents("v")))
    assert found.words == "not comparable: a and b have no document in common"
    assert compare_conditions(replace(A, documents=[]), replace(B, documents=[])).outcome is Comparable.REFUSED


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("task_version", "task version"),
        ("metric", "metric"),
        ("judge", "judge"),
        ("judge_prompts", "judge's prompts"),
        ("judge_settings", "judge's settings"),
        ("generation", "generation settings"),
    ],
)
def test_what_changes_the_scoring_refuses_even_on_the_same_documents(setting: str, words: str) -> None:
    found = compare_conditions(replace(A, **{setting: "one"}), replace(B, **{setting: "two"}))
    assert (found.words, found.rows) == (f"not comparable: {words}: one for a, two for b", None)


@pytest.mark.parametrize("setting", ["num_fewshot", "fewshot_plan", "data", "chat_template", "system_prompt"])
def test_what_changes_prompts_is_a_remark_where_the_prompts_are_the_same(setting: str) -> None:
    one, two = replace(A, **{setting: "one"}), replace(B, **{setting: "two"})
    found = compare_conditions(one, two)
    assert found.outcome is Comparable.COMPARABLE
    assert [remark.endswith("; all prompts are the same nevertheless") for remark in found.remarks] == [True]
    without = compare_conditions(replace(one, documents=None, n=3), replace(two, documents=None, n=3))
    assert without.outcome is Comparable.REFUSED
    assert "one for a, two for b" in without.words


@pytest.mark.parametrize("setting", ["engine", "dtype", "batch_size", "max_length", "lm_eval_version", "hardware"])
def test_what_runs_the_model_is_a_remark(setting: str) -> None:
    found = compare_conditions(replace(A, **{setting: "one"}), replace(B, **{setting: "two"}))
    assert found.outcome is Comparable.COMPARABLE
    assert found.remarks == (
        f"{setting.replace('_version', '').replace('lm_', 'lm-').replace('_', ' ')}: one for a, two for b",
    )


def test_what_only_one_side_records_is_a_remark() -> None:
    found = compare_conditions(A, replace(B, task_version=None))
    assert (found.outcome, found.remarks) == (Comparable.COMPARABLE, ("task version: not recorded for b",))


def test_without_samples_totals_compare_by_fingerprint() -> None:
    bare = {"documents": None, "n": 3, "fingerprint": "f"}
    found = compare_conditions(conditions("a", **bare), conditions("b", **bare, num_fewshot=5))
    assert (found.outcome, found.n, found.rows) == (Comparable.COMPARABLE, 3, None)
    assert found.remarks == (
        "no samples of a and b: only totals compare",
        "few-shot examples: 25 for a, 5 for b; all prompts are the same nevertheless",
    )
    other = compare_conditions(conditions("a", **bare), conditions("b", **bare | {"fingerprint": "g"}))
    assert other.words == "not comparable: documents, prompts or their order differ"


def test_without_samples_and_fingerprints_the_reader_is_told() -> None:
    found = compare_conditions(conditions("a", documents=None, n=3), B)
    assert (found.outcome, found.n) == (Comparable.COMPARABLE, 3)
    assert found.remarks == (
        "no samples of a: only totals compare, and whether documents and prompts are the same cannot be checked",
    )


def test_without_samples_other_sizes_refuse() -> None:
    found = compare_conditions(conditions("a", documents=None, n=1172), conditions("b", documents=None, n=100))
    assert found.words == (
        "not comparable: a has 1,172 documents, b 100; without samples of a and b those in common cannot be found"
    )


def test_long_values_are_cut() -> None:
    found = compare_conditions(replace(A, judge="g" * 64), replace(B, judge="h" * 40))
    assert found.reasons == (f"judge: {'g' * 12}… for a, {'h' * 40} for b",)


@given(st.lists(st.sampled_from("uvwxyz")), st.lists(st.sampled_from("uvwxyz")))
def test_exactly_the_shared_documents_are_matched_and_both_ways_alike(own: list[str], other: list[str]) -> None:
    one, two = conditions("a", documents=documents(*own)), conditions("b", documents=documents(*other))
    found, back = compare_conditions(one, two), compare_conditions(two, one)
    shared = sum(min(own.count(name), other.count(name)) for name in set(own))
    assert (found.n, found.outcome) == (shared, back.outcome)
    if found.rows is not None and back.rows is not None:
        pairs = list(zip(*(rows.tolist() for rows in found.rows), strict=True))
        assert all(own[mine] == other[theirs] for mine, theirs in pairs)
        assert len(set(found.rows[0])) == len(set(found.rows[1])) == shared
        assert sorted(pairs) == sorted((mine, theirs) for theirs, mine in zip(*back.rows, strict=True))
