"""Write the training log: one JSON row a line, and the same numbers for TensorBoard and Weights & Biases."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import TracebackType
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import GrowingFile, sha256_of_text, write_text
from smaug_eval.trainers.layout import LOG_FILE

Row = dict[str, Any]
NOT_PLOTTED = ("split", "step", "epoch")

log = logging.getLogger(__name__)


def read_log(path: Path) -> list[Row]:
    """Read the rows of a log; nothing where it does not exist, and without a last line that was being written.

    A damaged line is left out, with a warning in the log: the weights do not depend on it.
    """
    if not path.is_file():
        return []
    complete, _, _ = path.read_bytes().rpartition(b"\n")
    rows = []
    for number, line in enumerate(complete.splitlines(), 1):
        row = _parsed(line)
        if row is None:
            log.warning("%s, line %d: damaged; it is left out", path, number)
        else:
            rows.append(row)
    return rows


class TrainingLog:
    """Append rows to ``log.jsonl``, to TensorBoard events beside it, and to a project of Weights & Biases.

    Args:
        folder: Where ``log.jsonl`` and ``tensorboard/`` are.
        step: The step that training continues from; later rows of an earlier attempt are removed. None for a new run,
            which keeps nothing.
        wandb_project: The project, or None.
        writes: False for a process that only remembers the rows, which another one writes.

    Raises:
        SmaugError: a project is given and wandb is not installed or refuses.
    """

    def __init__(
        self, folder: Path, *, step: int | None, wandb_project: str | None = None, writes: bool = True
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / LOG_FILE
        self.rows: list[Row] = [] if step is None else [row for row in read_log(self._path) if row["step"] <= step]
        self._writes = writes
        if not writes:
            return
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in self.rows))
        self._wandb = wandb_run(wandb_project, folder) if wandb_project else None
        self._stream = GrowingFile(self._path)
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=0 if step is None else step + 1)

    def append(self, row: Row) -> None:
        """Add a row, at once on disk. ``split`` and ``step`` are required; other numbers are plotted over ``step``."""
        self.rows.append(row)
        if not self._writes:
            return
        self._stream.append(json.dumps(row, allow_nan=False).encode() + b"\n")
        plotted = {f"{row['split']}/{name}": value for name, value in row.items() if name not in NOT_PLOTTED}
        for name, value in plotted.items():
            self._events.add_scalar(name, value, row["step"])
        if self._wandb is not None:
            self._wandb.log(plotted, step=row["step"])

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._writes:
            return
        self._stream.close()
        self._events.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if error is None else 1)


def _parsed(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def wandb_run(project: str, folder: Path) -> Any:
    """Open the run of a training at Weights & Biases; it is the same one whenever the folder is the same.

    Args:
        project: The project.
        folder: Of the training.

    Raises:
        SmaugError: wandb is not installed, or refuses.
    """
    try:
        import wandb
    except ImportError as error:
        raise SmaugError(
            f"wandb_project is {project!r}, but wandb is not installed", fix="pip install 'smaug-eval[wandb]'"
        ) from error
    # The same folder is the same run: a resumed training continues in it.
    run_id = sha256_of_text(str(folder.resolve()))[:16]
    try:
        return wandb.init(project=project, name=folder.name, id=run_id, dir=str(folder), resume="allow")
    except wandb.errors.Error as error:
        raise SmaugError(
            f"wandb_project {project!r}: {error}", fix="log in (wandb login), set WANDB_MODE=offline, or leave it out"
        ) from error
