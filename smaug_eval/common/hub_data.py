"""Read data sets of the Hub at one commit, through ``datasets`` but never from another commit.

``datasets`` decides which files make up a configuration, by the ``configs`` of the card or by the files' names. It does
so on a folder with the commit's card and an empty file in the place of every other one; the files that it names are
fetched from the commit and read from the cache. So nothing depends on what the Hub answers at the moment, and nothing
on what was read before.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import TYPE_CHECKING, Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub_cache import refuse_outside, snapshot_folder
from smaug_eval.common.hub_commits import CARD_FILES, NotReached, exactly, fetch_files, list_files
from smaug_eval.common.hub_errors import cause_of, chain, reason

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, Features

DataFiles = str | Sequence[str] | Mapping[str, str | Sequence[str]]

_EXPRESSION = re.compile(r"[\[+]")
_ARCHIVES = (".zip",)
_AVAILABLE = re.compile(r"Available: (\[.*\])")


@dataclass(frozen=True)
class SetFiles:
    """Hold the files of a configuration in the cache, and how ``datasets`` reads them.

    Attributes:
        what: The data set and its configuration, for messages.
        builder: The builder of ``datasets``, such as ``parquet``.
        config: What ``datasets`` calls the configuration.
        files: Paths by split.
        options: Further arguments of the builder.
        features: The columns' types that the card states; None for those that the files have.
        rows: Numbers of rows by split, as the card states them; empty where it states none.
        confirmed: Whether it is known that no file is missing.
    """

    what: str
    builder: str
    config: str
    files: Mapping[str, Sequence[str]]
    options: Mapping[str, Any]
    features: Features | None
    rows: Mapping[str, int]
    confirmed: bool

    def load(self, split: str | None = None, *, checked: bool = True) -> Any:
        """Load all splits, or what ``datasets`` makes of an expression such as ``train[:100]``.

        Args:
            split: The expression.
            checked: Compare the numbers of rows with those that the card states, where all splits are read.

        Raises:
            SmaugError: a file is damaged, the expression has no meaning, or a split has more or fewer rows than stated.
        """
        import datasets

        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # else every read asks a third host
        files = {name: [escape(path) for path in paths] for name, paths in self.files.items()}
        try:
            builder = datasets.load.load_dataset_builder(
                self.builder, self.config, data_files=files, cache_dir=_tables_folder(), **self.options
            )
            if self.features is not None:
                builder.info.features = self.features
            builder.download_and_prepare()
        except Exception as error:  # datasets and pyarrow raise many kinds
            raise _unreadable(self.what, error, arrived=True) from error
        try:
            loaded = builder.as_dataset(split)
        except Exception as error:  # as above
            raise _unreadable(self.what, error) from error
        if split is None and checked:
            self._check_rows(loaded)
        return loaded

    def split(self, loaded: DatasetDict, name: str) -> Dataset:
        """Return one of the splits that were loaded.

        Raises:
            SmaugError: there is none of this name; the message names those there are.
        """
        if name not in loaded:
            raise SmaugError(
                f"{self.what} has no split {name!r}: {', '.join(loaded)}",
                fix=f"set split (--split) to one of {', '.join(loaded)}",
            )
        return loaded[name]

    def _check_rows(self, loaded: DatasetDict) -> None:
        for name, rows in self.rows.items():
            found = loaded[name].num_rows if name in loaded else 0
            if found != rows:
                raise SmaugError(
                    f"{self.what}, split {name}: {found:,} rows were read, its card states {rows:,}",
                    fix="fetch it again; if it stays so, the data set's card is wrong: use another revision",
                )
        if not self.confirmed and (unknown := [name for name in loaded if name not in self.rows]):
            raise NotReached(
                f"{self.what}: the cache does not show whether split {unknown[0]} is whole; the Hub does not answer",
                fix="read it once on a machine with network",
            )


def read_set(hub_id: str, config: str | None, commit: str) -> DatasetDict:
    """Read all splits of a configuration at a commit; once in a process.

    Args:
        hub_id: ``organisation/name``.
        config: The configuration; the only one, or the one that the card makes the default, if None.
        commit: The commit's full id.

    Returns:
        An object of its own: a program may put other splits into it, or set their format.

    Raises:
        NotReached: it is not in the cache, and the Hub does not answer.
        SmaugError: there is no such commit or configuration, or it cannot be read.
    """
    import datasets

    _, loaded = _read_set(hub_id, config, commit)
    return datasets.DatasetDict({name: copy(split) for name, split in loaded.items()})


def read_set_split(hub_id: str, config: str | None, commit: str, split: str) -> Dataset:
    """Read one split, or an expression such as ``train[:100]``; otherwise like :func:`read_set`."""
    files, loaded = _read_set(hub_id, config, commit)
    return files.load(split) if _EXPRESSION.search(split) else files.split(loaded, split)


def forget_sets() -> None:
    """Forget what was read."""
    _read_set.cache_clear()


@lru_cache(maxsize=256)
def _read_set(hub_id: str, config: str | None, commit: str) -> tuple[SetFiles, DatasetDict]:
    files = set_files(hub_id, config, commit)
    return files, files.load()


def set_files(
    hub_id: str,
    config: str | None,
    commit: str,
    *,
    data_dir: str | None = None,
    data_files: DataFiles | None = None,
    **options: Any,
) -> SetFiles:
    """Fetch the files of a configuration at a commit, where they are not in the cache.

    Args:
        hub_id: ``organisation/name``.
        config: As of :func:`read_set`.
        commit: The commit's full id.
        data_dir: As of ``datasets.load_dataset``: a folder of the repository.
        data_files: As there: patterns of the repository's files.
        **options: As there: further arguments of the builder.

    Raises:
        NotReached: as :func:`read_set`.
        SmaugError: as there.
    """
    what = hub_id if config is None else f"{hub_id} ({config})"
    listed = list_files("dataset", hub_id, commit)
    names = _cached_files(hub_id, commit) if listed is None else listed
    _refuse_script(hub_id, names)
    cards = [name for name in CARD_FILES if name in names]
    _fetch(hub_id, commit, cards, quiet=True)
    folder = snapshot_folder("dataset", hub_id, commit)
    selection = {"data_dir": data_dir, "data_files": data_files, **options}
    try:
        builder, chosen = _choose(folder, names, cards, config, selection)
    except SmaugError:
        raise
    except Exception as error:  # datasets raises many kinds
        archives = [name for name in names if name.endswith(_ARCHIVES)]
        if not archives:
            raise _unreadable(what, error) from error
        # What an archive holds decides how it is read.
        _fetch(hub_id, commit, archives)
        try:
            builder, chosen = _choose(folder, names, [*cards, *archives], config, selection)
        except Exception as again:
            raise _unreadable(what, again) from again
    wanted = sorted({name for files in chosen.values() for name in files})
    _fetch(hub_id, commit, wanted)
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise SmaugError(f"{what}: {missing[0]} of commit {commit} was not fetched", fix="try again later")
    declared = builder.info.splits or {}
    return SetFiles(
        what=what,
        builder=builder.name,
        config=builder.config.name,
        files={split: [str(folder / name) for name in files] for split, files in chosen.items()},
        options=_builder_options(builder),
        features=builder.info.features,
        rows={name: split.num_examples for name, split in declared.items() if split.num_examples and name in chosen},
        confirmed=listed is not None,
    )


def _fetch(hub_id: str, commit: str, names: Sequence[str], *, quiet: bool = False) -> None:
    """Have files of a commit in the cache, whole."""
    folder = snapshot_folder("dataset", hub_id, commit)
    quiet = quiet or all((folder / name).is_file() for name in names)
    if names:
        fetch_files("dataset", hub_id, commit, [exactly(name) for name in names], quiet=quiet)


def _choose(
    folder: Path, names: Sequence[str], real: Sequence[str], config: str | None, selection: Mapping[str, Any]
) -> tuple[Any, dict[str, list[str]]]:
    """The builder that ``datasets`` takes for a configuration, and the files by split, all within the repository."""
    import datasets

    with TemporaryDirectory(prefix="smaug-eval-") as place:
        scene, scratch = Path(place).resolve() / "repository", Path(place) / "cache"
        scene.mkdir()
        for name in names:
            refuse_outside(name)
            path = scene / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name in real:
                path.symlink_to(folder / name)
            else:
                path.touch()
        builder = datasets.load.load_dataset_builder(str(scene), config, cache_dir=str(scratch), **selection)
        chosen: dict[str, list[str]] = {}
        for split, files in (builder.config.data_files or {}).items():
            paths = [Path(str(file)) for file in files]
            for path in paths:
                if not path.is_relative_to(scene):
                    raise SmaugError(f"its card names a file outside of the data set: {path}", fix="do not use it")
            chosen[str(split)] = [path.relative_to(scene).as_posix() for path in paths]
    if not chosen:
        raise SmaugError(f"no data file belongs to {config or 'it'}", fix="correct the configuration")
    return builder, chosen


def _builder_options(builder: Any) -> dict[str, Any]:
    """The arguments of a builder that are not its own defaults: what the card or the caller states."""
    import datasets

    own = {field.name for field in dataclasses.fields(datasets.BuilderConfig)}
    plain = type(builder.config)()
    return {
        field.name: value
        for field in dataclasses.fields(builder.config)
        if field.name not in own and (value := getattr(builder.config, field.name)) != getattr(plain, field.name)
    }


def _cached_files(hub_id: str, commit: str) -> list[str]:
    folder = snapshot_folder("dataset", hub_id, commit)
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _refuse_script(hub_id: str, names: Sequence[str]) -> None:
    script = f"{hub_id.rpartition('/')[2]}.py"
    if script in names:
        raise SmaugError(
            f"{hub_id} cannot be loaded from the Hub: it is made by a script ({script}), and scripts are not run",
            fix="set its revision to refs/convert/parquet, where the Hub keeps what the script makes, if it does",
        )


def _unreadable(what: str, error: Exception, *, arrived: bool = False) -> SmaugError:
    said = " ".join(str(each).strip().split("\n", 1)[0] for each in chain(error))
    told = f"{what} cannot be loaded from the Hub: {reason(error)}"
    if (there := _AVAILABLE.search(said)) is not None:
        names = ", ".join(re.findall(r"['\"]([^'\"]+)['\"]", there[1]))
        return SmaugError(told, fix=f"set config (--config) to one of {names}")
    if (cause := cause_of(error)).text != reason(error):
        return SmaugError(f"{what} cannot be loaded from the Hub: {cause.text}", fix=cause.fix)
    if arrived:
        inner = next((each for each in chain(error) if "generating the dataset" not in str(each)), error)
        return SmaugError(
            f"{what}: a file arrived as the Hub has it, and cannot be read: {reason(inner)}",
            fix="use another revision of the data set, or report it to its authors",
        )
    return SmaugError(
        told, fix="check the configuration and the split, or give an offline mirror with data_root (--data-root)"
    )


@lru_cache(maxsize=1)
def _own_tables_folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="smaug-eval-tables-", ignore_cleanup_errors=True)


def _tables_folder() -> str | None:
    """Where ``datasets`` puts the tables that it makes of files: its cache, or what goes away with this process.

    The cache of files may be complete and read-only.
    """
    import datasets

    place = Path(datasets.config.HF_DATASETS_CACHE).expanduser()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=place):
            return None
    except OSError:
        return _own_tables_folder().name
