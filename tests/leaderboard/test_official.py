from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.benchmarks import gsm8k
from smaug_eval.leaderboard.official import content_note, fingerprint
from smaug_eval.leaderboard.protocol import DataSplit
from tests.hub.contents import pushed
from tests.hub.fixtures import HubHere

ROWS = [{"question": f"Q{n}?", "answer": f"#### {n}"} for n in range(1319)]
COLUMNS = ("question", "answer")


def write(root: Path, split: str, rows: list[dict[str, Any]]) -> None:
    path = root / "openai/gsm8k/main" / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_fingerprints_depend_on_the_used_columns_alone() -> None:
    assert fingerprint(ROWS, COLUMNS) == fingerprint([{**row, "id": 1} for row in ROWS], COLUMNS)
    assert fingerprint(ROWS, COLUMNS) != fingerprint(ROWS[::-1], COLUMNS)
    assert fingerprint(ROWS, COLUMNS) != fingerprint([*ROWS[:-1], {**ROWS[-1], "answer": "#### 1"}], COLUMNS)


def test_fingerprints_are_the_same_from_any_file_format(tmp_path: Path) -> None:
    rows = [{"endings": ["a", "é"], "label": "1", "n": n, "x": {"k": [0, 1]}} for n in range(3)]
    columns = ("endings", "label", "n", "x")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = [
        datasets.Dataset.from_parquet(str(tmp_path / "a.parquet"), cache_dir=str(tmp_path)).to_list(),
        datasets.Dataset.from_json(str(tmp_path / "a.jsonl"), cache_dir=str(tmp_path)).to_list(),
    ]
    assert {fingerprint(each, columns) for each in read} == {fingerprint(rows, columns)}


def test_subjects_may_come_in_any_order() -> None:
    rows = [{"subject": subject, "question": n} for subject in "ba" for n in range(3)]
    columns = ("subject", "question")
    assert fingerprint(rows, columns) == fingerprint([*rows[3:], *rows[:3]], columns)
    assert fingerprint(rows, columns) != fingerprint([*rows[:3], *rows[:2:-1]], columns)


def test_other_content_is_noted() -> None:
    assert content_note(v1.GSM8K.evaluated, ROWS, COLUMNS) == "the content of GSM8K test differs"
    assert v1.HELLASWAG.shots is not None
    assert content_note(v1.HELLASWAG.shots, ROWS, COLUMNS) is None  # not known
    assert content_note(DataSplit("made/up", "default", "test"), ROWS, COLUMNS) is None


def test_the_mirror_holds_the_official_content(shared: Path) -> None:
    notes = {column.title: v1.SUITE.data_notes(column, shared / "data") for column in v1.SUITE.columns}
    marked = notes.pop("HellaSwag")
    assert notes == {title: [] for title in notes}
    assert marked == [
        "HellaSwag train has 5,000 rows, official 39,905",
        "the content of HellaSwag validation was rebuilt from preprocessed text",
    ]


def test_right_number_of_rows_with_other_content_is_noted(tmp_path: Path) -> None:
    gsm8k = v1.SUITE.columns[-1]
    write(tmp_path, "test", ROWS)
    write(tmp_path, "train", ROWS[:30])
    assert v1.SUITE.data_notes(gsm8k, tmp_path) == [
        "GSM8K train has 30 rows, official 7,473",
        "the content of GSM8K test differs",
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, r"openai/gsm8k \(main\) has no split 'train'"),
        ([{"question": "Q", "solution": "#### 1"}], "has no column answer; it has question, solution"),
        ([{"question": "Q", "answer": "#### 1"}] * 4, "5 shots cannot come from 4 rows"),
    ],
)
def test_data_that_cannot_be_used(tmp_path: Path, rows: list[dict[str, Any]] | None, message: str) -> None:
    write(tmp_path, "test", ROWS[:9])
    if rows is not None:
        write(tmp_path, "train", rows)
    with pytest.raises(SmaugError, match=message):
        v1.load_documents(v1.GSM8K.name, tmp_path)


def test_the_hub_is_read_at_the_pinned_commit(hub_here: HubHere) -> None:
    other = [{**row, "answer": "#### 0"} for row in ROWS[:3]]
    hub = hub_here.hub
    hub.add_dataset("openai/gsm8k", pushed({"main": {"test": ROWS[:3]}}), sha=gsm8k.REVISION)
    hub.commit("openai/gsm8k", pushed({"main": {"test": other}}))
    both = v1.GSM8K.evaluated, replace(v1.GSM8K.evaluated, revision=None)
    assert [v1.read_rows(split, COLUMNS, None) for split in both] == [ROWS[:3], other]
    hub_here.offline()
    assert v1.read_rows(v1.GSM8K.evaluated, COLUMNS, None) == ROWS[:3]
    revisions = {split.revision for spec in v1.TASKS.values() for split in spec.splits}
    assert all(revision is not None and len(revision) == 40 for revision in revisions)


def test_offline_the_newest_rows_are_not_taken_for_the_pinned_ones(hub_here: HubHere) -> None:
    repository = hub_here.hub.add_dataset("openai/gsm8k", pushed({"main": {"test": ROWS[:3]}}))
    v1.read_rows(replace(v1.GSM8K.evaluated, revision=None), COLUMNS, None)
    hub_here.offline()
    with pytest.raises(SmaugError, match=f"commit {gsm8k.REVISION} is not in the local Hub cache") as error:
        v1.read_rows(v1.GSM8K.evaluated, COLUMNS, None)
    assert repository.branches["main"] in str(error.value)
