"""Rows from JSONL, parquet or the Hub. The rows are untrusted: every fault names the file and the row."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from smaug_eval.data import mirror_file, read_split
from smaug_eval.errors import SmaugError
from trainers.pairs.checks import checked_object, checked_text
from trainers.pairs.formats import UnusableRow, pair_of_row
from trainers.pairs.pair import Pair
from trainers.pairs.sources import Location

LONGEST_LINE = 1 << 26
"""Bytes of a line; a small compressed file can hold one that no memory can."""


def raw_rows(location: Location, *, data_root: Path | None) -> list[tuple[str, Any]]:
    """Every row of a file, or of a split on the Hub or in its mirror, as it stands, each with its place.

    Args:
        location: The file or the split.
        data_root: Mirror of the Hub to read from.

    Raises:
        SmaugError: the file is missing, damaged or empty, or a line is not JSON.
    """
    rows = list(_file_rows(Path(location.path)) if location.is_file else _hub_rows(location, data_root))
    if not rows:
        raise SmaugError(f"{location} has no rows", fix="give a file or split with at least one row")
    return rows


def text_columns(where: str, row: Any, columns: Sequence[str]) -> dict[str, str]:
    """The named columns of a row, all of them text.

    Raises:
        SmaugError: one is missing or something else.
    """
    values = checked_object(where, row, columns)
    return {column: checked_text(where, column, values[column]) for column in columns}


def pairs_of_file(path: Path) -> list[Pair]:
    """The pairs of a file that :func:`trainers.pairs.build.build_pairs` wrote, or one like it.

    Raises:
        SmaugError: a row is neither ``prompt``, ``chosen``, ``rejected`` text nor messages.
    """
    return [_ready_pair(where, row) for where, row in raw_rows(Location(str(path)), data_root=None)]


def read_pairs(path: Path) -> list[Mapping[str, Any]]:
    """The pairs of a file in the form of its rows, checked.

    Args:
        path: JSON lines of ``prompt``, ``chosen`` and ``rejected``, each row all texts or all lists of
            ``{"role", "content"}``.

    Returns:
        For each row the three columns, texts or lists of messages; a chat row's prompt ends with a user message, and
        its completions hold assistant messages.

    Raises:
        SmaugError: a row is something else; the message names it.
    """
    return [pair.row() for pair in pairs_of_file(path)]


def source_files(location: Location, *, data_root: Path | None) -> list[Path]:
    """The file that :func:`raw_rows` would read for the same arguments; none where it would ask the Hub.

    Raises:
        SmaugError: the file or the mirror's split is not there.
    """
    if location.is_file:
        return [_existing(Path(location.path))]
    return [mirror_file(data_root, location.path, location.config, location.split)] if data_root else []


def _ready_pair(where: str, row: Any) -> Pair:
    try:
        pair, _ = pair_of_row(where, row)
    except UnusableRow as error:
        raise SmaugError(f"{where}: {error.reason.replace('_', ' ')}", fix="build the pair set again") from error
    for name, completion in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if completion == ():
            raise SmaugError(f"{where}: {name} has no message", fix="correct or remove the row")
    return pair


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise SmaugError(f"pair file {path} does not exist", fix="correct path in the pair set")
    return path


def _file_rows(path: Path) -> Iterator[tuple[str, Any]]:
    _existing(path)
    return _parquet_rows(path) if path.suffix == ".parquet" else _jsonl_rows(path)


def _hub_rows(location: Location, data_root: Path | None) -> Iterator[tuple[str, Any]]:
    data = read_split(location.path, location.config, location.split, data_root=data_root, revision=location.revision)
    for number, row in enumerate(data, start=1):
        yield f"{location}, row {number}", row


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
            for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE + 1), b""), start=1):
                if len(line) > LONGEST_LINE:
                    raise SmaugError(
                        f"{path}, line {number}: longer than {LONGEST_LINE:,} bytes", fix="write one object per line"
                    )
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
