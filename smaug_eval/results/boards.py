"""List the tables that some models' results make: suites, the leaderboards' benchmarks, and all other tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from smaug_eval.leaderboard import modern, v1, v2_scores
from smaug_eval.leaderboard.columns import Board, Column, Leaf, Task
from smaug_eval.leaderboard.registry import SUITES
from smaug_eval.leaderboard.rescore import leaderboard_task
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.results.asked import common_words
from smaug_eval.results.entries import Entry, any_entry, leaderboard_entry, own_entry, v2_entry
from smaug_eval.results.metrics import Metric, MetricChoice, headline, higher_is_better, label_of, metric_in, unit_of
from smaug_eval.results.task_results import TaskResult

SIX = "leaderboard_v1_tasks"
"""The six benchmarks of the first leaderboard, as anybody ran them."""
TASKS = "tasks"
"""Whatever is part of no suite."""

SHORT_NAMES = {
    SIX: "the leaderboard's benchmarks",
    v2_scores.NAME: "leaderboard v2",
    TASKS: "other tasks",
}
"""What boards that are no suite are called within a sentence."""

Results = Mapping[str, TaskResult]
Models = Mapping[str, Results]

_NEAR = 1e-6
_MODERN = "lm-eval 0.4.13"


@dataclass(frozen=True)
class PageBoard:
    """Hold a board with what the models of a page have in it.

    Attributes:
        board: Its columns.
        entries: Model to leaf task to result; a group that is reported by itself has one, too.
        homes: Task, as results call it, to the title of the column it belongs to.
        labels: Title of a column to what was asked, such as "25 shots, lm-eval 0.4.9", where that is not the suite's
            own rule; shots and harness as far as they are the same for all models.
    """

    board: Board[Task]
    entries: Mapping[str, Mapping[str, Entry]]
    homes: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the board's name."""
        return self.board.name


def boards_of(models: Models, choices: Sequence[MetricChoice] = ()) -> list[PageBoard]:
    """Return the tables that some models' results make; empty ones are left out.

    Args:
        models: Model to task to result.
        choices: Metrics that were named to stand for tasks.
    """
    found = [_own(make(), models) for make in SUITES.values() if make is not SUITES[modern.NAME]]
    used = {task for each in found for task in each.homes}
    left = {model: {task: each for task, each in own.items() if task not in used} for model, own in models.items()}
    found += [_six(left), _second(left)]
    used |= {task for each in found for task in each.homes}
    left = {model: {task: each for task, each in own.items() if task not in used} for model, own in models.items()}
    found.append(_others(left, models, used, choices))
    return [each for each in found if any(each.entries.values())]


def _tasks(models: Models) -> list[str]:
    return list(dict.fromkeys(task for results in models.values() for task in results))


def _own(suite: Suite, models: Models) -> PageBoard:
    """Build the board of a suite's own tasks; the leaderboard's own files, which name tasks otherwise, belong to it."""
    homes = {leaf.name: column for column in suite.columns for leaf in column.leaves}
    leaves = {leaf.name: leaf.name for leaf in (leaf for column in suite.columns for leaf in column.leaves)}
    if suite.name == v1.NAME:
        archived = {task: leaf for task in _tasks(models) if (leaf := _archived(task)) is not None}
        homes |= {task: homes[leaf] for task, leaf in archived.items()}
        leaves |= archived

    def entry(task: str, result: TaskResult) -> Entry | None:
        made = leaderboard_entry if task not in suite_tasks else own_entry
        return made(result, homes[task])

    suite_tasks = {leaf.name for column in suite.columns for leaf in column.leaves}
    return _board(replace_columns(suite.name, suite.columns), models, homes, leaves, entry)


def _archived(task: str) -> str | None:
    """Return the leaderboard's task that a task of its own files is; None for other shots than its own."""
    spec = leaderboard_task(task) if task.startswith("harness|") else None
    return spec.name if spec is not None and task.endswith(f"|{spec.num_fewshot}") else None


