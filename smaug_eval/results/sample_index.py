"""Locate documents in lm-eval's samples files, with how they were scored, without parsing whole lines.

A full suite logs gigabytes; the page shows a thousand documents. Every line is therefore scanned at its two ends, once
for all panels, and only the chosen ones are parsed.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from smaug_eval.common.errors import SmaugError
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

Key = tuple[str, str]


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
    found: dict[Key, Located] = {}
    for start, line in scanned(path):
        if wanted and line.get("filter", wanted) != wanted:
            continue
        key = (str(line.get("doc_id")), str(line.get("doc_hash")))
        metrics = line.get("metrics")
        shown = name if name in line else str(metrics[0]) if isinstance(metrics, list) and metrics else ""
        found.setdefault(key, Located(key, start, shown, sample_value(line.get(shown))))
    return list(found.values())


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
    with path.open("rb") as file:
        for start in sorted(set(starts)):
            file.seek(start)
            yield start, _parsed(path, f"byte {start}", file.readline())


def scanned(path: Samples) -> Sequence[tuple[int, Mapping[str, Any]]]:
    """Return where each line of a samples file begins, and its keys and values without the texts.

    A last line that is still being written is left out. Samples without hashes get those that lm-eval would have
    logged.

    Raises:
        SmaugError: a line is not a JSON object (naming the line).
    """
    return _scanned(path, state_of(path))


@lru_cache(maxsize=KEPT_FILES)
def _scanned(path: Samples, _state: FileState) -> Sequence[tuple[int, Mapping[str, Any]]]:
    if isinstance(path, Inside) or not is_line_by_line(path):
        return tuple((number, _without_texts(row)) for number, row in enumerate(listed(path)))
    return tuple(_lines(path))


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
        ends = json.loads("{" + line[tail:].decode())
        ends["doc_id"] = int(head[1])
    except (ValueError, RecursionError):  # what stands between may be well, and is parsed as a whole
        return None
    return ends if "metrics" in ends and "doc_hash" in ends else None


def _parsed(path: Path, where: str, line: bytes) -> dict[str, Any]:
    return object_in(line.decode("utf-8-sig", errors="surrogateescape"), f"{path}, {where}")
