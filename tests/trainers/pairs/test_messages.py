"""Messages with calls, reasoning and further keys: read whole, kept whole, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from rich.console import Console

from smaug_eval.cli.tables.pairs import pair_tables
from smaug_eval.common.errors import SmaugError
from smaug_eval.contamination.leaks import pair_texts
from smaug_eval.trainers.pairs.build import EVAL_FILE, TRAIN_FILE, build_pairs
from smaug_eval.trainers.pairs.config import MixturePairs, RowPairs
from smaug_eval.trainers.pairs.formats import pair_of_row
from smaug_eval.trainers.pairs.pair import Pair, PairSet, is_empty, text_of
from smaug_eval.trainers.pairs.read import read_pairs
from smaug_eval.trainers.pairs.rows import row_pairs
from smaug_eval.trainers.pairs.stats import pair_stats


def said(role: str, content: str | None, **further: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **further}


def call(town: str = "Ulm") -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "weather", "arguments": {"town": town, "unit": "C"}}}]


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
ASKED, YES, NO = said("user", "rain in Ulm?"), said("assistant", "yes"), said("assistant", "no")
PLAIN = {"prompt": [ASKED], "chosen": [YES], "rejected": [NO]}
CALLS = {
    "prompt": [said("developer", "Be brief."), ASKED, said("assistant", None, tool_calls=call()), said("tool", "dry")],
    "chosen": [said("assistant", None, tool_calls=call("Ulm"), reasoning_content="so")],
    "rejected": [said("assistant", None, tool_calls=call("Rom"))],
    "tools": TOOLS,
    "chat_template_kwargs": {"enable_thinking": False},
    "documents": [{"title": "t", "text": "x"}],
}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, **settings: Any) -> PairSet:
    return row_pairs(RowPairs(source="rows", path=str(path), **({"holdout": 0} | settings)), data_root=None)


def pair(row: dict[str, Any]) -> Pair:
    return pair_of_row("here", row)[0]


@pytest.mark.parametrize(
    "row",
    [
        CALLS,
        {**PLAIN, "chosen": [said("assistant", "", tool_calls=call())]},
        {**PLAIN, "chosen": [said("assistant", None, function_call={"name": "weather", "arguments": "{}"})]},
        {**PLAIN, "chosen": [said("assistant", "yes", thinking="steps", name="ann")]},
        {**PLAIN, "prompt": [said("user", "rain?", mood="sad", at={"day": [1, None]})]},
        {**PLAIN, "prompt": [ASKED, YES, said("tool", "dry", tool_call_id="1")]},
    ],
)
def test_a_row_of_messages_is_kept_whole(tmp_path: Path, row: dict[str, Any]) -> None:
    assert pair(row).row() == row
    build_pairs(
        RowPairs(source="rows", path=str(written(tmp_path / "a.jsonl", row, PLAIN)), holdout=0),
        data_root=None,
        out_dir=tmp_path / "built",
    )
    assert read_pairs(tmp_path / "built" / TRAIN_FILE) == [row, PLAIN]
    # What a mixture draws from built sets is the same, and duplicates are told apart by all of it.
    other = {**row, "chat_template_kwargs": {"enable_thinking": True}}
    build_pairs(
        RowPairs(source="rows", path=str(written(tmp_path / "b.jsonl", row, other)), holdout=0),
        data_root=None,
        out_dir=tmp_path / "more",
    )
    mixture = MixturePairs(source="mixture", sets={"built": 1, "more": 1}, holdout=0)
    stats = build_pairs(
        mixture, data_root=None, out_dir=tmp_path / "mixed", sets={name: tmp_path / name for name in ("built", "more")}
    )
    assert stats.dropped == {"duplicate": 1}
    mixed = [json.dumps(each, sort_keys=True) for each in read_pairs(tmp_path / "mixed" / TRAIN_FILE)]
    assert set(mixed) == {json.dumps(each, sort_keys=True) for each in (row, other, PLAIN)}


def test_files_built_before_are_still_read(tmp_path: Path) -> None:
    old = {"prompt": [said("system", "s"), ASKED], "chosen": [YES], "rejected": [NO]}
    text = {"prompt": "a", "chosen": " b", "rejected": " c"}
    path = written(tmp_path / "train.jsonl", old, text)
    assert read_pairs(path) == [old, text]
    build_pairs(RowPairs(source="rows", path=str(path), holdout=0), data_root=None, out_dir=tmp_path / "again")
    assert (tmp_path / "again" / TRAIN_FILE).read_bytes() == path.read_bytes()
    assert (tmp_path / "again" / EVAL_FILE).read_bytes() == b""


def test_what_is_null_or_missing_is_not_there() -> None:
    row = {
        "prompt": [{**ASKED, "tool_calls": None, "name": None}],
        "chosen": [{"role": "assistant", "tool_calls": call()}],  # no content at all
        "rejected": [{**NO, "reasoning_content": "", "tool_calls": []}],
        "tools": None,
        "images": [],
        "documents": [],
        "chat_template_kwargs": {"date_string": None},
    }
    expected = {"prompt": [ASKED], "chosen": [said("assistant", None, tool_calls=call())], "rejected": [NO]}
    assert pair(row).row() == {**expected, "chat_template_kwargs": {}}


@pytest.mark.parametrize("differ", [{"tool_calls": call("Rom")}, {"reasoning_content": "other"}, {"name": "b"}])
def test_pairs_that_differ_in_one_key_only_are_not_equal(tmp_path: Path, differ: dict[str, Any]) -> None:
    same = {"tool_calls": call(), "reasoning_content": "one", "name": "a"}
    row = {
        **PLAIN,
        "chosen": [said("assistant", "I ask.", **same)],
        "rejected": [said("assistant", "I ask.", **(same | differ))],
    }
    assert len(read(written(tmp_path / "a.jsonl", row)).train) == 1
    with pytest.raises(SmaugError, match="chosen equals rejected"):
        read(written(tmp_path / "a.jsonl", {**row, "rejected": row["chosen"]}))


def test_labels_make_no_difference_between_messages(tmp_path: Path) -> None:
    """Numbers of messages and times are not what a pair is about; a prompt in common is found in spite of them."""
    row = {
        "chosen": [{**ASKED, "id": 1}, {**YES, "id": 2}],
        "rejected": [{**ASKED, "id": 3}, {**YES, "id": 4}],
    }
    found = pair(row)
    assert found.row()["prompt"] == [{**ASKED, "id": 1}]
    assert found.chosen == found.rejected
    with pytest.raises(SmaugError, match="chosen equals rejected"):
        read(written(tmp_path / "a.jsonl", row))


def test_an_answer_that_only_calls_or_thinks_is_not_empty() -> None:
    assert not is_empty(pair(CALLS).chosen)
    thinking = pair({**PLAIN, "chosen": [said("assistant", "", reasoning_content="steps")]})
    assert not is_empty(thinking.chosen)
    assert is_empty(pair({**PLAIN, "chosen": [said("assistant", " ", name="ann")]}).chosen)


def as_text(row: dict[str, Any], *columns: str) -> dict[str, Any]:
    return {**row, **{column: json.dumps(row[column]) for column in columns}}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (as_text(PLAIN, "prompt", "chosen", "rejected"), PLAIN),
        (as_text(PLAIN, "chosen", "rejected"), PLAIN),
        (as_text({**CALLS}, *CALLS), CALLS),
        (
            as_text({"chosen": [ASKED, YES], "rejected": [ASKED, NO], "system": "s"}, "chosen", "rejected"),
            {**PLAIN, "prompt": [said("system", "s"), ASKED]},
        ),
        (
            as_text(
                {"input": {"messages": [ASKED]}, "preferred_output": [YES], "non_preferred_output": [NO]},
                "preferred_output",
                "non_preferred_output",
            ),
            PLAIN,
        ),
        (
            {**PLAIN, "chosen": [said("assistant", None, tool_calls=json.dumps(call()))]},
            {**PLAIN, "chosen": [said("assistant", None, tool_calls=call())]},
        ),
    ],
)
def test_lists_of_messages_in_json_are_read_as_lists(row: dict[str, Any], expected: dict[str, Any]) -> None:
    assert pair(row).row() == expected


@pytest.mark.parametrize(
    "text",
    ["[1, 2]", "[]", '{"a": 1}', '[{"name": "x"}]', '[{"role": "user"', "[see below]", '{"role": "admin", "level": 3}'],
)
def test_other_texts_that_look_like_json_stay_texts(text: str) -> None:
    row = {"prompt": text, "chosen": f"{text} a", "rejected": text}
    assert pair_of_row("here", row) == (Pair(text, f"{text} a", text, text), "text")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (as_text(PLAIN, "prompt") | {"chosen": "yes", "rejected": [NO]}, "prompt is a list, but chosen is text"),
        ({"prompt": "a", "chosen": json.dumps(YES), "rejected": "no"}, "chosen is a list, but prompt is text"),
        ({**PLAIN, "images": ["x.png"]}, "images cannot be shown to the model"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "image": {"bytes": "x"}}, "image cannot be shown"),
        ({**PLAIN, "prompt": [{**ASKED, "images": ["x.png"]}]}, r"prompt\[0\]: images cannot be shown"),
        ({**PLAIN, "chosen": [said("assistant", None)]}, r"chosen\[0\].content is null, not text"),
        ({**PLAIN, "chosen": [{"role": "assistant"}]}, r"chosen\[0\] is an object without role and content"),
        (
            {**PLAIN, "chosen": [said("assistant", None, tool_calls={"a": 1})]},
            r"chosen\[0\].tool_calls is an object, not a list of obj",
        ),
        (
            {**PLAIN, "chosen": [said("assistant", None, tool_calls=["f"])]},
            r"chosen\[0\].tool_calls is a list, not a list of objects",
        ),
        (
            {**PLAIN, "chosen": [said("assistant", "x", name=float("nan"))]},
            r"chosen\[0\].name cannot be written as JSON",
        ),
        (
            {**PLAIN, "chosen": [said("assistant", "x", name="\ud800")]},
            r"chosen\[0\].name holds half of a surrogate pair",
        ),
        ({**PLAIN, "tools": "weather"}, "tools is text, not a list of objects"),
        ({**PLAIN, "tools": [3]}, "tools is a list, not a list of objects"),
        ({**PLAIN, "documents": {"a": 1}}, "documents is an object, not a list of objects"),
        ({**PLAIN, "chat_template_kwargs": [1]}, "chat_template_kwargs is a list, not an object"),
        (
            {**PLAIN, "chat_template_kwargs": {"chat_template": "x"}},
            "chat_template_kwargs sets chat_template, which is not",
        ),
        ({**PLAIN, "prompt": [YES]}, "the prompt ends with a message of role assistant; it must end with one of"),
        (
            {**PLAIN, "prompt": [ASKED, {**YES, "reasoning_content": "x"}]},
            "the prompt ends with a message of role assistant, which chosen cannot continue",
        ),
        ({**PLAIN, "prompt": [said("developer", "x")]}, "the prompt ends with a message of role developer"),
        (
            {**PLAIN, "system": "y", "prompt": [said("developer", "x"), ASKED]},
            "the column system and the first message",
        ),
        ({**PLAIN, "chosen": [said("tool", "x")]}, "chosen holds a message of role tool"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(row: dict[str, Any], message: str) -> None:
    with pytest.raises(SmaugError, match=f"^a.jsonl, line 3: {message}") as caught:
        pair_of_row("a.jsonl, line 3", row)
    assert caught.value.fix


def test_text_that_is_insisted_on_is_not_taken_for_messages() -> None:
    with pytest.raises(SmaugError, match="prompt is a list, not text"):
        pair_of_row("here", as_text(PLAIN, "prompt", "chosen", "rejected"), "text")


def test_tools_of_openais_rows() -> None:
    row = {"input": {"messages": [ASKED], "tools": TOOLS}, "preferred_output": [YES], "non_preferred_output": [NO]}
    assert pair(row).row() == {**PLAIN, "tools": TOOLS}


def test_tables_pad_objects_with_nulls_which_are_taken_out(tmp_path: Path) -> None:
    """A column of a table has all keys in every row: an argument of one call would be null in all others."""
    other = [{"type": "function", "function": {"name": "time", "arguments": {"zone": "CET"}}}]
    rows = [
        {**PLAIN, "chosen": [said("assistant", None, tool_calls=call())], "tools": TOOLS},
        {
            **PLAIN,
            "prompt": [said("user", "time?")],
            "chosen": [said("assistant", None, tool_calls=other)],
            "tools": TOOLS,
        },
        {**PLAIN, "prompt": [said("user", "and now?")], "tools": None},
    ]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    assert "'zone': None" in str(pyarrow.parquet.read_table(path).to_pylist()[0])
    found = [each.row() for each in read(path).train]
    assert found == [rows[0], rows[1], {**PLAIN, "prompt": [said("user", "and now?")]}]


def test_questions_lengths_and_leaks_see_what_is_said() -> None:
    found = pair(CALLS)
    assert found.question == "rain in Ulm?\n\ndry"  # no word of the developer; a call without words is an empty line
    said_in_calls = text_of(found.chosen)
    assert all(word in said_in_calls for word in ("so", "weather", "town", "Ulm", "C"))
    prompt, chosen, rejected = pair_texts(found.row())
    assert "None" not in prompt + chosen + rejected
    assert "rain in Ulm?\n" in prompt
    assert ("Ulm" in chosen, "Rom" in rejected) == (True, True)
    assert pair_texts({**PLAIN}) == ("rain in Ulm?\n", "yes\n", "no\n")
    assert text_of(pair(PLAIN).prompt) == "rain in Ulm?"


def test_scores_that_are_not_used_are_named_once(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{n}?", "chosen": "a", "rejected": "b", "score_chosen": 4 - n, "score_rejected": 2.0, "source": "x"}
        for n in range(4)
    ]
    found = read(written(tmp_path / "a.jsonl", *rows, {**rows[0], "prompt": "z", "margin": 1}))
    assert found.unused == ["score_chosen", "score_rejected", "source", "margin"]
    assert found.notes == [
        "columns that are not used: score_chosen, score_rejected, margin (every pair weighs the same); in 2 of 5 rows "
        "the chosen answer's score is not the higher one"
    ]
    stats = build_pairs(
        RowPairs(source="rows", path=str(tmp_path / "a.jsonl"), holdout=0), data_root=None, out_dir=tmp_path / "o"
    )
    assert (stats.unused_columns, stats.notes) == (found.unused, found.notes)
    assert json.loads((tmp_path / "o" / "stats.json").read_text())["notes"] == found.notes
    measured = pair_stats(str(tmp_path / "a.jsonl"))
    assert measured.notes == found.notes
    console = Console(width=400)
    with console.capture() as capture:
        console.print(pair_tables(measured.model_dump()))
    assert capture.get().count(found.notes[0]) == 1
    plain = read(written(tmp_path / "b.jsonl", {"prompt": "q", "chosen": "a", "rejected": "b", "id": 1, "score": None}))
    assert (plain.unused, plain.notes) == (["id"], [])
    tools = read(written(tmp_path / "c.jsonl", {"prompt": "q", "chosen": "a", "rejected": "b", "tools": TOOLS}))
    assert tools.notes == ["columns that are not used: tools (rows of text have no chat template)"]