def leaderboard_board(models: Models, used: Iterable[str] = ()) -> PageBoard:
    """Build the board of the six benchmarks on the leaderboard's rules, as far as others' results tell.

    Args:
        models: Model to task to result.
        used: Tasks to leave out.
    """
    known = set(used)
    left = {model: {task: own[task] for task in own if task not in known} for model, own in models.items()}
    return _six(left, may_be_modern=False)


def _six(models: Models, *, may_be_modern: bool = True) -> PageBoard:
    """Build the board of the six benchmarks under any name: lm-eval 0.4.13's suite where all were run by its rules."""
    specs = {task: spec for task in _tasks(models) if (spec := leaderboard_task(task)) is not None}
    found = [(task, own[task]) for own in models.values() for task in own if task in specs]
    by_rules = may_be_modern and all(_is_modern(result) for task, result in found)
    columns = (
        modern.SUITE.columns
        if by_rules
        else tuple(
            replace(own, task=other.task, leaves=other.leaves)
            for own, other in zip(v1.SUITE.columns, modern.SUITE.columns, strict=True)
        )
    )
    names = {leaf.name: other.name for one, two in zip(v1.SUITE.columns, columns, strict=True)
             for leaf, other in zip(one.leaves, two.leaves, strict=True)}  # fmt: skip
    by_leaf = {leaf.name: column for column in columns for leaf in column.leaves}
    leaves = {task: names[spec.name] for task, spec in specs.items()}
    homes = {task: by_leaf[leaf] for task, leaf in leaves.items()}
    made = own_entry if by_rules else leaderboard_entry
    board = _board(
        replace_columns(modern.NAME if by_rules else SIX, columns),
        models,
        homes,
        leaves,
        lambda task, result: made(result, homes[task]),
    )
    return board if by_rules else replace(board, labels=_labels(board))


def _is_modern(result: TaskResult) -> bool:
    """Return whether a benchmark was run by lm-eval 0.4.13 with the leaderboard's number of shots and no template."""
    spec, asked = leaderboard_task(result.task), result.asked
    return (
        spec is not None
        and asked.harness == _MODERN
        and asked.shots == spec.num_fewshot
        and asked.chat_template is None
        and asked.system_prompt is None
    )


def _second(models: Models) -> PageBoard:
    """Build the board of the second leaderboard's six, normalised."""
    homes = {task: v2_scores.TASKS[task] for task in _tasks(models) if task in v2_scores.TASKS}
    leaves = {task: task for task in homes}
    return _board(v2_scores.BOARD, models, homes, leaves, lambda task, result: v2_entry(result, homes[task]))


def _board(
    board: Board[Task],
    models: Models,
    homes: Mapping[str, Column],
    leaves: Mapping[str, str],
    entry: Callable[[str, TaskResult], Entry | None],
) -> PageBoard:
    """Fill a board with what the models have.

    Args:
        board: Its columns.
        models: Model to task to result.
        homes: Task, as results call it, to its column.
        leaves: Task, as results call it, to the column's leaf.
        entry: Makes the entry of a task.
    """
    entries: dict[str, dict[str, Entry]] = {}
    used: dict[str, str] = {}
    for model, results in models.items():
        own: dict[str, Entry] = {}
        for task, result in results.items():
            if task not in homes or (made := entry(task, result)) is None:
                continue
            used[task] = homes[task].title
            held = own.get(leaves[task])
            if held is None or (held.result.samples is None and result.samples is not None):
                own[leaves[task]] = made
        entries[model] = own
    return PageBoard(board, entries, used)


def replace_columns(name: str, columns: Iterable[Column]) -> Board[Task]:
    """Return a board of columns whose leaves are named and counted, and no more."""
    return Board(name, tuple(replace(column, leaves=tuple(map(_named, column.leaves))) for column in columns))


def _named(leaf: Leaf) -> Task:
    return Task(leaf.name, leaf.official_rows, getattr(leaf, "subject", None))


