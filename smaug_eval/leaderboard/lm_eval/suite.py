"""Make a suite of lm-eval's own tasks: their documents, what identifies them, and the data that they were read from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import is_file_name
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.forms import Document, Form, Row
from smaug_eval.leaderboard.lm_eval.catalog import expand, manager_of
from smaug_eval.leaderboard.lm_eval.hazards import hazards_of
from smaug_eval.leaderboard.lm_eval.identity import identity_of
from smaug_eval.leaderboard.lm_eval.loading import LoadedTasks, documents_of, load_tasks
from smaug_eval.leaderboard.lm_eval.settings import NAME, TaskSettings
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.suite import Suite

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager


@dataclass(frozen=True, eq=False)
class LmEvalSuite(Suite):
    """Hold tasks of lm-eval, loaded.

    Attributes:
        settings: How they are asked.
        loaded: By column's task.
    """

    settings: TaskSettings = field(default_factory=TaskSettings)
    loaded: Mapping[str, LoadedTasks] = field(default_factory=dict)

    def select(self, names: Iterable[str] | None = None) -> list[Column[TaskSpec]]:
        """Return the columns: all of them, by whatever tag or pattern, unless ``names`` are their own."""
        own = {column.task: column for column in self.columns}
        asked = list(names or ())
        return [own[name] for name in asked] if asked and own.keys() >= set(asked) else list(self.columns)

    def unpinned(self, names: Iterable[str] | None = None) -> list[DataSplit]:
        """Return none: the commits were looked up when the tasks were loaded."""
        return []

    def at(self, commits: Mapping[str, str]) -> LmEvalSuite:
        """Return the suite as it is: its data were read already."""
        return self

    def commits(self, column: Column[TaskSpec], data_root: Path | None) -> dict[str, str]:
        """Return the Hub's commits at which a column's data sets were read, by reference; empty for a mirror."""
        return {} if data_root is not None else dict(self.loaded[column.task].commits)

    def rows(self, spec: TaskSpec, data_root: Path | None = None) -> tuple[Sequence[Row], Sequence[Row]]:
        """Return the documents that shots are drawn from (none where there are no shots), and those that are scored."""
        task = self._task(spec)
        shots = plain(pool_of(task)) if spec.num_fewshot else []
        return shots, plain(documents_of(task))

    def documents(self, name: str, data_root: Path | None = None) -> list[Document]:
        """Refuse: the requests are made by lm-eval.

        Raises:
            SmaugError: always.
        """
        raise SmaugError(f"the requests of {self.name} are made by lm-eval", fix="choose another suite")

    def data_notes(self, column: Column[TaskSpec], data_root: Path | None = None) -> list[str]:
        """Return none: nobody says which data are the official ones."""
        return []

    def definition(self, column: Column[TaskSpec]) -> str:
        """Return a hash of the files that define the column's tasks, trusted code included."""
        return self.loaded[column.task].definition.sha256()

    def code(self) -> list[str]:
        """Return the columns that run code which is not lm-eval's own."""
        return [name for name, loaded in self.loaded.items() if loaded.definition.code]

    def hazards(self) -> list[str]:
        """Return what a reader of the numbers should know of how lm-eval makes the prompts and group scores."""
        return [text for loaded in self.loaded.values() for text in hazards_of(loaded)]

    def manager(self) -> TaskManager:
        """Return lm-eval's task manager, which knows the tasks."""
        return manager_of(self.settings.include_path, self.settings.metadata, list(self.loaded))

    def _task(self, spec: TaskSpec) -> Any:
        tasks = (task for loaded in self.loaded.values() for task in loaded.tasks if task.task_name == spec.name)
        return next(tasks)


