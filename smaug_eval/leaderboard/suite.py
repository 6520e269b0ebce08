"""Define a suite: columns of scores that this program runs, and where their data are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from rapidfuzz import fuzz, process

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub_commits import resolve_commit
from smaug_eval.leaderboard import protocol
from smaug_eval.leaderboard.columns import Board, Column
from smaug_eval.leaderboard.forms import Document, Row
from smaug_eval.leaderboard.official import content_note
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec

MAX_ROW_NOTES = 3
_A_SLIP = 75.0
"""How alike two names are, of 100, where one is a misspelling of the other: mmlu_pro is none of mmlu."""
_MOST_OFFERED = 12

Reader = Callable[[DataSplit, tuple[str, ...], Path | None], Sequence[Row]]


@dataclass(frozen=True)
class Suite(Board[TaskSpec]):
    """Hold columns with a common source of data.

    Attributes:
        name: The suite's name, also its group in lm-eval and the prefix of its tasks' names.
        columns: In the order of the table.
        folder: The lm-eval ``include_path`` with the suite's YAML files; None for tasks of lm-eval's own.
        read: Reads the rows of a split, given the columns needed and the data root.
        on_hub: Whether the splits are the Hub's (or its mirror's) rather than files of the suite's own.
        takes_chat: Whether a run may put its prompts into the model's chat template.
        context: Tokens that a prompt may have at most, where the suite limits them beyond the model.
        bos_types: Begin prompts with a BOS for model types that contain one of these; no other model gets one.
    """

    folder: Path | None
    read: Reader
    on_hub: bool = True
    takes_chat: bool = False
    context: int | None = None
    bos_types: tuple[str, ...] = ()

    def select(self, names: Iterable[str] | None = None) -> list[Column]:
        """Select the columns called ``names`` in table order; all where None.

        A column answers to its title, its lm-eval task, and that task without the suite's prefix; case is ignored.

        Raises:
            SmaugError: a name is none of these; the fix proposes the nearest.
        """
        if names is None:
            return list(self.columns)
        known = {alias: column for column in self.columns for alias in self._aliases(column)}
        offered = [self._aliases(column)[-1] for column in self.columns]
        chosen = {known[nearest_or_fail(name, known, f"column of {self.name}", offered)].task for name in names}
        return [column for column in self.columns if column.task in chosen]

    def lm_eval_tasks(self, names: Iterable[str] | None = None) -> list[str]:
        """Return the lm-eval tasks and groups of the columns called ``names`` (see ``select``)."""
        return [column.task for column in self.select(names)]

    def task(self, name: str) -> TaskSpec:
        """Return the leaf task called ``name`` in lm-eval.

        Raises:
            SmaugError: there is none of that name.
        """
        known = {leaf.name: leaf for column in self.columns for leaf in column.leaves}
        return known[nearest_or_fail(name, known, f"task of {self.name}")]

    def unpinned(self, names: Iterable[str] | None = None) -> list[DataSplit]:
        """Return the splits behind the columns called ``names`` whose commit is not known, one of each reference."""
        leaves = (leaf for column in self.select(names) for leaf in column.leaves if self.on_hub)
        return list({split.reference: split for leaf in leaves for split in leaf.splits if not split.pinned}.values())

    def at(self, commits: Mapping[str, str]) -> Suite:
        """Return the suite with its data sets at commits.

        Args:
            commits: By :func:`~smaug_eval.leaderboard.protocol.reference`; a data set that is not in it stays as it is.
        """
        if not commits or not self.on_hub:
            return self
        leaves = {column.task: tuple(leaf.at(commits) for leaf in column.leaves) for column in self.columns}
        return replace(self, columns=tuple(replace(each, leaves=leaves[each.task]) for each in self.columns))

    def pinned(self, names: Iterable[str] | None, data_root: Path | None) -> Suite:
        """Return the suite with the data sets behind the columns called ``names`` at the commits they have now.

        Raises:
            SmaugError: a name is unknown, or the Hub does not answer and its cache does not tell a commit.
        """
        if data_root is not None:
            return self
        splits = self.unpinned(names)
        return self.at({each.reference: resolve_commit("dataset", each.hub_id, each.revision) for each in splits})

    def commits(self, column: Column, data_root: Path | None) -> dict[str, str]:
        """Return the Hub's commits at which a column's data sets are read, by reference; empty for a mirror."""
        if data_root is not None or not self.on_hub:
            return {}
        splits = (split for leaf in column.leaves for split in leaf.splits)
        return {split.reference: split.pinned for split in splits if split.pinned is not None}

    def rows(self, spec: TaskSpec, data_root: Path | None = None) -> tuple[Sequence[Row], Sequence[Row]]:
        """Read the rows to draw shots from (empty where there are none) and the rows to evaluate.

        Raises:
            SmaugError: the data are not there or lack a column or the task's subject.
        """
        shots = self._split_rows(spec, spec.shots, data_root) if spec.shots else spec.samples
        return shots, self._split_rows(spec, spec.evaluated, data_root)

    def column_rows(self, column: Column, data_root: Path | None = None) -> tuple[Sequence[Row], Sequence[Row]]:
        """Read the rows of all tasks of a column together, each split once, as :meth:`rows`."""
        columns = column.leaves[0].form.columns
        shots = dict.fromkeys((leaf.shots, None) for leaf in column.leaves if leaf.shots is not None)
        evaluated = dict.fromkeys((leaf.evaluated, leaf.keeps) for leaf in column.leaves)
        together = []
        for splits in (shots, evaluated):
            read = [_kept(self.read(split, columns, data_root), keeps) for split, keeps in splits]
            together.append(read[0] if len(read) == 1 else [row for rows in read for row in rows])
        return together[0], together[1]

    def documents(self, name: str, data_root: Path | None = None) -> list[Document]:
        """Build the documents of the leaf task ``name`` in protocol order.

        Raises:
            SmaugError: the task is unknown or lm-eval's own, or its data are missing or do not fit.
        """
        if self.folder is None:
            raise SmaugError(f"the requests of {self.name} are made by lm-eval", fix="choose another suite")
        spec = self.task(name)
        return protocol.build_documents(spec, *self.rows(spec, data_root))

    def data_notes(self, column: Column, data_root: Path | None = None) -> list[str]:
        """Say where the data behind a column differ from the official ones: in number of rows, else in content."""
        return list(_data_notes(self, column, data_root))

    def _aliases(self, column: Column) -> list[str]:
        return [alias.lower() for alias in (column.title, column.task, column.task.removeprefix(f"{self.name}_"))]

    def _split_rows(self, spec: TaskSpec, split: DataSplit, data_root: Path | None) -> Sequence[Row]:
        columns = spec.form.columns
        if spec.subject is None:
            return _kept(self.read(split, columns, data_root), spec.keeps if split == spec.evaluated else None)
        by_subject = _rows_by_subject(self.read, split, columns, data_root)
        if spec.subject not in by_subject:
            raise SmaugError(f"{split} has no rows of subject {spec.subject!r}", fix="use the complete split")
        return by_subject[spec.subject]


def _kept(rows: Sequence[Row], keeps: tuple[str, str] | None) -> Sequence[Row]:
    """The rows that have a value in a column; all where None."""
    return rows if keeps is None else [row for row in rows if row[keeps[0]] == keeps[1]]


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
    first = column.leaves[0]
    shot_rows, rows = suite.column_rows(column, data_root)
    for split, found in ((first.evaluated, rows), (first.shots, shot_rows)):
        if split is None or any(note.startswith(f"{split.shown} ") for note in notes):
            continue  # with other rows the content differs anyway
        note = content_note(split, found, first.form.columns)
        notes += [note] if note else []
    return tuple(notes)


def nearest_or_fail(name: str, known: Iterable[str], kind: str, offered: Sequence[str] | None = None) -> str:
    """Return ``name`` in lower case where ``known`` (lower case) has it.

    Args:
        name: What somebody wrote.
        known: The names there are.
        kind: What they name, as the message calls it.
        offered: The names to list where none is near; ``known`` if None.

    Raises:
        SmaugError: it does not; the fix proposes a name that differs by a slip, else says what there is and how any
            other task is run.
    """
    choices = list(known)
    if name.lower() in choices:
        return name.lower()
    match = process.extractOne(name.lower(), choices, scorer=fuzz.ratio, score_cutoff=_A_SLIP)
    if match:
        raise SmaugError(f"there is no {kind} called {name!r}", fix=f"did you mean {match[0]!r}?")
    names = list(dict.fromkeys(choices if offered is None else offered))
    more = f" and {len(names) - _MOST_OFFERED} more" if len(names) > _MOST_OFFERED else ""
    raise SmaugError(
        f"there is no {kind} called {name!r}",
        fix=f"there is {', '.join(names[:_MOST_OFFERED])}{more}; any other task of lm-eval is run with suite lm_eval "
        "(--suite lm_eval --task NAME; `smaug-eval tasks` lists them)",
    )
