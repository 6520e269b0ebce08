"""Locate documents in lm-eval's samples files, with how they were scored, without parsing whole lines.

A full suite logs gigabytes; the page shows a thousand documents. Every line is therefore scanned at its two ends, once
for all panels, and only the chosen ones are parsed.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.workers import spread
from smaug_eval.results.json_files import as_number, number_of_text, object_in
from smaug_eval.results.sample_files import (
    KEPT_FILES,
    FileState,
    Inside,
    Samples,
    is_line_by_line,
    listed,
    state_of,
    with_hashes,
)

# As lm-eval 0.4.13 writes a line: the number first, after the texts the filter, the metrics' names, hashes and values.
# A quote inside a text is escaped, so the last of these bytes can only be the line's own key.
_HEAD = re.compile(rb'\{"doc_id": (\d+), ')
_TAIL = b'"filter": '

_TRUTHS = {"True": 1.0, "False": 0.0}
_TEXTS = ("doc", "arguments", "target", "resps", "filtered_resps")

_BUFFER = 1 << 20
"""Bytes read at once: a line with a long prompt is many times the default."""
_READ_BUFFER = 1 << 15
"""Bytes read at once where only some lines are read."""
_AHEAD_FROM = 128 * 2**20
"""Bytes of samples from which on several processes read them; they take half a second to start."""
_JSON_SPACE = " \t\r\n"
_DECODER = json.JSONDecoder()

Key = tuple[str, str]


class Absent(Enum):
    """Mark the value of a key that a line does not have."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


@dataclass(frozen=True, eq=False)
class Scan:
    """Hold what the lines of a samples file say beside their texts, key by key.

    Attributes:
        starts: Where each line begins, in bytes; its number in samples that are no lines.
        columns: Key to its values; of a key that not every line has, the lines that have it, and their values.
    """

    starts: Sequence[int]
    columns: Mapping[str, Sequence[Any] | tuple[Sequence[int], Sequence[Any]]]

    @classmethod
    def of(cls, lines: Iterable[tuple[int, Mapping[str, Any]]]) -> Scan:
        """Put lines together.

        Args:
            lines: Where each begins, and its keys and values.
        """
        starts, rows = array("q"), []
        for start, row in lines:
            starts.append(start)
            rows.append(row)
        first = rows[0].keys() if rows else {}.keys()
        if all(row.keys() == first for row in rows):
            return cls(starts, {key: _thin([row[key] for row in rows]) for key in first})
        places: dict[str, array[int]] = {}
        values: dict[str, list[Any]] = {}
        for place, row in enumerate(rows):
            for key, value in row.items():
                places.setdefault(key, array("q")).append(place)
                values.setdefault(key, []).append(value)
        is_whole = {key: len(own) == len(rows) for key, own in values.items()}
        return cls(starts, {key: own if is_whole[key] else (places[key], own) for key, own in values.items()})

    def column(self, key: str) -> Sequence[Any]:
        """Return the value of a key on each line, :data:`ABSENT` where it has none."""
        found = self.columns.get(key, ((), ()))
        if not isinstance(found, tuple):
            return found
        column: list[Any] = [ABSENT] * len(self.starts)
        for place, value in zip(*found, strict=True):
            column[place] = value
        return column

    @cached_property
    def keys(self) -> Sequence[Key]:
        """Return what distinguishes the document of each line from others."""
        numbers, hashes = ([None if each is ABSENT else each for each in self.column(name)]
                           for name in ("doc_id", "doc_hash"))  # fmt: skip
        return list(zip(map(str, numbers), map(str, hashes), strict=True))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the keys and values of each line."""
        columns = {key: self.column(key) for key in self.columns}
        for place in range(len(self.starts)):
            yield {key: own[place] for key, own in columns.items() if own[place] is not ABSENT}


def _thin(column: list[Any]) -> list[Any]:
    """Return equal values, where every line has it, with one of the objects alone: texts, and lists of texts."""
    first = column[0]
    is_text = isinstance(first, str) or (isinstance(first, list) and all(isinstance(each, str) for each in first))
    return [first] * len(column) if is_text and column.count(first) == len(column) else column


class Located(NamedTuple):
    """Locate one document of one samples file.

    Attributes:
        key: lm-eval's ``doc_id`` and ``doc_hash`` as texts: what the same document has in another model's file.
        start: Where its line begins, in bytes; its number in samples that are no lines.
        metric: The metric read; empty where the line has none.
        value: What the line says of it, NaN where that is not a number.
    """

    key: Key
    start: int
    metric: str
    value: float


def locate(path: Samples, metric: str | None) -> list[Located]:
    """Locate the documents of a samples file in its order, each once.

    Args:
        path: A ``samples_*.jsonl`` of lm-eval, or samples in another of its forms.
        metric: The headline metric, ``name`` or ``name,filter``; the first that a line names where None or absent.
            Of several filters the given one counts, else the first in the file.

    Raises:
        SmaugError: a line is not a JSON object (naming the line).
    """
    name, _, wanted = (metric or "").partition(",")
    scan = scanned(path)
    named, lists, filters = (scan.column(key) for key in (name, "metrics", "filter"))
    if not wanted or filters.count(wanted) == len(filters):
        values = _plain_numbers(named)
        if values is not None and len(set(scan.keys)) == len(scan.keys):  # the ordinary case by far
            return list(map(Located, scan.keys, scan.starts, repeat(name), values))
    others: dict[str, Sequence[Any]] = {}
    found: dict[Key, Located] = {}
    for place, (key, start) in enumerate(zip(scan.keys, scan.starts, strict=True)):
        if key in found or (wanted and filters[place] not in (wanted, ABSENT)):
            continue
        shown, value = name, named[place]
        if value is ABSENT:
            metrics = lists[place]
            shown = str(metrics[0]) if isinstance(metrics, list) and metrics else ""
            if shown not in others:
                others[shown] = scan.column(shown)
            value = others[shown][place]
        found[key] = Located(key, start, shown, sample_value(value))
    return list(found.values())


def _plain_numbers(values: Sequence[Any]) -> list[float] | None:
    """Return :func:`sample_value` of each; None where some are no plain numbers."""
    if {float, int, bool}.issuperset(map(type, values)):
        with suppress(OverflowError):
            return list(map(float, values))
    return None


def sample_value(value: object) -> float:
    """Return a metric's value on one document; NaN where it is neither a number nor right or wrong.

    Both may be texts, as lm-eval writes numpy's scalars.
    """
    if isinstance(value, str):
        number = _TRUTHS.get(value, number_of_text(value))
        return math.nan if number is None else number
    return float(value) if isinstance(value, bool) else as_number(value)


def read_samples(path: Samples, starts: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the samples whose lines begin at ``starts``, as :func:`locate` found them, each with its start.

    Raises:
        SmaugError: a line is no longer what it was.
    """
    if isinstance(path, Inside) or not is_line_by_line(path):
        rows = listed(path)
        yield from ((start, rows[start]) for start in sorted(set(starts)))
        return
    with path.open("rb", buffering=_READ_BUFFER) as file:
        for start in sorted(set(starts)):
            file.seek(start)
            yield start, _parsed(path, f"byte {start}", file.readline())


