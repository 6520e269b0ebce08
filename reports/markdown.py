"""Write parts of the summary in Markdown: text that nothing acts on, and tables of tasks by models."""

from __future__ import annotations

import re
from collections.abc import Iterator

from smaug_eval.common.text import NOT_AVAILABLE, visible
from smaug_eval.reports.panels.matrix import MatrixCell, MatrixRow, shown_sections
from smaug_eval.reports.panels.scores import TABLE_WORDS, table_words
from smaug_eval.results.comparison import Comparison

_MARKS = re.compile(r"([\\`*_{}\[\]<>|#~&!])")


def escaped(text: str) -> str:
    """Return ``text`` on one line, with everything that Markdown or HTML would act on written out."""
    shown = _MARKS.sub(lambda match: f"\\{match.group()}", " ".join(visible(text).split()))
    return shown.replace("@", "&#64;")  # or the names of models would notify people


def matrix_lines(comparison: Comparison) -> Iterator[str]:
    """Return tables of all tasks that are part of no suite: a line for each task, a column for each model."""
    suites = {table_words(table) for table in comparison.tables} | set(TABLE_WORDS.values())
    shown = [(block, section) for block, section in shown_sections(comparison) if section.title not in suites]
    has_differences = False
    for block, section in shown:
        yield from (f"**{escaped(section.title or 'Tasks')}**", "")
        models, rows = section.measured(block.models)
        yield f"| task | metric | {' | '.join(map(escaped, models))} |"
        yield "|---|---|" + "---:|" * len(models)
        for row in rows:
            yield f"| {escaped(row.title)} | {_metric(row)} | {' | '.join(map(_cell, row.cells))} |"
            has_differences = has_differences or any(cell is not None and cell.apart for cell in row.cells)
        yield ""
    if shown:
        differences = (
            f"; behind a score the difference from {escaped(str(comparison.baseline))}" if has_differences else ""
        )
        yield f"↑: more is better; ↓: less is better; 95% intervals in brackets{differences}."
        yield ""
    if cut := {short: full for short, full in comparison.full_names.items() if short != full}:
        yield f"Whole names: {'; '.join(f'{escaped(short)} = {escaped(full)}' for short, full in cut.items())}."
        yield ""


def _metric(row: MatrixRow) -> str:
    return escaped(", ".join(filter(None, (row.metric, row.label, row.n))))


def _cell(cell: MatrixCell | None) -> str:
    if cell is None:
        return NOT_AVAILABLE
    words = ", ".join(filter(None, (cell.n, cell.asked)))
    n = f" ({words})" if words else ""
    shown = f"{cell.value} [{cell.interval}]{n}" if cell.interval else f"{cell.value}{n}"
    if cell.apart:
        apart = f"{cell.mark} {cell.apart}".strip() if cell.mark else cell.apart
        apart = f"**{apart}**" if cell.mark else apart
        interval = f" [{cell.apart_interval}]" if cell.apart_interval else ""
        p_value = f", {cell.p_value}" if cell.p_value else ""
        return f"{shown} {apart}{interval}{p_value}, {cell.outcome}"
    return f"{shown} (not compared)" if cell.why_not else shown
