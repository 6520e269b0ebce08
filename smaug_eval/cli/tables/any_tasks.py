"""Show scores of any tasks in the terminal: a line for each task and model, with difference and verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from smaug_eval.common.text import bound, counted, fixed, significant, visible
from smaug_eval.leaderboard.columns import PERCENT, Unit
from smaug_eval.results.boards import SHORT_NAMES
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.scored import OTHER_TABLES
from smaug_eval.results.tables import ScoreCell, ScoreTable

_NAME = 12
"""Characters that a name has at least on a line."""
_ARROWS = {True: "↑", False: "↓", None: ""}


def task_tables(comparison: Comparison) -> Group:
    """Return the tables of what is part of no suite with two views, then the differences on suites."""
    parts: list[Table | Text] = []
    for table in comparison.all_tables:
        if table.suite in OTHER_TABLES:
            parts += _scores(table, str(comparison.baseline))
        elif len(table.cells) > 1:
            parts.append(_differences(table, str(comparison.baseline)))
    return Group(*parts)


class _Row(NamedTuple):
    """A task's scores; ``cells`` by model."""

    title: str
    words: str
    unit: Unit
    cells: Mapping[str, ScoreCell]


def _scores(table: ScoreTable, baseline: str) -> Iterator[Table]:
    """A table for each metric and way of asking, which its heading names."""
    many = len(table.cells) > 1
    name = SHORT_NAMES.get(table.suite, table.suite)
    groups: dict[str, list[_Row]] = {}
    for row in _rows(table):
        groups.setdefault(row.words, []).append(row)
    for words, rows in groups.items():
        against = f"; differences from {visible(baseline)}" if many else ""
        title = Text(f"{name}: {visible(words)}{against}")
        yield _of_many(title, rows) if many else _of_one(title, rows)


def _of_one(title: Text, rows: Sequence[_Row]) -> Table:
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    shown.add_column("task", overflow="fold", min_width=_NAME)
    for heading in ("score", "95% interval", "n"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        for cell in row.cells.values():
            shown.add_row(*(Text(text) for text in (visible(row.title), *_texts(cell, row.unit)[:3])))
    return shown


def _of_many(title: Text, rows: Sequence[_Row]) -> Table:
    """Intervals and p values stand below their numbers, so that a line fits a terminal."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    shown.add_column("task, n", overflow="fold", min_width=_NAME)
    shown.add_column("model", overflow="fold", min_width=_NAME)
    for heading in ("score\n95% interval", "difference\n95% interval"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("verdict", overflow="fold", min_width=_NAME)
    for row in rows:
        sizes = {cell.score.n for cell in row.cells.values()}
        n = "" if len(sizes) > 1 or None in sizes else f"n = {_texts(next(iter(row.cells.values())), row.unit)[2]}"
        first = f"{visible(row.title)}\n{n}".rstrip()
        for model, cell in row.cells.items():
            value, ends, own, apart, apart_ends, verdict = _texts(cell, row.unit)
            named = visible(model) if n or not own else f"{visible(model)}\nn = {own}"
            texts = (first, named, f"{value}\n{ends}", f"{apart}\n{apart_ends}", verdict.replace(", ", ",\n"))
            shown.add_row(*(Text(text.rstrip()) for text in texts))
            first = ""
    return shown


def _rows(table: ScoreTable) -> Iterator[_Row]:
    for place, (column, metric) in enumerate(zip(table.described, table.metrics, strict=True)):
        label = f", {table.labels[column.title]}" if column.title in table.labels else ""
        words = f"{metric}{column.unit.name and ' ' + column.unit.name} {_ARROWS[column.higher_is_better]}".strip()
        cells = {model: cell for model, own in table.cells.items() if (cell := own[place]) is not None}
        yield _Row(column.title, f"{words}{label}", column.unit, cells)
    if table.averages:
        yield _Row(table.average_label or "average", "mean % ↑", PERCENT, table.averages)


def _differences(table: ScoreTable, baseline: str) -> Table:
    """Of a suite, whose scores the views show, only the differences."""
    title = Text(f"{SHORT_NAMES.get(table.suite, table.suite)}: differences from {visible(baseline)}, in points")
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    shown.add_column("column", no_wrap=True)
    shown.add_column("model", overflow="fold")
    for heading in ("difference", "95% interval"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("verdict", overflow="fold")
    for model, cells in table.cells.items():
        named = [*zip(table.columns, cells, strict=True)]
        named += [(table.average_label or "average", table.averages[model])] if table.is_averaged else []
        for column, cell in named:
            if cell is not None and (cell.difference is not None or cell.why_not):
                texts = _texts(cell, PERCENT)
                shown.add_row(*(Text(text) for text in (column, visible(model), *texts[3:])))
    return shown


def _texts(cell: ScoreCell, unit: Unit) -> tuple[str, str, str, str, str, str]:
    score, apart = cell.score, cell.difference
    n = "" if score.n is None else counted(score.n)
    if apart is None:
        return _value(score.value, unit), _ends(score.interval, unit), n, "", "", "not compared" if cell.why_not else ""
    sign = "+" if apart.points > 0 else ""
    ends = "" if apart.interval is None else " to ".join(_signed(end, unit) for end in apart.interval)
    verdict = ", ".join(filter(None, (apart.word, apart.p_words)))
    difference = f"{sign}{_value(apart.points, unit)}"
    return _value(score.value, unit), _ends(score.interval, unit), n, difference, ends, verdict


def _value(value: float, unit: Unit) -> str:
    return fixed(value, 2) if unit == PERCENT else significant(value)


def _signed(value: float, unit: Unit) -> str:
    return bound(value, 2) if unit == PERCENT else f"{'+' if value > 0 else ''}{significant(value)}"


def _ends(interval: tuple[float, float] | None, unit: Unit) -> str:
    return "" if interval is None else " to ".join(_value(end, unit) for end in interval)
