"""Load lm-eval's tasks as ``simple_evaluate`` would: the same seeds, and no result of an earlier program's cache."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.lm_eval.settings import TaskSettings
from smaug_eval.leaderboard.lm_eval.task_code import (
    Definition,
    loading_as_checked,
    programs_refused,
    read_definition,
    refuse_code,
    refuse_programs,
    sandboxed_templates,
)
from smaug_eval.leaderboard.lm_eval.task_keys import check_generation
from smaug_eval.leaderboard.lm_eval_data import reading_at

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

_SEED, _OTHER_SEED = 0, 1234
"""Of Python's generator, and of NumPy's and torch's: lm-eval's defaults."""

_DOCUMENTS = "_documents_made_once"


@dataclass(frozen=True)
class LoadedTasks:
    """Hold what one name stands for.

    Attributes:
        name: A task or group.
        tasks: The single tasks, with their documents.
        group: The group; None for a task.
        definition: The files that define them.
        commits: The Hub's commits of the data that were read, by reference.
    """

    name: str
    tasks: tuple[Task, ...]
    group: Group | None
    definition: Definition
    commits: dict[str, str]


@contextmanager
def reading_tasks(
    data_root: Path | None, commits: MutableMapping[str, str], definitions: Collection[Definition]
) -> Iterator[None]:
    """Load and evaluate lm-eval's tasks at known data, with sandboxed templates and without caches of what they make.

    Files of a user's folder are loaded as they were checked, or not at all.

    An error of a task's own, such as in its templates or its scoring, names the task.

    A task that shuffles a document's options by Python's generator would otherwise get what some program once cached.
    Its documents are made once: lm-eval makes them again for scoring, and then relies on that cache.

    Args:
        data_root: Offline mirror; None for the Hub.
        commits: As of :func:`~smaug_eval.leaderboard.lm_eval_data.reading_at`.
        definitions: The tasks' files, checked.
    """
    import datasets

    was_cached = datasets.is_caching_enabled()
    datasets.disable_caching()
    try:
        with (
            reading_at(data_root, commits),
            loading_as_checked(definitions),
            sandboxed_templates(),
            _documents_made_once(),
            _failures_named(),
        ):
            yield
    finally:
        if was_cached:
            datasets.enable_caching()


def documents_of(task: Any) -> Any:
    """Return the documents of a task that are scored, as they were made when it was loaded."""
    return task.__dict__.get(_DOCUMENTS, getattr(task, "task_docs", None)) or task.eval_docs


@contextmanager
def _failures_named() -> Iterator[None]:
    """Let what goes wrong in a task's own templates and functions name the task."""
    from lm_eval import evaluator
    from lm_eval.api.task import ConfigurableTask, Task

    steps: dict[tuple[type, str], str] = {
        (Task, "build_all_requests"): "make its prompts",
        (Task, "apply_filters"): "filter answers",
        (ConfigurableTask, "apply_filters"): "filter answers",
        (ConfigurableTask, "process_results"): "score an answer",
    }
    originals = {step: step[0].__dict__[step[1]] for step in steps}

    def named(original: Any, what: str) -> Any:
        @functools.wraps(original)
        def run(self: Any, *arguments: Any, **options: Any) -> Any:
            try:
                return original(self, *arguments, **options)
            except SmaugError:
                raise
            except Exception as error:  # tasks run code of many authors on data of many more
                reason = str(error).strip().split("\n", 1)[0]
                raise SmaugError(
                    f"task {self.task_name!r} of lm-eval cannot {what}: {type(error).__name__}: {reason}",
                    fix="check its YAML and its data set; num_fewshot also asks of the shots what it asks of documents",
                ) from error

        return run

    put_together = evaluator._process_results

    def scores(collected: Mapping[str, Any], *arguments: Any) -> Any:
        try:
            return put_together(collected, *arguments)
        except Exception as error:
            reason = str(error).strip().split("\n", 1)[0]
            raise SmaugError(
                f"lm-eval cannot put the scores of {', '.join(collected)} together: {type(error).__name__}: {reason}",
                fix="check metric_list of the tasks, and whether a document is empty",
            ) from error

    for (kind, name), what in steps.items():
        setattr(kind, name, named(originals[kind, name], what))
    evaluator._process_results = scores
    try:
        yield
    finally:
        evaluator._process_results = put_together
        for (kind, name), original in originals.items():
            setattr(kind, name, original)


@contextmanager
def _documents_made_once() -> Iterator[None]:
    from lm_eval.api.task import Task

    own: Any = Task.__dict__["eval_docs"]

    def made_once(task: Any) -> Any:
        if _DOCUMENTS not in task.__dict__:
            documents = own.fget(task)
            task.__dict__[_DOCUMENTS] = list(documents) if isinstance(documents, Iterator) else documents
        return task.__dict__[_DOCUMENTS]

    Task.eval_docs = property(made_once)
    try:
        yield
    finally:
        Task.eval_docs = own


