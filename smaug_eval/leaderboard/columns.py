"""Define what a score is: of which tasks, by which metric, in which unit, and whether more is better.

The leaderboard's six columns, the second leaderboard's normalised groups, the demo's tasks and any task of anybody's
results are described by the same :class:`Column`; everything that scores, compares or shows one reads it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Unit(NamedTuple):
    """Say how a value of lm-eval's is shown.

    Attributes:
        scale: What it is multiplied by.
        name: What stands in tables' headings; empty for lm-eval's own unit.
        of_difference: What follows a difference, such as " points".
        bounds: Between what scaled values lie; None where they have no bound.
    """

    scale: float
    name: str
    of_difference: str
    bounds: tuple[float, float] | None


PERCENT = Unit(100.0, "%", " points", (0.0, 100.0))
PLAIN = Unit(1.0, "", "", None)


class Leaf(Protocol):
    """Describe a single task."""

    @property
    def name(self) -> str:
        """Return the name that the task has in the results."""

    @property
    def official_rows(self) -> int | None:
        """Return the number of documents that the task has officially; None where nobody says so."""


LeafT_co = TypeVar("LeafT_co", bound=Leaf, covariant=True)


@dataclass(frozen=True)
class Task:
    """Describe a task that this program does not run itself.

    Attributes:
        name: Its name in the results.
        official_rows: Documents it has; None where unknown.
        subject: What it is called among the tasks of its column; None where its name says it.
    """

    name: str
    official_rows: int | None = None
    subject: str | None = None


@dataclass(frozen=True)
class Column(Generic[LeafT_co]):
    """Describe one score.

    Attributes:
        title: The column's name in tables.
        task: The lm-eval task or group that measures it.
        metric: The metric, ``name`` or ``name,filter``.
        leaves: The tasks whose mean is the score; one unless ``task`` is a group.
        weighted_by_size: Whether that mean weighs the tasks by their documents; the leaderboard does not.
        unit: In which it is shown.
        higher_is_better: Whether more is better; None where nobody says so, and then no difference is one for the
            better.
        reported: Whether a group's own entry in the results is the score, and the tasks only say how sure it is.
        floors: Of each leaf the score that guessing has, in [0, 1]; its score is normalised to 0 there. Empty for
            scores as they come.
        floor: The same for the mean of all leaves.
    """

    title: str
    task: str
    metric: str
    leaves: tuple[LeafT_co, ...]
    weighted_by_size: bool = False
    unit: Unit = PERCENT
    higher_is_better: bool | None = True
    reported: bool = False
    floors: tuple[float, ...] = ()
    floor: float = 0.0

    @property
    def is_normalised(self) -> bool:
        """Return whether the score is no plain mean of values per document."""
        return bool(self.floor or any(self.floors))

    def normalised(self, means: Sequence[float], sizes: Sequence[int]) -> float:
        """Compute the score from the leaves' means, in [0, 1] as they are.

        Args:
            means: Of the leaves, in their order.
            sizes: Their documents.
        """
        return float(self.normalised_array([np.asarray(mean) for mean in means], sizes))

    def normalised_array(self, means: Sequence[Array], sizes: Sequence[int]) -> Array:
        """Compute :meth:`normalised` for many values of each mean at once; all arrays have one shape."""
        floors = self.floors or (0.0,) * len(means)
        values = [above_floor(mean, floor) for mean, floor in zip(means, floors, strict=True)]
        weights = sizes if self.weighted_by_size else [1] * len(values)
        total = np.asarray(sum(weight * value for weight, value in zip(weights, values, strict=True)), np.float64)
        return above_floor(total / sum(weights), self.floor)


@dataclass(frozen=True)
class Board(Generic[LeafT_co]):
    """Group columns that stand in one table.

    Attributes:
        name: Its name: a suite's only for what was run by the suite's rules.
        columns: In the order of the table.
        is_averaged: Whether the mean of the columns means something.
    """

    name: str
    columns: tuple[Column[LeafT_co], ...]
    is_averaged: bool = field(default=True, kw_only=True)


def above_floor(values: Array, floor: float) -> Array:
    """Return ``max(0, (value - floor) / (1 - floor))``: 0 for a guess, 1 for all right."""
    return np.maximum(0.0, (values - floor) / (1 - floor)) if floor else values
