"""Show columns that are means over subjects, as MMLU: every subject's score and difference, by category."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from smaug_eval.common.parallel import mapped
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.scores import Score, mean_of_means
from smaug_eval.reports.families import sampled_families
from smaug_eval.reports.html.browser import SAMPLES, state
from smaug_eval.reports.panels.mmlu_categories import CATEGORIES
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.results.boards import SHORT_NAMES
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.differences import Difference, adjusted, column_difference
from smaug_eval.results.pairing import ColumnPair, one_column, pair_task
from smaug_eval.results.tables import ScoreCell, ScoreTable

ALL = "all subjects"
HEAT_STEP = 5.0
"""Points of difference to each of the three shades."""


class SubjectRow(NamedTuple):
    """Hold a subject, or a category's mean over its subjects: a cell per model, None where it was not measured.

    ``finds`` leads to its documents; empty for a mean.
    """

    title: str
    cells: list[ScoreCell | None]
    finds: str = ""


class Category(NamedTuple):
    """Group subjects that belong together, with their mean."""

    mean: SubjectRow
    subjects: list[SubjectRow]


class SubjectTable(NamedTuple):
    """Hold one column of a suite by its subjects."""

    suite: str
    column: str
    models: list[str]
    categories: list[Category]


def subjects(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show every column that is a mean over subjects."""
    tables = [
        table
        for scored in comparison.tables
        for column in scored.described
        if len(column.leaves) > 1 and not column.is_normalised
        if (table := _subject_table(comparison, scored, column))
    ]
    return {"tables": tables, "baseline": comparison.baseline, "heat": heat, "names": SHORT_NAMES} if tables else None


def heat(cell: ScoreCell) -> str:
    """Return the style class of a difference: how many steps above or below zero, at most three."""
    if cell.delta is None or not cell.delta:
        return ""
    return f"{'up' if cell.delta > 0 else 'down'}-{min(3, math.ceil(abs(cell.delta) / HEAT_STEP))}"


def _subject_table(comparison: Comparison, table: ScoreTable, column: Column) -> SubjectTable | None:
    titles = {leaf.name: leaf.subject or leaf.name for leaf in column.leaves}
    measured = [name for name in titles if any(name in own for own in _leaves(table, column.title).values())]
    if len(measured) < 2:
        return None
    order = {subject: place for place, subject in enumerate(CATEGORIES)}
    measured.sort(key=lambda name: (order.get(titles[name], len(order)), titles[name]))
    groups: dict[str, list[str]] = {}
    for name in measured:
        groups.setdefault(CATEGORIES.get(titles[name], ALL), []).append(name)
    sampled = {task for tasks in sampled_families(comparison).values() for task in tasks}
    models = [model for model in table.cells if _leaves(table, column.title).get(model)]
    by_model = mapped(lambda model: _model_cells(comparison, table, column, model, groups), models)
    categories = [
        Category(
            SubjectRow(category, [found[category] for found, _ in by_model]),
            [
                SubjectRow(
                    titles[name].replace("_", " "),
                    [found.get(name) for _, found in by_model],
                    state(SAMPLES, q=name) if name in sampled else "",
                )
                for name in names
            ],
        )
        for category, names in groups.items()
    ]
    return SubjectTable(table.suite, column.title, models, categories)


def _leaves(table: ScoreTable, title: str) -> dict[str, Mapping[str, Any]]:
    """Model to its measured tasks of a column."""
    return {model: each.leaves for model, own in table.scores.items() for each in own.columns if each.title == title}


def _model_cells(
    comparison: Comparison, table: ScoreTable, column: Column, model: str, groups: Mapping[str, Sequence[str]]
) -> tuple[dict[str, ScoreCell | None], dict[str, ScoreCell]]:
    """Build one model's cells, by category and by task.

    P values are adjusted over the categories, and over the tasks.
    """
    leaves, baseline = _leaves(table, column.title), comparison.baseline
    own, other = leaves.get(model, {}), leaves.get(baseline or "", {})
    if baseline is None or model == baseline:
        plain = {name: ScoreCell(score, None, None, None) for name, score in own.items()}
        return {
            category: _mean_cell([plain[n] for n in names if n in plain]) for category, names in groups.items()
        }, plain
    entries = next(board.entries for board in comparison.boards if board.name == table.suite)
    sides, gates = (entries[model], entries[baseline]), comparison.gates[model]
    pairs = {
        name: pair_task(name, [side[name] for side in sides], gates[sides[0][name].result.task])
        if name in other
        else ColumnPair(None, "the baseline was not measured on it")
        for name in own
    }
    known = comparison.known_scores

    def apart_on(of: str, pair: ColumnPair, score: Score, reference: Score) -> Difference:
        return known.difference(
            (table.suite, column.title, of),
            model,
            baseline,
            [pair],
            lambda: column_difference(pair, score, reference, draws=known.draws),
        )

    cells = {
        name: ScoreCell(score, other[name], apart_on(name, pairs[name], score, other[name]), None)
        if pairs[name].why_not is None
        else ScoreCell(score, other.get(name), None, pairs[name].why_not)
        for name, score in own.items()
    }
    means: dict[str, ScoreCell | None] = {}
    for category, names in groups.items():
        mean = _mean_cell([cells[name] for name in names if name in cells])
        same = set(names) & own.keys() == set(names) & other.keys()
        if mean is not None and same and all(pairs[name].why_not is None for name in names if name in own):
            reference = mean_of_means([other[name] for name in names if name in other])
            pair = one_column([pairs[name] for name in own if name in names])  # as the suite's column has them
            apart = None if pair.why_not is not None else apart_on(f"mean of {category}", pair, mean.score, reference)
            mean = ScoreCell(mean.score, reference, apart, pair.why_not)
        means[category] = mean
    return _adjusted(means), {name: cell for name, cell in _adjusted(cells).items() if cell is not None}


def _mean_cell(cells: Sequence[ScoreCell]) -> ScoreCell | None:
    return ScoreCell(mean_of_means([cell.score for cell in cells]), None, None, None) if cells else None


def _adjusted(cells: Mapping[str, ScoreCell | None]) -> dict[str, ScoreCell | None]:
    found = iter(adjusted([cell.difference for cell in cells.values() if cell is not None and cell.difference]))
    return {
        name: cell if cell is None or cell.difference is None else cell._replace(difference=next(found))
        for name, cell in cells.items()
    }


PANEL = Panel("subjects", "Subjects", subjects)
