"""Which tasks are shown together: the columns of a suite, lm-eval's groups, and tasks that stand alone."""

from __future__ import annotations

from reports.comparison import Comparison


def task_families(comparison: Comparison) -> dict[str, list[str]]:
    """Tasks under the suite column they belong to, else under the group lm-eval puts them in, else by themselves.

    Returns:
        The family's title to its tasks and groups, in the order of the comparison; none is empty.
    """
    homes: dict[str, str] = {}
    for suite in comparison.suites:
        for column in suite.columns:
            homes |= dict.fromkeys(
                [column.task, *(leaf.name for leaf in column.leaves)], f"{suite.name}: {column.title}"
            )
    for results in comparison.models.values():
        for group in (result for result in results.values() if result.is_group):
            for member in (group.task, *group.subtasks):
                homes.setdefault(member, homes.get(group.task, group.task))
    found: dict[str, list[str]] = {home: [] for home in homes.values()}
    for task in comparison.tasks:
        found.setdefault(homes.get(task, task), []).append(task)
    return {home: members for home, members in found.items() if members}