def load_tasks(
    name: str,
    settings: TaskSettings,
    manager: TaskManager,
    *,
    data_root: Path | None,
    commits: MutableMapping[str, str],
) -> LoadedTasks:
    """Load a task, or all tasks of a group, with their data.

    Args:
        name: A task or group that the manager knows.
        settings: How they are asked.
        manager: lm-eval's task manager.
        data_root: Offline mirror; None for the Hub.
        commits: Commits that are known, by reference; those that are looked up are added.

    Raises:
        SmaugError: data are missing, a package is not installed, the task runs code that is not trusted or what a model
            wrote, or it is for other models than those of text.
    """
    from lm_eval.api.group import Group

    definition = read_definition(name, manager)
    refuse_programs(name, definition)
    refuse_code(name, definition, trusted=settings.trust_task_code)
    noted = _Noted(commits)
    with reading_tasks(data_root, noted, [definition]), _seeded():
        built = _build(name, manager, definition)
    tasks = tuple(built.get_all_tasks()) if isinstance(built, Group) else (built,)
    if not tasks:
        raise SmaugError(f"group {name!r} of lm-eval has no tasks", fix="name its tasks")
    for task in tasks:
        _refuse_kind(task)
        _settle(task, settings)
    if isinstance(built, Group) and definition.places:
        _refuse_metrics(built, tasks, definition)
    used = {each: commits[each] for each in noted.used}
    return LoadedTasks(name, tasks, built if isinstance(built, Group) else None, definition, used)


class _Noted(dict[str, str]):
    """Commits by reference, and which of them were used; what is added is added to the mapping given, too."""

    def __init__(self, commits: MutableMapping[str, str]) -> None:
        super().__init__(commits)
        self.used: dict[str, None] = {}
        self._all = commits

    def __getitem__(self, key: str) -> str:
        self.used[key] = None
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: str) -> None:
        self._all[key] = value
        super().__setitem__(key, value)

    def setdefault(self, key: str, default: str = "") -> str:
        if key not in self:
            self[key] = default
        return self[key]


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed the generators as lm-eval does before it loads tasks, and put them back afterwards."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(_SEED)
        np.random.seed(_OTHER_SEED)
        torch.manual_seed(_OTHER_SEED)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _build(name: str, manager: TaskManager, definition: Definition) -> Any:
    try:
        with contextlib.redirect_stdout(None):
            return manager._load_spec(name)
    except SmaugError:
        raise
    except ImportError as error:
        missing = getattr(error, "name", None) or str(error)
        raise SmaugError(
            f"task {name!r} of lm-eval needs a package that is not installed: {missing}",
            fix=f"pip install {missing}, or the extra of lm-eval that its task's README names",
        ) from error
    except Exception as error:  # tasks run code of many authors on data of many more
        cause = error.__cause__ if isinstance(error.__cause__, ValueError) else error  # of data that cannot be read
        reason = str(cause).strip().split("\n", 1)[0] or type(error).__name__
        named = str(cause.args[0]) if isinstance(cause, KeyError) and cause.args else None
        if named is not None:
            reason = f"there is no {named!r} where it looks for that"
        raise SmaugError(
            f"task {name!r} of lm-eval cannot be loaded{_where(definition, named)}: {type(cause).__name__}: {reason}",
            fix="check its data set and its YAML; data made to measure take their settings from metadata",
        ) from error


def _where(definition: Definition, named: str | None) -> str:
    """The place in a user's file that an error is about, or the file; nothing for lm-eval's own tasks."""
    if named is not None and named in definition.places:
        return f" ({definition.places[named]})"
    place = next(iter(definition.places.values()), None)
    return "" if place is None else f" ({place.rpartition(', line ')[0]})"


def _refuse_kind(task: Any) -> None:
    name = task.task_name
    if getattr(task, "UNSAFE_CODE", False):
        raise programs_refused(name)
    if getattr(task, "MULTIMODAL", False):
        raise SmaugError(
            f"task {name!r} shows images or sounds, and the engines here take text alone", fix="leave it out"
        )


def _refuse_metrics(group: Group, tasks: Collection[Task], definition: Definition) -> None:
    """Refuse a user's group that is to have a metric of which none of its tasks knows: it would have no score."""
    if any(callable(task.get_config("process_results")) for task in tasks):
        return  # what such a function returns is known when it has run
    known = sorted({metric for task in tasks for metric in task.aggregation()})
    for each in group.aggregate_metric_list or ():
        if each.metric not in known:
            raise SmaugError(
                f"group {group.name!r}{_where(definition, str(each.metric))}: none of its tasks has the metric "
                f"{each.metric!r}; they have {', '.join(known)}",
                fix="correct aggregate_metric_list",
            )


def _settle(task: Any, settings: TaskSettings) -> None:
    """Settle shots and generation as ``simple_evaluate`` does: a task that fixes no shots keeps none."""
    own = task.get_config("num_fewshot")
    wanted = own if settings.num_fewshot is None or own == 0 else settings.num_fewshot
    task.set_config(key="num_fewshot", value=wanted or 0)
    task.set_fewshot_seed(seed=settings.fewshot_seed)
    if settings.gen_kwargs and task.get_config("output_type") == "generate_until":
        task.set_config(key="generation_kwargs", value=dict(settings.gen_kwargs), update=True)
    if task.get_config("output_type") == "generate_until":
        check_generation(task.task_name, task.get_config("generation_kwargs") or {})
