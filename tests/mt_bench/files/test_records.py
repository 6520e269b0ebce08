"""Lines in FastChat's formats: what we read, what we write, and that FastChat reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastchat.llm_judge.common import (
    load_model_answers,
    load_pairwise_model_judgments,
    load_single_model_judgments,
)
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files.lines import read_lines, torn_line
from smaug_eval.mt_bench.files.record_files import read_answers, read_judgments
from smaug_eval.mt_bench.files.records import AnswerRecord, JudgmentRecord, PairJudgmentRecord, RecordWriter

ANSWER = AnswerRecord(81, "a1", "tiny", (("one", "two"),), 1.5, {"seed": 7, "marks": ["ok", "empty"]})
SINGLE = JudgmentRecord(81, "tiny", ("gpt-4", "single-v1"), "Rate.", "Fine. [[8]]", 8, 1, 2.5, {"repeat": 0})
PAIR = PairJudgmentRecord(
    81, "a", "b", "model_1", "tie", ("gpt-4", "pair-v2"), "p1", "[[A]]", "p2", "[[C]]", 2, 3.5, {"repeat": 1}
)
ODD = 'tab\t "quotes"\r\n\u2028 \u0085 \x00 日本 😀'


def write(path: Path, *records: Any) -> Path:
    with RecordWriter(path) as writer:
        for record in records:
            writer.append(record)
    return path


def lines(path: Path, *contents: Any) -> Path:
    path.write_text("".join(json.dumps(content) + "\n" for content in contents))
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    answer = replace(ANSWER, choices=((ODD, ""), ("x", "y")), answer_id="😀")
    assert read_answers([write(tmp_path / "a.jsonl", answer)]) == [answer]
    found = read_judgments([write(tmp_path / "j.jsonl", SINGLE, PAIR, replace(SINGLE, judgment=ODD, smaug={}))])
    assert found.single == [SINGLE, replace(SINGLE, judgment=ODD, smaug={})]
    assert found.pairs == [PAIR]
    assert found.notes == []


def test_lines_have_fastchat_s_keys_in_its_order(tmp_path: Path) -> None:
    assert list(ANSWER.as_json()) == ["question_id", "answer_id", "model_id", "choices", "tstamp", "smaug"]
    assert list(replace(SINGLE, smaug={}).as_json()) == [
        "question_id", "model", "judge", "user_prompt", "judgment", "score", "turn", "tstamp",
    ]  # fmt: skip
    assert list(replace(PAIR, smaug={}).as_json()) == [
        "question_id", "model_1", "model_2", "g1_winner", "g2_winner", "judge", "g1_user_prompt", "g1_judgment",
        "g2_user_prompt", "g2_judgment", "turn", "tstamp",
    ]  # fmt: skip
    assert ANSWER.as_json()["choices"] == [{"index": 0, "turns": ["one", "two"]}]
    text = write(tmp_path / "j.jsonl", replace(SINGLE, score=None)).read_text()
    assert '"score": -1,' in text
    assert text.isascii()


def test_halves_of_characters_become_a_sign_that_every_reader_takes(tmp_path: Path) -> None:
    path = write(tmp_path / "j.jsonl", replace(SINGLE, judgment="cut \ud83d, whole \ud83d\ude00, \udc00 cut"))
    assert read_judgments([path]).single[0].judgment == "cut \ufffd, whole 😀, \ufffd cut"
    assert pd.read_json(path, lines=True)["judgment"][0] == "cut \ufffd, whole 😀, \ufffd cut"
    path.write_text(json.dumps(SINGLE.as_json() | {"judgment": "\ud800"}).replace("ud800", "uD800") + "\n")
    assert read_judgments([path]).single[0].judgment == "\ufffd"


def test_fastchat_reads_our_answers(tmp_path: Path) -> None:
    write(tmp_path / "tiny.jsonl", replace(ANSWER, choices=((ODD, "two"),)), replace(ANSWER, question_id=82))
    answers = load_model_answers(str(tmp_path))["tiny"]
    assert answers[81]["choices"][0]["turns"] == [ODD, "two"]
    assert answers[82]["model_id"] == "tiny"


def test_fastchat_reads_our_judgments(tmp_path: Path) -> None:
    single = write(tmp_path / "gpt-4_single.jsonl", replace(SINGLE, judgment=ODD), replace(SINGLE, turn=2, score=None))
    assert load_single_model_judgments(str(single)) == {
        ("gpt-4", "single-v1"): {(81, "tiny"): {"score": -1, "judgment": "Fine. [[8]]"}}
    }
    assert pd.read_json(single, lines=True)["score"].tolist() == [8, -1]  # as show_result reads it
    pair = write(tmp_path / "gpt-4_pair.jsonl", replace(PAIR, g2_winner="model_1"))
    assert load_pairwise_model_judgments(str(pair)) == {
        ("gpt-4", "pair-v2"): {
            (81, "a", "b"): {"winners": ("model_1",), "g1_judgment": "[[A]]", "g2_judgment": "[[C]]"}
        }
    }
    assert pd.read_json(pair, lines=True)[["g1_winner", "g2_winner"]].values.tolist() == [["model_1", "model_1"]]


def test_the_real_files_are_read_and_written_without_a_change(shared: Path, tmp_path: Path) -> None:
    for path in sorted((shared / "mt_bench").glob("model_judgment/*.jsonl")):
        found = read_judgments([path])
        again = write(tmp_path / path.name, *found.single, *found.pairs)
        assert again.read_bytes().split(b"\n") == path.read_bytes().split(b"\n")
    for path in sorted((shared / "mt_bench").glob("model_answer/*.jsonl")):
        again = write(tmp_path / path.name, *read_answers([path]))
        assert [json.loads(line) for line in again.open()] == [json.loads(line) for line in path.open()]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"judge": "gpt-4"}, {"judge": ("gpt-4", "")}),
        ({"judge": ["gpt-4"]}, {"judge": ("gpt-4", "")}),
        ({"judge": None}, {"judge": ("", "")}),
        ({"score": None}, {"score": None}),
        ({"score": -1}, {"score": -1}),
        ({"score": "8.5"}, {"score": 8.5}),
        ({"score": float("nan")}, {"score": None}),
        ({"score": float("inf")}, {"score": None}),
        ({"score": 10**400}, {"score": None}),
        ({"tstamp": None}, {"tstamp": 0.0}),
        ({"tstamp": "yesterday"}, {"tstamp": 0.0}),
        ({"tstamp": 10**400}, {"tstamp": 0.0}),
        ({"user_prompt": None, "judgment": None}, {"user_prompt": "", "judgment": ""}),
        ({"turn": None}, {"turn": 1}),
        (
            {"turn": None, "judge": ["gpt-4", "single-v1-multi-turn"]},
            {"turn": 2, "judge": ("gpt-4", "single-v1-multi-turn")},
        ),
        ({"question_id": "81"}, {"question_id": 81}),
        ({"question_id": "9f3c"}, {"question_id": "9f3c"}),
        ({"smaug": "other"}, {"smaug": {}}),
        ({"reference": "gpt-4", "index": 3}, {}),
    ],
)
def test_older_and_foreign_lines_are_understood(tmp_path: Path, change: dict[str, Any], expected: Any) -> None:
    path = lines(tmp_path / "j.jsonl", SINGLE.as_json() | change)
    (found,) = read_judgments([path]).single
    assert found == replace(SINGLE, **expected)


def test_keys_may_be_missing(tmp_path: Path) -> None:
    path = lines(tmp_path / "j.jsonl", {"question_id": 81, "model": "m", "score": 7})
    assert read_judgments([path]).single == [JudgmentRecord(81, "m", ("", ""), "", "", 7, 1)]
    path = lines(tmp_path / "a.jsonl", {"question_id": 81, "choices": [{"turns": ["x"]}]})
    assert read_answers([path]) == [AnswerRecord(81, "", "a", (("x",),))]


def test_one_winner_for_both_games(tmp_path: Path) -> None:
    old = {"question_id": 1, "model_1": "a", "model_2": "b", "judge": ["gpt-4", "pair-v2"]}
    path = lines(tmp_path / "p.jsonl", old | {"winner": "model_2"}, old | {"winner": "inconsistent"})
    assert [(pair.g1_winner, pair.g2_winner) for pair in read_judgments([path]).pairs] == [
        ("model_2", "model_2"),
        ("inconsistent", "inconsistent"),
    ]


def test_a_winner_that_is_null_is_an_error_of_the_judge(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.jsonl", PAIR.as_json() | {"g1_winner": None})
    assert read_judgments([path]).pairs[0].g1_winner == "error"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question_id": 1}, "neither a judgment of one answer (model, score) nor of two"),
        ({"model": "m", "score": 3}, "key 'question_id' is missing"),
        (SINGLE.as_json() | {"score": "high"}, "key 'score' is 'high', not a number"),
        (SINGLE.as_json() | {"score": [8, 9]}, "key 'score' is not a number but list"),
        (SINGLE.as_json() | {"score": True}, "key 'score' is not a number but bool"),
        (SINGLE.as_json() | {"turn": 0}, "key 'turn' is 0, not 1 or 2"),
        (SINGLE.as_json() | {"turn": True}, "key 'turn' is True, not 1 or 2"),
        (SINGLE.as_json() | {"model": 4}, "key 'model' is not a text but int"),
        (SINGLE.as_json() | {"judgment": ["x"]}, "key 'judgment' is not a text but list"),
        (SINGLE.as_json() | {"judge": {"name": "gpt-4"}}, "key 'judge' is neither a name nor [name, prompt]"),
        (SINGLE.as_json() | {"judge": [1, 2]}, "key 'judge' is neither a name nor [name, prompt]"),
        (PAIR.as_json() | {"g1_winner": "A"}, "key 'g1_winner' is 'A', none of model_1, model_2, tie"),
        (PAIR.as_json() | {"g1_winner": ["A"]}, "key 'g1_winner' is ['A'], none of"),
    ],
)  # fmt: skip
def test_lines_that_make_no_sense_are_named(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    path = lines(tmp_path / "j.jsonl", SINGLE.as_json(), line)
    with pytest.raises(SmaugError) as refused:
        read_judgments([path])
    assert f"{path}, line 2: {message}" in str(refused.value)


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    line = json.dumps(SINGLE.as_json()).encode()
    path.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n" + line + b"\r\n")
    assert read_judgments([path]).single == [SINGLE, SINGLE]


def test_separators_of_unicode_end_no_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps(SINGLE.as_json() | {"judgment": "a\u2028b\u0085c"}, ensure_ascii=False) + "\n")
    assert read_judgments([path]).single[0].judgment == "a\u2028b\u0085c"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match=r"none\.jsonl cannot be read: No such file"):
        read_judgments([tmp_path / "none.jsonl"])


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_last_line_that_was_never_finished_is_left_out_and_then_removed(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "j.jsonl", SINGLE)
    whole = path.read_bytes()
    torn = json.dumps(replace(SINGLE, question_id=82).as_json())[:cut]
    path.write_bytes(whole + torn.encode())
    found = read_judgments([path])
    assert found.single == [SINGLE]
    assert found.notes == ["j.jsonl: the last line was never finished and is left out"]
    with RecordWriter(path) as writer:
        assert writer.repaired == f"{path}: removed a last line of {len(torn)} bytes that was never finished"
        writer.append(replace(SINGLE, question_id=83))
    assert path.read_bytes().startswith(whole)
    assert [record.question_id for record in read_judgments([path]).single] == [81, 83]


def test_a_whole_last_line_without_its_line_feed_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "j.jsonl", SINGLE)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert read_judgments([path]).single == [SINGLE]
    with RecordWriter(path) as writer:
        assert writer.repaired is None
        writer.append(replace(SINGLE, question_id=82))
    assert [record.question_id for record in read_judgments([path]).single] == [81, 82]


def test_each_record_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "j.jsonl"
    with RecordWriter(path) as writer:
        writer.append(SINGLE)
        assert read_judgments([path]).single == [SINGLE]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SmaugError, match="cannot write"):
        RecordWriter(tmp_path / "file" / "j.jsonl")


@given(st.binary(max_size=60))
def test_any_bytes_are_objects_or_an_error_that_names_the_line(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "x.jsonl"
    path.write_bytes(content)
    try:
        found = list(read_lines(path))
    except SmaugError as error:
        assert f"{path}, line" in str(error)
    else:
        assert all(isinstance(line.content, dict) for line in found)
    if (start := torn_line(path)) is not None:
        assert b"\n" not in content[start:]
