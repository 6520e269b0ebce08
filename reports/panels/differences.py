"""Draw the forest plot: every paired difference from the baseline with its interval; a table says the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from smaug_eval.leaderboard.columns import PERCENT, PLAIN, Unit
from smaug_eval.reports.charts.forest import forest as forest_svg
from smaug_eval.reports.families import column_places
from smaug_eval.reports.html.browser import SAMPLES, of_model, state
from smaug_eval.reports.overview import forest_line
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.samples.outcomes import CHANGED
from smaug_eval.reports.statements import columns_words
from smaug_eval.reports.task_statements import task_evidence
from smaug_eval.reports.values import apart_text
from smaug_eval.results.boards import SHORT_NAMES, TASKS
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.differences import Difference
from smaug_eval.results.tables import ScoreTable

MOST_ROWS = 60
"""Lines of one plot; of more tasks the clearest differences are drawn."""


class ForestRow(NamedTuple):
    """Hold one line of the plot: a column, or the average."""

    title: str
    is_average: bool
    difference: Difference | None
    why_not: str | None


class ForestPlot(NamedTuple):
    """Hold the differences of one model from the baseline that have one unit.

    Attributes:
        model: The model.
        unit: Of the differences.
        rows: The lines.
        left_out: Lines that found no room.
    """

    model: str
    unit: Unit
    rows: list[ForestRow]
    left_out: int = 0


def differences(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show every difference from the baseline, as a picture and as a table."""
    forests = [
        forest for number, table in enumerate(comparison.all_tables) for forest in _forests(comparison, table, number)
    ]
    return {"forests": forests, "baseline": comparison.baseline} if forests else None


def forest_rows(table: ScoreTable, model: str) -> list[ForestRow]:
    """Return a model's comparisons on one board, the average last."""
    cells = zip(table.columns, table.cells[model], strict=True)
    rows = [ForestRow(title, False, cell.difference, cell.why_not) for title, cell in cells if cell is not None]
    if not table.is_averaged:
        return rows
    average = table.averages[model]
    return [*rows, ForestRow(table.average_label or "average", True, average.difference, average.why_not)]


def _by_unit(table: ScoreTable, model: str) -> Iterator[ForestPlot]:
    """Group a model's comparisons by unit; of tasks in units of their own each metric by itself."""
    rows = forest_rows(table, model)
    if table.is_averaged:
        yield ForestPlot(model, PERCENT, rows)
        return
    metrics = dict(zip(table.columns, table.metrics, strict=True))
    units = {column.title: column.unit for column in table.described}
    groups: dict[str, list[ForestRow]] = {}
    for row in rows:
        if row.difference is not None:
            groups.setdefault("" if units[row.title] == PERCENT else metrics[row.title], []).append(row)
    for metric, own in groups.items():
        unit = PERCENT if not metric else PLAIN._replace(of_difference=f" {metric}")
        clearest = sorted(own, key=lambda row: 1.0 if (apart := row.difference) is None else apart.adjusted_p or 1.0)
        kept = {row.title for row in clearest[:MOST_ROWS]}
        yield ForestPlot(model, unit, [row for row in own if row.title in kept], len(own) - len(kept))


def _finds(comparison: Comparison, table: ScoreTable, model: str) -> dict[str, dict[str, str]]:
    """Say where the sample browser shows the documents of a column that a model gained, and those that it lost."""
    number, others = list(comparison.first.models).index(model), len(comparison.models) - 1
    return {
        column: {each: state(SAMPLES, task=place, outcome=of_model(each, number, others)) for each in CHANGED}
        for column, place in column_places(comparison, table, model).items()
    }


def _forests(comparison: Comparison, table: ScoreTable, number: int) -> Iterator[Mapping[str, Any]]:
    baseline = comparison.baseline
    if baseline not in table.cells:
        return
    found = [forest for model in table.cells if model != baseline for forest in _by_unit(table, model)]
    shown = [forest for forest in found if any(row.difference for row in forest.rows)]
    reaches = {
        unit: _reach([row.difference for own in shown if own.unit == unit for row in own.rows if row.difference])
        for unit in {forest.unit for forest in shown}
    }
    where = _where(comparison, table)
    for position, forest in enumerate(shown):
        unit = "points" if forest.unit == PERCENT else forest.unit.of_difference.strip()
        yield {
            "suite": where if forest.unit == PERCENT else f"{where}, {unit}",
            "model": forest.model,
            "unit": unit,
            "is_percent": forest.unit == PERCENT,
            "left_out": forest.left_out,
            "counts": columns_words(table, forest.model) if table.is_averaged else "",
            "rows": forest.rows,
            "finds": _finds(comparison, table, forest.model),
            "chart": forest_chart(
                forest.rows,
                reaches[forest.unit],
                key=f"forest-{number}-{position}",
                title=f"Differences of {forest.model} from {baseline} in {where}, in {unit}",
                unit="percentage points" if forest.unit == PERCENT else unit,
            ),
        }


def _where(comparison: Comparison, table: ScoreTable) -> str:
    """Name a table's tasks beside others'."""
    if table.suite != TASKS:
        return SHORT_NAMES.get(table.suite, table.suite)
    return "other tasks" if comparison.tables else "all tasks"


def _reach(differences: Sequence[Difference]) -> float:
    """Return how far from zero the plots have to go; the same for all of one unit, so that they compare."""
    ends = [abs(end) for each in differences for end in (each.points, *(each.interval or ()))]
    least = 0.5 if all(each.unit == PERCENT for each in differences) else 1e-6
    return 1.08 * max([*ends, least])


def forest_chart(
    rows: Sequence[ForestRow], reach: float, *, key: str, title: str, unit: str = "percentage points"
) -> Markup:
    """Draw points and 95% intervals, a line each, around zero; the average is a diamond below the columns.

    Args:
        rows: From :func:`forest_rows`.
        reach: How far the horizontal axis goes to either side.
        key: Distinguishes this chart's element ids from those of others on the page.
        title: Short text alternative; the long one is made from the rows.
        unit: Of the differences.
    """
    lines = [forest_line(row.title, row.difference, row.is_average) for row in rows]
    return forest_svg(lines, reach, key=key, title=title, description=_described(rows), unit=unit)


def _described(rows: Sequence[ForestRow]) -> str:
    parts = []
    for row in rows:
        if row.difference is None:
            parts.append(f"{row.title}: not compared ({row.why_not})")
        else:
            found = row.difference
            points = apart_text(found.points, found.unit)
            parts.append(f"{row.title}: {points} ({task_evidence(found)}), {found.outcome_words}")
    return "; ".join(parts) + "."


PANEL = Panel("differences", "Differences", differences)
