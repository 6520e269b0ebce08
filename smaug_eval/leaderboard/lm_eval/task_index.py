"""Cache the names of lm-eval's tasks: its own thousands of files are read once per installation, not once per run."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json, user_cache, write_json

if TYPE_CHECKING:
    from lm_eval.tasks._index import Entry

_KEPT = ("task", "group", "output_type", "dataset_path", "dataset_name", "num_fewshot", "class")
"""Of a task's keys those that are shown, and that name its members."""


def own_folder() -> Path:
    """Return the folder with lm-eval's own tasks."""
    import lm_eval.tasks

    return Path(str(lm_eval.tasks.__file__)).resolve().parent


@lru_cache(maxsize=1)
def own_index() -> dict[str, Entry]:
    """Return the entries of lm-eval's own tasks by name, from the user's cache where no file has changed since."""
    root = own_folder()
    state = _state(root)
    file = user_cache() / f"lm-eval-tasks-{metadata.version('lm-eval')}.json"
    try:
        kept = read_json(file) if file.is_file() else None
        if isinstance(kept, dict) and kept.get("state") == state:
            return {str(one["name"]): _entry(one, root) for one in kept["entries"]}
    except (SmaugError, OSError, LookupError, TypeError, ValueError):
        pass  # damaged: made again
    index = index_of(root)
    plain = [_plain(entry, root) for entry in index.values()]
    with contextlib.suppress(OSError, SmaugError):  # a cache that cannot be written only costs time
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"state": state, "entries": plain})
    return {str(one["name"]): _entry(one, root) for one in plain}


def index_of(folder: Path) -> dict[str, Entry]:
    """Return the entries of a folder's YAML files by name."""
    from lm_eval.tasks._index import TaskIndex

    return dict(TaskIndex.build([folder]))


def copied(entry: Entry) -> Entry:
    """Return an entry of its own: whoever changes one manager's changes no other's."""
    from lm_eval.tasks._index import Entry as Made

    return Made(entry.name, entry.kind, entry.yaml_path, entry.cfg, set(entry.tags))


def members_of(entry: Entry) -> list[str]:
    """Return the names that a group's YAML or a tag lists, each as it is written there."""
    listed = entry.cfg.get("task") if isinstance(entry.cfg, Mapping) else None
    return [*_listed(listed), *(sorted(entry.tags) if entry.yaml_path is None else ())]


def _listed(items: Any) -> Iterator[str]:
    for item in items if isinstance(items, list) else ():
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            yield from (str(item[key]) for key in ("group", "task") if isinstance(item.get(key), str))
            yield from _listed(item.get("task"))


def _state(root: Path) -> list[int]:
    """What changes when a file is added, removed or edited."""
    files, newest, size = 0, 0, 0
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith((".yaml", ".yml")):
                found = os.stat(f"{folder}/{name}")  # noqa: PTH116  thousands of them
                files, newest, size = files + 1, max(newest, found.st_mtime_ns), size + found.st_size
    return [files, newest, size]


def _plain(entry: Entry, root: Path) -> dict[str, Any]:
    path = None if entry.yaml_path is None else Path(entry.yaml_path).resolve().relative_to(root).as_posix()
    config = {key: entry.cfg[key] for key in _KEPT if key in entry.cfg} if isinstance(entry.cfg, dict) else None
    kept = json.loads(json.dumps(config, default=str))
    return {"name": entry.name, "kind": entry.kind.name, "path": path, "config": kept, "tags": sorted(entry.tags)}


def _entry(kept: Mapping[str, Any], root: Path) -> Entry:
    from lm_eval.tasks._index import Entry as Made
    from lm_eval.tasks._index import Kind

    path = None if kept["path"] is None else root / str(kept["path"])
    return Made(str(kept["name"]), Kind[kept["kind"]], path, kept["config"], set(kept["tags"]))
