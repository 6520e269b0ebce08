"""Lengths and edit distances worked out by hand, and the figures of the real sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.cli.verbs import columns_of
from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.diagnosis import read_preferences
from smaug_eval.trainers.pairs.build import build_pairs
from smaug_eval.trainers.pairs.config import ArcPairs, MetaMathPairs
from smaug_eval.trainers.pairs.pair import Message, Pair
from smaug_eval.trainers.pairs.stats import (
    BUCKETS,
    edit_distance_bucket,
    measured_characters,
    normalised_edit_distance,
    pair_stats,
)


def pair(prompt: str, chosen: str, rejected: str) -> Pair:
    return Pair(prompt, chosen, rejected, question=prompt)


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_lengths_and_distances_by_hand() -> None:
    # kitten -> sitting: 3 edits over 7; prompt 12 over the mean completion 6.5. abcd -> abcd!: 1 over 5; 9 over 4.5.
    found = measured_characters([pair("x" * 12, "kitten", "sitting"), pair("y" * 9, "abcd", "abcd!")])
    assert found.prompt.mean == 10.5
    assert found.chosen.median == 5
    assert found.rejected.mean == 6
    assert found.prompt_to_completion.mean == pytest.approx((12 / 6.5 + 9 / 4.5) / 2)
    assert found.edit_distance.mean == pytest.approx((3 / 7 + 1 / 5) / 2)
    assert found.edit_distance_histogram == [0, 0, 1, 0, 1, 0, 0, 0, 0, 0]
    assert found.edit_distance_buckets == {"below 10%": 0, "10-30%": 1, "30-60%": 1, "60% and above": 0}


def test_the_last_bin_includes_completions_with_nothing_in_common() -> None:
    assert measured_characters([pair("", "ab", "cd")]).edit_distance_histogram[-1] == 1


def test_a_chat_is_measured_by_what_is_said() -> None:
    chat = Pair(
        (Message("system", "Be kind."), Message("user", "Why?")),
        (Message("assistant", "ten"),),
        (Message("assistant", "tens"),),
        question="Why?",
    )
    found = measured_characters([chat])
    assert (found.prompt.mean, found.chosen.mean, found.edit_distance.mean) == (len("Be kind.\nWhy?"), 3, 0.25)


@pytest.mark.parametrize(
    ("value", "bucket"),
    [
        (0.0, "below 10%"),
        (0.0999, "below 10%"),
        (0.1, "10-30%"),
        (0.3, "30-60%"),
        (0.59, "30-60%"),
        (0.6, "60% and above"),
        (1.0, "60% and above"),
    ],
)
def test_an_edge_belongs_to_the_bucket_above(value: float, bucket: str) -> None:
    assert edit_distance_bucket(value) == bucket
    assert bucket in BUCKETS


@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_the_distance_is_that_of_the_textbook(one: list[int], other: list[int]) -> None:
    table = [[i + j if not i * j else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            same = table[i - 1][j - 1] + (one[i - 1] != other[j - 1])
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, same)
    assert normalised_edit_distance(one, other) == pytest.approx(table[-1][-1] / max(len(one), len(other), 1))


def test_what_is_no_pair_is_counted(tmp_path: Path) -> None:
    good = {"prompt": "p", "chosen": "a", "rejected": "b"}
    path = write(tmp_path / "a.jsonl", good, good, good | {"rejected": "a"}, good | {"chosen": ""})
    found = pair_stats(path)
    assert (found.rows, found.pairs, found.formats) == (4, 1, {"text": 4})
    assert found.dropped == {"chosen_equals_rejected": 1, "duplicate": 1, "empty_completion": 1}


def test_a_built_folder_and_its_file_are_the_same(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {"prompt": "p", "chosen": "a", "rejected": "b"})
    assert pair_stats(str(tmp_path)) == pair_stats(str(tmp_path / "train.jsonl"))


def test_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match="none of 1 rows is a pair to measure"):
        pair_stats(write(tmp_path / "a.jsonl", {"prompt": "p", "chosen": "a", "rejected": "a"}))
    with pytest.raises(SmaugError, match="no column chosen, rejected"):
        pair_stats(write(tmp_path / "b.jsonl", {"question": "q", "answer": "a"}))


def test_the_verb_gives_plain_data_with_tokens(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "1 + 1 =", "chosen": " 2", "rejected": " 3"})
    stats = smaug_eval.pair_stats(path, tokenizer="embedded:demo-model")
    assert json.loads(json.dumps(stats)) == stats
    assert stats["tokenizer"] == "embedded:demo-model"
    assert 0 < stats["tokens"]["edit_distance"]["mean"] <= 1


def test_one_falsified_result_is_a_small_edit_and_a_wrong_choice_a_large_one(shared: Path, tmp_path: Path) -> None:
    # The paper's figures: ~6.5% for MetaMath pairs, ~90% for ARC pairs. Ours on GSM8K and ARC: 1.1% and 59% of the
    # characters, 2.0% and 74% of Pythia's tokens.
    tokenizer = str(shared / "models" / "pythia_tokenizer")
    root = shared / "data"
    maths = MetaMathPairs(source="metamath", path="openai/gsm8k", limit=500)
    sums = build_pairs(maths, data_root=root, out_dir=tmp_path / "a", tokenizer=tokenizer)
    arc = build_pairs(ArcPairs(source="arc", limit=500), data_root=root, out_dir=tmp_path / "b", tokenizer=tokenizer)
    assert sums.tokens is not None
    assert arc.tokens is not None
    assert sums.characters.edit_distance_buckets["below 10%"] == 500
    assert 0.005 < sums.characters.edit_distance.mean < sums.tokens.edit_distance.mean < 0.1
    assert 0.5 < arc.characters.edit_distance.mean < arc.tokens.edit_distance.mean < 0.95


def test_columns_under_other_names(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.jsonl", {"prompt": "p", "chosen": "yes", "rejected": "no"})
    other = write(tmp_path / "b.jsonl", {"ask": "p", "good": "yes", "bad": "no"})
    columns = {"prompt": "ask", "chosen": "good", "rejected": "bad"}
    wanted = smaug_eval.pair_stats(plain)
    assert smaug_eval.pair_stats(other, columns=columns) == {**wanted, "path": other}
    assert read_preferences(other, data_root=None, columns=columns)[1].train[0].chosen == "yes"
    typed = [text for pair in columns.items() for text in ("--column", "=".join(pair))]
    found = CliRunner().invoke(app, ["pairs", "stats", other, "--json", *typed])
    assert json.loads(found.stdout) == {**wanted, "path": other}
    for wrong, words in (({"prompt": "nowhere"}, "no column nowhere"), ({"promt": "ask"}, "did you mean 'prompt'")):
        with pytest.raises(SmaugError, match=words):
            smaug_eval.pair_stats(other, columns=wrong)
        with pytest.raises(SmaugError, match=words):
            read_preferences(other, data_root=None, columns=wrong)
    for typo in (["prompt"], ["=a"], ["prompt=a", "prompt=b"]):
        with pytest.raises(SmaugError, match="--column"):
            columns_of(typo)
    assert columns_of(["prompt=a=b"]) == {"prompt": "a=b"}
