"""List the tasks, tags and groups that lm-eval knows, its own and those of a folder of the user's."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rapidfuzz import fuzz, process

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.lm_eval.task_code import unreadable_files
from smaug_eval.leaderboard.lm_eval.task_index import copied, index_of, members_of, own_folder, own_index

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Entry

_NEAR, _NAMED = 60.0, 6
_PATTERN = frozenset("*?[")


@dataclass(frozen=True)
class CatalogEntry:
    """Describe one name that ``--task`` takes.

    Attributes:
        name: The name.
        kind: ``task``, ``tag`` or ``group``.
        output: What a task asks of a model: ``multiple_choice``, ``generate_until``, ``loglikelihood`` or
            ``loglikelihood_rolling``; empty for tags and groups, and for tasks written in Python.
        dataset: The data set of a task, with its configuration; of a tag or group how many members it names.
        shots: Shots in the prompt unless ``num_fewshot`` says otherwise; None where the task does not say.
        source: The YAML file, relative to lm-eval's tasks or the user's folder; empty for tags.
    """

    name: str
    kind: str
    output: str
    dataset: str
    shots: int | None
    source: str


def manager_of(
    include_path: Path | None, metadata: Mapping[str, Any] | None = None, names: Sequence[str] | None = None
) -> TaskManager:
    """Return lm-eval's task manager over its own tasks and a folder of the user's, whose names win.

    Args:
        include_path: The folder; None for lm-eval's own tasks alone.
        metadata: What every task is told.
        names: What is wanted of it; where the folder has all of that, lm-eval's own tasks are not listed. None for all.

    Raises:
        SmaugError: there is no such folder, or it holds no YAML.
    """
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Kind

    manager = TaskManager(include_defaults=False, metadata=dict(metadata or {}))
    index = _index_of(include_path)
    if names is None or not _has_all(index, names, set()):
        index = {name: copied(entry) for name, entry in own_index().items()} | index
    manager._index = index
    manager._all_tasks = sorted(index)
    for listed, kinds in (("subtasks", (Kind.TASK, Kind.PY_TASK)), ("groups", (Kind.GROUP,)), ("tags", (Kind.TAG,))):
        setattr(manager, f"_all_{listed}", sorted(name for name, entry in index.items() if entry.kind in kinds))
    return manager


def _has_all(index: Mapping[str, Entry], names: Sequence[str], seen: set[str]) -> bool:
    """Whether an index has names and all that they name; those that are asked for may not be patterns."""
    for name in names:
        if name not in index:
            return False
        if name not in seen:
            seen.add(name)
            if not _has_all(index, members_of(index[name]), seen):
                return False
    return True


def expand(names: Sequence[str], manager: TaskManager, include_path: Path | None) -> list[str]:
    """Return the tasks and groups that names mean, each once: the members of a tag, the matches of a pattern.

    Raises:
        SmaugError: a name is none of lm-eval's or of the folder; the fix names those that are like it.
    """
    from lm_eval.tasks._index import Kind

    found: dict[str, None] = {}
    for name in names:
        known = [name] if name in manager.task_index else _matches(name, manager)
        if not known:
            raise unknown_task(name, manager, include_path)
        for each in known:
            entry = manager.task_index[each]
            members = sorted(tag for tag in entry.tags if tag in manager.task_index)
            found |= dict.fromkeys(members if entry.kind is Kind.TAG else [each])
    return list(found)


def unknown_task(name: str, manager: TaskManager, include_path: Path | None) -> SmaugError:
    """Return the error for a name that nobody knows, with the names that are like it."""
    near = process.extract(name.lower(), manager.all_tasks, scorer=fuzz.ratio, score_cutoff=_NEAR, limit=_NAMED)
    within = [each for each in manager.all_tasks if name.lower() in each.lower()]
    offered = list(dict.fromkeys([*(match[0] for match in near), *sorted(within, key=len)]))[:_NAMED]
    what = f"there is {', '.join(offered)}" if offered else f"none of {len(manager.all_tasks):,} names is like it"
    broken = unreadable_files(include_path, manager.task_index) if include_path is not None else []
    unread = f"; in {include_path} these could not be read: {'; '.join(broken[:_NAMED])}" if broken else ""
    return SmaugError(
        f"lm-eval has no task, tag or group called {name!r}",
        fix=f"{what}; `smaug-eval tasks WORD` lists what there is{unread}",
    )


def list_tasks(word: str | None = None, include_path: Path | None = None) -> list[dict[str, Any]]:
    """Return what ``--task`` takes, as the fields of :class:`CatalogEntry`.

    Args:
        word: Part of a name, whatever its case, or a pattern such as ``mmlu_*``; all names if None.
        include_path: A folder with YAML of the user's own.

    Raises:
        SmaugError: there is no such folder, or no name has the word in it.
    """
    manager = manager_of(include_path)
    names = manager.all_tasks if word is None else _matches(word, manager) or _holding(word, manager)
    if not names:
        raise unknown_task(str(word), manager, include_path)
    roots = [own_folder(), *([include_path.resolve()] if include_path is not None else [])]
    return [asdict(_described(manager.task_index[name], roots)) for name in names]


def _described(entry: Entry, roots: Sequence[Path]) -> CatalogEntry:
    from lm_eval.tasks._index import Kind

    kind = {Kind.GROUP: "group", Kind.TAG: "tag"}.get(entry.kind, "task")
    if kind == "tag":
        return CatalogEntry(entry.name, kind, "", f"{len(entry.tags)} tasks", None, "")
    path = Path(str(entry.yaml_path)).resolve()
    source = next((str(path.relative_to(root)) for root in roots if path.is_relative_to(root)), str(path))
    config = entry.cfg or {}
    if kind == "group":
        members = config.get("task") or []
        return CatalogEntry(
            entry.name, kind, "", f"{1 if isinstance(members, str) else len(members)} members", None, source
        )
    parts = (config.get("dataset_path"), config.get("dataset_name"))
    dataset = " ".join(str(part) for part in parts if part)
    shots = config.get("num_fewshot")
    output = str(config.get("output_type") or ("generate_until" if "class" not in config else ""))
    return CatalogEntry(entry.name, kind, output, dataset, shots if isinstance(shots, int) else None, source)


def _matches(pattern: str, manager: TaskManager) -> list[str]:
    if not _PATTERN & set(pattern):
        return []
    return [name for name in manager.all_tasks if fnmatch.fnmatchcase(name, pattern)]


def _holding(word: str, manager: TaskManager) -> list[str]:
    return [name for name in manager.all_tasks if word.lower() in name.lower()]


def _index_of(folder: Path | None) -> dict[str, Entry]:
    """The entries of a folder of the user's."""
    if folder is None:
        return {}
    if not folder.is_dir():
        raise SmaugError(f"include_path: {folder} is not a folder", fix="name the folder that holds the tasks' YAML")
    if not any(folder.rglob("*.yaml")):
        raise SmaugError(f"include_path: {folder} holds no *.yaml", fix="name the folder that holds the tasks' YAML")
    index = index_of(folder.resolve())
    for name, entry in index.items():
        if not isinstance(name, str):
            raise SmaugError(f"{entry.yaml_path}: the name {name!r} is no text", fix="put it between quotes")
    return index
