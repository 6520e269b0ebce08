from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.config import RowPairs
from smaug_eval.trainers.pairs.pair import MESSAGE_KEYS, PairSet
from smaug_eval.trainers.pairs.read import read_pairs
from smaug_eval.trainers.pairs.rows import row_pairs
from smaug_eval.trainers.pairs.stats import pair_stats

GOOD = {"prompt": "2+2=", "chosen": "4", "rejected": "5"}


def read(path: Path | str, *, data_root: Path | None = None, **settings: Any) -> PairSet:
    return row_pairs(RowPairs(source="rows", path=str(path), **({"holdout": 0} | settings)), data_root=data_root)


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def numbered(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"{n}+1=", "chosen": str(n + 1), "rejected": str(n + 2)} for n in range(count)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{broken", "line 2: not valid JSON"),
        ("[1, 2]", "line 2: expected a JSON object, found a list"),
        ({"prompt": "p", "chosen": "c"}, "line 2: no column rejected"),
        (GOOD | {"chosen": 4}, "line 2: chosen is a number, not text"),
        (GOOD | {"chosen": None}, "line 2: chosen is null, not text"),
        (GOOD | {"rejected": float("nan")}, "line 2: rejected is NaN, not text"),
        (
            GOOD | {"prompt": [{"role": "user"}]},
            r"line 2: prompt\[0\] is an object without role and content",
        ),
        (GOOD | {"chosen": " \n"}, "line 2: chosen is empty"),
        (GOOD | {"rejected": ""}, "line 2: rejected is empty"),
        (GOOD | {"chosen": "\ud800"}, "line 2: chosen holds half of a surrogate pair"),
        (GOOD | {"rejected": "4"}, "line 2: chosen equals rejected"),
        (
            {"chosen": "a b", "rejected": "a c"},
            "line 2: no column prompt .*'chosen', 'rejected'.*would reach into them",
        ),
        ({"chosen": "c"} | {f"column {n}": 1 for n in range(10**4)}, "line 2: no column rejected"),
        ("[" * 100_000, "line 2: not valid JSON"),
        ('{"prompt": ' + "1" * 5000 + "}", "line 2: not valid JSON"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, row: Any, message: str) -> None:
    path = lines(tmp_path / "pairs.jsonl", GOOD, row)
    with pytest.raises(SmaugError, match=message) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert len(caught.value.message) < 1000
    assert caught.value.fix


def test_invalid_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"prompt": "\xff"}\n')
    with pytest.raises(SmaugError, match="line 2: not valid UTF-8"):
        read(path)


def test_files_that_are_not_there_or_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match="does not exist"):
        read(tmp_path / "absent.jsonl")
    with pytest.raises(SmaugError, match="has no rows"):
        read(lines(tmp_path / "empty.jsonl"))
    damaged = tmp_path / "pairs.parquet"
    damaged.write_bytes(b"PAR1 not really")
    with pytest.raises(SmaugError, match="cannot be read as parquet"):
        read(damaged)
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in numbered(500)))[:-20])
    with pytest.raises(SmaugError, match="is damaged after line"):
        read(cut)


def test_the_same_rows_from_every_kind_of_file(tmp_path: Path) -> None:
    rows = [*numbered(5), {"prompt": "naïve\n", "chosen": " 😀", "rejected": "\u2028x"}]
    plain = lines(tmp_path / "a.jsonl", *rows)
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    table = tmp_path / "org" / "set" / "default" / "train.parquet"
    table.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist([row | {"extra": 1} for row in rows]), table)
    expected = [pair.row() for pair in read(plain).train]
    assert expected == rows
    assert [pair.row() for pair in read(packed).train] == expected
    assert [pair.row() for pair in read(table).train] == expected
    assert [pair.row() for pair in read("org/set", data_root=tmp_path).train] == expected


def test_a_broken_parquet_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    pyarrow.parquet.write_table(pa.Table.from_pylist([GOOD, GOOD | {"chosen": None}]), path)
    with pytest.raises(SmaugError, match="row 2: chosen is null"):
        read(path)


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\n\n  \n")
    assert [pair.row() for pair in read(path).train] == [GOOD]


def test_equal_completions_can_be_dropped_and_counted(tmp_path: Path) -> None:
    pairs = read(lines(tmp_path / "a.jsonl", GOOD, GOOD | {"rejected": "4"}), drop_equal=True)
    assert len(pairs.train) == 1
    assert pairs.dropped == {"chosen_equals_rejected": 1}


def test_empty_completions_can_be_dropped_and_counted(tmp_path: Path) -> None:
    pairs = read(lines(tmp_path / "a.jsonl", GOOD, GOOD | {"rejected": " "}), drop_empty=True)
    assert len(pairs.train) == 1
    assert pairs.dropped == {"empty_completion": 1}


def test_rows_of_the_hub_that_nobody_can_mend_are_dropped_and_counted(tmp_path: Path) -> None:
    table = tmp_path / "org" / "set" / "default" / "train.parquet"
    table.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist([GOOD, GOOD | {"chosen": ""}, GOOD | {"chosen": "5"}]), table)
    pairs = read("org/set", data_root=tmp_path)
    assert len(pairs.train) == 1
    assert pairs.dropped == {"empty_completion": 1, "chosen_equals_rejected": 1}
    with pytest.raises(SmaugError, match="row 3: chosen equals rejected"):
        read("org/set", data_root=tmp_path, drop_equal=False)


