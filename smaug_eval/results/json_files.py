"""Read JSON of unknown origin: whole or line by line, decompressed where necessary, with a bound on its size."""

from __future__ import annotations

import codecs
import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import parsed_json

LARGEST = 1 << 30
"""Bytes of a JSON file, after unpacking; a whole benchmark's samples as one JSON list have some hundred million."""

_GZ = ".gz"
_LARGEST_COUNT = 1 << 53
_NUMBER = re.compile(r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?|nan|inf(?:inity)?)", re.I)
_LONGEST_NUMBER = 64
_BUFFER = 1 << 17


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, which may be compressed with gzip.

    Raises:
        SmaugError: unreadable, too large, not JSON (naming the line), or not an object.
    """
    value = read_value(path)
    if not isinstance(value, dict):
        raise SmaugError(f"{path}: expected a JSON object, found {type(value).__name__}", fix="leave the file out")
    return value


def read_value(path: Path) -> Any:
    """Return what a JSON file holds; it may be compressed with gzip.

    Raises:
        SmaugError: unreadable, too large, or not JSON (naming the line).
    """
    return parsed(path, content_of(path))


def content_of(path: Path) -> bytes:
    """Return the bytes of a file, unpacked where its name ends in ``.gz``.

    Raises:
        SmaugError: the file cannot be read, or holds more than ``LARGEST`` bytes.
    """
    try:
        with gzip.open(path) if path.suffix == _GZ else path.open("rb") as stream:
            content: bytes = stream.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise SmaugError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > LARGEST:
        raise SmaugError(f"{path} holds more than {LARGEST:,} bytes", fix="give results without samples, or JSON Lines")
    return content


def parsed(path: Path, content: bytes) -> Any:
    """Return the JSON in ``content``, whose byte order mark is passed over; ``path`` is for the message.

    Raises:
        SmaugError: as of :func:`~smaug_eval.common.files.parsed_json`.
    """
    return parsed_json(path, content, "utf-16" if is_utf16(content) else "utf-8-sig")


def is_utf16(content: bytes) -> bool:
    """Return whether a byte order mark says UTF-16, as PowerShell writes where output is redirected."""
    return content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file, one at a time; blank lines and a byte order mark are passed over.

    A last line that lacks its line feed and does not parse is still being written, and is left out.

    Raises:
        SmaugError: any other line is not a JSON object (naming the line).
    """
    with path.open("rb", buffering=_BUFFER) as lines:
        for number, raw in enumerate(lines, start=1):
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8", errors="surrogateescape")
            if not line.strip():
                continue
            if not line.endswith("\n") and not _is_json(line):
                return
            yield object_in(line, f"{path}, line {number}")


def object_in(line: str, place: str) -> dict[str, Any]:
    """Return the object in a line of JSON; ``place`` is for the message.

    Raises:
        SmaugError: it is not a JSON object.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SmaugError(
            f"{place}: not valid JSON ({error})", fix="remove the line, or write the file again"
        ) from error
    if not isinstance(value, dict):
        raise SmaugError(f"{place}: expected a JSON object", fix="remove the line")
    return value


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def as_number(value: object) -> float:
    """Return ``value`` as a float; NaN for what is not a number (lm-eval writes "N/A" for a missing error)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # an integer beyond the range of a double
            return math.nan
    return math.nan


def number_of_text(value: object) -> float | None:
    """Return the number that a text is, None for any other value.

    numpy's scalars became texts in results files: lm-eval writes what JSON does not know as ``str``.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_NUMBER:
        return None
    text = value.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def mapping(value: object) -> Mapping[str, Any]:
    """Return ``value`` where it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def whole_number(value: object) -> int | None:
    """Return ``value`` where it is an integer (``100.0``, as lm-eval writes a limit, is one), else None.

    What no count of documents or tokens comes to, beyond what a double holds to the unit, is None, too.
    """
    number = number_of_text(value)
    value = value if number is None else number
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST_COUNT:
        return None
    return value
