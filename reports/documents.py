"""Per-document values from lm-eval's samples files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from reports.sample_index import scanned
from reports.sources import as_number
from smaug_eval.comparable import Document, documents_of
from smaug_eval.stats import Values

_HASHES = ("doc_hash", "prompt_hash", "target_hash")


@dataclass(frozen=True, eq=False)
class Logged:
    """What a samples file says of its documents, line by line.

    Attributes:
        values: The metric, NaN where it is not a number.
        documents: Hashes of each document, its prompt and its target; None where lm-eval logged none.
    """

    values: Values
    documents: Sequence[Document] | None


def logged_values(path: Path, metric: str) -> Values | None:
    """The values of :func:`logged`; None where a line lacks the metric."""
    found = logged(path, metric)
    return None if found is None else found.values


def logged(path: Path, metric: str) -> Logged | None:
    """What lm-eval logged for ``metric`` on each document of a samples file.

    Args:
        path: A ``samples_*.jsonl``.
        metric: A metric's name, or ``name,filter`` to keep the lines of one filter.

    Returns:
        None where a line lacks the metric.

    Raises:
        SmaugError: a line is not a JSON object.
    """
    state = path.stat()
    return _logged(path, metric, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1024)
def _logged(path: Path, metric: str, _modified: int, _size: int) -> Logged | None:
    name, _, filter_name = metric.partition(",")
    values, kept = [], []
    for _, line in scanned(path):
        if filter_name and line.get("filter") != filter_name:
            continue
        if name not in line:
            return None
        values.append(as_number(line[name]))
        kept.append({key: line.get(key) for key in _HASHES})
    return Logged(np.array(values), documents_of(kept))
