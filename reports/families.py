"""Which tasks are shown together: the columns of a suite, lm-eval's groups, and tasks that stand alone."""

from __future__ import annotations

from reports.comparison import Comparison, SuiteTable


def task_families(comparison: Comparison) -> dict[str, list[str]]:
    """Tasks under the suite column they belong to, else under the group lm-eval puts them in, else by themselves.

    Returns:
        The family's title to its tasks and groups, in the order of the comparison; none is empty.
    """
    homes: dict[str, str] = {}
    for suite in comparison.suites:
        for column in suite.columns:
            tasks = [column.task, *(leaf.name for leaf in column.leaves)]
            homes |= dict.fromkeys(tasks, column_title(suite.name, column.title))
    for results in comparison.models.values():
        for group in (result for result in results.values() if result.is_group):
            for member in (group.task, *group.subtasks):
                homes.setdefault(member, homes.get(group.task, group.task))
    found: dict[str, list[str]] = {home: [] for home in homes.values()}
    for task in comparison.tasks:
        found.setdefault(homes.get(task, task), []).append(task)
    return {home: members for home, members in found.items() if members}


def sampled_families(comparison: Comparison) -> dict[str, list[str]]:
    """The families, with those of their tasks that some model has samples of, in the order of the sample browser."""
    sampled = {
        task for results in comparison.models.values() for task, result in results.items() if result.samples is not None
    }
    found = {home: [task for task in tasks if task in sampled] for home, tasks in task_families(comparison).items()}
    return {home: tasks for home, tasks in found.items() if tasks}


def column_places(comparison: Comparison, table: SuiteTable, model: str) -> dict[str, int]:
    """Columns of a suite to the number that the sample browser knows them by, where it has samples of the model."""
    sampled = {task for task, result in comparison.models[model].items() if result.samples is not None}
    families = sampled_families(comparison).items()
    numbers = {home: number for number, (home, tasks) in enumerate(families) if sampled.intersection(tasks)}
    titles = {column: column_title(table.suite, column) for column in table.columns}
    return {column: numbers[title] for column, title in titles.items() if title in numbers}


def column_title(suite: str, column: str) -> str:
    """What the family of a suite's column is called."""
    return f"{suite}: {column}"
