from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.reports.samples.outcomes import (
    OutcomesRow,
    TaskRows,
    choose,
    fair_shares,
    outcome,
    rebased,
    task_rows,
)
from smaug_eval.results.sample_index import Located


def located(value: float, metric: str = "acc", number: int = 0) -> Located:
    return Located((str(number), "h"), 0, metric, value)


@pytest.mark.parametrize(
    ("own", "reference", "expected"),
    [
        (1.0, 0.0, "gained"),
        (0.0, 1.0, "lost"),
        (1.0, 1.0, "both right"),
        (0.0, 0.0, "both wrong"),
        (0.5, 0.49, "gained"),  # mc2: half of the probability or more on true answers
        (0.2, 0.8, "lost"),
        (1.0, None, "right"),
        (0.0, None, "wrong"),
        (1.0, math.nan, "right"),
        (math.nan, 1.0, None),
        (12.5, 10.0, None),
    ],
)
def test_outcomes(own: float, reference: float | None, expected: str | None) -> None:
    assert outcome(located(own), None if reference is None else located(reference)) == expected


def test_values_of_different_metrics_are_not_compared() -> None:
    assert outcome(located(1.0, "acc"), located(0.0, "acc_norm")) is None


def test_counts_of_outcomes(tmp_path: Path) -> None:
    paths = []
    for name, values in (("a", (0, 1, 1, 0)), ("b", (1, 1, 0, 0))):
        path = tmp_path / f"{name}.jsonl"
        lines = (
            f'{{"doc_id": {i}, "filter": "none", "metrics": ["acc"], "doc_hash": "{i}", "acc": {value}.0}}\n'
            for i, value in enumerate(values)
        )
        path.write_text("".join(lines))
        paths.append(path)
    task = task_rows("t", [*paths, None], metric="acc")
    assert task.against(0).counts == [
        {"right": 2, "wrong": 2}, {"gained": 1, "both right": 1, "lost": 1, "both wrong": 1}, {},
    ]  # fmt: skip
    assert [row.is_changed for row in task.rows] == [True, False, True, False]
    assert task.against(0)[1:] == ([4, 4, 0], 2)
    refused = task_rows("t", paths, metric="acc", refused=[1])
    assert {row.outcomes[1] for row in refused.rows} == {None}
    assert refused.against(0, refused=[1]) == ([{"right": 2, "wrong": 2}, {}], [4, 4], 0)
    assert refused.against(0, is_right=False).counts == [{}, {}]
    # The other way round, what was gained is lost.
    turned = task_rows("t", paths, metric="acc", baseline=1)
    assert turned.rows[0].outcomes == ("lost", "right")


@given(
    st.lists(
        st.lists(st.none() | st.tuples(st.sampled_from([0.0, 1.0, 0.4, 7.0, math.nan]), st.sampled_from("ab")),
                 min_size=3, max_size=3).filter(any),
        min_size=1, max_size=6,
    ),
    st.integers(0, 2), st.sets(st.integers(0, 2)),
)  # fmt: skip
def test_counts_are_those_of_the_single_documents(
    values: list[list[tuple[float, str] | None]], baseline: int, refused: set[int]
) -> None:
    rows = [OutcomesRow((str(number), ""), tuple(None if each is None else located(*each) for each in own), ())
            for number, own in enumerate(values)]  # fmt: skip
    task = TaskRows("t", (None, None, None), rows)
    single = rebased(task, baseline, refused=refused).rows
    found = task.against(baseline, refused=refused)
    assert found.counts == [Counter(row.outcomes[model] for row in single if row.outcomes[model]) for model in range(3)]
    assert found.changed == sum(row.is_changed for row in single)
    assert found.measured == [sum(row.found[model] is not None for row in rows) for model in range(3)]


def test_shares_are_even_and_what_one_leaves_goes_to_the_others() -> None:
    assert fair_shares([10, 1, 10], 9) == [4, 1, 4]
    assert fair_shares([3, 3, 3], 5) == [2, 2, 1]
    assert fair_shares([2, 1], 9) == [2, 1]
    assert fair_shares([], 9) == []
    assert fair_shares([5], 0) == [0]


@given(st.lists(st.integers(0, 60), max_size=8), st.integers(0, 200))
def test_shares_use_the_total_and_nobody_gets_much_more(wanted: list[int], total: int) -> None:
    shares = fair_shares(wanted, total)
    assert sum(shares) == min(total, sum(wanted))
    assert all(0 <= share <= want for share, want in zip(shares, wanted, strict=True))
    unmet = [share for share, want in zip(shares, wanted, strict=True) if share < want]
    assert not unmet or max(shares) - min(unmet) <= 1


def rows(task: str, changed: int, others: int) -> TaskRows:
    made = [
        OutcomesRow((str(i), "h"), (located(0.0), located(1.0)), ("wrong", "gained" if i < changed else "both wrong"))
        for i in range(changed + others)
    ]
    return TaskRows(task, (None, None), made)


def test_changed_documents_come_first_and_families_share_the_budget() -> None:
    families = {"one": [rows("a", 2, 50)], "many": [rows(f"m{i}", 4, 50) for i in range(4)]}
    chosen = choose(families, changed=10, total=18)
    assert {task: sum(row.is_changed for row in found) for task, found in chosen.items()} == {
        "a": 2, "m0": 2, "m1": 2, "m2": 2, "m3": 2,
    }  # fmt: skip
    assert {task: sum(not row.is_changed for row in found) for task, found in chosen.items()} == {
        "a": 4, "m0": 1, "m1": 1, "m2": 1, "m3": 1,
    }  # fmt: skip
    for found in chosen.values():
        assert [row.is_changed for row in found] == sorted((row.is_changed for row in found), reverse=True)
        numbers = [int(row.key[0]) for row in found if not row.is_changed]
        assert numbers == sorted(numbers)


def test_the_draw_is_the_same_each_time_and_not_the_first_documents() -> None:
    families = {"one": [rows("a", 0, 500)]}
    first = choose(families, changed=5, total=20)
    assert choose(families, changed=5, total=20) == first
    numbers = [int(row.key[0]) for row in first["a"]]
    assert max(numbers) > 250
    other = choose({"one": [rows("b", 0, 500)]}, changed=5, total=20)
    assert [int(row.key[0]) for row in other["b"]] != numbers
