"""Name a column in short, and hash the rows that it is scored on."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from smaug_eval.common.files import canonical_json, sha256_of_text
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.suite import Suite


def short_name(suite: Suite, column: Column) -> str:
    """Return a column's name in folders and messages: its lm-eval task without the suite's prefix."""
    return column.task.removeprefix(f"{suite.name}_")


def data_fingerprints(column: Column, suite: Suite, data_root: Path | None) -> dict[str, str]:
    """Hash the rows behind each leaf task: what is scored, and what shots are drawn from.

    Reading the rows is also the check that they are there and have the columns needed.

    Raises:
        SmaugError: they are not.
    """
    return {leaf.name: _rows_sha256(suite, leaf.name, data_root) for leaf in column.leaves}


@lru_cache(maxsize=256)
def _rows_sha256(suite: Suite, task: str, data_root: Path | None) -> str:
    return sha256_of_text(canonical_json(suite.rows(suite.task(task), data_root)))
