"""A suite: columns of scores, the lm-eval tasks behind them, and where their data are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rapidfuzz import process

from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard import protocol
from smaug_eval.leaderboard.forms import Document, Row
from smaug_eval.leaderboard.official import content_note, data_set_name
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec

MAX_ROW_NOTES = 3

Reader = Callable[[DataSplit, tuple[str, ...], Path | None], Sequence[Row]]


@dataclass(frozen=True)
class Column:
    """One score of a suite.

    Attributes:
        title: The column's name in tables.
        task: The lm-eval task or group that measures it.
        metric: The headline metric.
        leaves: The tasks whose mean is the score; one unless ``task`` is a group.
        weighted_by_size: Whether that mean weighs the tasks by their documents; the leaderboard does not.
    """

    title: str
    task: str
    metric: str
    leaves: tuple[TaskSpec, ...]
    weighted_by_size: bool = False


@dataclass(frozen=True)
class Suite:
    """Columns with a common source of data.

    Attributes:
        name: The suite's name, also its group in lm-eval and the prefix of its tasks' names.
        columns: In the order of the table.
        folder: The lm-eval ``include_path`` with the suite's YAML files; None for tasks of lm-eval's own.
        read: Reads the rows of a split, given the columns needed and the data root.
    """

    name: str
    columns: tuple[Column, ...]
    folder: Path | None
    read: Reader

    def select(self, names: Iterable[str] | None = None) -> list[Column]:
        """The columns called ``names`` in table order; all where None.

        A column answers to its title, its lm-eval task, and that task without the suite's prefix; case is ignored.

        Raises:
            SmaugError: a name is none of these; the fix proposes the nearest.
        """
        if names is None:
            return list(self.columns)
        known = {alias: column for column in self.columns for alias in self._aliases(column)}
        chosen = {known[nearest_or_fail(name, known, f"column of {self.name}")].task for name in names}
        return [column for column in self.columns if column.task in chosen]

    def lm_eval_tasks(self, names: Iterable[str] | None = None) -> list[str]:
        """The lm-eval tasks and groups of the columns called ``names`` (see ``select``)."""
        return [column.task for column in self.select(names)]

    def task(self, name: str) -> TaskSpec:
        """The leaf task called ``name`` in lm-eval.

        Raises:
            SmaugError: there is none of that name.
        """
        known = {leaf.name: leaf for column in self.columns for leaf in column.leaves}
        return known[nearest_or_fail(name, known, f"task of {self.name}")]

    def rows(self, spec: TaskSpec, data_root: Path | None = None) -> tuple[Sequence[Row], Sequence[Row]]:
        """Rows to draw shots from (empty where there are none) and rows to evaluate.

        Raises:
            SmaugError: the data are not there or lack a column or the task's subject.
        """
        shots = self._split_rows(spec, spec.shots, data_root) if spec.shots else ()
        return shots, self._split_rows(spec, spec.evaluated, data_root)

    def documents(self, name: str, data_root: Path | None = None) -> list[Document]:
        """The documents of the leaf task ``name`` in protocol order.

        Raises:
            SmaugError: the task is unknown or lm-eval's own, or its data are missing or do not fit.
        """
        if self.folder is None:
            raise SmaugError(f"the requests of {self.name} are made by lm-eval", fix="choose another suite")
        spec = self.task(name)
        return protocol.build_documents(spec, *self.rows(spec, data_root))

    def data_notes(self, column: Column, data_root: Path | None = None) -> list[str]:
        """Where the data behind a column differ from the official ones: in number of rows, else in content."""
        return list(_data_notes(self, column, data_root))

    def _aliases(self, column: Column) -> list[str]:
        return [alias.lower() for alias in (column.title, column.task, column.task.removeprefix(f"{self.name}_"))]

    def _split_rows(self, spec: TaskSpec, split: DataSplit, data_root: Path | None) -> Sequence[Row]:
        columns = spec.form.columns
        if spec.subject is None:
            return self.read(split, columns, data_root)
        by_subject = _rows_by_subject(self.read, split, columns, data_root)
        if spec.subject not in by_subject:
            raise SmaugError(f"{split} has no rows of subject {spec.subject!r}", fix="use the complete split")
        return by_subject[spec.subject]


@lru_cache(maxsize=4)
def _rows_by_subject(
    read: Reader, split: DataSplit, columns: tuple[str, ...], data_root: Path | None
) -> dict[str, list[Row]]:
    # Cached because every subject is a task of its own, and all live in one file.
    groups: dict[str, list[Row]] = {}
    for row in read(split, columns, data_root):
        groups.setdefault(row["subject"], []).append(row)
    return groups


@lru_cache(maxsize=64)
def _data_notes(suite: Suite, column: Column, data_root: Path | None) -> tuple[str, ...]:
    notes = []
    for leaf in column.leaves:
        shots, rows = suite.rows(leaf, data_root)
        notes += protocol.data_notes(leaf, len(shots), len(rows))
    if len(notes) > MAX_ROW_NOTES:
        notes = [*notes[:MAX_ROW_NOTES], f"{len(notes) - MAX_ROW_NOTES} more parts differ in rows"]
    first = column.leaves[0]  # all leaves of a column share their splits
    for split in filter(None, (first.evaluated, first.shots)):
        if any(note.startswith(f"{data_set_name(split.hub_id)} {split.name} ") for note in notes):
            continue  # with other rows the content differs anyway
        columns = first.form.columns
        rows = suite.read(split, columns, data_root)
        note = content_note(split.hub_id, split.config, split.name, rows, columns)
        notes += [note] if note else []
    return tuple(notes)


def nearest_or_fail(name: str, known: Iterable[str], kind: str) -> str:
    """``name`` in lower case where ``known`` (lower case) has it.

    Raises:
        SmaugError: it does not; the message calls it a ``kind`` and the fix proposes the nearest known name.
    """
    choices = list(known)
    if name.lower() in choices:
        return name.lower()
    nearest, _, _ = process.extractOne(name.lower(), choices)
    raise SmaugError(f"there is no {kind} called {name!r}", fix=f"did you mean {nearest!r}?")
