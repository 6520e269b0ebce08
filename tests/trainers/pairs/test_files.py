"""Files of every format, patterns, saved folders, and columns under other names: the same pairs from all of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.config import RowPairs
from smaug_eval.trainers.pairs.files import row_files, rows_of
from smaug_eval.trainers.pairs.pair import PairSet
from smaug_eval.trainers.pairs.rows import row_pairs

ROWS = [{"prompt": f"What is {n}+{n}?\n", "chosen": f"{2 * n}, “sure”", "rejected": f"{2 * n + 1}"} for n in range(6)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def table() -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]))
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue()


def zst(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def write(place: Path, name: str) -> Path:
    path = place / name
    data = datasets.Dataset.from_list(ROWS)
    if name.startswith("saved"):
        data.save_to_disk(path, num_shards=2)
    elif name.endswith(".parquet"):
        data.to_parquet(path)
    elif name == "file.arrow":
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, data.data.schema) as writer:
            writer.write_table(data.data.table)
    elif name.endswith(".arrow"):
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, data.data.schema) as writer:
            writer.write_table(data.data.table)
    else:
        kind = name.removesuffix(".gz").removesuffix(".zst").rpartition(".")[2]
        tabbed = [list(ROWS[0]), *([*row.values()] for row in ROWS)]
        texts = {
            "jsonl": LINES,
            "json": LINES if "lines" in name else json.dumps({"data": ROWS} if "below" in name else ROWS, indent=1),
            "csv": table(),
            "tsv": "\n".join("\t".join(f'"{text}"' for text in row) for row in tabbed),
        }
        content = texts[kind].encode()
        content = gzip.compress(content) if name.endswith(".gz") else zst(content) if name.endswith(".zst") else content
        path.write_bytes(content)
    return path


def pairs(path: Path | str, **settings: Any) -> PairSet:
    return row_pairs(RowPairs(source="rows", path=str(path), holdout=0, **settings), data_root=None)


def triples(found: PairSet) -> list[dict[str, Any]]:
    return [dict(pair.row()) for pair in found.train]


@pytest.mark.parametrize(
    "name",
    [
        *("a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.json.gz", "a.json.zst", "lines.json", "below.json"),
        *("a.csv", "a.csv.gz", "a.csv.zst", "a.tsv", "a.parquet", "stream.arrow", "file.arrow", "saved"),
    ],
)
def test_every_format_gives_the_same_pairs(tmp_path: Path, name: str) -> None:
    assert triples(pairs(write(tmp_path, name))) == ROWS


def test_a_pattern_takes_its_files_in_order(tmp_path: Path) -> None:
    for number, row in enumerate(ROWS):
        (tmp_path / f"part-{number}.jsonl").write_text(json.dumps(row))
    assert triples(pairs(tmp_path / "part-*.jsonl")) == ROWS
    assert triples(pairs(tmp_path / "part-[12].jsonl")) == ROWS[1:3]
    with pytest.raises(SmaugError, match="no file matches"):
        pairs(tmp_path / "none-*.jsonl")
    (tmp_path / "part-x.txt").write_text("")
    with pytest.raises(SmaugError, match=r"part-x\.txt, which is no file of rows"):
        pairs(tmp_path / "part-*")


def test_a_saved_folder_of_several_splits(tmp_path: Path) -> None:
    data = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": data.select([0, 1]), "test": data.select([2])}).save_to_disk(tmp_path / "both")
    assert triples(pairs(tmp_path / "both")) == ROWS[:2]
    assert triples(pairs(tmp_path / "both", split="test")) == ROWS[2:3]
    with pytest.raises(SmaugError, match="has no split 'dev': train, test"):
        pairs(tmp_path / "both", split="dev")


@pytest.mark.parametrize("name", ["../outside.arrow", "/etc/hostname", "a/b.arrow"])
def test_a_saved_folder_cannot_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, "saved")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(SmaugError, match="does not name files of its own folder"):
        row_files(str(folder))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", b"[{]", "not valid JSON"),
        ("a.json", b"3", "no list of rows"),
        ("a.csv", b"prompt,chosen,rejected\na,b\n", "row 1: fewer values than columns"),
        ("a.csv", b"prompt,chosen,rejected\na,b,c,d\n", "row 1: more values than columns"),
        ("a.csv", b"prompt,chosen\n\xff,b\n", "not valid UTF-8"),
        ("a.csv.gz", b"no gzip", "is damaged"),
        ("a.jsonl.zst", b"no zstandard", "is damaged"),
        ("a.jsonl.zst", zst(LINES.encode())[:-9], "is damaged"),
        ("a.arrow", b"ARROW?", "cannot be read as Arrow"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SmaugError, match=told) as caught:
        list(rows_of(tmp_path / name))
    assert name in str(caught.value)


def test_columns_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"instruction": r["prompt"], "best": r["chosen"], "worst": r["rejected"], "prompt": 3} for r in ROWS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"prompt": "instruction", "chosen": "best", "rejected": "worst"}
    found = pairs(path, columns=columns)
    assert triples(found) == ROWS
    assert found.unused == []
    with pytest.raises(SmaugError, match=r"line 1: no column bset \(chosen\).*'best'"):
        pairs(path, columns=columns | {"chosen": "bset"})
    with pytest.raises(ValueError, match=r"columns\.chosne: rows have no such column; did you mean 'chosen'"):
        pairs(path, columns={"chosne": "best"})


@pytest.mark.parametrize(
    ("row", "form", "expected"),
    [
        (  # argilla/distilabel-intel-orca-dpo-pairs
            {"system": "Be brief.", "input": "2+2?", "chosen": "4", "rejected": "5", "rating": [9, 2], "status": "tie"},
            "orca",
            [("system", "Be brief."), ("user", "2+2?")],
        ),
        (  # argilla/distilabel-math-preference-dpo
            {"metadata": "{}", "instruction": "2+2?", "chosen_response": "4", "rejected_response": "5"},
            "text",
            "2+2?",
        ),
        ({"question": "2+2?", "chosen": "4", "rejected": "5"}, "text", "2+2?"),
        ({"instruction": "2+2?", "input": "", "chosen": "4", "rejected": "5"}, "text", "2+2?"),
    ],
)
def test_published_sets_are_known_by_their_columns(
    tmp_path: Path, row: dict[str, Any], form: str, expected: Any
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    found = pairs(tmp_path / "a.jsonl")
    assert found.formats == {form: 1}
    prompt = found.train[0].prompt
    assert (prompt if isinstance(prompt, str) else [(m.role, m.content) for m in prompt]) == expected
    assert not {"instruction", "chosen_response", "rejected_response"} & set(found.unused)


def test_two_candidates_for_the_prompt_are_not_guessed(tmp_path: Path) -> None:
    row = {"question": "Translate:", "input": "good day", "chosen": "bonjour", "rejected": "good night"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(SmaugError, match="no column prompt") as caught:
        pairs(tmp_path / "a.jsonl")
    assert "columns: {prompt: NAME}" in str(caught.value)


def test_offsets_of_an_arrow_file_that_lead_out_of_it_are_noticed(tmp_path: Path) -> None:
    """Arrow believes them, and the process would die of a bus error."""
    stream = io.BytesIO()
    table = pyarrow.Table.from_pylist([{"prompt": "2 + 2 =", "chosen": "here it is", "rejected": " 5"}])
    with pyarrow.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    data = stream.getvalue()
    place = data.rindex((10).to_bytes(4, "little"), 0, data.index(b"here it is"))  # where the text ends
    file = tmp_path / "bad.arrow"
    file.write_bytes(data[:place] + (1 << 30).to_bytes(4, "little") + data[place + 4 :])
    with pytest.raises(SmaugError, match=r"cannot be read as Arrow: .*larger than values array"):
        list(rows_of(file))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("prompt,chosen,rejected,chosen\np,a,b,c\n")
    with pytest.raises(SmaugError, match="two columns 'chosen'"):
        list(rows_of(file))
