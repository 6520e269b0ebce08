"""Compare every model with every other: differences of averages and of tasks, adjusted over all pairs together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from smaug_eval.leaderboard.columns import Column
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.differences import Difference, adjusted, turned
from smaug_eval.results.tables import ScoreCell, ScoreTable
from smaug_eval.stats import Outcome


@dataclass(frozen=True)
class ModelPair:
    """Hold how one model compares with another.

    Attributes:
        model: The model.
        other: The one that it is held against.
        difference: Of the averages, or of the only task: ``model`` less ``other``, p adjusted over all pairs; None
            where they do not compare, or where a table of several tasks has no average.
        why_not: Why they do not compare.
        tasks: Title of a column to its cell with ``other`` as the baseline. p is adjusted over the columns of a suite,
            as in its table; of other tasks over all tasks and pairs together.
    """

    model: str
    other: str
    difference: Difference | None
    why_not: str | None
    tasks: Mapping[str, ScoreCell]

    def count(self, outcome: Outcome) -> int:
        """Count the tasks that came out so."""
        found = (cell.difference for cell in self.tasks.values() if cell.difference is not None)
        return sum(each.verdict.outcome is outcome for each in found)

    @property
    def compared(self) -> int:
        """Count the tasks on which the two compare."""
        return sum(cell.difference is not None for cell in self.tasks.values())

    def turned(self) -> ModelPair:
        """Return the same with the two models exchanged."""
        return ModelPair(
            self.other,
            self.model,
            None if self.difference is None else turned(self.difference),
            self.why_not,
            {title: _turned_cell(cell) for title, cell in self.tasks.items()},
        )


@dataclass(frozen=True)
class PairTable:
    """Hold all pairs of the models on one board.

    Attributes:
        suite: The board's name.
        label: What the differences are of: an average, or the only task. Empty where there are several tasks and no
            average of them.
        models: The models with scores, in the order of the sources.
        pairs: Each pair once: a model, and one that stands before it.
        tests: P values that Holm's method was applied to.
        columns: Titles of the tasks.
    """

    suite: str
    label: str
    models: Sequence[str]
    pairs: Sequence[ModelPair]
    tests: int
    columns: Sequence[str]

    def of(self, model: str, other: str) -> ModelPair | None:
        """Return how ``model`` compares with ``other``; None where that is the same model."""
        for pair in self.pairs:
            if (pair.model, pair.other) == (model, other):
                return pair
            if (pair.model, pair.other) == (other, model):
                return pair.turned()
        return None


def pair_tables(comparison: Comparison) -> list[PairTable]:
    """Compare all models of each table in pairs; nothing where a page offers no choice of baselines.

    The pairs are the same whatever the baseline is. P values are adjusted by Holm's method over all pairs of a table;
    where a table has several tasks and no average, over all tasks of all pairs.

    Raises:
        SmaugError: a samples file is damaged.
    """
    if not comparison.choices:
        return []
    suites = [table.suite for table in comparison.all_tables]
    return [found for suite in suites if (found := _pair_table(comparison, suite)) is not None]


def _turned_cell(cell: ScoreCell) -> ScoreCell:
    if cell.reference is None:
        return cell
    apart = None if cell.difference is None else turned(cell.difference)
    return ScoreCell(cell.reference, cell.score, apart, cell.why_not)


def _pair_table(comparison: Comparison, suite: str) -> PairTable | None:
    tables = {each: _table(own, suite) for each, own in comparison.against_all().items()}
    models = [model for model, table in tables.items() if table is not None and model in table.cells]
    if len(models) < 2:
        return None
    found = _table(comparison, suite)
    if found is None:
        return None
    alone = "" if found.is_averaged else only_column(found)
    pairs = [
        _pair(table, model, other, alone)
        for other, model in combinations(models, 2)
        if (table := tables[other]) is not None
    ]
    columns = list(dict.fromkeys(title for pair in pairs for title in pair.tasks))
    if not found.is_averaged:
        pairs, tests = _adjusted_tasks(pairs)
        if not alone:
            return PairTable(suite, "", models, pairs, tests, columns)
    pairs, tests = _adjusted_differences(pairs)
    labels = [table.average_label for table in tables.values() if table is not None and table.average_label]
    return PairTable(suite, alone or next(iter(labels), "average"), models, pairs, tests, columns)


def only_column(table: ScoreTable) -> str:
    """Return the only task of a table, or the group that all of its tasks belong to; empty where there is none."""
    if len(table.columns) == 1:
        return table.columns[0]
    groups = [column for column in table.described if is_group(column)]
    single = {column.title for column in table.described} - {column.title for column in groups}
    covering = [column.title for column in groups if single <= {leaf.name for leaf in column.leaves}]
    return covering[0] if len(groups) == len(covering) == 1 else ""


def is_group(column: Column) -> bool:
    """Return whether a column of other tasks is a group of them."""
    return column.reported or len(column.leaves) > 1


def _table(comparison: Comparison, suite: str) -> ScoreTable | None:
    return next((table for table in comparison.all_tables if table.suite == suite), None)


def _pair(table: ScoreTable, model: str, other: str, alone: str) -> ModelPair:
    """Read a pair in the table whose baseline is ``other``; groups of other tasks stand for themselves alone."""
    own = zip(table.described, table.cells.get(model, ()), strict=False)
    cells = {column.title: (column, _named(cell, model, other)) for column, cell in own if cell is not None}
    only_groups = all(is_group(column) for column, _ in cells.values())
    kept = {
        title: cell
        for title, (column, cell) in cells.items()
        if table.is_averaged or only_groups or not is_group(column)
    }
    average = table.averages.get(model) if table.is_averaged else cells[alone][1] if alone in cells else None
    if average is None:
        why_not = f"not measured on {alone}" if alone else None if kept else "they share no task"
        return ModelPair(model, other, None, why_not, kept)
    average = _named(average, model, other)
    return ModelPair(model, other, average.difference, average.why_not, kept)


def _named(cell: ScoreCell, model: str, other: str) -> ScoreCell:
    """Return a cell whose reason names both models, since there is no one baseline."""
    if cell.why_not is None:
        return cell
    return cell._replace(why_not=cell.why_not.replace("the baseline", other).replace(" here, ", f" for {model}, "))


def _adjusted_differences(pairs: Sequence[ModelPair]) -> tuple[list[ModelPair], int]:
    found = iter(adjusted([pair.difference for pair in pairs if pair.difference is not None]))
    changed = [pair if pair.difference is None else replace(pair, difference=next(found)) for pair in pairs]
    return changed, _tests(pair.difference for pair in changed)


def _adjusted_tasks(pairs: Sequence[ModelPair]) -> tuple[list[ModelPair], int]:
    compared = [cell.difference for pair in pairs for cell in pair.tasks.values() if cell.difference is not None]
    found = iter(adjusted(compared))
    changed = [
        replace(
            pair,
            tasks={
                title: cell if cell.difference is None else cell._replace(difference=next(found))
                for title, cell in pair.tasks.items()
            },
        )
        for pair in pairs
    ]
    return changed, _tests(iter(compared))


def _tests(differences: Iterator[Difference | None]) -> int:
    return sum(each is not None and each.p_value is not None for each in differences)
