from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.build import build_pairs
from smaug_eval.trainers.pairs.config import MetaMathPairs, RowPairs
from smaug_eval.trainers.pairs.read import read_pairs

# Edit distances over lengths: "4" -> "5" is 1/1, "ten" -> "tens" 1/4, "abcd" -> "abXY" 2/4.
ROWS = [
    {"prompt": "2+2=", "chosen": "4", "rejected": "5"},
    {"prompt": "9+1 is ", "chosen": "ten", "rejected": "tens"},
    {"prompt": "ü?", "chosen": "abcd", "rejected": "abXY"},
]


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, ROWS[0]]))
    return path


def test_what_is_written(rows_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stats = build_pairs(RowPairs(source="rows", path=str(rows_file), holdout=0), data_root=None, out_dir=out)
    assert [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()] == ROWS
    assert (out / "eval.jsonl").read_text() == ""
    assert json.loads((out / "stats.json").read_text()) == stats.model_dump()
    assert sorted(path.name for path in out.iterdir()) == [
        "eval.jsonl",
        "questions.json",
        "stats.json",
        "train.jsonl",
    ]


def test_the_statistics(rows_file: Path, tmp_path: Path) -> None:
    stats = build_pairs(RowPairs(source="rows", path=str(rows_file), holdout=0), data_root=None, out_dir=tmp_path)
    assert (stats.rows, stats.train, stats.eval, stats.dropped) == (4, 3, 0, {"duplicate": 1})
    assert stats.formats == {"text": 4}
    assert stats.characters.edit_distance.mean == pytest.approx((1 + 0.25 + 0.5) / 3)
    assert stats.characters.edit_distance.median == 0.5
    assert stats.characters.edit_distance_histogram == [0, 0, 1, 0, 0, 1, 0, 0, 0, 1]
    assert stats.characters.prompt.median == 4
    assert stats.tokens is None
    assert stats.train_sha256 == hashlib.sha256((tmp_path / "train.jsonl").read_bytes()).hexdigest()


def test_the_same_configuration_gives_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "gsm.jsonl"
    rows = [{"question": f"Q{n}", "answer": f"{n} + 1 = {n + 1}\n2 + 2 = 4\n#### 4"} for n in range(20, 60)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = MetaMathPairs(source="metamath", path=str(source), holdout=10)
    first = build_pairs(config, data_root=None, out_dir=tmp_path / "a")
    second = build_pairs(config, data_root=None, out_dir=tmp_path / "b")
    assert first == second
    assert (first.train, first.eval) == (30, 10)


def test_tokens_are_counted_with_a_tokenizer(rows_file: Path, tmp_path: Path) -> None:
    config = RowPairs(source="rows", path=str(rows_file), holdout=0)
    stats = build_pairs(config, data_root=None, out_dir=tmp_path / "out", tokenizer="embedded:demo-model")
    assert stats.tokens is not None
    assert stats.tokenizer == "embedded:demo-model"
    with pytest.raises(SmaugError, match="no tokenizer can be loaded from"):
        build_pairs(config, data_root=None, out_dir=tmp_path / "none", tokenizer=str(tmp_path))
    assert not (tmp_path / "none").exists()


def test_chat_pairs_are_written_as_messages(tmp_path: Path) -> None:
    row = {
        "prompt": [{"role": "user", "content": "Why?"}],
        "chosen": [{"role": "assistant", "content": "Because."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    }
    source = tmp_path / "chat.jsonl"
    source.write_text(json.dumps(row | {"system": "Be kind."}) + "\n")
    build_pairs(RowPairs(source="rows", path=str(source), holdout=0), data_root=None, out_dir=tmp_path / "out")
    expected = row | {"prompt": [{"role": "system", "content": "Be kind."}, *row["prompt"]]}
    assert read_pairs(tmp_path / "out" / "train.jsonl") == [expected]
    assert json.loads((tmp_path / "out" / "train.jsonl").read_text()) == expected


def test_the_questions_are_kept_as_digests(rows_file: Path, tmp_path: Path) -> None:
    build_pairs(RowPairs(source="rows", path=str(rows_file), holdout=1), data_root=None, out_dir=tmp_path)
    questions = json.loads((tmp_path / "questions.json").read_text())
    assert [len(questions[side]) for side in ("train", "eval")] == [2, 1]
    (held_out,) = read_pairs(tmp_path / "eval.jsonl")
    assert questions["eval"] == [hashlib.sha256(" ".join(held_out["prompt"].split()).encode()).hexdigest()[:16]]


def test_a_holdout_that_takes_everything(rows_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match=r"of 4 rows no pair is left to train on \(3 held out; 1 duplicate\)"):
        build_pairs(RowPairs(source="rows", path=str(rows_file), holdout=64), data_root=None, out_dir=tmp_path)


def test_a_small_set_gets_a_holdout_that_fits_it(tmp_path: Path) -> None:
    """A tenth, unless the holdout was asked for; none where all rows ask the same question."""

    def built(rows: int, question: str | None = None) -> tuple[int, int, list[str]]:
        path = tmp_path / "few.jsonl"
        lines = [{"prompt": question or f"Q{n}:", "chosen": " yes", "rejected": f" no {n}"} for n in range(rows)]
        path.write_text("".join(json.dumps(row) + "\n" for row in lines))
        stats = build_pairs(RowPairs(source="rows", path=str(path)), data_root=None, out_dir=tmp_path / "o")
        return stats.train, stats.eval, stats.notes

    assert built(50) == (45, 5, ["5 of 50 pairs are held out: the default of 64 is too many for so small a set"])
    assert built(128)[:2] == (116, 12)
    assert built(129) == (65, 64, [])  # as before
    assert built(4)[:2] == (4, 0)
    assert built(300, "the same") == (300, 0, ["no pairs are held out: all pairs ask the same question"])


def test_what_would_leave_a_pair_is_named(tmp_path: Path) -> None:
    def fix(rows: list[dict[str, Any]], **settings: Any) -> str:
        path = tmp_path / "few.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with pytest.raises(SmaugError, match="no pair is left to train on") as caught:
            build_pairs(RowPairs(source="rows", path=str(path), **settings), data_root=None, out_dir=tmp_path / "o")
        return str(caught.value.fix)

    fifty = [{"prompt": f"Q{n}:", "chosen": " yes", "rejected": f" no {n}"} for n in range(50)]
    said = fix(fifty, holdout=64)
    assert said.startswith("set holdout (now 64) in the pair set to fewer than the 50 pairs there are, for example 5")
    assert (
        build_pairs(
            RowPairs(source="rows", path=str(tmp_path / "few.jsonl"), holdout=5), data_root=None, out_dir=tmp_path / "o"
        ).train
        == 45
    )
    said = fix([row | {"prompt": "the same"} for row in fifty], holdout=64)
    assert said.startswith("set holdout: 0 in the pair set: all pairs ask the same question")
    assert "eval_path" in said
    asked = {"role": "user", "content": "a"}
    messages = [asked, {"role": "assistant", "content": "b"}], [asked, {"role": "assistant", "content": "c"}]
    last = [{"prompt": f"{n}", "chosen": messages[0], "rejected": messages[1]} for n in range(5)]
    assert fix(last, holdout=0).startswith("give the column prompt as a list of messages; or leave it out")
    equal = [row | {"rejected": " yes"} for row in fifty]
    assert fix(equal, drop_equal=True) == "give rows whose completions differ"
    assert fix([row | {"chosen": ""} for row in fifty], drop_empty=True) == "give rows whose completions say something"


def test_real_preferences(shared: Path, tmp_path: Path) -> None:
    path = shared / "preferences" / "gsm8k_model_solution_pairs.jsonl.gz"
    if not path.is_file():
        pytest.skip("needs the model-solution pairs in ../shared/preferences")
    config = RowPairs(source="rows", path=str(path), drop_equal=True, holdout=20)
    stats = build_pairs(config, data_root=None, out_dir=tmp_path)
    assert stats.eval == 20
    assert stats.formats == {"text": 2429}
    assert stats.train + stats.eval + sum(stats.dropped.values()) == stats.rows == 2429