def scanned(path: Samples) -> Scan:
    """Return where each line of a samples file begins, and its keys and values without the texts.

    A last line that is still being written is left out. Samples without hashes get those that lm-eval would have
    logged.

    Raises:
        SmaugError: a line is not a JSON object (naming the line).
    """
    return _scanned(path, state_of(path))


def read_ahead(files: Iterable[Samples]) -> None:
    """Read samples files by several processes, where they are large: :func:`scanned` then has them at once.

    What cannot be read is left to :func:`scanned`, which says why.

    Args:
        files: Those that will be asked for.
    """
    states = {}
    for path in dict.fromkeys(files):
        if isinstance(path, Path):
            with suppress(OSError):
                states[path] = state_of(path)
    if sum(state.size for state in states.values()) < _AHEAD_FROM:
        return
    found = spread(_scan_of_lines, states)
    _AHEAD.update((state, scan) for state, scan in zip(states.values(), found, strict=True) if scan is not None)


_AHEAD: dict[FileState, Scan] = {}
"""Files that were read before anybody asked for them."""


@lru_cache(maxsize=KEPT_FILES)
def _scanned(path: Samples, state: FileState) -> Scan:
    if isinstance(path, Inside):
        return Scan.of((number, _without_texts(row)) for number, row in enumerate(listed(path)))
    found = _AHEAD.pop(state, None) or _scan_of_lines(path)
    if found is None:
        found = Scan.of((number, _without_texts(row)) for number, row in enumerate(listed(path)))
    return Scan(found.starts, {key: _shared(own) for key, own in found.columns.items()})


def _scan_of_lines(path: Path) -> Scan | None:
    """Read plain JSON Lines; None where samples are written otherwise."""
    return Scan.of(_lines(path)) if is_line_by_line(path) else None


def _shared(column: Any) -> Any:
    """Return one of equal columns of texts: the hashes of many models' documents are the same."""
    return _one(tuple(column)) if isinstance(column, list) and set(map(type, column)) == {str} else column


@lru_cache(maxsize=KEPT_FILES)
def _one(texts: tuple[str, ...]) -> list[str]:
    return list(texts)


def _without_texts(sample: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in with_hashes(sample).items() if key not in _TEXTS}


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    start = 0
    with path.open("rb", buffering=_BUFFER) as file:
        for number, line in enumerate(file, start=1):
            ends = _ends(line)
            if ends is None and not line.removeprefix(codecs.BOM_UTF8).strip():
                start += len(line)
                continue
            if ends is None:
                try:
                    ends = _without_texts(_parsed(path, f"line {number}", line))
                except SmaugError:
                    if not line.endswith(b"\n"):  # still being written
                        return
                    raise
            yield start, ends
            start += len(line)


def _ends(line: bytes) -> dict[str, Any] | None:
    """Return the keys before and after the texts; None where the line is not as lm-eval 0.4.13 writes it."""
    head, tail = _HEAD.match(line), line.rfind(_TAIL)
    if head is None or tail < 0:
        return None
    try:
        text = "{" + line[tail:].decode()
        ends, end = _DECODER.raw_decode(text)
        ends["doc_id"] = int(head[1])
    except (ValueError, RecursionError):  # what stands between may be well, and is parsed as a whole
        return None
    if text[end:].strip(_JSON_SPACE):
        return None
    return ends if "metrics" in ends and "doc_hash" in ends else None


def _parsed(path: Path, where: str, line: bytes) -> dict[str, Any]:
    return object_in(line.decode("utf-8-sig", errors="surrogateescape"), f"{path}, {where}")