def lm_eval_suite(
    names: Sequence[str],
    settings: TaskSettings,
    *,
    data_root: Path | None,
    commits: MutableMapping[str, str],
) -> LmEvalSuite:
    """Load tasks, tags and groups of lm-eval as a suite.

    Args:
        names: Tasks, tags, groups, and patterns such as ``mmlu_*``; a tag and a pattern become a column for each task.
        settings: How they are asked.
        data_root: Offline mirror; None for the Hub.
        commits: The Hub's commits that are known, by reference; those that are looked up are added.

    Raises:
        SmaugError: a name is unknown, its data or a package are missing, or it would run code that is not trusted.
    """
    manager = manager_of(settings.include_path, settings.metadata, names)
    loaded = {
        name: load_tasks(name, settings, manager, data_root=data_root, commits=commits)
        for name in expand(names, manager, settings.include_path)
    }
    loaded = _without_members(loaded)
    columns = tuple(_column(each) for each in loaded.values())
    return LmEvalSuite(NAME, columns, None, _no_reader, True, is_averaged=False, settings=settings, loaded=loaded)


def _without_members(loaded: Mapping[str, LoadedTasks]) -> dict[str, LoadedTasks]:
    """Leave out tasks that a group brings along.

    Raises:
        SmaugError: one is asked differently by two of the names; its results could not be told apart.
    """
    homes: dict[str, LoadedTasks] = {}
    single = {name for name, each in loaded.items() if each.group is None}
    brought: set[str] = set()
    for each in sorted(loaded.values(), key=lambda each: each.group is None):  # groups first
        for task in each.tasks:
            home = homes.setdefault(task.task_name, each)
            if home is each:
                continue
            if each.group is not None or _asked(task) != _asked(_member(home, task.task_name)):
                raise SmaugError(
                    f"task {task.task_name!r} of lm-eval is in {home.name} and in {each.name}",
                    fix="put the two into evaluations of their own",
                )
            brought.add(each.name)
    return {name: each for name, each in loaded.items() if name not in single & brought}


def _member(loaded: LoadedTasks, name: str) -> Any:
    return next(task for task in loaded.tasks if task.task_name == name)


def _asked(task: Any) -> dict[str, Any]:
    return {key: value for key, value in task.dump_config().items() if key not in ("metadata", "tag", "group")}


def pool_of(task: Any) -> Sequence[Any]:
    """Return the documents that a task's shots are drawn from."""
    sampler = getattr(task, "sampler", None)
    found = task.fewshot_docs() if sampler is None else sampler.df
    return list(found if found is not None else ())


def plain(documents: Iterable[Any]) -> list[Row]:
    """Return documents as JSON has them; what it has no form for as text."""
    return [json.loads(json.dumps(document, default=str, ensure_ascii=False)) for document in documents]


def _column(loaded: LoadedTasks) -> Column[TaskSpec]:
    if not is_file_name(loaded.name):
        raise SmaugError(f"the task name {loaded.name!r} cannot be a folder's", fix="rename the task in its YAML")
    leaves = tuple(_leaf(task, loaded.name) for task in loaded.tasks)
    metrics = list(loaded.tasks[0].aggregation()) or [""]
    return Column(loaded.name, loaded.name, metrics[0], leaves, reported=loaded.group is not None)


def _leaf(task: Task, column: str) -> TaskSpec:
    name = task.task_name
    config: Any = task.config
    split = config.test_split if task.has_test_docs() else config.validation_split
    evaluated = DataSplit(str(task.DATASET_PATH or ""), str(task.DATASET_NAME or "default"), str(split or ""))
    form = Form(
        name=name,
        columns=(),
        shot=_never,
        document=_never,
        example=_never,
        identity=lambda row: identity_of(task, row),
    )
    subject = None if name == column else name.removeprefix(f"{column}_")
    return TaskSpec(name, form, evaluated, num_fewshot=int(config.num_fewshot or 0), subject=subject)


def _never(*_: Any) -> Any:
    raise SmaugError("lm-eval makes the prompts of its own tasks", fix="choose another suite")


def _no_reader(*_: Any) -> Sequence[Row]:
    raise SmaugError("lm-eval reads the data of its own tasks", fix="choose another suite")
