"""Let lm-eval's own tasks read an offline mirror, or the Hub at commits that are known.

lm-eval's tasks call ``datasets.load_dataset`` with the name of a data set and no revision. What they get is then the
newest, or, where the Hub does not answer, whatever was read last.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from smaug_eval.common.hub import mirror_file, mirror_folder, read_split
from smaug_eval.common.hub_commits import exactly, fetch_files, is_commit, resolve_commit
from smaug_eval.common.hub_data import read_set, set_files
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.benchmarks import mmlu
from smaug_eval.leaderboard.protocol import reference

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

PROTOCOL = "hf://datasets/"

# Where and how to keep what is read is settled by the cache of commits.
_WITHOUT_MEANING = (
    *("cache_dir", "download_config", "download_mode", "keep_in_memory", "num_proc", "save_infos"),
    *("storage_options", "streaming", "token", "trust_remote_code"),
)

_active: list[Callable[..., Any]] = []


@contextmanager
def reading_at(data_root: Path | None, commits: MutableMapping[str, str]) -> Iterator[None]:
    """Make ``datasets.load_dataset`` read the mirror at ``data_root``, or the Hub at known commits, while it lasts.

    MMLU's subjects, each a configuration of its own on the Hub, are taken from the mirror's ``all``. Files that a task
    names itself (``load_dataset("json", data_files=...)``) are read as always, but those of the Hub
    (``hf://datasets/...``) at a commit.

    Args:
        data_root: The mirror; None for the Hub.
        commits: By :func:`~smaug_eval.leaderboard.protocol.reference`, the commit at which a data set is read. One that
            is not in it is read at the commit that its revision means now, which is added.

    Raises:
        SmaugError: when a data set is asked for that the mirror does not hold, or that the Hub does not have at its
            commit.
    """
    import datasets

    signature = inspect.signature(datasets.load.load_dataset)

    def load(*positional: Any, **named: Any) -> Any:
        arguments = signature.bind(*positional, **named).arguments
        options = arguments.pop("config_kwargs", {})
        asked = {**arguments, **options}
        for name in _WITHOUT_MEANING:
            asked.pop(name, None)
        return _from_hub(commits, **asked) if data_root is None else _from_mirror(data_root, **asked)

    before = datasets.load_dataset
    _active.append(load)
    datasets.load_dataset = _load_dataset
    try:
        yield
    finally:
        _active.pop()
        datasets.load_dataset = before


def mirrored_splits(data_root: Path, hub_id: str, config: str) -> dict[str, Dataset]:
    """Return the splits of a configuration that a mirror holds; of MMLU also each subject's.

    Raises:
        SmaugError: it holds none, or one cannot be read.
    """
    if hub_id == v1.MMLU[0].evaluated.hub_id and config in mmlu.TEST_ROWS:
        return _subjects(data_root, hub_id)[config]
    return _splits(data_root, hub_id, config)


def _load_dataset(*positional: Any, **named: Any) -> Any:
    """Load a data set in the place of ``datasets.load_dataset``; modules that keep it under their own name follow."""
    from datasets.load import load_dataset

    return (_active[-1] if _active else load_dataset)(*positional, **named)


def _from_mirror(
    data_root: Path, path: str, name: str | None = None, split: str | None = None, **options: Any
) -> DatasetDict | Dataset:
    import datasets

    if not _is_hub_set(path, options.get("data_files")) and not _names_hub_files(options.get("data_files")):
        return datasets.load.load_dataset(path, name, split=split, **options)
    splits = mirrored_splits(data_root, path, name or "default")
    if split is None:
        return datasets.DatasetDict(splits)
    if split not in splits:
        mirror_file(data_root, path, name or "default", split)  # says what is missing
    return splits[split]


def _from_hub(
    commits: MutableMapping[str, str],
    path: str,
    name: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    data_files: Any = None,
    **options: Any,
) -> Any:
    from datasets.load import load_dataset

    if not _is_hub_set(path, data_files):
        files = _each(data_files, lambda file: _at_commit(commits, file))
        return load_dataset(path, name, data_files=files, split=split, revision=revision, **options)
    hub_id = path.removeprefix(PROTOCOL)
    commit = _commit(commits, hub_id, revision)
    unchecked = str(options.pop("verification_mode", "")).endswith("no_checks")
    if split is None and data_files is None and not options and not unchecked:
        return read_set(hub_id, name, commit)
    return set_files(hub_id, name, commit, data_files=data_files, **options).load(split, checked=not unchecked)


def _commit(commits: MutableMapping[str, str], hub_id: str, revision: str | None) -> str:
    if revision is not None and is_commit(revision):
        commits.setdefault(reference(hub_id, revision), revision)
        return revision
    name = reference(hub_id, revision)
    if name not in commits:
        commits[name] = resolve_commit("dataset", hub_id, revision)
    return commits[name]


def _is_hub_set(path: str, data_files: Any) -> bool:
    """Return whether a name is that of a data set on the Hub, rather than of a format or a folder."""
    if path.startswith(PROTOCOL):
        return True
    return not Path(path).exists() and path.count("/") <= 1 and ("/" in path or data_files is None)


def _names_hub_files(data_files: Any) -> bool:
    names: list[str] = []

    def note(file: str) -> str:
        names.append(file)
        return file

    _each(data_files, note)
    return any(name.startswith(PROTOCOL) for name in names)


def _at_commit(commits: MutableMapping[str, str], file: str) -> str:
    """Return the file in the cache that an address of the Hub means; other names as they are."""
    if not file.startswith(PROTOCOL):
        return file
    organisation, name, path = file.removeprefix(PROTOCOL).split("/", 2)
    name, _, revision = name.partition("@")
    hub_id = f"{organisation}/{name}"
    commit = _commit(commits, hub_id, unquote(revision) or None)
    return str(fetch_files("dataset", hub_id, commit, [path if "*" in path else exactly(path)]) / path)


def _each(data_files: Any, change: Callable[[str], str]) -> Any:
    """Change each file of what ``datasets`` takes (one, several, or by split)."""
    if isinstance(data_files, str):
        return change(data_files)
    if isinstance(data_files, Mapping):
        return {split: _each(files, change) for split, files in data_files.items()}
    return None if data_files is None else [change(str(file)) for file in data_files]


@lru_cache(maxsize=1)
def _subjects(data_root: Path, hub_id: str) -> dict[str, dict[str, Dataset]]:
    found: dict[str, dict[str, Dataset]] = {subject: {} for subject in mmlu.TEST_ROWS}
    for split, rows in _splits(data_root, hub_id, v1.MMLU[0].evaluated.config).items():
        places: dict[str, list[int]] = {}
        for place, subject in enumerate(rows["subject"]):
            places.setdefault(subject, []).append(place)
        for subject, own in found.items():
            own[split] = rows.select(places.get(subject, []))
    return found


def _splits(data_root: Path, hub_id: str, config: str) -> dict[str, Dataset]:
    folder = mirror_folder(data_root, hub_id, config)
    names = sorted(path.stem for path in folder.glob("*.parquet"))
    if not names:
        mirror_file(data_root, hub_id, config, "any")  # says what is missing
    return {name: read_split(hub_id, config, name, data_root=data_root) for name in names}
