"""Find documents that share a passage: their values are not independent of each other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from smaug_eval.results.comparable import Rows
from smaug_eval.results.json_files import mapping
from smaug_eval.results.sample_files import FileState, Samples, sample_rows, state_of
from smaug_eval.stats import Labels

FIELDS = (
    *("passage_id", "context_id", "article_id", "paragraph_id", "story_id", "dialogue_id", "section_id", "cluster"),
    *("passage", "context", "article", "paragraph", "story"),
)
"""Fields of documents that name or hold what several questions are about, ids first."""


def cluster_labels(samples: Samples | None, rows: Rows) -> Labels | None:
    """Return for each compared document the passage that it is about.

    Args:
        samples: The samples that ``rows`` are of.
        rows: Which of its documents are compared, in their order.

    Returns:
        None where no field names passages, or no two documents share one.
    """
    if samples is None or not len(rows):
        return None
    labels = _labels(samples, state_of(samples))
    if labels is None or max(rows) >= len(labels):
        return None
    own = [labels[row] for row in rows]
    return own if 1 < len(set(own)) < len(own) else None


@lru_cache(maxsize=64)
def _labels(samples: Samples, _state: FileState) -> tuple[str, ...] | None:
    """Return the label of each document; None where samples have several filters, or no such field."""
    documents: list[Mapping[str, Any]] = []
    filters: set[str] = set()
    common: tuple[str, ...] = FIELDS
    for row in sample_rows(samples):
        document = mapping(row.get("doc"))
        common = tuple(name for name in common if _is_label(document, name))
        filters.add(str(row.get("filter")))
        if not common or len(filters) > 1:  # no need to read on
            return None
        documents.append({name: document[name] for name in common})
    return tuple(str(document[common[0]]) for document in documents) or None


def _is_label(document: Mapping[str, Any], name: str) -> bool:
    return isinstance(document.get(name), str | int) and document[name] != ""
