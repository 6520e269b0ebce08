"""Show the statistics of a pair set in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_BAR = 40
_LENGTHS = {
    "prompt": "prompt length",
    "chosen": "chosen length",
    "rejected": "rejected length",
    "prompt_to_completion": "prompt : completion",
}


def pair_tables(stats: Mapping[str, Any]) -> RenderableType:
    """Return what :func:`smaug_eval.pair_stats` returned: a heading, lengths, and a histogram of edit distances."""
    units = {unit: stats[unit] for unit in ("characters", "tokens") if stats[unit]}
    return Group(
        Text(_heading(stats)),
        _summary(units),
        *(_histogram(unit, units[unit]) for unit in units if units[unit]["edit_distance"]),
    )


def _heading(stats: Mapping[str, Any]) -> str:
    formats = ", ".join(f"{count:,} {name}" for name, count in stats["formats"].items())
    lines = [f"{stats['path']}: {stats['pairs']:,} pairs of {stats['rows']:,} rows ({formats})"]
    if stats["dropped"]:
        reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in stats["dropped"].items())
        lines.append(f"left out: {reasons}")
    lines += stats["notes"]
    if stats["tokenizer"]:
        lines.append(f"tokens of {stats['tokenizer']}")
    return "\n".join(lines)


def _summary(units: Mapping[str, Any]) -> Table:
    table = Table("", box=None, pad_edge=False)
    for unit in units:
        table.add_column(f"{unit}: mean", justify="right")
        table.add_column("median", justify="right")
    for key, label in _LENGTHS.items():
        table.add_row(label, *(f"{unit[key][what]:,.1f}" for unit in units.values() for what in ("mean", "median")))
    if all(unit["edit_distance"] is not None for unit in units.values()):  # unpaired rows have none
        distances = (unit["edit_distance"][what] for unit in units.values() for what in ("mean", "median"))
        table.add_row("edit distance / longer", *(f"{distance:.1%}" for distance in distances))
    return table


def _histogram(unit: str, measures: Mapping[str, Any]) -> Table:
    table = Table(f"edit distance by {unit.removesuffix('s')}", "pairs", "", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    counts = measures["edit_distance_histogram"]
    for index, count in enumerate(counts):
        bar = "█" * round(_BAR * count / max(counts))
        table.add_row(f"{10 * index}-{10 * index + 10}%", f"{count:,}", bar)
    return table
