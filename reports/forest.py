"""The forest plot: every paired difference from the baseline with its interval, and the table that says the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.browser import of_model, state
from reports.charts import ALARM, GOOD, INK, SOFT, chart_style, inline_svg
from reports.comparison import Comparison, SuiteTable
from reports.differences import Difference
from reports.families import column_places
from reports.outcomes import CHANGED
from reports.statements import columns_words, evidence
from reports.text import signed
from smaug_eval.stats import Outcome

_COLOURS = {Outcome.BETTER: GOOD, Outcome.WORSE: ALARM}
_ROW_HEIGHT = 0.27


class ForestRow(NamedTuple):
    """One line of the plot: a column, or the average."""

    title: str
    is_average: bool
    difference: Difference | None
    why_not: str | None


def differences(comparison: Comparison) -> Mapping[str, Any] | None:
    """Every difference from the baseline, as a picture and as a table."""
    forests = [
        forest for number, table in enumerate(comparison.tables) for forest in _forests(comparison, table, number)
    ]
    return {"forests": forests, "baseline": comparison.baseline} if forests else None


def forest_rows(table: SuiteTable, model: str) -> list[ForestRow]:
    """A model's comparisons in one suite, the average last."""
    cells = zip(table.columns, table.cells[model], strict=True)
    rows = [ForestRow(title, False, cell.difference, cell.why_not) for title, cell in cells if cell is not None]
    average = table.averages[model]
    return [*rows, ForestRow(table.average_label or "average", True, average.difference, average.why_not)]


def _finds(comparison: Comparison, table: SuiteTable, model: str) -> dict[str, dict[str, str]]:
    """Where the sample browser shows the documents of a column that a model gained, and those that it lost."""
    number, others = list(comparison.models).index(model), len(comparison.models) - 1
    return {
        column: {each: state("samples", task=place, outcome=of_model(each, number, others)) for each in CHANGED}
        for column, place in column_places(comparison, table, model).items()
    }


def _forests(comparison: Comparison, table: SuiteTable, number: int) -> Iterator[Mapping[str, Any]]:
    baseline = comparison.baseline
    found = {model: forest_rows(table, model) for model in table.cells if model != baseline}
    shown = {model: rows for model, rows in found.items() if any(row.difference for row in rows)}
    reach = _reach([row.difference for rows in shown.values() for row in rows if row.difference is not None])
    for position, (model, rows) in enumerate(shown.items()):
        yield {
            "suite": table.suite,
            "model": model,
            "counts": columns_words(table, model),
            "rows": rows,
            "finds": _finds(comparison, table, model),
            "chart": forest_chart(
                rows,
                reach,
                key=f"forest-{number}-{position}",
                title=f"Differences of {model} from {baseline} in {table.suite}, in points",
            ),
        }


def _reach(differences: Sequence[Difference]) -> float:
    """How far from zero the plots have to go, in points; the same for all, so that they compare."""
    ends = [abs(end) for each in differences for end in (each.points, *(each.interval or ()))]
    return 1.08 * max([*ends, 0.5])


def forest_chart(rows: Sequence[ForestRow], reach: float, *, key: str, title: str) -> Markup:
    """Points and 95% intervals, a line each, around zero; the average is a diamond below the columns.

    Args:
        rows: From :func:`forest_rows`.
        reach: The horizontal axis goes so many points to either side.
        key: Distinguishes this chart's element ids from those of others on the page.
        title: Short text alternative; the long one is made from the rows.
    """
    with chart_style(key):
        figure = Figure(figsize=(5.4, 0.75 + _ROW_HEIGHT * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=INK, linewidth=1.0, alpha=0.7)
        for place, row in enumerate(rows):
            if row.difference is not None:
                _draw(axes, place, row.difference, row.is_average)
        axes.set_yticks(range(len(rows)), [row.title for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-reach, reach)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("difference in percentage points")
        return inline_svg(figure, key=key, title=title, description=_described(rows))


def _draw(axes: Axes, place: int, difference: Difference, is_average: bool) -> None:
    colour = _COLOURS.get(difference.verdict.outcome, SOFT)
    if difference.interval is not None:
        axes.plot(difference.interval, [place, place], color=colour, linewidth=2.6 if is_average else 1.6)
    axes.plot(difference.points, place, color=colour, marker="D" if is_average else "o", markersize=6)


def _described(rows: Sequence[ForestRow]) -> str:
    parts = []
    for row in rows:
        if row.difference is None:
            parts.append(f"{row.title}: not compared ({row.why_not})")
        else:
            found = row.difference
            parts.append(f"{row.title}: {signed(found.points)} ({evidence(found)}), {found.outcome_words}")
    return "; ".join(parts) + "."
