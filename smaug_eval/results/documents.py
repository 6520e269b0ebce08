"""Read per-document values from lm-eval's samples files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from smaug_eval.results.comparable import Document, documents_of
from smaug_eval.results.sample_files import KEPT_FILES, FileState, Samples, state_of
from smaug_eval.results.sample_index import sample_value, scanned
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
    return len({(str(line.get("doc_id")), str(line.get("doc_hash"))) for _, line in scanned(path)})


@lru_cache(maxsize=KEPT_FILES)
def _filters(path: Samples, _state: FileState) -> frozenset[Any]:
    """The filters of a file's lines; None stands for a line without one."""
    filters = (line.get("filter") for _, line in scanned(path))
    return frozenset(each if isinstance(each, str) else None for each in filters)


@lru_cache(maxsize=KEPT_FILES)
def _logged(path: Samples, metric: str, _state: FileState) -> Logged | None:
    name, _, filter_name = metric.partition(",")
    names = name.split("+")
    values, kept, parts, seen = [], [], [], set()
    for _, line in scanned(path):
        if filter_name and line.get("filter", filter_name) != filter_name:
            continue
        if filter_name and "filter" not in line:  # before 0.4.3: the first filter's lines come first
            key = (str(line.get("doc_id")), str(line.get("doc_hash")))
            if key in seen:
                continue
            seen.add(key)
        if any(each not in line for each in names):
            return None
        part = line[name] if len(names) == 1 else [line[each] for each in names]
        values.append(sample_value(part))
        parts.append(part)
        kept.append({key: line.get(key) for key in _HASHES})
    documents = documents_of(kept)
    return Logged(np.array(values), None if documents is None else _one(tuple(documents)), tuple(parts))


@lru_cache(maxsize=KEPT_FILES)
def _one(documents: tuple[Document, ...]) -> tuple[Document, ...]:
    """Return the first of equal sequences: of many models on one task, one is kept, and equal ones are the same."""
    return documents
