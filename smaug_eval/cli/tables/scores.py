"""Show scores in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table

from smaug_eval.common.files import read_json
from smaug_eval.leaderboard.published import published_row
from smaug_eval.results.layout import MANIFEST

if TYPE_CHECKING:
    pass


def terminal_table(frame: pd.DataFrame, suite: str) -> Table:
    """Return one suite's part of :func:`scores`: a line per model, score ± standard error per column."""
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
    """Return what a reader must know beside one suite's scores, each note once with the models it is about."""
    part = frame[(frame["suite"] == suite) & (frame["notes"] != "") & (frame["metric"] != "mean")]
    models = frame.loc[frame["suite"] == suite, "model"].nunique()
    about: dict[str, list[str]] = {}
    for row in part.itertuples():
        about.setdefault(f"{row.column}: {row.notes}", []).append(str(row.model))
    return [text if len(names) == models else f"{text} ({', '.join(names)})" for text, names in about.items()]


def published_lines(run: Path) -> list[str]:
    """Return the published row of each model of a run that the archived leaderboard lists, as text."""
    models = read_json(run / MANIFEST)["models"]
    rows = [row for model in models.values() if (row := published_row(model["source"])) is not None]
    return [
        f"published for {row.model} ({row.precision}): average {row.average:.2f}; "
        + ", ".join(f"{title} {score:.2f}" for title, score in row.scores.items())
        for row in rows
    ]


def _cell_text(row: Any) -> str:
    return f"{row.score:.1f}" if pd.isna(row.stderr) else f"{row.score:.1f}±{row.stderr:.1f}"
