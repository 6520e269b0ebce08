"""Compare each document's outcome between the baseline and another model, and choose the documents the page shows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
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


class OutcomesRow(NamedTuple):
    """Hold one document of a task, for several models.

    Attributes:
        key: What distinguishes it from the others.
        found: Where each model's sample lies; None where a model has none.
        outcomes: Of each model; None where there is no value between 0 and 1.
    """

    key: Key
    found: tuple[Located | None, ...]
    outcomes: tuple[SampleOutcome | None, ...]

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
        states, metrics = self._values
        reference = states[:, baseline]
        changed = np.zeros(len(states), bool)
        counts: list[Counter[SampleOutcome]] = []
        for index in range(states.shape[1]):
            own = states[:, index]
            is_other = (reference != _ABSENT) & (metrics[:, index] != metrics[:, baseline])
            known = (own >= _WRONG) & ~is_other if index not in refused and is_right else np.zeros(len(own), bool)
            before = known & (reference >= _WRONG) if index != baseline else np.zeros(len(own), bool)
            ways: dict[SampleOutcome, NDArray[np.bool_]] = {
                "gained": before & (own > reference),
                "lost": before & (own < reference),
                "both right": before & (own == _RIGHT) & (reference == _RIGHT),
                "both wrong": before & (own == _WRONG) & (reference == _WRONG),
                "right": known & ~before & (own == _RIGHT),
                "wrong": known & ~before & (own == _WRONG),
            }
            changed |= ways["gained"] | ways["lost"]
            counts.append(Counter({way: number for way, each in ways.items() if (number := int(each.sum()))}))
        return TaskOutcomes(counts, [int(each) for each in (states != _ABSENT).sum(axis=0)], int(changed.sum()))

    @cached_property
    def _values(self) -> tuple[NDArray[np.int8], NDArray[np.intp]]:
        """Whether each model has each document right, and by which metric; shape ``(documents, models)``."""
        states = np.full((len(self.rows), len(self.files)), _ABSENT, np.int8)
        metrics = np.zeros(states.shape, np.intp)
        numbers: dict[str, int] = {}
        for place, row in enumerate(self.rows):
            for index, found in enumerate(row.found):
                if found is not None:
                    is_right = _is_right(found.value)
                    states[place, index] = _UNKNOWN if is_right is None else int(is_right)
                    metrics[place, index] = numbers.setdefault(found.metric, len(numbers))
        return states, metrics


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
    rows = []
    for row in task.rows:
        reference = row.found[baseline]
        outcomes = tuple(
            outcome(each, reference if index != baseline else None)
            if each is not None and index not in refused and is_right
            else None
            for index, each in enumerate(row.found)
        )
        rows.append(OutcomesRow(row.key, row.found, outcomes))
    return TaskRows(task.task, task.files, rows)


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
