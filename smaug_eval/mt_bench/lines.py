"""JSON Lines as FastChat's scripts, editors and interrupted programs leave them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from smaug_eval.errors import SmaugError
from smaug_eval.files import open_atomically
from smaug_eval.mt_bench.layout import copy_aside

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SURROGATE = "\\ud"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Line:
    """One object of a JSON Lines file, with typed access to its keys.

    Attributes:
        path: The file.
        number: The line's number, from 1.
        content: The object.
    """

    path: Path
    number: int
    content: dict[str, Any]

    def refuse(self, problem: str, *, fix: str = "mend the line or remove it") -> NoReturn:
        """Raise a :class:`SmaugError` that names the file and the line."""
        raise SmaugError(f"{self.path}, line {self.number}: {problem}", fix=fix)

    def value(self, key: str) -> Any:
        """The value of a key that must be there."""
        if key not in self.content:
            self.refuse(f"key {key!r} is missing")
        return self.content[key]

    def text(self, key: str) -> str:
        """A text that must be there."""
        value = self.value(key)
        if not isinstance(value, str):
            self.refuse(f"key {key!r} is not a text but {type(value).__name__}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts that must be there and not be empty."""
        value = self.value(key)
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            self.refuse(f"key {key!r} is not a list of texts")
        return tuple(value)


def read_lines(path: Path) -> Iterator[Line]:
    """The objects of a JSON Lines file.

    Blank lines, a byte order mark and Windows line ends are allowed; halves of characters become U+FFFD. A last line
    without its line feed that does not parse was being written when the program stopped; it is left out
    (:func:`torn_line` finds it).

    Raises:
        SmaugError: the file cannot be read, or a line is not a JSON object in UTF-8.
    """
    lines = _bytes(path).removeprefix(BYTE_ORDER_MARK).split(b"\n")
    for number, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        content = _parsed(raw)
        if isinstance(content, dict):
            yield Line(path, number, content)
        elif number < len(lines):
            problem = "not a JSON object" if content is not None else "not valid JSON in UTF-8"
            Line(path, number, {}).refuse(problem)


def torn_line(path: Path) -> int | None:
    """Where a last line that was never finished begins, in bytes from the file's start; None where all are whole."""
    content = _bytes(path)
    start = content.rfind(b"\n") + 1
    tail = content[start:].removeprefix(BYTE_ORDER_MARK)
    return start if tail.strip() and not isinstance(_parsed(tail), dict) else None


def sound_lines(path: Path, read: Callable[[Line], Result]) -> Iterator[Result]:
    """What ``read`` makes of the lines of a file, without those that it refuses or that are no JSON objects.

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
                yield read(Line(path, number, content))


def mend(path: Path, notice: Callable[[str], None], read: Callable[[Line], object]) -> None:
    """Take damaged lines out of a file of our own; it is kept as it was under another name.

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


def _is_sound(path: Path, number: int, raw: bytes, read: Callable[[Line], object]) -> bool:
    content = _parsed(raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw)
    if not isinstance(content, dict):
        return False
    try:
        read(Line(path, number, content))
    except SmaugError:
        return False
    return True


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SmaugError(f"{path} cannot be read: {error.strerror or error}", fix="check the path") from error


def ascii_line(content: dict[str, Any]) -> str:
    """An object as one line of ASCII, which every reader of JSON takes.

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
