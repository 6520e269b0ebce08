"""Group tasks for display: the columns of a suite, lm-eval's groups, and tasks that stand alone."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from smaug_eval.results.boards import SHORT_NAMES, SIX, TASKS
from smaug_eval.results.comparison import Comparison, Given
from smaug_eval.results.tables import ScoreTable


def task_families(comparison: Comparison) -> dict[str, list[str]]:
    """Group tasks by suite column, else by the group lm-eval puts them in, else each by itself.

    Returns:
        The family's title to its tasks and groups, in the order of the comparison; none is empty.
    """
    given = comparison.given
    if given is None or comparison is not comparison.first:
        return _families(comparison)
    if given not in _KNOWN:
        _KNOWN[given] = _families(comparison)
    return _KNOWN[given]


_KNOWN: WeakKeyDictionary[Given, dict[str, list[str]]] = WeakKeyDictionary()
"""Families with the baseline that was given, which are asked for again and again."""


def _families(comparison: Comparison) -> dict[str, list[str]]:
    homes: dict[str, str] = {}
    for board in comparison.boards:
        if board.name == TASKS:
            continue
        for column in board.board.columns:
            tasks = [column.task, *(leaf.name for leaf in column.leaves)]
            homes |= dict.fromkeys(tasks, column_title(board.name, column.title))
        homes |= {task: column_title(board.name, title) for task, title in board.homes.items()}
    for results in comparison.models.values():
        for group in (result for result in results.values() if result.is_group):
            for member in (group.task, *group.subtasks):
                homes.setdefault(member, homes.get(group.task, group.task))
    found: dict[str, list[str]] = {home: [] for home in homes.values()}
    for task in comparison.tasks:
        found.setdefault(homes.get(task, task), []).append(task)
    return {home: members for home, members in found.items() if members}


def sampled_families(comparison: Comparison) -> dict[str, list[str]]:
    """Return the families with those of their tasks that some model has samples of, in the sample browser's order."""
    sampled = {
        task for results in comparison.models.values() for task, result in results.items() if result.samples is not None
    }
    found = {home: [task for task in tasks if task in sampled] for home, tasks in task_families(comparison).items()}
    return {home: tasks for home, tasks in found.items() if tasks}


def column_places(comparison: Comparison, table: ScoreTable, model: str) -> dict[str, int]:
    """Map the columns of a suite to their numbers in the sample browser, where it has samples of the model.

    The browser is that of the page, whose baseline may be another.
    """
    sampled = {task for task, result in comparison.models[model].items() if result.samples is not None}
    families = sampled_families(comparison.first).items()
    numbers = {home: number for number, (home, tasks) in enumerate(families) if sampled.intersection(tasks)}
    homes = {task: home for home, tasks in task_families(comparison.first).items() for task in tasks}
    titles = {
        column.title: column_title(table.suite, column.title) if table.suite != TASKS else homes.get(column.task, "")
        for column in table.described
    }
    return {column: numbers[title] for column, title in titles.items() if title in numbers}


def column_title(suite: str, column: str) -> str:
    """Return what the family of a suite's column is called."""
    return column if suite == SIX else f"{SHORT_NAMES.get(suite, suite)}: {column}"
