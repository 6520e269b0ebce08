"""Show results of any kind in the first table: tasks by models, with intervals, differences and verdicts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from smaug_eval.common.text import counted
from smaug_eval.leaderboard.columns import PERCENT, Column, Unit
from smaug_eval.reports.families import column_places
from smaug_eval.reports.html.browser import SAMPLES, state
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.panels.scores import table_words
from smaug_eval.reports.values import apart_text, arrow, interval_text, value_text
from smaug_eval.results.asked import limit_words, shot_words
from smaug_eval.results.boards import TASKS
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.pairing import NOT_MEASURED
from smaug_eval.results.tables import ScoreCell, ScoreTable
from smaug_eval.stats import Outcome

FOLDED = 6
"""Tasks of one group, or with one beginning of their names, from which on they are shown in a table of their own."""

_BEGINNING = re.compile(r"[^_\-:|.]+[_\-:|.]")
_MARKS = {Outcome.BETTER: "▲", Outcome.WORSE: "▼", Outcome.HIGHER: "△", Outcome.LOWER: "▽"}


class MatrixCell(NamedTuple):
    """Hold one model's score on a task as texts.

    Attributes:
        value: The score.
        interval: Its 95% interval; empty where there is none.
        apart: The difference from the baseline; empty for the baseline, and where there is none.
        apart_interval: Its interval.
        outcome: The verdict's word; empty where nothing is compared.
        mark: The verdict as a mark.
        p_value: As a phrase.
        why_not: Why there is no difference.
        n: Documents; empty where they are the same for all models.
        asked: Shots and limit, where models differ in them.
        notes: What to know beside the score.
        finds: Where the samples are on the page; empty where they are not.
    """

    value: str
    interval: str
    apart: str
    apart_interval: str
    outcome: str
    mark: str
    p_value: str
    why_not: str
    n: str
    asked: str
    notes: tuple[str, ...]
    finds: str


class MatrixRow(NamedTuple):
    """Hold a task, a group of tasks, a suite's column or its average.

    Attributes:
        title: What it is called.
        metric: Its metric, with the unit and whether more is better.
        label: Shots, harness, or of how many tasks it is the mean.
        n: Documents; empty where models differ in them.
        kind: ``average``, ``group``, ``member`` of the group above it, or ``task``.
        cells: One for each model of the block, None where it was not measured.
    """

    title: str
    metric: str
    label: str
    n: str
    kind: str
    cells: list[MatrixCell | None]


class Section(NamedTuple):
    """Group rows that belong together; ``is_folded`` where they stand in a table of their own."""

    title: str
    rows: list[MatrixRow]
    is_folded: bool

    def measured(self, models: Sequence[str]) -> tuple[list[str], list[MatrixRow]]:
        """Return the models that have anything in these rows, and the rows without the others' cells."""
        kept = [place for place in range(len(models)) if any(row.cells[place] is not None for row in self.rows)]
        rows = [row._replace(cells=[row.cells[place] for place in kept]) for row in self.rows]
        return [models[place] for place in kept], rows


class Block(NamedTuple):
    """Group models that share tasks, and their rows."""

    models: list[str]
    sections: list[Section]


def matrix(comparison: Comparison) -> Mapping[str, Any] | None:
    """Return every table as rows of one matrix; None where suites' tables say all there is."""
    if comparison.others is None or comparison.study is not None:
        return None
    blocks = [_block(comparison, models) for models in _blocks(comparison.all_tables, list(comparison.models))]
    return {"blocks": blocks, "baseline": comparison.baseline, "has_differences": _has_differences(blocks)}


def _has_differences(blocks: Sequence[Block]) -> bool:
    rows = (row for block in blocks for section in block.sections for row in section.rows)
    return any(cell is not None and cell.apart for row in rows for cell in row.cells)


def _blocks(tables: Sequence[ScoreTable], models: Sequence[str]) -> list[list[str]]:
    """Separate models into groups that have no task in common with another group; none has an empty column."""
    groups: list[set[str]] = []
    for table in tables:
        for place in range(len(table.columns)):
            own = {model for model, cells in table.cells.items() if cells[place] is not None}
            touched = [group for group in groups if group & own]
            groups = [*(group for group in groups if not group & own), set().union(own, *touched)]
    order = {model: place for place, model in enumerate(models)}
    found = [sorted(group, key=order.__getitem__) for group in groups if group]
    return sorted(found, key=lambda group: order[group[0]])


def _block(comparison: Comparison, models: list[str]) -> Block:
    sections: list[Section] = []
    for table in comparison.all_tables:
        if table.suite != TASKS:
            rows = [*_average_row(table, models), *_rows(comparison, table, models)]
            if rows:
                sections.append(Section(table_words(table), rows, False))
            continue
        by_title = {row.title: row for row in _rows(comparison, table, models)}
        sections += _families(table.described, by_title)
    return Block(models, sections)


