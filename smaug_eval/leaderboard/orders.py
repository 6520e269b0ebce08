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
from smaug_eval.leaderboard.columns import PERCENT, Column
from smaug_eval.leaderboard.published import V2
from smaug_eval.leaderboard.suite import Suite

Documents = Mapping[str, Sequence[int]]
"""Task to the numbers of the documents to score, ascending; as in lm-eval's samples files."""


@dataclass(frozen=True)
class DocumentOrder:
    """Hold the random order of a column's documents.

    Attributes:
        task: The column's task.
        sizes: Task of the column to the number of its documents.
        seed: Of the order.
        weighted_by_size: Whether the score is the mean over all documents, rather than of the tasks' means.
    """

    task: str
    sizes: Mapping[str, int]
    seed: int
    weighted_by_size: bool = False

    @property
    def size(self) -> int:
        """Return the number of documents."""
        return sum(self.sizes.values())

    @cached_property
    def places(self) -> NDArray[np.intp]:
        """Return the documents in their order, as their places among all documents of all tasks."""
        generator = np.random.default_rng([self.seed, zlib.crc32(self.task.encode())])
        return generator.permutation(self.size)

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """Return by what a document's value is multiplied, so that the mean over all of them is the column's score.

        In the documents' order: 1 but where the score is a plain mean of tasks of different sizes.
        """
        if self.weighted_by_size:
            return np.ones(self.size)
        shares = [np.full(size, self.size / (len(self.sizes) * size)) for size in self.sizes.values()]
        return np.concatenate(shares)[self.places]

    @property
    def bound(self) -> float:
        """Return the largest weight."""
        return float(self.weights.max())

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
        SmaugError: the column's score is not known to be a mean over documents of values in [0, 1], or it is a group
            of lm-eval's, whose tasks can be asked otherwise than alone.
    """
    if column.is_normalised or suite.name == V2 or column.unit is not PERCENT:
        raise SmaugError(
            f"{column.title} has a score that is no mean over documents of values from 0 to 1",
            fix="score this column in full, in an evaluation without stop",
        )
    if column.reported:
        raise SmaugError(
            f"{column.title} is a group of lm-eval, which may ask its tasks otherwise than alone",
            fix="name single tasks, or a pattern such as mmlu_*",
        )
    sizes = {leaf.name: len(suite.rows(leaf, data_root)[1]) for leaf in column.leaves}
    if empty := next((name for name, size in sizes.items() if not size), None):
        raise SmaugError(f"{empty} has no document", fix="leave it out")
    return DocumentOrder(column.task, sizes, seed, column.weighted_by_size)


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
