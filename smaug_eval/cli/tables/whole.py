"""Print tables whose words stay whole: as wide as they need, and with fewer columns where a terminal is narrow."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any

from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

_WIDEST = 10_000
"""Characters of a line beyond which nothing is kept whole."""

_UNKNOWN_WIDTH = 80

_GIVE_WAY = (
    *("whole text", "unshared", "next below", "next above", "better than", "among", "close", "of", "judged", "strict"),
    *("M tokens", "steps", "share", "n", "no verdict", "ties", "turn 1", "turn 2", "missing", "documents", "kind"),
    *("output", "data", "95%", "95% interval"),
)
"""Headings of columns that a narrow terminal leaves out before any other, the first first."""
_STAY = (
    "model",
    "against",
    "score",
    "average",
    "difference",
    "verdict",
    "score\n95% interval",
    "difference\n95% interval",
)
"""Headings of columns that always stay; so does the first column."""


def print_whole(renderable: Any, console: Console | None = None) -> None:
    """Print tables and texts without breaking a word.

    Where nobody sees a terminal, as in a pipe or a file, lines are as long as they need. A terminal that is too narrow
    for all words of a table shows fewer columns and says which it leaves out. Where even the columns that stay do not
    fit, lines are longer than the terminal.
    """
    console = Console() if console is None else console
    if console.width < 1:  # COLUMNS=0, or a terminal that does not know its size; rich then shows no text at all
        console.width = _UNKNOWN_WIDTH
    for part in _parts(renderable):
        if isinstance(part, Table):
            _print_table(part, console)
        elif console.is_terminal:
            console.print(part)
        else:
            console.print(part, soft_wrap=True)


def _parts(renderable: Any) -> Iterator[Any]:
    if isinstance(renderable, Group):
        for part in renderable.renderables:
            yield from _parts(part)
    else:
        yield renderable


def _print_table(table: Table, console: Console) -> None:
    shown = copy(table)
    if shown.title:
        title = shown.title if isinstance(shown.title, Text) else Text.from_markup(str(shown.title))
        console.print(title, style="italic", soft_wrap=True)
        shown.title = None
    shown.columns = [copy(column) for column in table.columns]
    left_out = []
    if console.is_terminal:
        while _width(shown, console, least=True) > console.width and (column := _next_to_go(shown)) is not None:
            shown.columns = [each for each in shown.columns if each is not column]
            left_out.append(_heading(column))
    widths = [_span(column, console) for column in shown.columns]
    room = _WIDEST if not console.is_terminal else console.width - _width(shown, console, least=True)
    for column, width in zip(shown.columns, _shared(widths, max(0, room)), strict=True):
        column.width, column.min_width, column.max_width = width, None, None
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), shown).maximum
    wide = Console(
        file=console.file,
        width=max(needed, console.width),
        force_terminal=console.is_terminal,
        color_system=_colours(console),
        no_color=console.no_color,
    )
    wide.print(shown)
    if left_out:
        names = ", ".join(name or "(no heading)" for name in left_out)
        console.print(Text(f"left out for want of room: {names}; a wider window or a pipe shows all"), style="dim")


def _colours(console: Console) -> Any:
    return console.color_system if console.is_terminal else None


def _heading(column: Column) -> str:
    return " ".join(str(column.header).split())


def _next_to_go(table: Table) -> Column | None:
    """Return the column to leave out next: by the list, else the last that need not stay."""
    others = [column for column in table.columns[1:] if str(column.header) not in _STAY]
    for heading in _GIVE_WAY:
        found = [column for column in others if str(column.header) == heading]
        if found:
            return found[-1]
    return others[-1] if others else None


def _span(column: Column, console: Console) -> tuple[int, int]:
    """Return the widths at which no word of a column is broken, and no line."""
    options = console.options.update(max_width=_WIDEST)
    measured = [Measurement.get(console, options, cell) for cell in (column.header, *column.cells)]
    most = max(each.maximum for each in measured)
    return (most if column.no_wrap else max(each.minimum for each in measured)), most


def _width(table: Table, console: Console, *, least: bool) -> int:
    """Return how wide a table is with every column as narrow as its words, or as wide as its lines."""
    tried = copy(table)
    tried.columns = [copy(column) for column in table.columns]
    for column in tried.columns:
        low, high = _span(column, console)
        column.width, column.min_width, column.max_width = (low if least else high), None, None
    return Measurement.get(console, console.options.update(max_width=_WIDEST), tried).maximum


def _shared(widths: list[tuple[int, int]], room: int) -> list[int]:
    """Return the columns' widths: as narrow as their words, and the room shared among those whose lines need it."""
    found = [low for low, _ in widths]
    while room > 0 and (wanting := [place for place, (_, high) in enumerate(widths) if found[place] < high]):
        for place in wanting[:room]:
            step = min(max(1, room // len(wanting)), widths[place][1] - found[place])
            found[place] += step
            room -= step
    return found
