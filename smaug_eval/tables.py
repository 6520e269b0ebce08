"""The scores of runs and results as a data frame, and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table

from reports.comparison import Cell, compare
from reports.merging import with_distinct_labels
from reports.sources import read_source
from smaug_eval.files import read_json
from smaug_eval.leaderboard.published import published_row
from smaug_eval.rundir import MANIFEST

if TYPE_CHECKING:
    from reports.comparison import SuiteTable

_COLUMNS = ("suite", "model", "column", "metric", "score", "stderr", "low", "high", "n", "delta", "notes")


def scores(paths: Sequence[Path], *, baseline: str | None = None) -> pd.DataFrame:
    """Every score found under ``paths``, one row each.

    Args:
        paths: Run directories, folders or files of lm-eval results.
        baseline: The model that ``delta`` is taken against; the one called ``base``, else the first.

    Returns:
        Columns ``suite``, ``model``, ``column`` (a title of the suite, or its average), ``metric``, ``score``,
        ``stderr``, ``low`` and ``high`` (percent; the ends of the 95% interval), ``n`` (documents), ``delta`` (points;
        missing for the baseline and where nothing compares) and ``notes``.

    Raises:
        SmaugError: a path holds nothing, or a damaged file.
    """
    sources = with_distinct_labels([read_source(path) for path in paths])
    tables = compare(sources, title=None, baseline=baseline, whole=True).tables
    return pd.DataFrame((row for table in tables for row in _rows(table)), columns=list(_COLUMNS))


def terminal_table(frame: pd.DataFrame, suite: str) -> Table:
    """One suite's part of :func:`scores`: a line per model, score ± standard error per column."""
    part = frame[frame["suite"] == suite]
    titles = list(dict.fromkeys(part["column"]))
    heading = f"{suite}: score ± standard error, %"
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    for title in titles:
        table.add_column(title, justify="right", min_width=8)  # a score is never broken at its ±
    for model, rows in part.groupby("model", sort=False):
        by_title = {row.column: _cell_text(row) for row in rows.itertuples()}
        table.add_row(str(model), *(by_title.get(title, "") for title in titles))
    return table


def note_lines(frame: pd.DataFrame, suite: str) -> list[str]:
    """What a reader must know beside one suite's scores, each note once with the models it is about."""
    part = frame[(frame["suite"] == suite) & (frame["notes"] != "") & (frame["metric"] != "mean")]
    models = frame.loc[frame["suite"] == suite, "model"].nunique()
    about: dict[str, list[str]] = {}
    for row in part.itertuples():
        about.setdefault(f"{row.column}: {row.notes}", []).append(str(row.model))
    return [text if len(names) == models else f"{text} ({', '.join(names)})" for text, names in about.items()]


def published_lines(run: Path) -> list[str]:
    """For each model of a run that the archived leaderboard lists, its published row in words."""
    models = read_json(run / MANIFEST)["models"]
    rows = [row for model in models.values() if (row := published_row(model["source"])) is not None]
    return [
        f"published for {row.model} ({row.precision}): average {row.average:.2f}; "
        + ", ".join(f"{title} {score:.2f}" for title, score in row.scores.items())
        for row in rows
    ]


def _rows(table: SuiteTable) -> Iterator[tuple[Any, ...]]:
    for model, cells in table.cells.items():
        for title, metric, cell in zip(table.columns, table.metrics, cells, strict=True):
            if cell is not None:
                yield _row(table.suite, model, title, metric, cell)
        yield _row(table.suite, model, table.average_label or "average", "mean", table.averages[model])


def _row(suite: str, model: str, title: str, metric: str, cell: Cell) -> tuple[Any, ...]:
    score = cell.score
    low, high = score.interval or (None, None)
    notes = "; ".join(score.notes)
    return suite, model, title, metric, score.value, score.stderr, low, high, score.n, cell.delta, notes


def _cell_text(row: Any) -> str:
    return f"{row.score:.1f}" if pd.isna(row.stderr) else f"{row.score:.1f}±{row.stderr:.1f}"
