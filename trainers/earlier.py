"""Check trainings that an earlier version finished: whether its rules of encoding gave their pairs other ids.

A finished training stays finished. Where it may have been trained on other ids, that is said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def difference_to_earlier(summary: Mapping[str, Any], train_file: Path) -> str | None:
    """Return why a finished training may have seen other ids than today's rules give; None where it has seen the same.

    The rules differ where no space lies at the border of prompt and completion (tokens could merge over it), where a
    pair was cut, and in rows of messages (what follows the template's own end of a turn).

    Args:
        summary: What ``summary.json`` of the training holds.
        train_file: The pairs that it was trained on.
    """
    if not summary or "encoding" in summary or not train_file.is_file():
        return None
    if summary.get("truncated"):
        return f"{summary['truncated']:,} pairs were cut, by rules that could take the whole prompt"
    with train_file.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if not isinstance(row["prompt"], str):
                return "rows of messages may have had an end-of-text token behind the template's own end"
            if _may_merge(row):
                return "where no space lies between prompt and completion, the beginning of completions could be lost"
    return None


def _may_merge(row: Mapping[str, str]) -> bool:
    """Whether a token may span the border of prompt and completion: no blank, which tokens begin with, lies there."""
    return bool(row["prompt"]) and any(
        (row["prompt"] + row[side])[len(row["prompt"].rstrip()) :][:1] != " " for side in ("chosen", "rejected")
    )
