"""Show the names that suite lm_eval takes in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text


def tasks_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """Return tasks, tags and groups for the terminal."""
    title = f"{len(entries):,} names; shots are those of the prompt unless num_fewshot is set"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("name", "kind", "output", "data"):
        table.add_column(heading, overflow="fold")
    table.add_column("shots", justify="right")
    for entry in entries:
        shots = "" if entry["shots"] is None else str(entry["shots"])
        # The names come from files: none is markup.
        table.add_row(*(Text(str(entry[key])) for key in ("name", "kind", "output", "dataset")), shots)
    return table
