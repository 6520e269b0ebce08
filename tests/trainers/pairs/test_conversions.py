"""Rows of other projects, rows with several answers, and weights of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.build import build_pairs
from smaug_eval.trainers.pairs.config import RowPairs
from smaug_eval.trainers.pairs.formats import _ADAPTERS, _READ, pair_of_row, pairs_of_row
from smaug_eval.trainers.pairs.read import read_pairs


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ASKED, GOOD, BAD = said("user", "Why?"), said("assistant", "Because."), said("assistant", "No.")
BEGUN = said("assistant", "It is")
SYSTEM, HI = said("system", "Be brief."), [said("user", "Hello"), said("assistant", "Hi")]
CHAT = {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]}
ANSWERS = {"chosen": "Because.", "rejected": "No."}
SHAREGPT = {"from": "gpt", "value": "Because."}, {"from": "gpt", "value": "No."}


@pytest.mark.parametrize(
    ("form", "row", "expected"),
    [
        ("messages", {"messages": [ASKED], "chosen": GOOD, "rejected": BAD}, CHAT),
        ("messages", {"messages": [ASKED], "chosen": [GOOD], "rejected": [BAD], "prompt": None}, CHAT),
        ("messages", {"messages": [ASKED], "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, CHAT),
        ("messages", {"messages": [ASKED], **ANSWERS}, CHAT),
        ("messages", {"messages": [ASKED], "system": "Be brief.", **ANSWERS}, {**CHAT, "prompt": [SYSTEM, ASKED]}),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "Why?"}], "chosen": SHAREGPT[0], "rejected": SHAREGPT[1]},
            CHAT,
        ),
        ("alpaca", {"instruction": "Why?", "input": "", **ANSWERS}, CHAT),
        (
            "alpaca",
            {"instruction": "Add.", "input": "1 2", "system": "Be brief.", **ANSWERS},
            {**CHAT, "prompt": [SYSTEM, said("user", "Add.\n1 2")]},
        ),
        ("argilla", {"instruction": "Why?", "chosen_response": "Because.", "rejected_response": "No."}, CHAT),
        (
            "hh",
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
            {"prompt": "\n\nHuman: a\n\nAssistant:", "chosen": " b", "rejected": " c"},
        ),
        (
            "hh",
            {
                "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
                "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: e",
            },
            {
                "prompt": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:",
                "chosen": " d",
                "rejected": " e",
            },
        ),
        ("orca", {"question": "Why?", **ANSWERS}, CHAT),
        ("chat", {"prompt": [ASKED], **ANSWERS}, CHAT),
        ("chat", {"prompt": [ASKED], "chosen": GOOD, "rejected": BAD}, CHAT),
        ("chat", {**CHAT, "prompt": [{"from": "human", "value": "Why?"}]}, CHAT),
        ("chat", {**CHAT, "prompt": [said("human", "Why?")], "chosen": [said("gpt", "Because.")]}, CHAT),
        ("chat", {**CHAT, "prompt": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]}, CHAT),
        ("chat", {**CHAT, "prompt": [ASKED, BEGUN]}, {**CHAT, "prompt": [ASKED, BEGUN]}),
        ("ultrafeedback", {"prompt": "Why?", "chosen": [GOOD], "rejected": [BAD]}, CHAT),
        (
            "ultrafeedback",  # the column prompt holds the last turn
            {"prompt": "Why?", "chosen": [*HI, ASKED, GOOD], "rejected": [*HI, ASKED, BAD]},
            {**CHAT, "prompt": [*HI, ASKED]},
        ),
    ],
)  # fmt: skip
def test_forms_of_other_projects(form: str, row: dict[str, Any], expected: dict[str, Any]) -> None:
    pair, found = pair_of_row("here", row)
    assert found == form
    assert pair.row() == expected
    assert pair_of_row("here", row, form)[0] == pair


def test_every_form_that_a_recipe_names_is_known() -> None:
    names = set(get_args(RowPairs.model_fields["format"].annotation)) - {"auto"}
    assert names == set(_ADAPTERS) == set(_READ)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": ["b", "c"]}, [("a", "b"), ("a", "c")]),
        ({"prompt": "p", "chosen": ["a", "d"], "rejected": ["b"]}, [("a", "b"), ("d", "b")]),
        ({"prompt": "p", "chosen": ["a"], "rejected": ["b"]}, [("a", "b")]),
        (
            {"prompt": "p", "answers": [{"answer": text, "rank": n} for text, n in (("c", 3), ("a", 1), ("b", 2))]},
            [("a", "c"), ("a", "b")],
        ),
    ],
)  # fmt: skip
def test_several_answers_make_several_pairs(row: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    pairs, _ = pairs_of_row("here", row)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == expected
    assert {pair.prompt for pair in pairs} == {"p"}


def test_several_answers_of_messages() -> None:
    pairs, form = pairs_of_row("here", {**CHAT, "chosen": [[GOOD]], "rejected": [[BAD], [said("assistant", "Ask.")]]})
    assert form == "chat"
    assert [pair.row()["rejected"][0]["content"] for pair in pairs] == ["No.", "Ask."]
    assert all(pair.row()["chosen"] == [GOOD] for pair in pairs)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": [ASKED], "chosen": ["a", [GOOD]], "rejected": ["b"]}, "holds both texts and lists of messages"),
        ({"prompt": "p", "answers": [{"answer": "c"}]}, r"answers\[0\]: no column rank"),
        ({"prompt": "p", "answers": [{"answer": "c", "rank": "1"}]}, r"answers\[0\].rank is text"),
        ({"instruction": 3, "chosen_response": "a", "rejected_response": "b"}, "prompt is a number"),
        (
            {**CHAT, "prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "image cannot be shown to the model",
        ),
        ({"prompt": "a", "completion": "b", "label": "yes"}, "label is 'yes', not true or false"),
        ({"prompt": "a", "completion": 3, "label": True}, "completion is a number, not text"),
        ({"prompt": "a", "completion": "b"}, "no column chosen"),
    ],
)
def test_what_is_wrong_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(SmaugError, match=message):
        pairs_of_row("here", row)


def built(tmp_path: Path, rows: list[dict[str, Any]], **settings: Any) -> Any:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = RowPairs(source="rows", path=str(path), holdout=0, **settings)
    return build_pairs(config, data_root=None, out_dir=tmp_path / "built")


def test_weights_of_rows(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"p{n}", "chosen": "a", "rejected": ["b", "c"], "importance": weight, "score": 3}
        for n, weight in enumerate((1, 2.5, 0))
    ]
    stats = built(tmp_path, rows, weight="importance")
    assert stats.dropped == {"weighs_nothing": 1}
    assert stats.unused_columns == ["score"]
    lines = read_pairs(tmp_path / "built" / "train.jsonl")
    assert [line.get("weight", 1) for line in lines] == [1, 1, 2.5, 2.5]
    without = built(tmp_path, rows)
    assert without.unused_columns == ["importance", "score"]


@pytest.mark.parametrize("weight", [-1, "2", None, True, float("inf")])
def test_weights_that_are_none(tmp_path: Path, weight: object) -> None:
    with pytest.raises(SmaugError, match=r"line 1: importance is .*, not a number from 0 on"):
        built(tmp_path, [{"prompt": "p", "chosen": "a", "rejected": "b", "importance": weight}], weight="importance")


def test_dialogues_that_differ_earlier_are_counted(tmp_path: Path) -> None:
    good = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    stats = built(tmp_path, [good, {**good, "rejected": "\n\nHuman: x\n\nAssistant: c"}])
    assert (stats.train, stats.dropped) == (1, {"dialogues_differ_before_the_last_answer": 1})


TAKEN = [
    "argilla",
    "axolotl_default",
    "developer",
    "hh",
    "images_not",
    "intel_no_system",
    "json_encoded_messages",
    "lists_of_text",
    "llamafactory_alpaca",
    "nectar",
    "parts",
    "prefill",
    "prompt_list_text_answers",
    "prompt_text_one_message",
    "roles_human_gpt",
    "sharegpt",
    "system_none_text",
    "system_text",
    "ultra_prompt_last_turn",
    "ultra_with_system",
    "tool_prompt",
    "tools_ignored",
]


@pytest.mark.parametrize("name", TAKEN)
def test_forms_of_the_field(shared: Path, name: str) -> None:
    file = shared / "field" / "training" / "17" / f"{name}.jsonl"
    if not file.is_file():
        pytest.skip("needs the cases from the field")
    for line in file.read_text().splitlines():
        assert pairs_of_row(name, json.loads(line))[0]
