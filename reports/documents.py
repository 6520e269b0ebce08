"""Per-document values from lm-eval's samples files, quickly: only the end of each line is parsed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from reports.sources import as_number, json_lines
from smaug_eval.comparable import Document, documents_of
from smaug_eval.stats import Values

# After a sample's texts lm-eval writes the filter, the metrics' names, hashes and values. A quote inside a text is
# escaped, so these bytes can only be a key.
_TAIL = b'"filter": '
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
    for tail in _tails(path):
        if filter_name and tail.get("filter") != filter_name:
            continue
        if name not in tail:
            return None
        values.append(as_number(tail[name]))
        kept.append({key: tail.get(key) for key in _HASHES})
    return Logged(np.array(values), documents_of(kept))


def _tails(path: Path) -> list[dict[str, Any]]:
    """The filter of each line, with whatever lm-eval wrote after it."""
    try:
        with path.open("rb") as lines:
            return [json.loads(b"{" + line[line.rindex(_TAIL) :]) for line in lines]
    except ValueError:  # not as 0.4.13 writes it, or still being written
        return list(json_lines(path))
