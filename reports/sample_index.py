"""Where each document lies in lm-eval's samples files and how it was scored, without parsing whole lines.

A full suite logs gigabytes; the page shows a thousand documents. Every line is therefore scanned at its two ends, once
for all panels, and only the chosen ones are parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from reports.sources import as_number
from smaug_eval.errors import SmaugError

# As lm-eval 0.4.13 writes a line: the number first, after the texts the filter, the metrics' names, hashes and values.
# A quote inside a text is escaped, so the last of these bytes can only be the line's own key.
_HEAD = re.compile(rb'\{"doc_id": (\d+), ')
_TAIL = b'"filter": '

_TEXTS = ("doc", "arguments", "target", "resps", "filtered_resps")

Key = tuple[str, str]


class Located(NamedTuple):
    """One document of one samples file.

    Attributes:
        key: lm-eval's ``doc_id`` and ``doc_hash`` as texts: what the same document has in another model's file.
        start: Where its line begins, in bytes.
        metric: The metric read; empty where the line has none.
        value: What the line says of it, NaN where that is not a number.
    """

    key: Key
    start: int
    metric: str
    value: float


def locate(path: Path, metric: str | None) -> list[Located]:
    """The documents of a samples file in its order, each once.

    Args:
        path: A ``samples_*.jsonl`` of lm-eval.
        metric: The headline metric, ``name`` or ``name,filter``; the first that a line names where None or absent.
            Of several filters the given one counts, else the first in the file.

    Raises:
        SmaugError: a line is not a JSON object (naming the line).
    """
    name, _, wanted = (metric or "").partition(",")
    found: dict[Key, Located] = {}
    for start, line in scanned(path):
        if wanted and line.get("filter") != wanted:
            continue
        key = (str(line.get("doc_id")), str(line.get("doc_hash")))
        metrics = line.get("metrics")
        shown = name if name in line else str(metrics[0]) if isinstance(metrics, list) and metrics else ""
        found.setdefault(key, Located(key, start, shown, as_number(line.get(shown))))
    return list(found.values())


def read_samples(path: Path, starts: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The samples whose lines begin at ``starts``, as :func:`locate` found them, each with its start.

    Raises:
        SmaugError: a line is no longer what it was.
    """
    with path.open("rb") as file:
        for start in sorted(set(starts)):
            file.seek(start)
            yield start, _parsed(path, f"byte {start}", file.readline())


def scanned(path: Path) -> Sequence[tuple[int, Mapping[str, Any]]]:
    """Where each line of a samples file begins, and its keys and values without the texts.

    A last line that is still being written is left out.

    Raises:
        SmaugError: a line is not a JSON object (naming the line).
    """
    state = path.stat()
    return _scanned(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1024)
def _scanned(path: Path, _modified: int, _size: int) -> Sequence[tuple[int, Mapping[str, Any]]]:
    return tuple(_lines(path))


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    start = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            ends = _ends(line)
            if ends is None:
                try:
                    whole = _parsed(path, f"line {number}", line)
                    ends = {key: value for key, value in whole.items() if key not in _TEXTS}
                except SmaugError:
                    if not line.endswith(b"\n"):  # still being written
                        return
                    raise
            yield start, ends
            start += len(line)


def _ends(line: bytes) -> dict[str, Any] | None:
    """The keys before and after the texts; None where the line is not as lm-eval 0.4.13 writes it."""
    head, tail = _HEAD.match(line), line.rfind(_TAIL)
    if head is None or tail < 0:
        return None
    try:
        ends = json.loads(b"{" + line[tail:])
    except ValueError:
        return None
    return {"doc_id": int(head[1]), **ends} if "metrics" in ends else None


def _parsed(path: Path, where: str, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8", errors="surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise SmaugError(
            f"{path}, {where}: not valid JSON ({error})", fix="remove the line, or write the file again"
        ) from error
    if not isinstance(value, dict):
        raise SmaugError(f"{path}, {where}: expected a JSON object", fix="remove the line")
    return value
