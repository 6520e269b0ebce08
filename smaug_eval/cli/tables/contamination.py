"""Show the findings of the contamination checks in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def check_tables(found: Mapping[str, Any]) -> RenderableType:
    """Show what a check of pairs (``pairs``), of a model (``model``) or of both found."""
    parts = (("pairs", overlap_tables), ("model", model_tables))
    return Group(*(tables(found[part]) for part, tables in parts if part in found))


def model_tables(found: Mapping[str, Any]) -> RenderableType:
    """Return what :func:`smaug_eval.check_contamination` returned: flagged shares, and published ones beside them."""
    tasks = found["tasks"]
    table = _table("", *(task["title"] for task in tasks))
    table.add_row(Text(f"{found['model']['source']}"), *(_share(task) for task in tasks))
    table.add_row("flagged of documents", *(f"{task['flagged']} of {task['n']}" for task in tasks))
    table.add_row("mean score", *(f"{task['mean_score']:.3f}" for task in tasks))
    for row in found["published"]:
        shares = (_share(row["tasks"][task["task"]]) if task["task"] in row["tasks"] else "-" for task in tasks)
        table.add_row(f"published: {row['model']} against {row['reference']}", *shares)
    return Group(table, Text(_model_lines(found)))


def overlap_tables(found: Mapping[str, Any]) -> RenderableType:
    """Return what :func:`smaug_eval.check_pair_overlap` returned: counts by task, and the first examples."""
    measures, pairs = found["measures"], found["pairs"]
    findings = {
        "whole": "whole text",
        "long_run": f"a run of {measures['long']} words",
        "short_runs": f"{measures['short_share']:.0%} of the runs of {measures['short']}",
    }
    table = _table("", "documents", *findings.values())
    for task in found["tasks"]:
        counts = (f"{task[name]['found']:,} ({task[name]['share']:.1%})" for name in findings)
        table.add_row(task["task"], f"{task['documents']:,}", *counts)
    heading = f"{pairs['path']}: {pairs['rows']:,} rows" + (
        f", {pairs['left_out']:,} left out" if pairs["left_out"] else ""
    )
    lines = [line for task in found["tasks"] for line in _example_lines(task, findings)]
    return Group(Text(heading), table, *(Text(line) for line in lines))


def _example_lines(task: Mapping[str, Any], findings: Mapping[str, str]) -> list[str]:
    """The first examples of the finding that says most: the long runs name words."""
    for name in ("long_run", "short_runs", "whole"):
        if task[name]["first"]:
            return [
                f"{task['task']}, {findings[name]}: document {each['document']} in {each['place']}"
                + (f": {each['words']}" if "words" in each else "")
                for each in task[name]["first"]
            ]
    return []


def _model_lines(found: Mapping[str, Any]) -> str:
    threshold, neighbours = found["tasks"][0]["threshold"], found["method"]["neighbours"]
    lower, higher = found["marks"]
    lines = [
        f"share of documents that the model finds more likely than all but {threshold:.0%} of {neighbours} "
        f"continuations by {found['reference']['source']}, with 95% intervals (Wilson; published figures: at an "
        "assumed n of 100)",
        f"two versions of the tool's notes call a share above {lower} or above {higher} a likely sign of training on "
        "the data; training on texts of the same kind raises it, too: compare with the model's base, same reference",
    ]
    lines += [f"note: {note}" for note in found.get("notes", [])]
    lines += [f"{task['title']}: not the official data: {note}" for task in found["tasks"] for note in task["notes"]]
    return "\n".join(lines)


def _share(value: Mapping[str, Any]) -> str:
    low, high = value["interval"]
    return f"{value['share']:.2f} [{low:.2f}, {high:.2f}]"


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table
