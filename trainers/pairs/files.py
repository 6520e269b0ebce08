"""Read files and folders of rows on this machine, in every format that there is; import no torch.

The rows are untrusted: every fault names the file and the row, and nothing is unpickled or run. ``save_to_disk``
folders of ``datasets`` are read as the Arrow files that they are.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from glob import has_magic
from pathlib import Path
from typing import IO, Any, cast

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json
from smaug_eval.common.names import is_file_name

LONGEST_LINE = 1 << 26
"""Bytes of a line; a small compressed file can hold one that no memory can."""
MOST_BYTES = 1 << 33
"""Bytes of a compressed JSON file that is one value."""
COMPRESSED = (".gz", ".zst")
TEXTS = (".jsonl", ".json", ".csv", ".tsv")
FILE_SUFFIXES = (*TEXTS, *(f"{text}{end}" for text in TEXTS for end in COMPRESSED), ".parquet", ".arrow")
"""Ends of the names of files that hold rows; any other path is a folder or a data set on the Hub."""
FORMATS = "a .jsonl, .json, .csv, .tsv (also .gz or .zst), .parquet or .arrow file"
_ROWS_KEYS = ("data", "rows", "train", "examples", "instances")

Rows = Iterator[tuple[str, Any]]


def is_local(path: str) -> bool:
    """Check whether a path names rows on this machine and no data set on the Hub: by its suffix, or what is there."""
    return path.endswith(FILE_SUFFIXES) or has_magic(path) or is_saved(Path(path))


def is_saved(folder: Path) -> bool:
    """Check whether a folder was written by ``save_to_disk`` of ``datasets``."""
    try:
        return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))
    except (OSError, ValueError):
        return False


def row_files(path: str, split: str = "train") -> list[Path]:
    """List the files of rows that a path means: one, a pattern's, or those of a ``save_to_disk`` folder.

    Args:
        path: A file, a pattern as the shell writes it (``data/*.jsonl``), or a folder.
        split: Of a folder with several.

    Raises:
        SmaugError: there is none, or a folder names files outside of it.
    """
    if Path(path).is_file():
        return [Path(path)]
    if is_saved(Path(path)):
        return _saved_files(Path(path), split)
    if not has_magic(path):
        raise SmaugError(f"pair file {path} does not exist", fix="correct path in the pair set")
    root = Path(Path(path).anchor)
    found = sorted(file for file in root.glob(str(Path(path).relative_to(root))) if file.is_file())
    if not found:
        raise SmaugError(f"no file matches {path}", fix="correct path in the pair set")
    other = [file for file in found if not file.name.endswith(FILE_SUFFIXES)]
    if other:
        raise SmaugError(f"{path} matches {other[0]}, which is no file of rows", fix=f"match only {FORMATS[2:]}s")
    return found


def rows_of(file: Path) -> Rows:
    """Yield every row of a file as it is, each with its place.

    Raises:
        SmaugError: the file is damaged, or a row cannot be read.
    """
    kind = Path(file.stem).suffix if file.suffix in COMPRESSED else file.suffix
    return _READERS[kind](file)


def _saved_files(folder: Path, split: str) -> list[Path]:
    if (folder / "dataset_dict.json").is_file():
        splits = _mapping(folder / "dataset_dict.json").get("splits")
        if not isinstance(splits, list) or split not in splits or not is_file_name(split):
            there = ", ".join(map(str, splits)) if isinstance(splits, list) else "none"
            raise SmaugError(f"{folder} has no split {split!r}: {there}", fix="set split to one of these")
        folder = folder / split
    listed = _mapping(folder / "state.json").get("_data_files")
    names = [entry.get("filename") for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if not names or not all(isinstance(name, str) and is_file_name(name) for name in names):
        raise SmaugError(
            f"{folder / 'state.json'} does not name files of its own folder", fix="save it again with save_to_disk"
        )
    files = [folder / str(name) for name in names]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise SmaugError(f"{missing[0]} is missing", fix="copy the whole folder that save_to_disk wrote")
    return files


def _mapping(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict):
        raise SmaugError(f"{file} is no JSON object", fix="save the data set again with save_to_disk")
    return content


def _parquet_rows(path: Path) -> Rows:
    import pyarrow.parquet

    return _table_rows(path, lambda: pyarrow.parquet.read_table(path), "parquet")


def _arrow_rows(path: Path) -> Rows:
    import pyarrow

    def read() -> Any:
        with pyarrow.OSFile(str(path)) as source:
            try:
                return pyarrow.ipc.open_stream(source).read_all()
            except pyarrow.ArrowInvalid:
                source.seek(0)
                return pyarrow.ipc.open_file(source).read_all()

    return _table_rows(path, read, "Arrow")


def _table_rows(path: Path, read: Callable[[], Any], kind: str) -> Rows:
    import pyarrow

    try:
        table = read()
        table.validate(full=True)  # Arrow believes offsets, and reads outside of its memory by wrong ones
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SmaugError(f"{path} cannot be read as {kind}: {error}", fix="write or fetch the file again") from error
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", without_padding(row)


def without_padding(row: Any) -> Any:
    """Remove the nulls of a table's row that stand for absent keys: all objects of a column have all keys there.

    Columns keep their nulls, and so do messages' contents.
    """
    return {column: _filled(value) for column, value in row.items()} if isinstance(row, dict) else row


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _filled(part) for key, part in value.items() if part is not None or key == "content"}
    return [_filled(part) for part in value] if isinstance(value, list) else value


def _jsonl_rows(path: Path) -> Rows:
    number = 0
    with _opened(path, lambda: f" after line {number}") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE + 1), b""), start=1):
            if len(line) > LONGEST_LINE:
                raise SmaugError(
                    f"{path}, line {number}: longer than {LONGEST_LINE:,} bytes", fix="write one object per line"
                )
            if line.strip():
                where = f"{path}, line {number}"
                yield where, _json_object(where, line)


def _json_rows(path: Path) -> Rows:
    """The rows of a JSON file: a list, an object that holds one, or one object a line, which many files are."""
    with _opened(path) as stream:
        content = stream.read(MOST_BYTES)
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SmaugError(f"{path}: not valid UTF-8 (byte {error.start + 1})", fix="save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            raise SmaugError(f"{path}: not valid JSON: {error}", fix="correct the file") from error
        yield from _jsonl_rows(path)
        return
    if isinstance(found, dict):
        lists = [key for key in _ROWS_KEYS if isinstance(found.get(key), list)]
        found = found[lists[0]] if len(lists) == 1 else [found]
    if not isinstance(found, list):
        raise SmaugError(f"{path} is no list of rows", fix="write a list of objects, or one object per line (.jsonl)")
    for number, row in enumerate(found, start=1):
        yield f"{path}, row {number}", row


def _csv_rows(path: Path) -> Rows:
    separator = "\t" if ".tsv" in path.suffixes else ","
    number = 0
    before = csv.field_size_limit(LONGEST_LINE)
    try:
        with _opened(path) as stream:
            lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            reader = csv.DictReader(lines, delimiter=separator, strict=True)
            _refuse_repeated(path, reader.fieldnames or ())
            for number, row in enumerate(reader, start=1):
                where = f"{path}, row {number}"
                if None in row or None in row.values():
                    raise SmaugError(
                        f"{where}: {'more' if None in row else 'fewer'} values than columns",
                        fix="put values with separators or line breaks in quotes",
                    )
                yield where, row
    except UnicodeDecodeError as error:
        raise SmaugError(f"{path}: not valid UTF-8 after row {number}", fix="save the file as UTF-8") from error
    except csv.Error as error:
        raise SmaugError(f"{path}, row {number + 1}: {error}", fix="correct the row's quotes") from error
    finally:
        csv.field_size_limit(before)


def _refuse_repeated(path: Path, columns: Sequence[str]) -> None:
    """Refuse two columns of one name, of which only the last would be read.

    Raises:
        SmaugError: there are two.
    """
    repeated = sorted(name for name, times in Counter(columns).items() if times > 1)
    if repeated:
        raise SmaugError(f"{path}: two columns {repeated[0]!r}", fix="give each column a name of its own")


@contextmanager
def _opened(path: Path, place: Callable[[], str] = lambda: "") -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed.

    Args:
        path: The file.
        place: Says how far it was read.

    Raises:
        SmaugError: it is damaged.
    """
    import pyarrow

    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                yield cast("IO[bytes]", stream)
        elif path.suffix == ".zst":
            with pyarrow.input_stream(str(path), compression="zstd") as compressed:
                yield io.BufferedReader(_Raw(compressed))
        else:
            with path.open("rb") as plain:
                yield plain
    except (gzip.BadGzipFile, EOFError, zlib.error, pyarrow.ArrowException) as error:
        raise SmaugError(f"{path} is damaged{place()}: {error}", fix="compress or fetch the file again") from error
    except OSError as error:
        if path.suffix not in COMPRESSED:
            raise
        raise SmaugError(f"{path} is damaged{place()}: {error}", fix="compress or fetch the file again") from error


class _Raw(io.RawIOBase):
    """A stream of pyarrow as one of Python's, which reads lines."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _json_object(where: str, line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SmaugError(f"{where}: not valid UTF-8 (byte {error.start + 1})", fix="save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise SmaugError(f"{where}: not valid JSON: {error}", fix="correct or remove the line") from error


_READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".parquet": _parquet_rows,
    ".arrow": _arrow_rows,
}
