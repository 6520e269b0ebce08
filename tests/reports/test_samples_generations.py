from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.reports.samples.generations import Run, failure, marked


def changed(runs: list[Run]) -> list[str]:
    return [run.text for run in runs if run.is_changed]


def test_the_words_that_differ_are_marked() -> None:
    base, other = marked(["He has 12 eggs.", "He has 16 eggs."])
    assert base == [Run("He has ", False), Run("12", True), Run(" eggs.", False)]
    assert other == [Run("He has ", False), Run("16", True), Run(" eggs.", False)]


def test_the_baseline_marks_what_any_other_lacks() -> None:
    runs = marked(["a b c", "a b d", "x b c"])
    assert [changed(each) for each in runs] == [["a", "c"], ["d"], ["x"]]
    assert changed(marked(["a b", "a b"], baseline=1)[1]) == []


def test_without_the_baseline_s_answer_nothing_is_marked() -> None:
    assert marked([None, "a b", "c"]) == [[], [Run("a b", False)], [Run("c", False)]]
    assert marked(["", "a"]) == [[], [Run("a", True)]]


@given(st.lists(st.text(alphabet="ab :\n<é\ud800", max_size=30), min_size=2, max_size=4))
def test_runs_make_up_the_texts_and_what_is_not_marked_is_common(texts: list[str]) -> None:
    runs = marked(list(texts))
    assert ["".join(run.text for run in each) for each in runs] == texts
    for other, own in zip(texts[1:], runs[1:], strict=True):
        kept = "".join(run.text for run in own if not run.is_changed)
        # What is left of the other text is a subsequence of the baseline's: difflib finds nothing to insert.
        places = iter(texts[0])
        assert all(character in places for character in kept)
        if other == texts[0]:
            assert changed(own) == []
            assert difflib.SequenceMatcher(None, other, texts[0]).ratio() == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 * 6 = 18.\n#### 18", "right"),
        ("#### 1,018 eggs", "wrong-number"),
        ("#### 18.", "wrong-number"),  # the leaderboard compares the texts
        ("#### 18\nQ: next\n#### 7", "right"),
        ("Let us see: 3 * 6.\n#### 18", "after-colon"),
        ("Each day she eats", "cut-short"),
        ("The steps are", "cut-short"),
        ("The answer is 18.", "no-number"),
        ("I wonder: why?", "no-number"),
        ("", "no-number"),
        ("  \n", "no-number"),
    ],
)
def test_kinds_of_failure(text: str, expected: str) -> None:
    assert failure(text, "18") == expected
