"""Register what can be extended: losses, pair sources, engines, benchmarks, suites and panels, one table each.

A table holds this program's own entries and those of installed plug-ins. A plug-in is any installed package that names
its entries as entry points of the table's group, for example in its pyproject.toml:

    [project.entry-points."smaug_eval.losses"]
    my_loss = "my_package:MY_LOSS"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from smaug_eval.common.errors import SmaugError

Entry = TypeVar("Entry")

_loaded: dict[str, str] = {}


class Table(MutableMapping[str, Entry], Generic[Entry]):
    """Map names to entries; the entries of plug-ins are imported when the table is first read.

    Args:
        group: The entry points' group is ``smaug_eval.<group>``.
        kind: What an entry is an instance of.
        entries: This program's own, in their order.
    """

    def __init__(self, group: str, kind: type[Entry], entries: Mapping[str, Entry]) -> None:
        self.group = f"smaug_eval.{group}"
        self._kind = kind
        self._entries = dict(entries)
        self._is_complete = False

    def __getitem__(self, name: str) -> Entry:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __setitem__(self, name: str, entry: Entry) -> None:
        """Register an entry.

        Raises:
            SmaugError: there is one of that name, or it is of another kind.
        """
        self._add(name, entry, f"the entry {name!r} of {self.group}")

    def __delitem__(self, name: str) -> None:
        del self._all()[name]

    def _all(self) -> dict[str, Entry]:
        if not self._is_complete:
            self._is_complete = True  # a plug-in that is imported now may itself read the table
            for point in entry_points(group=self.group):
                self._load(point)
        return self._entries

    def _load(self, point: EntryPoint) -> None:
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        who = f"the plug-in {distribution}"
        try:
            entry = point.load()
        except Exception as error:
            raise SmaugError(
                f"{who} cannot be loaded: {point.value} ({self.group}): {type(error).__name__}: {error}",
                fix="install a version of it that fits this program, or uninstall it",
            ) from error
        self._add(point.name, entry, f"{who}, {point.value},")
        _loaded[f"{self.group}:{point.name}"] = distribution

    def _add(self, name: str, entry: Entry, who: str) -> None:
        if name in self._entries:
            raise SmaugError(f"{who} is called {name!r}, and {self.group} has one of that name", fix="rename it")
        if not isinstance(entry, self._kind):
            raise SmaugError(
                f"{who} is a {type(entry).__name__}, not a {self._kind.__name__}",
                fix="see docs/extend.md for what an entry is",
            )
        self._entries[name] = entry


def loaded_plugins() -> dict[str, str]:
    """Return what plug-ins have added so far: ``<group>:<name>`` to the distribution and its version."""
    return dict(sorted(_loaded.items()))
