"""Put a column's documents into a random order, the same for every model, and score the first of them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.benchmarks import ifeval
from smaug_eval.leaderboard.columns import PERCENT, Column
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.stats import Drawn, Floored, Values

Documents = Mapping[str, Sequence[int]]
"""Task to the numbers of the documents to score, ascending; as in lm-eval's samples files."""


@dataclass(frozen=True)
class DocumentOrder:
    """Hold the random order of a column's documents, and how their values make its score.

    Attributes:
        task: The column's task.
        sizes: Task of the column to the number of its documents.
        seed: Of the order.
        weighted_by_size: Whether the score is the mean over all documents, rather than of the tasks' means.
        floors: Of each task the mean that counts as 0, in [0, 1]; empty for scores as they come.
        floor: The same for the mean over all documents.
        entries: Of each document the number of entries that its value also counts, such as IFEval's instructions; empty
            for values of one number.
        needs_each: Whether the score needs a document of each task.
    """

    task: str
    sizes: Mapping[str, int]
    seed: int
    weighted_by_size: bool = False
    floors: tuple[float, ...] = ()
    floor: float = 0.0
    entries: tuple[int, ...] = ()
    needs_each: bool = False

    @property
    def size(self) -> int:
        """Return the number of documents."""
        return sum(self.sizes.values())

    @cached_property
    def places(self) -> NDArray[np.intp]:
        """Return the documents in their order, as their places among all documents of all tasks."""
        generator = np.random.default_rng([self.seed, zlib.crc32(self.task.encode())])
        return generator.permutation(self.size)

    @property
    def per_entry(self) -> float:
        """Return what an entry counts, so that all of them together count as much as all documents; 0 without any."""
        return len(self.entries) / sum(self.entries) if self.entries else 0.0

    @cached_property
    def tasks(self) -> NDArray[np.intp]:
        """Return the number of each document's task, in the documents' order."""
        return np.repeat(np.arange(len(self.sizes)), list(self.sizes.values()))[self.places]

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """Return by what a document's value is multiplied, so that the mean over all of them is the column's score.

        In the documents' order: 1 but where the score is a plain mean of tasks of different sizes, is stretched above a
        floor, or counts entries beside documents. Where there are floors, a constant has to be taken off.
        """
        shares = np.array(self._shares) / np.array(list(self.sizes.values())) * self.size
        stretch = 1 / (1 - np.array(self.floors or (self.floor,) * len(self.sizes)))
        return (shares * stretch)[self.tasks] / (2 if self.entries else 1)

    @cached_property
    def largest(self) -> NDArray[np.float64]:
        """Return the largest value that each document can have, in their order."""
        counted = np.array(self.entries, np.float64)[self.places] if self.entries else np.zeros(self.size)
        return 1 + self.per_entry * counted

    @property
    def bound(self) -> float:
        """Return the largest weighted value."""
        return float((self.weights * self.largest).max())

    @property
    def _shares(self) -> list[float]:
        """What each task counts in the score."""
        return [size / self.size if self.weighted_by_size else 1 / len(self.sizes) for size in self.sizes.values()]

    def drawn(self, values: Sequence[float] | Values, *, ends: bool = True) -> Drawn:
        """Return the differences of the first documents as draws whose mean over all is the difference of the scores.

        Where there are floors, it is that of their linear parts (:mod:`smaug_eval.stats.floors`).

        Args:
            values: Differences in the documents' order.
            ends: Whether the documents are all there are, rather than some of very many.
        """
        return Drawn(np.asarray(values) * self.weights[: len(values)], self.size if ends else None, self.bound)

    def drawn_score(self, values: Sequence[float] | Values) -> tuple[Drawn, float, float]:
        """Return one model's values as draws, and the score's linear part: ``scale * mean + offset``."""
        weights, largest = self.weights[: len(values)], self.largest[: len(values)]
        drawn = Drawn((2 * np.asarray(values) - largest) * weights, self.size, self.bound)
        floors = np.array(self.floors or (self.floor,) * len(self.sizes))
        below = float((np.array(self._shares) * floors / (1 - floors)).sum())
        return drawn, 0.5, float((self.weights * self.largest).mean()) / 2 - below

    def floored(self, values: Sequence[float] | Values, *, ends: bool = True) -> list[Floored]:
        """Return one model's values by what counts from a floor on; empty where nothing does.

        Their scores are in the unit of the column's score.
        """
        seen, tasks = 2 * np.asarray(values) - 1, self.tasks[: len(values)]
        if self.floor:
            return [Floored(Drawn(seen, self.size if ends else None), 2 * self.floor - 1)]
        own = zip(self.sizes.values(), self.floors, self._shares, strict=True) if self.floors else ()
        return [
            Floored(Drawn(seen[tasks == number], size if ends else None), 2 * floor - 1, share)
            for number, (size, floor, share) in enumerate(own)
        ]

    def may_end(self, seen: int) -> bool:
        """Return whether a score of so many first documents is one."""
        return not self.needs_each or len(np.unique(self.tasks[:seen])) == len(self.sizes)

    def keys(self, start: int, end: int) -> Iterator[tuple[str, int]]:
        """Yield the task and number of each document from ``start`` up to ``end`` in the order."""
        names, starts = list(self.sizes), np.cumsum([0, *self.sizes.values()])
        for place in self.places[start:end]:
            task = int(np.searchsorted(starts, place, side="right")) - 1
            yield names[task], int(place - starts[task])

    def documents(self, start: int, end: int) -> dict[str, list[int]]:
        """Return the same by task; tasks without any are left out."""
        found: dict[str, list[int]] = {}
        for task, number in self.keys(start, end):
            found.setdefault(task, []).append(number)
        return {task: sorted(found[task]) for task in self.sizes if task in found}


