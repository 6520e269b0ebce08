"""Show what a gate came to in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from smaug_eval.common.text import visible

if TYPE_CHECKING:
    from smaug_eval.gating import GateResult


def gate_tables(result: GateResult) -> Group:
    """Return a line for each requirement, the verdict, and what was found out while reading."""
    table = Table("", "what", "required", "why", box=None, pad_edge=False)
    if len({check.model for check in result.checks}) > 1:
        table = Table("", "model", "what", "required", "why", box=None, pad_edge=False)
    for check in result.checks:
        cells = [check.ruling.value.upper(), check.model, check.subject, check.requirement, check.reason]
        table.add_row(*(Text(visible(cell)) for cell in (cells if len(table.columns) == 5 else [cells[0], *cells[2:]])))
    models = ", ".join(result.models) or "no model"
    against = f" against {result.baseline}" if result.baseline else ""
    head = f"{visible(models)}{visible(against)} ({visible(result.policy)})"
    return Group(
        Text(head),
        table,
        Text(f"gate: {result.verdict}: {result.words}"),
        *(Text(visible(note)) for note in result.notes),
    )
