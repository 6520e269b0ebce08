"""Show the leaderboard's table: scores, differences, and what the archived leaderboard published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from smaug_eval.leaderboard import modern, v2_scores
from smaug_eval.leaderboard.archive import AVERAGE, Standing, archived_rows, read_archive
from smaug_eval.leaderboard.published import TITLES, V1, V2, V2_TITLES, PublishedRow, published_row
from smaug_eval.leaderboard.scores import SuiteScores
from smaug_eval.reports.families import column_places
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.results.boards import SIX, leaderboard_board
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.identity import hub_name
from smaug_eval.results.standings import standing_of
from smaug_eval.results.tables import ScoreTable

ALL_SIX = "average of six"
TABLE_WORDS = {
    SIX: "The leaderboard's six benchmarks as these results ran them",
    v2_scores.NAME: "Open LLM Leaderboard v2, normalised so that a guess scores 0",
}
"""Board to what its table is called; suites bear their names."""


class Footnote(NamedTuple):
    """Note what is to be known of a column's scores, once for all models it is true of.

    ``models`` is empty where it is true of all.
    """

    number: int
    column: str
    text: str
    models: tuple[str, ...]


def scores(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show models against the columns of each suite."""
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
        "labels": [table_words(table) for table in comparison.tables],
        "published": published_scores(comparison),
        "average": AVERAGE,
        "titles": titles(comparison),
        "standings": list(standings(comparison)),
        "archive": comparison.archive.name if comparison.archive is not None else "",
    }


def table_words(table: ScoreTable) -> str:
    """Name a table: a suite by its name, else what it holds."""
    return TABLE_WORDS.get(table.suite, f"Suite {table.suite}")


def footnotes(table: ScoreTable) -> list[Footnote]:
    """Return the notes on a suite's scores, column by column."""
    found: list[Footnote] = []
    for position, column in enumerate(table.columns):
        cells = {model: cells[position] for model, cells in table.cells.items()}
        notes = {model: cell.score.notes for model, cell in cells.items() if cell is not None}
        for text in dict.fromkeys(note for own in notes.values() for note in own):
            models = tuple(model for model, own in notes.items() if text in own)
            found.append(Footnote(len(found) + 1, column, text, () if len(models) == len(notes) else models))
    return found


def has_differences(comparison: Comparison) -> bool:
    """Return whether any model is compared with the baseline in a suite."""
    return any(
        cell is not None and cell.difference is not None
        for table in comparison.tables
        for cells in table.cells.values()
        for cell in cells
    )


class PublishedScores(NamedTuple):
    """Hold a model's published row beside its scores here.

    Attributes:
        model: Its name on the page.
        row: The row.
        own: Title of a column, and of the average, to the score here; only those that were measured.
    """

    model: str
    row: PublishedRow
    own: Mapping[str, float]

    def gap(self, title: str) -> float | None:
        """Return how far the score here is above the published one, in points; None where it was not measured."""
        published = self.row.average if title == AVERAGE else self.row.scores[title]
        return self.own[title] - published if title in self.own else None


def leaderboard_of(comparison: Comparison) -> str:
    """Return the suite whose published rows are shown: the archive's, else the one that was measured."""
    if comparison.archive is not None:
        return read_archive(comparison.archive).kind.suite
    names = {board.name for board in comparison.boards}
    return V2 if names & {V2, v2_scores.NAME} and not names & {V1, modern.NAME, SIX} else V1


def titles(comparison: Comparison) -> tuple[str, ...]:
    """Return the columns of that leaderboard."""
    return V2_TITLES if leaderboard_of(comparison) == V2 else TITLES


def leaderboard_scores(comparison: Comparison) -> dict[str, SuiteScores]:
    """Return each model's scores in the leaderboard's six benchmarks, by its rules as far as the results tell.

    It makes no difference how they were run.
    """
    found: dict[str, SuiteScores] = {}
    suite = leaderboard_of(comparison)
    own = next((board for board in comparison.boards if board.name == suite), None)
    if suite == V2:
        others = next((board for board in comparison.boards if board.name == v2_scores.NAME), None)
    else:
        others = leaderboard_board(comparison.models, () if own is None else own.homes)
    for board in filter(None, (others, own)):
        found |= {model: scores for model in comparison.models if (scores := comparison.known_scores.of(board, model))}
    return {model: found[model] for model in comparison.models if model in found}


def published_rows(comparison: Comparison) -> list[tuple[str, PublishedRow]]:
    """Return the models of the report that the archived leaderboard lists, with their rows."""
    archive = None if comparison.archive is None else read_archive(comparison.archive)
    suite = leaderboard_of(comparison)
    found = []
    for model, results in comparison.models.items():
        name = hub_name(comparison.full_name(model), comparison.described.get(model, {}), results)
        listed = [] if archive is None else archived_rows(archive, name)
        row = published_row(name, suite) or next(iter(listed), None)
        if row is not None:
            found.append((model, row))
    return found


def published_scores(comparison: Comparison) -> list[PublishedScores]:
    """Return the published rows, each beside the model's own scores."""
    own = leaderboard_scores(comparison)
    found = []
    for model, row in published_rows(comparison):
        scores = own.get(model)
        values = {column.title: column.score.value for column in scores.columns} if scores else {}
        if scores is not None and scores.average_label == ALL_SIX:
            values[AVERAGE] = scores.average.value
        found.append(PublishedScores(model, row, values))
    return found


def standings(comparison: Comparison) -> Iterator[Standing]:
    """Yield the rank of each model with scores in the leaderboard's benchmarks; nothing where no archive was given.

    Raises:
        SmaugError: the archive cannot be read.
    """
    if comparison.archive is None:
        return
    archive = read_archive(comparison.archive)
    for model, own in leaderboard_scores(comparison).items():
        about, results = comparison.described.get(model, {}), comparison.models[model]
        name = hub_name(comparison.full_name(model), about, results)
        yield replace(standing_of(archive, own, name, about, results), model=model)


def unranked(comparison: Comparison) -> str:
    """Say why an archive that was given ranks no model; empty where it does, or none was given."""
    if comparison.archive is None or leaderboard_scores(comparison):
        return ""
    tasks = {
        V1: "arc_challenge, hellaswag, mmlu, truthfulqa_mc2, winogrande, gsm8k",
        V2: "open_llm_v2's, or lm-eval's leaderboard_ifeval, leaderboard_bbh and so on",
    }
    return (
        f"{comparison.archive.name}: no model is ranked, since none has results of the leaderboard's six benchmarks "
        f"({tasks[leaderboard_of(comparison)]})"
    )


PANEL = Panel("scores", "Scores", scores)