def order_of(suite: Suite, column: Column[Any], data_root: Path | None, seed: int) -> DocumentOrder:
    """Return the order of a column's documents.

    Raises:
        SmaugError: the column's score is not known to be made of means over documents of values in [0, 1].
    """
    if column.unit is not PERCENT:
        raise SmaugError(
            f"{column.title} has a score that is no mean over documents of values from 0 to 1",
            fix="score this column in full, in an evaluation without stop",
        )
    rows = {leaf.name: suite.rows(leaf, data_root)[1] for leaf in column.leaves}
    if empty := next((name for name, own in rows.items() if not len(own)), None):
        raise SmaugError(f"{empty} has no document", fix="leave it out")
    sizes = {name: len(own) for name, own in rows.items()}
    is_unlike = column.floor and not column.weighted_by_size and len(set(sizes.values())) > 1
    if is_unlike or (column.floor and any(column.floors)):
        raise SmaugError(
            f"{column.title} is normalised by its tasks and as a whole, which no interval is known for",
            fix="score this column in full, in an evaluation without stop",
        )
    entries = []
    if column.metric == ifeval.STRICT:
        entries = [len(row["instruction_id_list"]) for own in rows.values() for row in own]
    return DocumentOrder(
        column.task,
        sizes,
        seed,
        column.weighted_by_size,
        floors=column.floors if any(column.floors) else (),
        floor=column.floor,
        entries=tuple(entries),
        needs_each=column.reported or column.is_normalised,
    )


def logged_metric(column: Column[Any]) -> str:
    """Return the metric of a column as samples have it, document by document: IFEval's is made of two."""
    return ifeval.BOTH if column.metric == ifeval.STRICT else column.metric


class DocumentNumbers(list[int]):
    """Keep numbers of documents for lm-eval, which looks up every document of the task in this list."""

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__(numbers)
        self._known = frozenset(numbers)

    def __contains__(self, number: object) -> bool:
        return number in self._known


@contextmanager
def prompts_of_all() -> Iterator[None]:
    """Let lm-eval make the prompts of some documents as it makes them for all.

    It draws the shots of one document after the other with one generator: of some documents alone each would get
    others. Within this context the requests of all documents are made, and those that are not asked for are dropped.
    """
    from lm_eval.api.task import Task

    original: Callable[..., None] = Task.build_all_requests

    def build_all_requests(self: Any, *, samples: Sequence[int] | None = None, **options: Any) -> None:
        if not samples or not self.config.num_fewshot:
            original(self, samples=samples, **options)
            return
        original(self, samples=None, **options)
        places = {number: place for place, number in enumerate(samples)}
        kept = [instance for instance in self._instances if instance.doc_id in places]
        for instance in kept:
            instance.doc_id = places[instance.doc_id]  # lm-eval counts the documents that it was asked for
        self._instances = kept

    Task.build_all_requests = build_all_requests
    try:
        yield
    finally:
        Task.build_all_requests = original
