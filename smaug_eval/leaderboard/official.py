"""Compare data with the official ones: each benchmark pins the Hub's commit and a fingerprint of the content.

The commits are those at which the Hub's data sets became plain parquet files; public evaluation code pins the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from smaug_eval.common.files import canonical_json
from smaug_eval.leaderboard.protocol import DataSplit


def content_note(split: DataSplit, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str | None:
    """Say how the content of a split differs from the official one.

    None where it does not, and where the official content is not known.
    """
    if split.fingerprint is None and not split.copies:
        return None
    found = fingerprint(rows, columns)
    for copy, note in split.copies:
        if found == copy:
            return note
    if split.fingerprint in (None, found):
        return None
    return f"the content of {split.shown} differs"


def fingerprint(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return the hexadecimal SHA-256 over ``columns`` of ``rows``, whatever file format they were read from.

    Rows of several subjects are taken subject by subject, since a file may hold the subjects in any order.

    Raises:
        KeyError: a row lacks one of ``columns``.
    """
    if "subject" in columns:
        rows = sorted(rows, key=lambda row: str(row["subject"]))  # stable: within a subject the order counts
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical_json([row[column] for column in columns]).encode())
        digest.update(b"\n")
    return digest.hexdigest()
