"""Show verdicts on published numbers in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from smaug_eval.common.text import counted
from smaug_eval.leaderboard.rescore import AS_REPORTED


def verdict_tables(found: Mapping[str, Any]) -> Group:
    """Return the verdicts for the terminal."""
    row = found["against"]
    commit = f", commit {row['revision'][:8]}" if row["revision"] else ""
    title = f"{found['model']} against {row['model']} ({row['precision']}{commit}, {row['date'] or 'no date'}; "
    table = Table(title=Text(f"{title}{row['source']})"), title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for heading in ("published", "ours", "gap", "95% interval", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    colours = {"reproduced": "green", "not reproduced": "red"}
    for verdict in found["verdicts"]:
        outcome = Text(verdict["outcome"], style=colours.get(verdict["outcome"], "yellow"))
        table.add_row(verdict["column"], f"{verdict['published']:.2f}", *_measured(verdict), outcome)
    lines = [*_reasons(found["verdicts"]), *_effects(found["verdicts"]), *found["remarks"]]
    return Group(table, *map(Text, lines))


def results_tables(found: Mapping[str, Any]) -> Group:
    """Return the verdicts on results that were already there, a table per model."""
    tables = [verdict_tables(each) for each in found["reproductions"]]
    lines = [*(f"no verdict on {model}: {reason}" for model, reason in found["left_out"].items()), *found["notes"]]
    return Group(*tables, *map(Text, lines))


def _measured(verdict: Mapping[str, Any]) -> tuple[str, str, str, str]:
    if verdict["ours"] is None:
        return "", "", "", ""
    interval = verdict["interval"]
    span = "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
    return f"{verdict['ours']:.2f}", f"{round(verdict['gap'], 2) + 0.0:+.2f}", span, counted(verdict["n"])


def _reasons(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why columns do not compare, and what else is to know of them, each reason once with its columns."""
    columns: dict[str, list[str]] = {}
    for verdict in verdicts:
        because = [verdict["words"]] if verdict["words"] != verdict["outcome"] else []
        for reason in (*because, *verdict["notes"]):
            columns.setdefault(reason, []).append(verdict["column"])
    return [f"{', '.join(names)}: {reason}" for reason, names in columns.items()]


def _effects(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What lm-eval's own rules would make of the same outputs, rule by rule; and where no samples were there to ask."""
    lines = []
    for verdict in verdicts:
        parts = [
            f"{each['name']} {each['points']:+.2f} points ({each['detail']})" for each in verdict.get("effects", ())
        ]
        if parts:
            lines.append(f"{verdict['column']}, by lm-eval 0.4.13's rules instead: {'; '.join(parts)}")
    reported = [each["column"] for each in verdicts if each.get("how") == AS_REPORTED]
    return [*lines, *([f"{', '.join(reported)}: {AS_REPORTED}"] if reported else [])]
