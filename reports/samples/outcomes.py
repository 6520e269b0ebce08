"""Compare each document's outcome between the baseline and another model, and choose the documents the page shows."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smaug_eval.results.sample_files import Samples
from smaug_eval.results.sample_index import Key, Located, locate

RIGHT_FROM = 0.5
"""The least value in [0, 1] that counts as right: of a share such as mc2, more than half. Only the browser uses it."""

SampleOutcome = Literal["gained", "lost", "both right", "both wrong", "right", "wrong"]
AGAINST_BASELINE: tuple[SampleOutcome, ...] = ("gained", "lost", "both right", "both wrong")
ALONE: tuple[SampleOutcome, ...] = ("right", "wrong")
CHANGED = frozenset({"gained", "lost"})
Outcomes = tuple[SampleOutcome | None, ...]
"""What became of a document, for each model; None where there is no value between 0 and 1."""


class OutcomesRow(NamedTuple):
    """Hold one document of a task, for several models.

    Attributes:
        key: What distinguishes it from the others.
        found: Where each model's sample lies; None where a model has none.
        outcomes: Of each model; None where there is no value between 0 and 1.
    """

    key: Key
    found: tuple[Located | None, ...]
    outcomes: Outcomes

    @property
    def is_changed(self) -> bool:
        """Return whether some model gained or lost it."""
        return not CHANGED.isdisjoint(self.outcomes)


class TaskOutcomes(NamedTuple):
    """Count what became of a task's documents against a baseline.

    Attributes:
        counts: Of each model, how many documents had which outcome.
        measured: Of each model, how many it has samples of.
        changed: Documents that some model gained or lost.
    """

    counts: list[Counter[SampleOutcome]]
    measured: list[int]
    changed: int


_ABSENT, _UNKNOWN, _WRONG, _RIGHT = -2, -1, 0, 1
_WAYS = (*AGAINST_BASELINE, *ALONE)
_WORDS = np.array([*_WAYS, None], object)
_GAINED, _LOST, _BOTH_RIGHT, _BOTH_WRONG, _ONLY_RIGHT, _ONLY_WRONG, _NOTHING = range(len(_WORDS))
_BY_ITSELF = np.array([_NOTHING, _NOTHING, _ONLY_WRONG, _ONLY_RIGHT], np.int8)
_AGAINST = np.array(
    [
        *[_NOTHING] * 8,
        *(_ONLY_WRONG, _ONLY_WRONG, _BOTH_WRONG, _LOST),
        *(_ONLY_RIGHT, _ONLY_RIGHT, _GAINED, _BOTH_RIGHT),
    ],
    np.int8,
)
"""What became of a document: a line for each state of the model's, in it a word for each of the baseline's."""


@dataclass(frozen=True)
class TaskRows:
    """Hold the documents of a task.

    Attributes:
        task: The task's name.
        files: Each model's samples file.
        rows: In the order of the first file.
    """

    task: str
    files: tuple[Samples | None, ...]
    rows: Sequence[OutcomesRow]

    def against(self, baseline: int, *, refused: Collection[int] = (), is_right: bool = True) -> TaskOutcomes:
        """Count what became of all documents against one of the models, as :func:`rebased` says it of each.

        Args:
            baseline: Which of the models the others are compared with.
            refused: The models whose results of this task must not be compared; they have no outcomes.
            is_right: Whether a value of 1 is right; else no document has an outcome.
        """
        codes = self._codes(baseline, refused, is_right)
        totals = [np.bincount(own, minlength=len(_WORDS)) for own in codes.T]
        counts = [Counter({way: int(n) for way, n in zip(_WAYS, own, strict=False) if n}) for own in totals]
        changed = (codes <= _LOST).any(axis=1).sum()
        return TaskOutcomes(counts, [int(each) for each in (self._values[0] != _ABSENT).sum(axis=0)], int(changed))

    def words(self, baseline: int, refused: Collection[int], is_right: bool) -> Iterator[Outcomes]:
        """Yield what became of each document against one of the models; as :meth:`against`."""
        return map(tuple, _WORDS[self._codes(baseline, refused, is_right)].tolist())

    def _codes(self, baseline: int, refused: Collection[int], is_right: bool) -> NDArray[np.int8]:
        """Places in ``_WORDS``, shape ``(documents, models)``."""
        states, metrics = self._values
        reference = states[:, [baseline]]
        codes = _AGAINST.take(4 * states + reference - 5 * _ABSENT)
        codes[:, baseline] = _BY_ITSELF.take(states[:, baseline] - _ABSENT)
        if metrics.any():
            codes[(reference != _ABSENT) & (metrics != metrics[:, [baseline]])] = _NOTHING
        codes[:, list(refused) if is_right else slice(None)] = _NOTHING
        return codes

    @cached_property
    def _values(self) -> tuple[NDArray[np.int8], NDArray[np.intp]]:
        """Whether each model has each document right, and by which metric; shape ``(documents, models)``."""
        numbers: dict[str, int] = {}
        shape = (len(self.rows), len(self.files))
        values = [[math.nan if own is None else own.value for own in row.found] for row in self.rows]
        metrics = [[0 if own is None else numbers.setdefault(own.metric, len(numbers)) for own in row.found]
                   for row in self.rows]  # fmt: skip
        absent = np.array([[own is None for own in row.found] for row in self.rows], bool).reshape(shape)
        number = np.array(values, np.float64).reshape(shape)
        known = (number >= 0) & (number <= 1)
        states = np.where(absent, _ABSENT, np.where(known, number >= RIGHT_FROM, _UNKNOWN)).astype(np.int8)
        return states, np.array(metrics, np.intp).reshape(shape)


def task_rows(
    task: str,
    files: Sequence[Samples | None],
    *,
    metric: str | None,
    baseline: int = 0,
    refused: Collection[int] = (),
    is_right: bool = True,
) -> TaskRows:
    """Return the documents of a task with each model's outcome.

    Args:
        task: The task's name.
        files: lm-eval's samples file of each model; None where a model has none.
        metric: As for :func:`~smaug_eval.results.sample_index.locate`.
        baseline: Which of the models the others are compared with.
        refused: The models whose results of this task must not be compared; they have no outcomes.
        is_right: Whether a value of 1 is right; not so where less is better, and then no document has an outcome.

    Raises:
        SmaugError: a file is not lm-eval's format.
    """
    columns = [{} if path is None else {each.key: each for each in locate(path, metric)} for path in files]
    keys = dict.fromkeys(key for column in columns for key in column)
    rows = [OutcomesRow(key, tuple(column.get(key) for column in columns), ()) for key in keys]
    return rebased(TaskRows(task, tuple(files), rows), baseline, refused=refused, is_right=is_right)


def rebased(task: TaskRows, baseline: int, *, refused: Collection[int] = (), is_right: bool = True) -> TaskRows:
    """Return the documents of a task with their outcomes against another of the models; as :func:`task_rows`."""
    found = zip(task.rows, task.words(baseline, refused, is_right), strict=True)
    return TaskRows(task.task, task.files, [OutcomesRow(row.key, row.found, outcomes) for row, outcomes in found])


def outcome(own: Located, reference: Located | None) -> SampleOutcome | None:
    """Return what became of a document; "right" or "wrong" where there is nothing to compare with.

    Returns:
        None where the model's value does not lie between 0 and 1, or where the baseline's is of another metric.
    """
    mine = _is_right(own.value)
    if mine is None or (reference is not None and reference.metric != own.metric):
        return None
    before = None if reference is None else _is_right(reference.value)
    if before is None:
        return "right" if mine else "wrong"
    if mine != before:
        return "gained" if mine else "lost"
    return "both right" if mine else "both wrong"


def _is_right(value: float) -> bool | None:
    return value >= RIGHT_FROM if 0 <= value <= 1 else None


def fair_shares(wanted: Sequence[int], total: int) -> list[int]:
    """Return ``total`` shared out as evenly as it goes, nobody getting more than wanted.

    What is left when it does not divide goes to the first.
    """
    shares = [0] * len(wanted)
    left = total
    while left > 0 and (open_ := [i for i, want in enumerate(wanted) if shares[i] < want]):
        each = max(1, left // len(open_))
        for index in open_[: left if each == 1 else None]:
            step = min(each, wanted[index] - shares[index])
            shares[index] += step
            left -= step
    return shares


def choose(families: Mapping[str, Sequence[TaskRows]], *, changed: int, total: int) -> dict[str, list[OutcomesRow]]:
    """Return the documents that the page shows: those that changed first, then a fixed random draw of the rest.

    Both budgets are shared evenly over the families, and each family's over its tasks. Where not all fit, those with
    the smallest SHA-256 of task and number are taken, so that the same files always give the same page.

    Args:
        families: Family to the documents of its tasks.
        changed: Most documents that some model gained or lost.
        total: Most documents; what the changed ones leave is for the others.

    Returns:
        Task to its documents: the changed ones, then the others, each in the order of the file.
    """
    chosen: dict[str, list[OutcomesRow]] = {}
    for is_changed in (True, False):
        budget = changed if is_changed else total - sum(map(len, chosen.values()))
        pools = [[[row for row in task.rows if row.is_changed == is_changed] for task in tasks]
                 for tasks in families.values()]  # fmt: skip
        shares = fair_shares([sum(map(len, pool)) for pool in pools], budget)
        for tasks, pool, share in zip(families.values(), pools, shares, strict=True):
            for task, rows, count in zip(tasks, pool, fair_shares(list(map(len, pool)), share), strict=True):
                chosen.setdefault(task.task, []).extend(_drawn(task.task, rows, count))
    return chosen


def _drawn(task: str, rows: Sequence[OutcomesRow], count: int) -> Iterable[OutcomesRow]:
    """``count`` rows in their order."""
    if count >= len(rows):
        return rows
    marks = {row.key: hashlib.sha256(f"{task}\0{row.key[0]}\0{row.key[1]}".encode("utf-8", "replace")).digest()
             for row in rows}  # fmt: skip
    kept = set(sorted(marks, key=marks.__getitem__)[:count])
    return [row for row in rows if row.key in kept]
