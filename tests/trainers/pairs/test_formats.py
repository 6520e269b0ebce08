"""Every published form of a preference row, and what a row must not be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.config import ArcPairs, MetaMathPairs, RowPairs, SourcedPairs
from smaug_eval.trainers.pairs.formats import pair_of_row
from smaug_eval.trainers.pairs.pair import PairSet
from smaug_eval.trainers.pairs.rows import row_pairs
from smaug_eval.trainers.pairs.sources import KNOWN, Location, benchmark_warnings, locations


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ASKED, GOOD, BAD = said("user", "Why?"), said("assistant", "Because."), said("assistant", "No.")
SYSTEM = said("system", "Be brief.")
PLAIN = {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]}
WITH_SYSTEM = {**PLAIN, "prompt": [SYSTEM, ASKED]}
TEXT = {"prompt": "p", "chosen": "c", "rejected": "r"}
EARLIER = [said("user", "Hello"), said("assistant", "Hi")]


@pytest.mark.parametrize(
    ("form", "row", "expected"),
    [
        ("text", {**TEXT, "id": 7}, TEXT),
        ("chat", PLAIN, PLAIN),
        ("chat", {**PLAIN, "system": "Be brief."}, WITH_SYSTEM),
        ("chat", {**WITH_SYSTEM, "system": "Be brief."}, WITH_SYSTEM),
        ("chat", {**PLAIN, "system": " "}, PLAIN),
        ("chat", {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, PLAIN),
        ("chat", {"prompt": None, "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, PLAIN),
        (
            "chat",
            {"chosen": [*EARLIER, ASKED, GOOD], "rejected": [*EARLIER, ASKED, BAD]},
            {**PLAIN, "prompt": [*EARLIER, ASKED]},
        ),
        # Equal to the end: the last message is the completion, never the prompt.
        ("chat", {"chosen": [ASKED, GOOD], "rejected": [ASKED, GOOD]}, {**PLAIN, "rejected": [GOOD]}),
        ("ultrafeedback", {"prompt": "Why?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD], "score": 1.0}, PLAIN),
        ("orca", {"system": "Be brief.", "question": "Why?", "chosen": "Because.", "rejected": "No."}, WITH_SYSTEM),
        ("orca", {"system": "", "question": "Why?", "chosen": "Because.", "rejected": "No."}, PLAIN),
        ("truthy", {"system": "Be brief.", "prompt": "Why?", "chosen": "Because.", "rejected": "No."}, WITH_SYSTEM),
        ("truthy", {"id": "1", "system": None, "prompt": "Why?", "chosen": "Because.", "rejected": "No."}, PLAIN),
        (
            "openai",
            {"input": {"messages": [SYSTEM, ASKED]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
            WITH_SYSTEM,
        ),
    ],
)
def test_each_format_is_told_and_read(form: str, row: dict[str, Any], expected: dict[str, Any]) -> None:
    pair, found = pair_of_row("here", row)
    assert found == form
    assert pair.row() == expected
    assert pair_of_row("here", row, form)[0] == pair


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**PLAIN, "chosen": "Because."}, "prompt is a list, but chosen is text: a row is all text or all messages"),
        ({"prompt": "Why?", "chosen": "a", "rejected": []}, "rejected is an empty list"),
        ({"prompt": "Why?", "chosen": "a", "rejected": ["b", 3]}, r"rejected\[1\] is a number, not text"),
        ({**PLAIN, "prompt": []}, "the prompt has no message; it must end with one of role user"),
        ({**PLAIN, "prompt": [GOOD]}, "the prompt ends with a message of role assistant"),
        ({**PLAIN, "prompt": [SYSTEM]}, "the prompt ends with a message of role system"),
        ({**PLAIN, "prompt": 3}, "prompt is a number, not a list of messages"),
        ({**PLAIN, "chosen": [ASKED, GOOD]}, "chosen holds a message of role user; a completion is assistant"),
        ({**PLAIN, "chosen": [said("robot", "x")]}, r"chosen\[0\] has the role 'robot'"),
        ({**PLAIN, "chosen": [said("x" * 9999, "x")]}, r"chosen\[0\] has the role 'xxx"),
        ({**PLAIN, "chosen": [{"role": ["user"], "content": "x"}]}, r"chosen\[0\] has the role \['user'\]"),
        ({**PLAIN, "chosen": [{"role": "assistant"}]}, r"chosen\[0\] is an object without role and content"),
        ({**PLAIN, "chosen": ["Because."]}, r"chosen\[0\] is text and no message"),
        ({**PLAIN, "chosen": [{"role": "assistant", "content": None}]}, r"chosen\[0\].content is null, not text"),
        ({**PLAIN, "chosen": [{"role": "assistant", "content": [{"text": "x"}]}]}, "content is a list, not text"),
        ({**PLAIN, "chosen": [said("assistant", "\ud800")]}, "half of a surrogate pair"),
        ({**PLAIN, "system": 3}, "system is a number, not text"),
        ({**WITH_SYSTEM, "system": "Be long."}, "the column system and the first message differ"),
        ({"chosen": [GOOD], "rejected": [BAD]}, "the prompt has no message"),
        ({"chosen": [ASKED, *EARLIER[::-1]], "rejected": [ASKED, BAD]}, "chosen holds a message of role user"),
        ({"input": [ASKED], "preferred_output": [GOOD], "non_preferred_output": [BAD]}, "input is a list without mess"),
        ({"preferred_output": [GOOD], "non_preferred_output": [BAD]}, "no column input"),
        ([], "expected a JSON object, found a list"),
    ],
)
def test_what_a_row_must_not_be(row: Any, message: str) -> None:
    with pytest.raises(SmaugError, match=message) as caught:
        pair_of_row("a.jsonl, line 3", row)
    assert caught.value.message.startswith("a.jsonl, line 3: ")
    assert len(caught.value.message) < 500
    assert caught.value.fix


def test_a_format_that_was_asked_for_is_insisted_on() -> None:
    with pytest.raises(SmaugError, match="prompt is a list, not text"):
        pair_of_row("here", PLAIN, "text")
    with pytest.raises(SmaugError, match="no column question"):
        pair_of_row("here", {"system": "", "prompt": "p", "chosen": "c", "rejected": "r"}, "orca")


def read(tmp_path: Path, *rows: Any, **settings: Any) -> PairSet:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return row_pairs(RowPairs(source="rows", path=str(path), **({"holdout": 0} | settings)), data_root=None)


def test_rows_that_contradict_themselves_are_counted(tmp_path: Path) -> None:
    other = {"prompt": "When?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}
    pairs = read(tmp_path, other, {**other, "prompt": " Why? "})
    assert [pair.row() for pair in pairs.train] == [PLAIN]
    assert pairs.dropped == {"prompt_differs_from_messages": 1}


def test_a_file_may_hold_several_formats_and_says_which(tmp_path: Path) -> None:
    pairs = read(tmp_path, PLAIN, TEXT, {**PLAIN, "rejected": [GOOD, BAD]})
    assert pairs.formats == {"chat": 2, "text": 1}
    assert len(pairs.train) == 3


@pytest.mark.parametrize("empty", [[], [said("assistant", " ")], [GOOD, said("assistant", "")]])
def test_completions_without_a_word(tmp_path: Path, empty: Any) -> None:
    with pytest.raises(SmaugError, match="line 2: rejected is empty"):
        read(tmp_path, PLAIN, {**PLAIN, "rejected": empty})
    assert read(tmp_path, PLAIN, {**PLAIN, "rejected": empty}, drop_empty=True).dropped == {"empty_completion": 1}


def test_the_question_of_a_chat_leaves_out_the_system_message(tmp_path: Path) -> None:
    rows = [
        {
            **PLAIN,
            "prompt": [said("system", f"Style {style}."), said("user", f"Question {n}?")],
            "rejected": [said("assistant", f"No {style}.")],
        }
        for n in range(6)
        for style in range(3)
    ]
    pairs = read(tmp_path, *rows, holdout=6)
    assert {pair.question for pair in pairs.train} | {pair.question for pair in pairs.eval} == {
        f"Question {n}?" for n in range(6)
    }
    assert len({pair.question for pair in pairs.eval}) == 2
    assert {pair.question for pair in pairs.train}.isdisjoint(pair.question for pair in pairs.eval)


def test_known_sets_bring_splits_configuration_and_format() -> None:
    def of(path: str, **settings: Any) -> tuple[Location, Location | None]:
        return locations(RowPairs(source="rows", path=path, **settings))

    feedback = "HuggingFaceH4/ultrafeedback_binarized"
    assert of(feedback) == (Location(feedback, split="train_prefs"), Location(feedback, split="test_prefs"))
    assert of(feedback, split="train_sft", revision="v1")[0] == Location(feedback, "default", "train_sft", "v1")
    assert of(feedback, eval_split="train_prefs")[1] is None
    assert of("org/other") == (Location("org/other"), None)
    assert of("Intel/orca_dpo_pairs")[1] is None
    assert locations(ArcPairs(source="arc"))[0] == Location("allenai/ai2_arc", "ARC-Challenge", "train")
    assert locations(MetaMathPairs(source="metamath", path="openai/gsm8k"))[0].config == "main"
    assert of("a.jsonl", eval_path="b.jsonl") == (Location("a.jsonl"), Location("b.jsonl"))
    assert {known.format for known in KNOWN.values()} == {None, "text", "ultrafeedback", "orca", "truthy"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (RowPairs(source="rows", path="abacusai/HellaSwag_DPO_FewShot"), []),
        (
            RowPairs(source="rows", path="abacusai/HellaSwag_DPO_FewShot", eval_split="eval"),
            ["the held-out pairs come from abacusai/HellaSwag_DPO_FewShot (default, eval), the rows that HellaSwag is"],
        ),
        (RowPairs(source="rows", path="abacusai/ARC_DPO_FewShot"), []),
        (ArcPairs(source="arc", split="test"), ["the training pairs come from allenai/ai2_arc (ARC-Challenge, test)"]),
        (MetaMathPairs(source="metamath", path="openai/gsm8k", eval_split="test"), ["the held-out pairs come from op"]),
    ],
)
def test_rows_that_a_benchmark_evaluates_are_named(config: SourcedPairs, expected: list[str]) -> None:
    warnings = benchmark_warnings(config)
    assert len(warnings) == len(expected)
    assert all(warning.startswith(start) for warning, start in zip(warnings, expected, strict=True))


def test_a_mirror_of_a_known_set(tmp_path: Path) -> None:
    folder = tmp_path / "allenai" / "ultrafeedback_binarized_cleaned" / "default"
    folder.mkdir(parents=True)
    for split, count in (("train_prefs", 4), ("test_prefs", 2)):
        rows = [
            {
                "prompt": f"{split} {n}",
                "chosen": [said("user", f"{split} {n}"), GOOD],
                "rejected": [said("user", f"{split} {n}"), BAD],
                "score_chosen": 8.0,
            }
            for n in range(count)
        ]
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    pairs = row_pairs(RowPairs(source="rows", path="allenai/ultrafeedback_binarized_cleaned"), data_root=tmp_path)
    assert [pair.row()["prompt"] for pair in pairs.train] == [[said("user", f"train_prefs {n}")] for n in range(4)]
    assert len(pairs.eval) == 2
    assert pairs.formats == {"ultrafeedback": 6}


def test_real_orca_rows(shared: Path) -> None:
    path = shared / "preferences" / "orca_dpo_pairs_sample_validation.jsonl"
    pairs = row_pairs(RowPairs(source="rows", path=str(path), holdout=20), data_root=None)
    assert pairs.rows == len(path.read_text().splitlines()) == 284
    assert pairs.formats == {"openai": 284}
    assert len(pairs.eval) == 20
    assert len(pairs.train) + len(pairs.eval) + sum(pairs.dropped.values()) == 284
    raw = json.loads(path.read_text().splitlines()[0])
    first = next(pair.row() for pair in pairs.train if pair.row()["prompt"] == raw["input"]["messages"])
    assert (first["chosen"], first["rejected"]) == (raw["preferred_output"], raw["non_preferred_output"])
    # The same rows in the columns of Intel/orca_dpo_pairs make the same pair.
    system, user = raw["input"]["messages"]
    texts = {"chosen": raw["preferred_output"][0]["content"], "rejected": raw["non_preferred_output"][0]["content"]}
    pair, found = pair_of_row("here", {"system": system["content"], "question": user["content"], **texts})
    assert found == "orca"
    assert pair.row() == first
