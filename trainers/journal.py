"""The training log: one JSON row a line, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from smaug_eval.files import write_text

Row = dict[str, Any]
NOT_PLOTTED = ("split", "step", "epoch")


def read_log(path: Path) -> list[Row]:
    """The rows of a log; nothing where it does not exist, and without a last line that was being written."""
    if not path.is_file():
        return []
    complete, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in complete.splitlines()]


class Journal:
    """Appends rows to ``log.jsonl`` and to TensorBoard events beside it.

    Args:
        folder: Where ``log.jsonl`` and ``tensorboard/`` are.
        step: The step that training continues from; later rows of an earlier attempt are removed. None for a new run,
            which keeps nothing.
    """

    def __init__(self, folder: Path, *, step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / "log.jsonl"
        self.rows: list[Row] = [] if step is None else [row for row in read_log(self._path) if row["step"] <= step]
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in self.rows))
        self._stream = self._path.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=0 if step is None else step + 1)

    def append(self, row: Row) -> None:
        """Add a row, at once on disk. ``split`` and ``step`` are required; other numbers are plotted over ``step``."""
        self.rows.append(row)
        self._stream.write(json.dumps(row, allow_nan=False) + "\n")
        self._stream.flush()
        for name, value in row.items():
            if name not in NOT_PLOTTED:
                self._events.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()
        self._events.close()
