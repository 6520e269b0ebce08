"""Draw one picture of a comparison: every model's average against the baseline's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from markupsafe import Markup

from smaug_eval.leaderboard.columns import PERCENT
from smaug_eval.reports.charts.forest import ForestLine, forest
from smaug_eval.reports.statements import average_place, judge_words, judged_differences
from smaug_eval.reports.values import apart_text, interval_text
from smaug_eval.results.boards import SHORT_NAMES
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.differences import Difference
from smaug_eval.results.pairs import only_column
from smaug_eval.results.tables import ScoreTable
from smaug_eval.stats import Outcome

COLOURS = {Outcome.BETTER: "good", Outcome.WORSE: "alarm"}


class OverviewChart(NamedTuple):
    """Hold a picture with its caption."""

    caption: str
    chart: Markup


def forest_line(title: str, difference: Difference | None, is_diamond: bool = False) -> ForestLine:
    """Return a line of a forest plot: green for better, red for worse."""
    if difference is None:
        return ForestLine(title, None, None, "soft", is_diamond)
    colour = COLOURS.get(difference.verdict.outcome, "soft")
    return ForestLine(title, difference.points, difference.interval, colour, is_diamond)


def overview_charts(comparison: Comparison) -> list[OverviewChart]:
    """Draw every model's average against the baseline's, for each suite that has one.

    Of other tasks it is the only one, or the group that all belong to; of judged answers the mean score, where nothing
    else was measured. Empty where nothing is compared.
    """
    found = [
        chart for number, table in enumerate(comparison.all_tables) if (chart := _of_table(comparison, table, number))
    ]
    return found or [
        chart for number, _ in enumerate(comparison.dialogues) if (chart := _of_judged(comparison, number))
    ]


def reach_of(lines: list[ForestLine], least: float) -> float:
    """Return how far from zero a plot has to go."""
    return 1.08 * max([least, *(abs(end) for line in lines for end in (line.points or 0.0, *(line.interval or ())))])


def _of_table(comparison: Comparison, table: ScoreTable, number: int) -> OverviewChart | None:
    found = dict(_differences(table))
    if not found:
        return None
    lines = [forest_line(model, each, True) for model, each in _ranked(found)]
    unit = next(iter(found.values())).unit
    words = "percentage points" if unit == PERCENT else unit.of_difference.strip() or "the task's own unit"
    model = next(iter(found))
    name = SHORT_NAMES.get(table.suite, table.suite)
    of = average_place(table, model) if table.is_averaged else f"{only_column(table)} ({name})"
    described = "; ".join(
        f"{title}: {apart_text(each.points, unit)}"
        + ("" if each.interval is None else f" (95% interval {interval_text(each.interval, unit, is_difference=True)})")
        + f", {each.word}"
        for title, each in _ranked(found)
    )
    caption = f"Difference from {comparison.baseline} on {of}"
    chart = forest(
        lines,
        reach_of(lines, 0.5 if unit == PERCENT else 1e-6),
        key=f"overview-{number}",
        title=caption,
        description=f"{described}.",
        unit=words,
    )
    return OverviewChart(caption, chart)


def _ranked(found: Mapping[str, Difference]) -> list[tuple[str, Difference]]:
    """Return models and differences, the best first."""
    is_less = any(each.higher_is_better is False for each in found.values())
    return sorted(found.items(), key=lambda item: item[1].points if is_less else -item[1].points)


def _differences(table: ScoreTable) -> Iterator[tuple[str, Difference]]:
    if table.is_averaged:
        cells = table.averages.items()
        yield from ((model, cell.difference) for model, cell in cells if cell.difference is not None)
        return
    title = only_column(table)
    if title:
        place = table.columns.index(title)
        for model, own in table.cells.items():
            cell = own[place]
            if cell is not None and cell.difference is not None:
                yield model, cell.difference


def _of_judged(comparison: Comparison, number: int) -> OverviewChart | None:
    each = comparison.dialogues[number]
    found = judged_differences(each, comparison.baseline)
    if not found:
        return None
    ranked = sorted(found.items(), key=lambda item: -item[1].difference)
    lines = [
        ForestLine(model, apart.difference, apart.interval, COLOURS.get(apart.outcome, "soft"), True)
        for model, apart in ranked
    ]
    described = "; ".join(f"{model}: {apart.difference:+.2f}, {apart.outcome.value}" for model, apart in ranked)
    caption = f"Difference from {comparison.baseline} in the average score by {judge_words(each)} on {each.key.title}"
    chart = forest(
        lines,
        reach_of(lines, 0.1),
        key=f"overview-judged-{number}",
        title=caption,
        description=f"{described}.",
        unit="points of 10",
    )
    return OverviewChart(caption, chart)
