"""Hold rows of numbers of different lengths in one flat array, in memory or in a file that is mapped into it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from smaug_eval.common.files import unwritable
from smaug_eval.trainers.items import Items

Floats = npt.NDArray[np.float32]


class Ragged(Items[Floats]):
    """Read rows from one flat array, as views of it.

    Args:
        values: The rows, one behind the other.
        lengths: Of each row.

    Raises:
        ValueError: the lengths do not add up.
    """

    def __init__(self, values: Floats, lengths: npt.NDArray[np.int64]) -> None:
        self.values, self.lengths = values, np.asarray(lengths, np.int64)
        self._ends = np.concatenate([[0], np.cumsum(self.lengths)])
        if self._ends[-1] != len(values):
            raise ValueError(f"rows of {self._ends[-1]} numbers in all, and there are {len(values)}")

    def __len__(self) -> int:
        return len(self.lengths)

    def at(self, place: int) -> Floats:
        """Return the row of a number."""
        return self.values[self._ends[place] : self._ends[place + 1]]

    def sums(self) -> npt.NDArray[np.float64]:
        """Return the sum of each row, added up in float64; shape ``(rows,)``."""
        return np.array([row.sum(dtype=np.float64) for row in self])


def empty_rows(lengths: npt.NDArray[np.int64], folder: Path | None) -> Ragged:
    """Return rows to be written into, of numbers that are none.

    Args:
        lengths: Of each row.
        folder: Where they go, in a file without a name that is mapped into memory; None to keep them in memory.

    Raises:
        SmaugError: the disk is full.
    """
    size = int(lengths.sum())
    if folder is None or not size:
        return Ragged(np.full(size, np.nan, np.float32), lengths)
    try:
        handle, name = tempfile.mkstemp(prefix=".numbers-", dir=folder)
        with os.fdopen(handle, "r+b") as file:
            Path(name).unlink()
            if hasattr(os, "posix_fallocate"):  # what does not fit fails here rather than when it is written
                os.posix_fallocate(file.fileno(), 0, 4 * size)
            values: Floats = np.memmap(file, np.float32, "r+", shape=(size,))
    except OSError as error:
        raise unwritable(folder, error) from error
    return Ragged(values, lengths)
