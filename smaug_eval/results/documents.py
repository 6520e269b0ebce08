"""Read per-document values from lm-eval's samples files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from smaug_eval.results.comparable import Document
from smaug_eval.results.sample_files import KEPT_FILES, FileState, Samples, state_of
from smaug_eval.results.sample_index import ABSENT, Key, Scan, sample_value, scanned
from smaug_eval.stats import Values

_HASHES = ("doc_hash", "prompt_hash", "target_hash")


@dataclass(frozen=True, eq=False)
class Logged:
    """Hold what a samples file says of its documents, line by line.

    Attributes:
        values: The metric, NaN where it is not a number.
        documents: Hashes of each document, its prompt and its target; None where there are none.
        parts: What is logged of the metric, number or not: a corpus metric is computed from parts such as (reference,
            prediction) or (log-likelihood, words).
    """

    values: Values
    documents: Sequence[Document] | None
    parts: Sequence[Any] = ()

    @cached_property
    def is_finite(self) -> bool:
        """Return whether every document has a number."""
        return bool(np.isfinite(self.values).all())

    @cached_property
    def is_right_wrong(self) -> bool:
        """Return whether every value is 0 or 1."""
        return bool(((self.values == 0) | (self.values == 1)).all())


def logged_values(path: Samples, metric: str) -> Values | None:
    """Return the values of :func:`logged`; None where a line lacks the metric."""
    found = logged(path, metric)
    return None if found is None else found.values


def logged(path: Samples, metric: str) -> Logged | None:
    """Read what lm-eval logged for ``metric`` on each document of a samples file.

    Args:
        path: A ``samples_*.jsonl``, or samples in another of lm-eval's forms.
        metric: A metric's name, or ``name,filter`` to keep the lines of one filter; of ``one+other`` the parts are the
            values of both.

    Returns:
        None where a line lacks the metric.

    Raises:
        SmaugError: a line is not a JSON object.
    """
    state = state_of(path)
    name, _, filter_name = metric.partition(",")
    if filter_name and _filters(path, state) == {filter_name}:
        metric = name  # the same lines, which are read once
    return _logged(path, metric, state)


def logged_documents(path: Samples) -> int:
    """Count the different documents that a samples file holds, whatever the filter.

    Raises:
        SmaugError: a line is not a JSON object.
    """
    return _document_count(path, state_of(path))


@lru_cache(maxsize=KEPT_FILES)
def _document_count(path: Samples, _state: FileState) -> int:
    return len(set(scanned(path).keys))


@lru_cache(maxsize=KEPT_FILES)
def _filters(path: Samples, _state: FileState) -> frozenset[Any]:
    """The filters of a file's lines; None stands for a line without one."""
    return frozenset(each if isinstance(each, str) else None for each in scanned(path).column("filter"))


@lru_cache(maxsize=KEPT_FILES)
def _logged(path: Samples, metric: str, _state: FileState) -> Logged | None:
    name, _, filter_name = metric.partition(",")
    scan = scanned(path)
    lines = _lines_of(scan, filter_name) if filter_name else range(len(scan.starts))
    columns = [_picked(scan, each, lines) for each in name.split("+")]
    if any(ABSENT in own for own in columns):
        return None
    parts = columns[0] if len(columns) == 1 else [list(each) for each in zip(*columns, strict=True)]
    hashes = [_picked(scan, each, lines) for each in _HASHES]
    has_hashes = all(isinstance(each, str) for own in hashes for each in own)
    return Logged(_numbers(parts), _documents(*map(tuple, hashes)) if has_hashes else None, tuple(parts))


def _lines_of(scan: Scan, filter_name: str) -> Sequence[int]:
    """The lines of a filter, by their places; before 0.4.3 lines name none, and the first filter's come first."""
    filters = scan.column("filter")
    if filters.count(filter_name) == len(filters):
        return range(len(filters))
    found: list[int] = []
    seen: set[Key] = set()
    for place, own in enumerate(filters):
        if own is ABSENT and scan.keys[place] not in seen:
            seen.add(scan.keys[place])
            found.append(place)
        elif own == filter_name:
            found.append(place)
    return found


def _picked(scan: Scan, key: str, lines: Sequence[int]) -> Sequence[Any]:
    column = scan.column(key)
    return column if len(lines) == len(column) else [column[place] for place in lines]


def _numbers(parts: Sequence[Any]) -> Values:
    if {float, int, bool}.issuperset(map(type, parts)):
        with suppress(OverflowError):  # an integer beyond the range of a double
            return np.array(parts, np.float64)
    return np.array([sample_value(each) for each in parts], np.float64)


@lru_cache(maxsize=KEPT_FILES)
def _documents(*hashes: tuple[str, ...]) -> tuple[Document, ...]:
    """The documents with these hashes; of many models on one task they are made once, and equal ones are the same."""
    return tuple(map(Document, *hashes))