def _families(columns: Sequence[Column], rows: Mapping[str, MatrixRow]) -> list[Section]:
    """Group tasks: groups with their tasks folded away, families of names, and all single tasks."""
    left = dict(rows)
    sections: list[Section] = []
    first: list[MatrixRow] = []
    for column in columns:
        if not (column.reported or len(column.leaves) > 1) or column.title not in left:
            continue
        first.append(left.pop(column.title))
        members = [left[leaf.name] for leaf in column.leaves if leaf.name in left and leaf.name != column.task]
        for row in members:
            del left[row.title]
        if len(members) >= FOLDED:
            sections.append(Section(f"Tasks of {column.title}", members, True))
        else:
            first += [row._replace(kind="member") for row in members]
    families: dict[str, list[MatrixRow]] = defaultdict(list)
    for title, row in left.items():
        match = _BEGINNING.match(title)
        families[match[0] if match else title].append(row)
    single = [row for own in families.values() if len(own) < FOLDED for row in own]
    order = {title: place for place, title in enumerate(rows)}
    first += sorted(single, key=lambda row: order[row.title])
    folded = [Section(f"{beginning}…", own, True) for beginning, own in families.items() if len(own) >= FOLDED]
    return [*([Section("", first, False)] if first else []), *sections, *folded]


def _average_row(table: ScoreTable, models: Sequence[str]) -> Iterator[MatrixRow]:
    if not table.is_averaged or len(table.columns) < 2:
        return
    own = [table.averages.get(model) for model in models]
    if any(own):
        cells = [None if cell is None else _cell(cell, PERCENT) for cell in own]
        title = table.average_label or "average"
        yield MatrixRow(title, "mean, % ↑", "", "", "average", cells)


def _rows(comparison: Comparison, table: ScoreTable, models: Sequence[str]) -> Iterator[MatrixRow]:
    places = {model: column_places(comparison, table, model) for model in models if model in table.cells}
    for place, column in enumerate(table.described):
        own = [table.cells[model][place] if model in table.cells else None for model in models]
        if not any(own):
            continue
        sizes = {cell.score.n for cell in own if cell is not None}
        shared = _documents(sizes.copy().pop()) if len(sizes) == 1 else ""
        asked = _asked(comparison, table, column, models)
        cells = [
            None
            if cell is None
            else _cell(
                cell,
                column.unit,
                "" if shared else _documents(cell.score.n),
                asked.get(model, ""),
                _finds(places[model], column),
            )
            for model, cell in zip(models, own, strict=True)
        ]
        kind = "group" if column.reported or len(column.leaves) > 1 else "task"
        words = ", ".join(filter(None, (table.metrics[place], column.unit.name)))
        metric = f"{words} {arrow(column)}".strip()
        yield MatrixRow(column.title, metric, table.labels.get(column.title, ""), shared, kind, cells)


def _asked(comparison: Comparison, table: ScoreTable, column: Column, models: Sequence[str]) -> dict[str, str]:
    """Return each model's shots and limit in a column, as far as they are known and differ."""
    board = next(board for board in comparison.boards if board.name == table.suite)
    held = {
        model: [own[leaf.name].result.asked for leaf in column.leaves if leaf.name in own]
        for model in models
        if (own := board.entries.get(model, {}))
    }
    shots = {model: _common(shot_words(each.shots) for each in asked) for model, asked in held.items()}
    limits = {model: _common(limit_words(each) for each in asked) for model, asked in held.items()}
    told = {model: words for model, words in shots.items() if words}
    parts = [each for each in (told, limits) if len(set(each.values())) > 1]
    return {model: ", ".join(filter(None, (part.get(model) for part in parts))) for model in held}


def _common(words: Iterable[str]) -> str:
    """Return what is the same for all tasks; empty where they differ."""
    found = set(words)
    return found.pop() if len(found) == 1 else ""


def _documents(n: int | None) -> str:
    return "n\u00a0unknown" if n is None else f"n\u00a0=\u00a0{counted(n)}"


def _finds(places: Mapping[str, int], column: Column) -> str:
    return state(SAMPLES, task=places[column.title]) if column.title in places else ""


def _cell(cell: ScoreCell, unit: Unit, n: str = "", asked: str = "", finds: str = "") -> MatrixCell:
    score, apart = cell.score, cell.difference
    ends = "" if apart is None or apart.interval is None else interval_text(apart.interval, unit, is_difference=True)
    word = "" if apart is None else apart.word
    return MatrixCell(
        value=value_text(score.value, unit),
        interval="" if score.interval is None else interval_text(score.interval, unit),
        apart="" if apart is None else apart_text(apart.points, unit),
        apart_interval=ends,
        outcome=word,
        mark="" if apart is None else _MARKS.get(apart.verdict.outcome, ""),
        p_value="" if apart is None else apart.p_words,
        why_not="" if cell.why_not in (None, NOT_MEASURED) else cell.why_not,
        n=n,
        asked=asked,
        notes=score.notes,
        finds=finds,
    )


def shown_sections(comparison: Comparison) -> Iterator[tuple[Block, Section]]:
    """Yield every section with its block, for formats without folds."""
    context = matrix(comparison)
    for block in context["blocks"] if context else ():
        for section in block.sections:
            yield block, section


PANEL = Panel("matrix", "Scores by task", matrix)
