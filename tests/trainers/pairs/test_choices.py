"""ARC and HellaSwag pairs: the correct choice against each wrong one, in the leaderboard's wording."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.benchmarks import arc as arc_benchmark
from smaug_eval.leaderboard.benchmarks import hellaswag as hellaswag_benchmark
from smaug_eval.trainers.config import PairsConfig
from smaug_eval.trainers.pairs.build import build_pairs
from smaug_eval.trainers.pairs.choices import ARC_COLUMNS, HELLASWAG_COLUMNS, arc_pairs, hellaswag_pairs
from smaug_eval.trainers.pairs.config import ArcPairs, HellaSwagPairs
from smaug_eval.trainers.pairs.metamath import METAMATHQA_COLUMNS
from smaug_eval.trainers.pairs.pair import PairSet
from smaug_eval.trainers.pairs.read import read_pairs


def arc(n: int, **changes: Any) -> dict[str, Any]:
    choices = {"text": [f"first {n}", f"right {n}", f"third {n}", f"fourth {n}"], "label": ["A", "B", "C", "D"]}
    return {"id": str(n), "question": f"Which is {n}?", "choices": choices, "answerKey": "B", **changes}


def hellaswag(n: int, **changes: Any) -> dict[str, Any]:
    endings = [f"[step] first {n}", f"second {n}", f"third {n}", f"right {n}"]
    return {
        "activity_label": "Baking",
        "ctx_a": f"[header] How to bake {n} [title] Mix it.",
        "ctx_b": "she",
        "endings": endings,
        "label": "3",
        **changes,
    }


def gsm8k(n: int) -> dict[str, str]:
    return {"question": f"Which is {n}?", "answer": f"{n} + 12 = {n + 12}, {n + 12} - 1 = {n + 11}\n#### {n + 11}"}


Build = Callable[..., PairSet]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(rows: list[Any], **settings: Any) -> PairSet:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = {"path": str(path), "holdout": 0, "shots": (0, 0)} | settings
        if "endings" in next(row for row in rows if isinstance(row, dict)):
            return hellaswag_pairs(HellaSwagPairs(source="hellaswag", **settings), data_root=None)
        return arc_pairs(ArcPairs(source="arc", **settings), data_root=None)

    return make


def test_an_arc_question_makes_one_pair_for_each_wrong_choice(build: Build) -> None:
    prompt = "Question: Which is 7?\nAnswer:"
    assert [pair.row() for pair in build([arc(7)]).train] == [
        {"prompt": prompt, "chosen": " right 7", "rejected": " first 7"},
        {"prompt": prompt, "chosen": " right 7", "rejected": " third 7"},
        {"prompt": prompt, "chosen": " right 7", "rejected": " fourth 7"},
    ]


def test_a_hellaswag_text_makes_one_pair_for_each_wrong_ending(build: Build) -> None:
    pairs = build([hellaswag(7)]).train
    assert {pair.prompt for pair in pairs} == {"Baking: How to bake 7. Mix it. She"}
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [
        (" right 7", "  first 7"),  # what the leaderboard makes of "[step] first 7", after its space
        (" right 7", " second 7"),
        (" right 7", " third 7"),
    ]


@pytest.mark.parametrize(
    ("row", "shot", "document"),
    [
        (arc, arc_benchmark.shot, arc_benchmark.document),
        (hellaswag, hellaswag_benchmark.shot, hellaswag_benchmark.document),
    ],
)
def test_prompts_and_answers_are_the_leaderboards_own(build: Build, row: Any, shot: Any, document: Any) -> None:
    rows = [row(n) for n in range(9)]
    pairs = build(rows, shots=(2, 2)).train
    solved = {shot(one): index for index, one in enumerate(rows)}
    for index, one in enumerate(rows):
        asked = document(one, "")
        for pair in pairs[3 * index : 3 * index + 3]:
            *examples, question = pair.prompt.split("\n\n")
            assert question == asked["query"]
            assert len({solved[example] for example in examples} - {index}) == 2
            assert pair.chosen == f" {asked['options'][asked['gold']]}"
            assert pair.rejected[1:] in asked["options"]


def test_keys_may_be_numbers_and_choices_three_or_five(build: Build) -> None:
    three = arc(1, choices={"text": ["a", "b", "c"], "label": ["1", "2", "3"]}, answerKey="3")
    five = arc(2, choices={"text": list("abcde"), "label": list("ABCDE")}, answerKey="E")
    pairs = build([three, five]).train
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [
        *((" c", wrong) for wrong in (" a", " b")),
        *((" e", wrong) for wrong in (" a", " b", " c", " d")),
    ]


def test_what_cannot_make_a_pair_is_counted(build: Build) -> None:
    def choices(*texts: str) -> dict[str, Any]:
        return {"text": list(texts), "label": ["A", "B", "C", "D"]}

    pairs = build(
        [
            arc(0),
            arc(0),
            arc(0, choices=choices("x", "right 0", "y", "z")),  # the same question with other choices is another
            arc(1, answerKey="E"),
            arc(2, answerKey=""),
            arc(3, choices={"text": ["a", "b"], "label": ["B", "B"]}),
            arc(4, choices=choices("a", " ", "c", "d")),
            arc(5, choices=choices("right", "right ", "c", "c")),
            arc(6, choices=choices("", "right", "c", "d")),
        ]
    )
    assert pairs.dropped == {
        "duplicate_question": 1,
        "no_correct_choice": 4,
        "choice_equals_the_correct_one": 1,
        "duplicate_choice": 1,
        "empty_choice": 1,
    }
    assert Counter(pair.question for pair in pairs.train) == {"Which is 0?": 6, "Which is 5?": 1, "Which is 6?": 2}


@pytest.mark.parametrize("label", ["", "4", "-1", "x", 7])
def test_a_hellaswag_label_that_names_no_ending_is_counted(build: Build, label: Any) -> None:
    assert build([hellaswag(1), hellaswag(2, label=label)]).dropped == {"no_correct_choice": 1}
    assert len(build([hellaswag(1, label=3)]).train) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Q"}, "no column choices, answerKey"),
        (arc(2, question=None), "question is null, not text"),
        (arc(2, question=" "), "the question is empty"),
        (arc(2, answerKey=2), "answerKey is a number, not text"),
        (arc(2, choices=["a", "b"]), "choices is a list without text and label"),
        (arc(2, choices={"text": "ab", "label": ["A", "B"]}), "choices.text is text, not a list of texts"),
        (arc(2, choices={"text": ["a", None], "label": ["A", "B"]}), r"choices.text\[1\] is null, not text"),
        (arc(2, choices={"text": ["a"], "label": ["A", "B"]}), "choices has 1 texts but 2 labels"),
        ([1], "expected a JSON object, found a list"),
    ],
)
def test_a_broken_arc_row_is_named(build: Build, row: Any, message: str) -> None:
    with pytest.raises(SmaugError, match=f"rows.jsonl, line 2: {message}"):
        build([arc(1), row])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endings": "abcd"}, "endings is text, not a list of texts"),
        ({"endings": [1]}, r"endings\[0\] is a number, not text"),
        ({"label": None}, "label is null, not a choice's number"),
        ({"label": True}, "label is a boolean"),
        ({"ctx_b": None}, "ctx_b is null, not text"),
    ],
)
def test_a_broken_hellaswag_row_is_named(build: Build, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SmaugError, match=f"rows.jsonl, line 2: {message}"):
        build([hellaswag(1), hellaswag(2, **changes)])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["text", "label", "x"]), inner),
    max_leaves=8,
)
COLUMNS = [*ARC_COLUMNS, *HELLASWAG_COLUMNS, *METAMATHQA_COLUMNS, "answer"]
changes = st.dictionaries(st.sampled_from(COLUMNS), json_values, max_size=2)


@given(st.lists(changes | json_values, max_size=3), st.sampled_from(["arc", "hellaswag", "metamath"]))
def test_any_row_makes_pairs_is_counted_or_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, others: list[Any], source: str
) -> None:
    good = {"arc": arc, "hellaswag": hellaswag, "metamath": gsm8k}[source]
    rows = [good(0)] + [good(n + 1) | change if isinstance(change, dict) else change for n, change in enumerate(others)]
    path = tmp_path_factory.mktemp("any") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TypeAdapter(PairsConfig).validate_python(
        {"source": source, "path": str(path), "holdout": 0, "shots": (0, 0)}
    )
    try:
        stats = build_pairs(config, data_root=None, out_dir=path.parent)
    except SmaugError as error:
        assert re.match(rf"{re.escape(str(path))}, line \d+: ", error.message)
        assert error.fix
        return
    assert stats.rows == len(rows)
    assert stats.train + sum(stats.dropped.values()) >= len(rows)
    assert all(row["chosen"] != row["rejected"] for row in read_pairs(path.parent / "train.jsonl"))


@pytest.mark.parametrize("row", [arc, hellaswag])
def test_held_out_questions_occur_nowhere_in_training(build: Build, row: Any) -> None:
    pairs = build([row(n) for n in range(40)], holdout=10, shots=(0, 4))
    assert len(pairs.eval) == 10
    assert len({pair.question for pair in pairs.eval}) == 4  # three pairs each; two of the last are not needed
    assert len(pairs.train) == 36 * 3
    assert pairs.dropped == {"shares_a_held_out_question": 2}
    for held_out in pairs.eval:
        assert not any(held_out.question in pair.prompt for pair in pairs.train)
        assert held_out.prompt.count(held_out.question) == 1
    assert {pair.prompt.count("\n\n") for pair in pairs.train} == {0, 1, 2, 3, 4}


def test_a_rows_pairs_depend_on_the_seed_and_the_row_alone(build: Build) -> None:
    rows = [arc(n) for n in range(20)]
    whole = build(rows, shots=(0, 4), seed=1)
    assert build(rows, shots=(0, 4), seed=1).train == whole.train
    assert build(rows, shots=(0, 4), seed=1, limit=7).train == whole.train[:7]
    assert build(rows, shots=(0, 4), seed=2).train != whole.train


def test_too_few_rows_for_the_shots(build: Build) -> None:
    with pytest.raises(SmaugError, match=r"4 rows remain .* too few for 4 solved examples"):
        build([arc(n) for n in range(4)], shots=(0, 4))


def test_the_real_arc_has_as_many_pairs_as_the_published_set(shared: Path, tmp_path: Path) -> None:
    # abacusai/ARC_DPO_FewShot: 3,357 training pairs and 895 held-out ones. One row stands twice.
    config = ArcPairs(source="arc", eval_split="validation", holdout=10**6)
    stats = build_pairs(config, data_root=shared / "data", out_dir=tmp_path)
    twice = stats.dropped.pop("duplicate_question") * 3
    assert stats.train + stats.dropped.pop("shares_a_held_out_question", 0) + twice == 3357
    assert stats.eval == 895
    assert stats.dropped == {}
    assert stats.warnings == []
    assert stats.characters.edit_distance.mean > 0.5


def test_the_real_hellaswag_has_three_pairs_a_row(shared: Path) -> None:
    pairs = hellaswag_pairs(HellaSwagPairs(source="hellaswag", holdout=30), data_root=shared / "data")
    assert pairs.rows == 5000
    assert len(pairs.train) + len(pairs.eval) + sum(pairs.dropped.values()) == 15000
