"""Read JSON Lines as FastChat's scripts, editors and interrupted programs leave them."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import open_atomically
from smaug_eval.mt_bench.files.layout import copy_aside

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_START = 256
_SURROGATE = "\\ud"

Result = TypeVar("Result")


@dataclass(frozen=True)
class JsonLine:
    """Read one object of a JSON Lines file, with typed access to its keys.

    Attributes:
        path: The file.
        number: The line's number, from 1.
        content: The object.
    """

    path: Path
    number: int
    content: dict[str, Any]

    def refuse(self, problem: str, *, fix: str = "correct the line or remove it") -> NoReturn:
        """Raise a :class:`SmaugError` that names the file and the line."""
        raise SmaugError(f"{self.path}, line {self.number}: {problem}", fix=fix)

    def value(self, key: str) -> Any:
        """Return the value of a key that must be there."""
        if key not in self.content:
            self.refuse(f"key {key!r} is missing")
        return self.content[key]

    def text(self, key: str) -> str:
        """Return a text that must be there."""
        value = self.value(key)
        if not isinstance(value, str):
            self.refuse(f"key {key!r} is not a text but {type(value).__name__}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts that must be there and not be empty."""
        value = self.value(key)
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            self.refuse(f"key {key!r} is not a list of texts")
        return tuple(value)


def read_lines(path: Path) -> Iterator[JsonLine]:
    """Yield the objects of a JSON Lines file.

    Blank lines, a byte order mark and Windows line ends are allowed; halves of characters become U+FFFD. A last line
    without its line feed that does not parse was being written when the program stopped; it is left out
    (:func:`torn_line` finds it). A file may be compressed with gzip (``.gz``), and may hold one JSON array of objects,
    or be a Parquet file, in the place of lines; then numbers count the objects.

    Raises:
        SmaugError: the file cannot be read, is empty, or a line is not a JSON object in UTF-8.
    """
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    if _is_array(path):
        yield from _array(path)
        return
    lines = _bytes(path).removeprefix(BYTE_ORDER_MARK).split(b"\n")
    for number, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        content = _parsed(raw)
        if isinstance(content, dict):
            yield JsonLine(path, number, content)
        elif number < len(lines):
            problem = "not a JSON object" if content is not None else "not valid JSON in UTF-8"
            JsonLine(path, number, {}).refuse(problem)


def torn_line(path: Path) -> int | None:
    """Return where a last line that was never finished begins, in bytes from the file's start.

    None where all are whole.
    """
    if path.suffix == ".parquet" or _is_array(path):
        return None
    content = _bytes(path)
    start = content.rfind(b"\n") + 1
    tail = content[start:].removeprefix(BYTE_ORDER_MARK)
    return start if tail.strip() and not isinstance(_parsed(tail), dict) else None


def sound_lines(path: Path, read: Callable[[JsonLine], Result]) -> Iterator[Result]:
    """Yield what ``read`` makes of the lines of a file, without those that it refuses or that are no JSON objects.

    Args:
        path: The file, which need not be there.
        read: Raises ``SmaugError`` where a line is damaged.

    Raises:
        SmaugError: the file cannot be read.
    """
    lines = _bytes(path).removeprefix(BYTE_ORDER_MARK).split(b"\n") if path.is_file() else []
    for number, raw in enumerate(lines, 1):
        content = _parsed(raw)
        if isinstance(content, dict):
            with contextlib.suppress(SmaugError):
                yield read(JsonLine(path, number, content))


def mend(path: Path, notice: Callable[[str], None], read: Callable[[JsonLine], object]) -> None:
    """Remove damaged lines from a file of our own; a copy of the original is kept under another name.

    What they held is done again. A last line without its line feed is left to who appends to the file.

    Args:
        path: The file, which need not be there.
        notice: Receives a line where something was wrong.
        read: Raises ``SmaugError`` where an object is not what the file should hold.

    Raises:
        SmaugError: the file cannot be read or written.
    """
    *lines, tail = _bytes(path).split(b"\n") if path.is_file() else [b""]
    damaged = [n for n, raw in enumerate(lines, 1) if raw.strip() and not _is_sound(path, n, raw, read)]
    if not damaged:
        return
    kept = [line for n, line in enumerate(lines, 1) if n not in damaged]
    old = copy_aside(path)
    with open_atomically(path) as file:
        file.write(b"\n".join([*kept, tail]))
    shown = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
    notice(f"{path}: line {shown} damaged; what was there is done again. The file is kept as {old.name}")


def _is_sound(path: Path, number: int, raw: bytes, read: Callable[[JsonLine], object]) -> bool:
    content = _parsed(raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw)
    if not isinstance(content, dict):
        return False
    try:
        read(JsonLine(path, number, content))
    except SmaugError:
        return False
    return True


def _bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SmaugError(f"{path} is no whole gzip file: {error}", fix="write or copy the file again") from error
    except OSError as error:
        raise SmaugError(f"{path} cannot be read: {error.strerror or error}", fix="check the path") from error


def _is_array(path: Path) -> bool:
    if not path.is_file():
        return False
    if path.suffix == ".gz":
        start = _bytes(path)[:_START]
    else:
        try:
            with path.open("rb") as file:
                start = file.read(_START)
        except OSError:
            return False  # the reader reports why
    return start.removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"["


def _array(path: Path) -> Iterator[JsonLine]:
    """The objects of a file that is one JSON array."""
    content = _parsed(_bytes(path).removeprefix(BYTE_ORDER_MARK))
    if not isinstance(content, list):
        JsonLine(path, 1, {}).refuse("the JSON array is not valid, or was never finished", fix="write the file again")
    for number, each in enumerate(content, 1):
        line = JsonLine(path, number, each if isinstance(each, dict) else {})
        if not isinstance(each, dict):
            line.refuse("not a JSON object")
        yield line


def _parquet_rows(path: Path) -> Iterator[JsonLine]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise SmaugError(f"{path} is no Parquet file that can be read: {error}", fix="write the file again") from error
    for number, row in enumerate(rows, 1):
        yield JsonLine(path, number, row)


def ascii_line(content: dict[str, Any]) -> str:
    """Return an object as one line of ASCII, which every reader of JSON takes.

    Halves of characters (lone surrogates, as a text that was cut in UTF-16 has) become U+FFFD: pandas, with which
    FastChat reads judgments, refuses a file that has any.
    """
    text = json.dumps(content)
    if _SURROGATE in text:
        text = json.dumps(_whole_characters(content))
    return text + "\n"


def _whole_characters(content: object) -> Any:
    text = json.dumps(content, ensure_ascii=False)
    return json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))


def _parsed(raw: bytes) -> object:
    """What a line holds; None where it is not JSON."""
    try:
        content = json.loads(raw.decode("utf-8"))
        return _whole_characters(content) if _SURROGATE.encode() in raw.lower() else content
    except (ValueError, RecursionError):
        return None
