"""Rows of text from JSONL, parquet or the Hub. The rows are untrusted: every fault names the file and the row."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.data import mirror_file, read_split
from smaug_eval.errors import SmaugError
from trainers.config import FILE_SUFFIXES

HUB_CONFIG = "default"
HUB_SPLIT = "train"


@dataclass(frozen=True)
class Row:
    """One row and where it stands, for messages.

    Attributes:
        where: File or data set with its 1-based line or row.
        index: 0-based position among the rows read.
        values: The columns asked for, all of them text.
    """

    where: str
    index: int
    values: Mapping[str, str]


def read_rows(
    path: str, columns: Sequence[str], *, data_root: Path | None, config: str | None = None, split: str | None = None
) -> list[Row]:
    """Every row of a file, or of a split on the Hub or in its mirror, with the named text columns.

    Args:
        path: A ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file, or a Hub id.
        columns: The columns needed; others are ignored.
        data_root: Mirror of the Hub to read from, for a Hub id.
        config: Hub configuration, ``default`` if None.
        split: Hub split, ``train`` if None.

    Raises:
        SmaugError: the file is missing, damaged or empty, a column is missing, or a value is not valid text.
    """
    if path.endswith(FILE_SUFFIXES):
        source: Iterator[tuple[str, Any]] = _file_rows(Path(path))
    else:
        source = _hub_rows(path, config or HUB_CONFIG, split or HUB_SPLIT, data_root)
    rows = [Row(where, index, _texts(where, value, columns)) for index, (where, value) in enumerate(source)]
    if not rows:
        raise SmaugError(f"{path} has no rows", fix="give a file or split with at least one row")
    return rows


def source_files(
    path: str, *, data_root: Path | None, config: str | None = None, split: str | None = None
) -> list[Path]:
    """The file that :func:`read_rows` would read for the same arguments; none where it would ask the Hub.

    Raises:
        SmaugError: the file or the mirror's split is not there.
    """
    if path.endswith(FILE_SUFFIXES):
        return [_existing(Path(path))]
    return [mirror_file(data_root, path, config or HUB_CONFIG, split or HUB_SPLIT)] if data_root else []


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise SmaugError(f"pair file {path} does not exist", fix="correct path in the pair set")
    return path


def _file_rows(path: Path) -> Iterator[tuple[str, Any]]:
    _existing(path)
    return _parquet_rows(path) if path.suffix == ".parquet" else _jsonl_rows(path)


def _hub_rows(hub_id: str, config: str, split: str, data_root: Path | None) -> Iterator[tuple[str, Any]]:
    data = read_split(hub_id, config, split, data_root=data_root)
    for number, row in enumerate(data, start=1):
        yield f"{hub_id} ({config}, {split}), row {number}", row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SmaugError(f"{path} cannot be read as parquet: {error}", fix="write or fetch the file again") from error
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Any]]:
    compressed = path.suffix == ".gz"
    number = 0
    try:
        with gzip.open(path) if compressed else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield where, _json_object(where, line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SmaugError(
            f"{path} is damaged after line {number}: {error}", fix="compress or fetch the file again"
        ) from error


def _json_object(where: str, line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SmaugError(f"{where}: not valid UTF-8 (byte {error.start + 1})", fix="save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise SmaugError(f"{where}: not valid JSON: {error}", fix="correct or remove the line") from error


def _texts(where: str, row: Any, columns: Sequence[str]) -> dict[str, str]:
    if not isinstance(row, dict):
        raise SmaugError(f"{where}: expected a JSON object, found {_kind(row)}", fix="write one object per line")
    missing = [column for column in columns if column not in row]
    if missing:
        raise SmaugError(
            f"{where}: no column {', '.join(missing)} (it has {', '.join(map(repr, row)) or 'none'})",
            fix=f"give every row the columns {', '.join(columns)}",
        )
    return {column: _text(where, column, row[column]) for column in columns}


def _text(where: str, column: str, value: Any) -> str:
    if not isinstance(value, str):
        raise SmaugError(f"{where}: {column} is {_kind(value)}, not text", fix="correct or remove the row")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SmaugError(
            f"{where}: {column} holds half of a surrogate pair at character {error.start + 1}",
            fix="correct the escape or remove the row",
        ) from error
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float) and value != value:
        return "NaN"
    return {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}.get(
        type(value), f"a {type(value).__name__}"
    )
