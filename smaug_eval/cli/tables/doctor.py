"""Show what a machine can run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from smaug_eval.checkup import Finding

MARKS = {"ok": "[green]ok[/]", "limited": "[yellow]limited[/]", "missing": "[red]missing[/]"}


def doctor_table(findings: Sequence[Finding]) -> Table:
    """Return one row per finding: the topic, whether it works, what was found and what to do about it."""
    table = Table("", "", "found", "to do", box=None, pad_edge=False)
    for finding in findings:
        table.add_row(finding.topic, MARKS[finding.status], Text(finding.detail), Text(finding.fix))
    return table
