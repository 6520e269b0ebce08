"""Locate the logged documents of an evaluation, in every form that lm-eval has written them.

JSON Lines (since 0.4.4), one JSON list in a file (0.4.0 to 0.4.3, also under the ending ``.jsonl``), either of them
compressed with gzip, and lists inside the results file, as ``simple_evaluate`` returns them.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from smaug_eval.common.errors import SmaugError
from smaug_eval.results.json_files import content_of, json_lines, mapping, parsed

_HASHES = ("doc_hash", "prompt_hash", "target_hash")
_KEPT = 2
"""Files whose whole content is kept for the next question."""
KEPT_FILES = 8192
"""Files of which the scores of all documents are kept: more than a dozen models have in all suites.

A page asks for all files one after the other, and then again: with fewer places than files none would be found.
"""


class Inside(NamedTuple):
    """Locate the samples of one task inside a results file."""

    path: Path
    task: str


Samples = Path | Inside
"""Where a task's samples are: a file of their own, or a part of a results file."""


class FileState(NamedTuple):
    """Hold what tells a file's content from its earlier one."""

    path: Path
    modified: int
    size: int


def state_of(samples: Samples) -> FileState:
    """Return the state of the file that samples lie in."""
    path = samples if isinstance(samples, Path) else samples.path
    found = _HELD.get(path)
    if found is None:
        state = path.stat()
        found = FileState(path, state.st_mtime_ns, state.st_size)
        if _HOLDERS:
            _HELD[path] = found
    return found


_HELD: dict[Path, FileState] = {}
_HOLDERS: list[object] = []


@contextmanager
def held_states() -> Iterator[None]:
    """Ask for the state of each file but once until the end: a page of many models asks for the same ones 100 times."""
    _HOLDERS.append(object())
    try:
        yield
    finally:
        _HOLDERS.pop()
        if not _HOLDERS:
            _HELD.clear()


def is_line_by_line(samples: Samples) -> bool:
    """Return whether samples are plain JSON Lines, which can be read in parts."""
    if not isinstance(samples, Path) or samples.suffix == ".gz":
        return False
    with samples.open("rb") as file:
        return not file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def sample_rows(samples: Samples) -> Iterator[dict[str, Any]]:
    """Yield the samples one by one.

    Raises:
        SmaugError: the file is damaged, or holds something else than objects (naming the line or the number).
    """
    if is_line_by_line(samples) and isinstance(samples, Path):
        yield from json_lines(samples)
    else:
        yield from listed(samples)


def listed(samples: Samples) -> Sequence[dict[str, Any]]:
    """Read samples that are no plain JSON Lines, all at once.

    Raises:
        SmaugError: as :func:`sample_rows`.
    """
    state = state_of(samples)
    if isinstance(samples, Path):
        return _objects(state)
    rows = mapping(_document(state).get("samples")).get(samples.task)
    return _checked(samples.path, rows)


@lru_cache(maxsize=_KEPT)
def _document(state: FileState) -> Mapping[str, Any]:
    return mapping(parsed(state.path, content_of(state.path)))


@lru_cache(maxsize=_KEPT)
def _objects(state: FileState) -> Sequence[dict[str, Any]]:
    content = content_of(state.path)
    if content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        return _checked(state.path, parsed(state.path, content))
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    last = [_checked_line(state.path, len(lines), lines[-1])] if _is_whole(lines[-1]) else []
    whole = enumerate(lines[:-1], start=1)
    return [*(_checked_line(state.path, number, line) for number, line in whole if line.strip()), *last]


def _is_whole(line: bytes) -> bool:
    """Return whether a line without a line feed is one; else it was still being written."""
    try:
        return json.loads(line.decode("utf-8", errors="surrogateescape")) is not None
    except (ValueError, RecursionError):
        return False


def _checked(path: Path, rows: object) -> Sequence[dict[str, Any]]:
    if not isinstance(rows, list):
        raise SmaugError(f"{path}: samples are no list", fix="leave the file out")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise SmaugError(f"{path}, sample {number}: expected a JSON object", fix="leave the file out")
    return rows


def _checked_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8", errors="surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise SmaugError(f"{path}, line {number}: not valid JSON ({error})", fix="remove the line") from error
    if not isinstance(value, dict):
        raise SmaugError(f"{path}, line {number}: expected a JSON object", fix="remove the line")
    return value


def arguments_of(sample: Mapping[str, Any]) -> list[list[Any]]:
    """Return the arguments of each request of a sample, in both of lm-eval's forms.

    Raises:
        LookupError, TypeError, AttributeError: the sample is not in lm-eval's format.
    """
    arguments = sample["arguments"]
    if isinstance(arguments, Mapping):
        return [list(arguments[f"gen_args_{index}"].values()) for index in range(len(arguments))]
    return [list(each) if isinstance(each, list | tuple) else [each] for each in arguments]


def with_hashes(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the hashes of document, prompt and target to a sample, as lm-eval logs them since 0.4.3.

    They are made as lm-eval makes them, so that samples of both kinds can be paired; a sample of another format is
    returned as it is.
    """
    if all(isinstance(sample.get(name), str) for name in _HASHES):
        return sample
    try:
        texts = (
            json.dumps(sample["doc"], indent=2, ensure_ascii=False),
            str(arguments_of(sample)[0][0]),
            str(sample["target"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return sample
    made = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts)
    hashes = dict(zip(_HASHES, made, strict=True))
    return {**sample, **{name: sample[name] if isinstance(sample.get(name), str) else hashes[name] for name in _HASHES}}