def _labels(board: PageBoard) -> dict[str, str]:
    """Describe how each column was evaluated, as far as it is the same for all models."""
    labels = {}
    for column in board.board.columns:
        own = [entries[leaf.name].result.asked for entries in board.entries.values() for leaf in column.leaves
               if leaf.name in entries]  # fmt: skip
        labels[column.title] = common_words(own)
    return {title: label for title, label in labels.items() if label}


def _others(left: Models, models: Models, used: Iterable[str], choices: Sequence[MetricChoice]) -> PageBoard:
    """Build the board of every other task, and of groups as lm-eval weighs them and as plain means."""
    known = set(used)
    columns: list[Column] = []
    homes: dict[str, str] = {}
    keys = _keys(left, choices)
    entries: dict[str, dict[str, Entry]] = {model: {} for model in left}
    for task, key in keys.items():
        own = {model: made for model, results in left.items()
               if task in results and (made := any_entry(results[task], key)) is not None}  # fmt: skip
        if not own:
            continue
        column = _task_column(task, key, list(own.values()))
        members = _member_tasks(task, models)
        if members:
            if members <= known or not _share(task, key, members, models):
                continue  # a group of what another table shows, or a mean of different metrics
            column = _group_column(column, members, keys, left)
        columns.append(column)
        homes[task] = task
        for model, made in own.items():
            entries[model][task] = made
    columns += [plain for column in columns if (plain := _plain_mean(column, entries)) is not None]
    board: Board[Task] = Board(TASKS, tuple(_ordered(columns)), is_averaged=False)
    found = PageBoard(board, entries, homes)
    return replace(found, labels={**_labels(found), **_group_labels(found)})


def _keys(models: Models, choices: Sequence[MetricChoice]) -> dict[str, str]:
    """Map tasks to the metric that stands for each, ``name,filter``: a named one, else the first model's first."""
    keys: dict[str, str] = {}
    for is_group in (False, True):
        for results in models.values():
            for task, result in results.items():
                if task in keys or result.is_group != is_group:
                    continue
                named = [choice.metric for choice in choices if choice.task in (task, "")]
                named += _shared_key(task, models, keys) if is_group else []
                chosen = next((found for name in named if (found := metric_in(result.metrics, name)) is not None), None)
                found = chosen or headline(_shared_metrics(task, result, models), result.configured)
                if found is not None and math.isfinite(found.value):
                    keys[task] = found.key
    return keys


def _shared_metrics(task: str, result: TaskResult, models: Models) -> list[Metric]:
    """Return a task's metrics of which all models with the task have a number; all of its own where there are none."""
    others = [own[task].metrics for own in models.values() if task in own]
    finite = [{metric.key for metric in each if math.isfinite(metric.value)} for each in others]
    known = [each for each in finite if each]
    shared = [metric for metric in result.metrics if all(metric.key in each for each in known)]
    return shared or result.metrics


def _shared_key(group: str, models: Models, keys: Mapping[str, str]) -> list[str]:
    """Return the metric that stands for all tasks of a group, where they share one."""
    found = {keys.get(task, "") for task in _member_tasks(group, models)}
    return [*found] if len(found) == 1 and "" not in found else []


def _task_column(task: str, key: str, entries: Sequence[Entry]) -> Column:
    name = key.partition(",")[0]
    directions = [higher_is_better(name, entry.result.directions) for entry in entries]
    available = [entry.result.available for entry in entries if entry.result.available is not None]
    return Column(
        task,
        task,
        key,
        (Task(task, max(available, default=None)),),
        unit=unit_of(name, [entry.reported for entry in entries]),
        higher_is_better=directions[0] if len(set(directions)) == 1 else None,
    )


def _member_tasks(task: str, models: Models) -> set[str]:
    """Return all single tasks below a group that some model has results of; empty for a task."""
    found: set[str] = set()
    for results in models.values():
        seen, left = set(), [task]
        while left:
            each = left.pop()
            if each in seen or each not in results:  # a file may name a group among its own members
                continue
            seen.add(each)
            left += results[each].subtasks
            if not results[each].is_group:
                found.add(each)
    return found - {task}