def test_a_line_of_ten_megabytes(tmp_path: Path) -> None:
    long = {"prompt": "p", "chosen": "x" * 10**7, "rejected": "y" * 10**7}
    path = lines(tmp_path / "a.jsonl", long, long | {"chosen": 3})
    with pytest.raises(SmaugError, match="line 2: chosen is a number"):
        read(path)
    assert pair_stats(str(lines(tmp_path / "b.jsonl", long))).characters.edit_distance.mean == 1.0


def test_duplicates_are_dropped_and_counted(tmp_path: Path) -> None:
    pairs = read(lines(tmp_path / "a.jsonl", GOOD, GOOD, GOOD | {"rejected": "6"}))
    assert [pair.rejected for pair in pairs.train] == ["5", "6"]
    assert pairs.dropped == {"duplicate": 1}


def test_pairs_of_one_prompt_stay_on_one_side(tmp_path: Path) -> None:
    rows = [GOOD | {"prompt": f"{n // 3}?", "rejected": f"wrong {n}"} for n in range(30)]
    pairs = read(lines(tmp_path / "a.jsonl", *rows), holdout=7)
    assert len(pairs.eval) == 7
    assert len(pairs.train) == 21
    assert not {pair.prompt for pair in pairs.train} & {pair.prompt for pair in pairs.eval}
    assert pairs.dropped == {"shares_a_held_out_question": 2}


def test_the_question_of_a_few_shot_prompt_is_its_last(tmp_path: Path) -> None:
    shots = ["", "Question: 1?\nAnswer: 2\n\n", "Question: 3?\nAnswer: 4\n\nQuestion: 5?\nAnswer: 6\n\n"]
    rows = [
        {"prompt": f"{shot}Question: {n}?\nAnswer:", "chosen": " a", "rejected": " b"}
        for n in range(10)
        for shot in shots
    ]
    pairs = read(lines(tmp_path / "a.jsonl", *rows), holdout=6)
    assert {pair.question for pair in pairs.eval}.isdisjoint(pair.question for pair in pairs.train)
    assert len({pair.question for pair in pairs.eval}) == 2
    assert len(pairs.train) == 24


def test_the_holdout_does_not_depend_on_limit_or_on_the_order_of_rows(tmp_path: Path) -> None:
    forward = read(lines(tmp_path / "a.jsonl", *numbered(40)), holdout=8)
    backward = read(lines(tmp_path / "b.jsonl", *reversed(numbered(40))), holdout=8, limit=4)
    assert {pair.prompt for pair in forward.eval} == {pair.prompt for pair in backward.eval}
    assert len(backward.train) == 4
    assert read(tmp_path / "a.jsonl", holdout=8, seed=1).eval != forward.eval


KEYS = ["prompt", "chosen", "rejected", "system", "question", "input", "preferred_output", "non_preferred_output"]
KEYS += ["tools", "documents", "chat_template_kwargs", "images", "score_chosen", "score_rejected"]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5)
messages = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system", "tool", "robot"]) | scalars,
            "content": st.just("x") | scalars,
        },
        optional={key: scalars | st.lists(st.dictionaries(st.just("function"), scalars)) for key in MESSAGE_KEYS},
    ),
    max_size=3,
)
values = st.recursive(
    scalars | messages | messages.map(json.dumps) | messages.map(lambda found: {"messages": found}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner),
    max_leaves=6,
)
rows_of_any_kind = st.dictionaries(st.sampled_from(KEYS), st.just("text") | values, max_size=5) | values


def written(rows: list[Any]) -> int:
    """Lines that hold something: texts are written as they are, and an empty line is no row."""
    return sum(not isinstance(row, str) or bool(row.strip()) for row in rows)


@example([""], "auto")
@given(st.lists(rows_of_any_kind, max_size=4), st.sampled_from(get_args(RowPairs.model_fields["format"].annotation)))
def test_any_row_is_a_pair_counted_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], form: str
) -> None:
    path = lines(tmp_path_factory.mktemp("any") / "a.jsonl", GOOD, *rows)
    try:
        pairs = read(path, format=form, drop_equal=True, drop_empty=True)
    except SmaugError as error:
        assert re.match(rf"{re.escape(str(path))}, line \d+: ", error.message)
        assert error.fix
        return
    assert len(pairs.train) + sum(pairs.dropped.values()) == pairs.rows == written(rows) + 1
    assert all(json.dumps(pair.row()).encode() for pair in pairs.train)


@given(st.lists(rows_of_any_kind, max_size=4))
def test_a_training_file_is_read_or_refused_by_name(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = lines(tmp_path_factory.mktemp("any") / "train.jsonl", GOOD, *rows)
    try:
        found = read_pairs(path)
    except SmaugError as error:
        assert re.match(rf"{re.escape(str(path))}, line \d+: ", error.message)
        return
    assert found[0] == GOOD
    assert len(found) == written(rows) + 1


def test_held_out_pairs_from_another_file(tmp_path: Path) -> None:
    train = lines(tmp_path / "train.jsonl", *numbered(10))
    held_out = lines(tmp_path / "eval.jsonl", *numbered(12)[8:])
    pairs = read(train, eval_path=str(held_out), holdout=64)
    assert [pair.prompt for pair in pairs.eval] == ["8+1=", "9+1=", "10+1=", "11+1="]
    assert [pair.prompt for pair in pairs.train] == [f"{n}+1=" for n in range(8)]
    assert pairs.dropped == {"shares_a_held_out_question": 2}
    assert pairs.rows == 14
