"""Keep encoded pairs in an Arrow file that is mapped into memory, so that a training set may be larger than memory."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smaug_eval.common.files import unwritable
from smaug_eval.trainers.encoded_pair import EncodedPair, TokenIds
from smaug_eval.trainers.items import Items

BATCH = 1000
"""Pairs of a record batch; every one but the last has so many."""
_IDS = ("prompt", "chosen", "rejected")
_SCHEMA = pa.schema(
    [*((name, pa.large_list(pa.int32())) for name in _IDS), ("weight", pa.float64()), ("label", pa.bool_())]
)


class StoredPairs(Items[EncodedPair]):
    """Read pairs from a mapped Arrow file; their ids are views of it.

    Args:
        file: The open file, which may be closed afterwards.
    """

    def __init__(self, file: IO[bytes]) -> None:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.py_buffer(mapped))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self._columns = [tuple(map(_views, batch.columns[: len(_IDS)])) for batch in batches]
        self._weights = [batch.column(len(_IDS)).to_numpy() for batch in batches]
        self._labels = [_labels(batch.column(len(_IDS) + 1)) for batch in batches]
        self._length = sum(batch.num_rows for batch in batches)

    def __len__(self) -> int:
        return self._length

    def at(self, place: int) -> EncodedPair:
        """Return the pair of a number."""
        number, row = divmod(place, BATCH)
        prompt, chosen, rejected = (ids[ends[row] : ends[row + 1]] for ends, ids in self._columns[number])
        labels = self._labels[number]
        label = None if labels is None or labels[row] < 0 else bool(labels[row])
        return EncodedPair(prompt, chosen, rejected, float(self._weights[number][row]), label)


class PairStore:
    """Write encoded pairs into an Arrow file without a name, which goes when the last reader of it goes.

    Args:
        folder: On a disk with room for the ids: 4 bytes a token.

    Raises:
        SmaugError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it is open until it is read
        except OSError as error:
            raise unwritable(folder, error) from error
        self._writer = pa.ipc.new_file(pa.PythonFile(self._file, "w"), _SCHEMA)
        self._waiting: list[EncodedPair] = []

    def append(self, pair: EncodedPair) -> None:
        """Add a pair.

        Raises:
            SmaugError: the disk is full.
        """
        self._waiting.append(pair)
        if len(self._waiting) == BATCH:
            self._write()

    def read(self) -> StoredPairs:
        """Return the pairs; none can be added any more.

        Raises:
            SmaugError: the disk is full.
        """
        self._write()
        try:
            self._writer.close()
            self._file.flush()
        except OSError as error:
            raise unwritable(self._folder, error) from error
        found = StoredPairs(self._file)
        self._file.close()
        return found

    def discard(self) -> None:
        """Let go of the file of a store that is not read."""
        self._file.close()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        columns = [_lists([getattr(pair, name) for pair in waiting]) for name in _IDS]
        columns += [pa.array([pair.weight for pair in waiting], pa.float64())]
        columns += [pa.array([pair.label for pair in waiting], pa.bool_())]
        try:
            self._writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
        except OSError as error:
            raise unwritable(self._folder, error) from error


def _lists(rows: Sequence[TokenIds]) -> Any:
    ends = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return pa.LargeListArray.from_arrays(ends, np.concatenate(rows).astype(np.int32))


def _labels(column: Any) -> npt.NDArray[np.int8] | None:
    """Labels as 0 and 1, -1 where a pair has none; None where no pair has one."""
    if column.null_count == len(column):
        return None
    found: npt.NDArray[np.int8] = column.cast(pa.int8()).fill_null(-1).to_numpy()
    return found


def _views(column: Any) -> tuple[Any, TokenIds]:
    """The ends of a column's lists and their ids, uncopied."""
    return column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=True)
