"""Read a training's log, summary and diagnostics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.results.json_files import as_number, json_lines, read_object
from smaug_eval.trainers.layout import DIAGNOSTICS_FILE, LOG_FILE, SUMMARY_FILE

if TYPE_CHECKING:
    import pandas as pd

    from smaug_eval.results.task_results import TaskResult


@dataclass(frozen=True)
class Training:
    """Hold a training's log and summary.

    Attributes:
        name: Its name.
        rows: The log: the columns ``split``, ``step`` and whatever was logged.
        summary: What it was and came to; empty while it runs.
        diagnostics: What was measured on the held-out pairs beside the log, oldest first.
        scored: Results of checkpoints: by evaluation and column, by step, by task.
        development: Those of the evaluations that are for development alone.
        chosen: The checkpoint that was chosen by such scores, with its ``step`` and the ``metric``; empty for none.
    """

    name: str
    rows: pd.DataFrame
    summary: Mapping[str, Any]
    diagnostics: Sequence[Mapping[str, Any]] = ()
    scored: Mapping[tuple[str, str], Mapping[int, Mapping[str, TaskResult]]] = field(default_factory=dict)
    development: frozenset[str] = frozenset()
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_unpaired(self) -> bool:
        """Return whether single completions with labels were trained on: their log has an estimate of a divergence."""
        return "kl" in self.rows.columns

    @property
    def last_diagnosis(self) -> Mapping[str, Any]:
        """Return the newest of ``diagnostics``; empty where there is none."""
        return self.diagnostics[-1] if self.diagnostics else {}


def read_training(folder: Path) -> Training | None:
    """Read a training's folder, or return None while it has neither a log nor a summary.

    Raises:
        SmaugError: a file is damaged (naming the line or the row).
    """
    import pandas as pd

    log, summary, diagnostics = folder / LOG_FILE, folder / SUMMARY_FILE, folder / DIAGNOSTICS_FILE
    if not log.is_file() and not summary.is_file():
        return None
    rows = pd.DataFrame(list(_log_rows(log)) if log.is_file() else [])
    for column in {"split", "step"} - set(rows.columns):
        rows[column] = pd.Series(dtype=object)
    rows = rows.drop_duplicates(subset=["split", "step"], keep="last")
    return Training(
        folder.name,
        rows.sort_values("step"),
        read_object(summary) if summary.is_file() else {},
        list(json_lines(diagnostics)) if diagnostics.is_file() else [],
    )


def is_training(path: Path) -> bool:
    """Return whether ``path`` is a training's folder or its log."""
    return path.name == LOG_FILE if path.is_file() else (path / LOG_FILE).is_file()


def _log_rows(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a training's log.

    Raises:
        SmaugError: a row does not say of which split it is.
    """
    for number, row in enumerate(json_lines(log), start=1):
        if not isinstance(row.get("split", ""), str) or isinstance(row.get("step"), list | dict):
            raise SmaugError(f"{log}, row {number}: split is no text, or step no number", fix="remove the line")
        yield {_plain(key): _plain(value) if key == "split" else _logged(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    """Remove halves of surrogate pairs from a text, since no table holds them."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _logged(value: object) -> int | float:
    """Return a number that a table holds; NaN for everything else."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53:
        return value
    return as_number(value)
