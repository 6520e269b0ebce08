"""The leaderboard's table: scores, differences, and beside them what the archived leaderboard published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from reports.comparison import Comparison, SuiteTable
from reports.families import column_places
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.archive import Standing, read_archive, standing
from smaug_eval.leaderboard.published import TITLES, PublishedRow, published_row


class Footnote(NamedTuple):
    """What is to be known of a column's scores, once for all models it is true of; ``models`` are empty if for all."""

    number: int
    column: str
    text: str
    models: tuple[str, ...]


def scores(comparison: Comparison) -> Mapping[str, Any] | None:
    """Models against the columns of each suite."""
    if not comparison.tables:
        return None
    return {
        "tables": comparison.tables,
        "footnotes": [footnotes(table) for table in comparison.tables],
        "places": [
            {model: column_places(comparison, table, model) for model in table.cells} for table in comparison.tables
        ],
        "baseline": comparison.baseline,
        "has_differences": has_differences(comparison),
        "published": published_rows(comparison),
        "titles": TITLES,
        "standings": list(standings(comparison)),
        "archive": comparison.archive.name if comparison.archive is not None else "",
    }


def footnotes(table: SuiteTable) -> list[Footnote]:
    """The notes on a suite's scores, column by column."""
    found: list[Footnote] = []
    for position, column in enumerate(table.columns):
        cells = {model: cells[position] for model, cells in table.cells.items()}
        notes = {model: cell.score.notes for model, cell in cells.items() if cell is not None}
        for text in dict.fromkeys(note for own in notes.values() for note in own):
            models = tuple(model for model, own in notes.items() if text in own)
            found.append(Footnote(len(found) + 1, column, text, () if len(models) == len(notes) else models))
    return found


def has_differences(comparison: Comparison) -> bool:
    """Whether any model is compared with the baseline in a suite."""
    return any(
        cell is not None and cell.difference is not None
        for table in comparison.tables
        for cells in table.cells.values()
        for cell in cells
    )


def published_rows(comparison: Comparison) -> list[tuple[str, PublishedRow]]:
    """The models of the report that the archived leaderboard lists, with their rows."""
    names = {model: str(described(comparison, model).get("source") or model) for model in comparison.models}
    return [(model, row) for model, name in names.items() if (row := published_row(name)) is not None]


def standings(comparison: Comparison) -> Iterator[Standing]:
    """Where each model with scores in ``open_llm_v1`` would have ranked; none where no archive was given.

    Raises:
        SmaugError: the archive cannot be read.
    """
    tables = [table for table in comparison.tables if table.suite == v1.NAME]
    if comparison.archive is None or not tables:
        return
    archive = read_archive(comparison.archive)
    for table in tables:
        for model, own in table.scores.items():
            about = described(comparison, model)
            name, billions = str(about.get("source") or model), _billions(comparison, model, about)
            yield replace(standing(archive, own, model=name, billions=billions), model=model)


def described(comparison: Comparison, model: str) -> Mapping[str, Any]:
    """What a run's manifest says of a model; empty where no manifest names it."""
    for source in comparison.sources:
        models = (source.manifest or {}).get("models")
        name = model.removeprefix(f"{source.label}/")
        if isinstance(models, Mapping) and name in source.results and isinstance(models.get(name), Mapping):
            return dict(models[name])
    return {}


def _billions(comparison: Comparison, model: str, about: Mapping[str, Any]) -> float | None:
    from smaug_eval.standings import checkpoint_billions  # which itself reads sources with this package

    path = about.get("path")
    counts = (each.settings["config"].get("model_num_parameters") for each in comparison.models[model].values())
    counted = next((count / 1e9 for count in counts if isinstance(count, int) and count > 0), None)
    return (checkpoint_billions(Path(path)) if isinstance(path, str) else None) or counted