def _share(group: str, key: str, members: set[str], models: Models) -> bool:
    """Return whether the tasks of a group all have the metric that stands for it."""
    return all(
        metric_in(own[task].metrics, key) is not None
        for own in models.values()
        if group in own
        for task in members
        if task in own
    )


def _group_column(column: Column, members: set[str], keys: Mapping[str, str], models: Models) -> Column:
    """Build the column of a group: over its tasks, weighted as its value says, or the group's value by itself.

    The latter where its tasks lack the group's metric.
    """
    names = sorted(members)
    if not all(keys.get(name) == column.metric for name in names):
        return replace(column, reported=True)
    found = [
        results for results in models.values() if column.task in results and all(name in results for name in names)
    ]
    ways: set[bool | None] = {_weighing(results, column, names) for results in found}
    if len(ways) != 1 or None in ways:
        return replace(column, reported=True)
    leaves = tuple(Task(name, _available(name, models)) for name in names)
    return replace(column, leaves=leaves, weighted_by_size=True in ways, reported=True)


def _weighing(results: Results, column: Column, names: Sequence[str]) -> bool | None:
    """Return whether a group's value weighs its tasks by their documents; None where it is neither of the two means."""
    made = [any_entry(results[name], column.metric) for name in names]
    whole = any_entry(results[column.task], column.metric)
    known = [entry for entry in made if entry is not None]
    if whole is None or len(known) < len(made):
        return None
    values = [entry.reported for entry in known]
    sizes = [entry.result.n for entry in known if entry.result.n is not None]
    plain = math.fsum(values) / len(values)
    total = sum(sizes)
    if len(sizes) == len(values) and total:
        weighted = math.fsum(size * value for size, value in zip(sizes, values, strict=True)) / total
        if math.isclose(weighted, whole.reported, rel_tol=_NEAR, abs_tol=_NEAR):
            return True
    return False if math.isclose(plain, whole.reported, rel_tol=_NEAR, abs_tol=_NEAR) else None


def _available(task: str, models: Models) -> int | None:
    counts = [own[task].available for own in models.values() if task in own]
    return max((count for count in counts if count is not None), default=None)


def _plain_mean(column: Column, entries: Mapping[str, Mapping[str, Entry]]) -> Column | None:
    """Return a group's plain mean beside its own value, where the two differ for some model."""
    if len(column.leaves) < 2 or not column.reported:
        return None
    for own in entries.values():
        if column.task in own and all(leaf.name in own for leaf in column.leaves):
            mean = math.fsum(own[leaf.name].reported for leaf in column.leaves) / len(column.leaves)
            if not math.isclose(mean, own[column.task].reported, rel_tol=_NEAR, abs_tol=_NEAR):
                return replace(column, title=f"{column.title}, plain mean", weighted_by_size=False, reported=False)
    return None


def _ordered(columns: Sequence[Column]) -> list[Column]:
    """Order groups first, each with its plain mean and then its tasks, then single tasks in the order of the files."""
    groups = [column for column in columns if column.reported]
    plain = {column.task: column for column in columns if len(column.leaves) > 1 and not column.reported}
    placed: dict[str, Column] = {}
    for group in groups:
        names = {leaf.name for leaf in group.leaves}
        family = [group, *([plain[group.task]] if group.task in plain else [])]
        family += [
            column for column in columns if column.task in names and not column.reported and len(column.leaves) == 1
        ]
        placed |= {column.title: column for column in family if column.title not in placed}
    return [*placed.values(), *(column for column in columns if column.title not in placed)]


def _group_labels(board: PageBoard) -> dict[str, str]:
    """Say how a group's tasks are weighed."""
    labels = {}
    for column in board.board.columns:
        if len(column.leaves) > 1:
            how = "weighted by documents" if column.weighted_by_size else "plain mean"
            labels[column.title] = f"{len(column.leaves)} tasks, {how}"
        elif column.reported:
            labels[column.title] = "group"
    return labels


def metric_words(column: Column) -> str:
    """Word a column's metric as people read it."""
    return label_of(column.metric)
