"""Collect the rows of the leaderboard page: one's own models with intervals and ranks, from runs and results."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.archive import AVERAGE, Archive, Rank
from smaug_eval.leaderboard.columns import PERCENT
from smaug_eval.leaderboard.scores import Score
from smaug_eval.mt_bench.scores.single import single_scores
from smaug_eval.results.boards import SHORT_NAMES, TASKS, boards_of
from smaug_eval.results.files import Unreadable
from smaug_eval.results.identity import billions
from smaug_eval.results.json_files import mapping
from smaug_eval.results.merging import descriptions, merge_dialogues, merge_models, names_on_page, with_distinct_labels
from smaug_eval.results.sources import (
    Source,
    is_run_directory,
    read_source,
    unread_notes,
    without_damaged_samples,
)
from smaug_eval.results.standings import RankedModel, ranked_models
from smaug_eval.results.tables import score_table
from smaug_eval.results.task_results import TaskResult
from smaug_eval.stats import Interval

MOST_SHOWN = 10
"""Columns of scores that are shown at first; the page's reader chooses others."""
REPORT_FILE = "report.html"
_KEYS = ("loss", "beta", "lambda", "learning_rate", "epochs", "steps")


class BoardColumn(NamedTuple):
    """Describe a column of scores.

    Attributes:
        key: Tells it from all others.
        title: Its heading.
        group: What stands above the title; empty for an archive's own columns.
        is_percent: Whether its values are percent, with two decimals; others have four significant digits.
        is_shown: Whether it is there at first.
        fewer_is_better: Whether a first click sorts the smallest up.
    """

    key: str
    title: str
    group: str = ""
    is_percent: bool = True
    is_shown: bool = True
    fewer_is_better: bool = False


class BoardValue(NamedTuple):
    """Hold a score with its 95% interval and what to know beside it."""

    value: float
    interval: Interval | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class OwnRow:
    """Hold one of the reader's own models.

    Attributes:
        model: Its name.
        run: The run or folder it is from.
        values: By the column's key.
        rank: Of the average among all archived models; where the archive has none, of no column.
        class_rank: The same within its class of sizes.
        billions: Parameters in billions; None where unknown.
        precision: Of the weights; empty where unknown.
        recipe: How it was trained; empty where it was not, or nothing says how.
        date: ISO date of the run or the evaluation; empty where unknown.
        folder: The run directory; None for others' results.
        notes: What to know beside the row.
    """

    model: str
    run: str
    values: Mapping[str, BoardValue]
    rank: Rank | None = None
    class_rank: Rank | None = None
    billions: float | None = None
    precision: str = ""
    recipe: str = ""
    date: str = ""
    folder: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def has_report(self) -> bool:
        """Return whether its run wrote a report."""
        return self.folder is not None and (self.folder / REPORT_FILE).is_file()


@dataclass(frozen=True)
class OwnRows:
    """Hold all of the reader's own rows.

    Attributes:
        columns: Of scores, in order.
        rows: The models.
        left_out: Models without any score to show.
        notes: What could not be read, and what was decided while reading.
    """

    columns: Sequence[BoardColumn]
    rows: Sequence[OwnRow]
    left_out: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def read_runs(paths: Sequence[Path]) -> tuple[list[Source], list[str]]:
    """Read runs and results; a folder that holds run directories stands for all that is in it.

    Returns:
        The sources, with labels that tell them apart, and a note for each that could not be read.

    Raises:
        SmaugError: a path does not exist or holds nothing, or nothing of all can be read.
    """
    sources, notes = [], []
    first: SmaugError | None = None
    for path, is_found in _expanded(paths):
        try:
            sources.append(read_source(path))
        except Unreadable as error:
            notes.append(f"not read: {error.message}")
            first = first or error
        except SmaugError as error:
            # A folder of runs holds other folders, too; a run that holds nothing yet is said.
            if not is_found:
                raise
            notes += [f"not read: {error.message}"] if is_run_directory(path) else []
            first = first or error
    if not sources and first is not None:
        raise first
    return without_damaged_samples(with_distinct_labels(sources)), notes


def _expanded(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield each path, or what is in it, and whether it was found there rather than given."""
    for path in paths:
        inner = sorted(each for each in path.iterdir() if each.is_dir()) if path.is_dir() else []
        if not inner or is_run_directory(path) or not any(map(is_run_directory, inner)):
            yield path, False
        else:
            yield from ((each, True) for each in inner if not each.name.startswith("."))


def notes_of_sources(sources: Sequence[Source]) -> list[str]:
    """Return what was found out while reading, with the run that it is about."""
    return [
        f"{source.label}: {note}"
        for source in sources
        for note in (*source.missing, *source.notes, *unread_notes(source))
    ]


def archive_columns(archive: Archive) -> list[BoardColumn]:
    """Return an archive's columns of scores; one of raw values has no average."""
    titles = archive.kind.titles if archive.kind.is_raw else (AVERAGE, *archive.kind.titles)
    return [BoardColumn(title, title) for title in titles]


def ranked_rows(sources: Sequence[Source], archive: Archive, *, include_flagged: bool = False) -> OwnRows:
    """Return the models' rows on an archived leaderboard, with the scores and ranks that the verb prints."""
    found, left_out = ranked_models(sources, archive, include_flagged=include_flagged)
    homes = _homes(sources)
    rows = [_ranked_row(each, homes.get(each.name), archive) for each in found]
    return OwnRows(archive_columns(archive), rows, left_out, notes_of_sources(sources))


def _ranked_row(each: RankedModel, home: tuple[Source, str] | None, archive: Archive) -> OwnRow:
    intervals = _intervals(each, is_raw=archive.kind.is_raw)
    ranks = {rank.column: rank for rank in each.standing.ranks if rank.size_class is None}
    values = {title: BoardValue(rank.score, intervals.get(title), rank.not_comparable) for title, rank in ranks.items()}
    in_class = next((r for r in each.standing.ranks if r.size_class is not None and r.column == AVERAGE), None)
    row = _row(each.standing.model, values, home, each.about, each.results)
    return OwnRow(
        **{
            **vars(row),
            "rank": ranks.get(AVERAGE),
            "class_rank": in_class,
            "billions": each.standing.billions,
            "notes": each.standing.notes,
        }
    )


def _intervals(each: RankedModel, *, is_raw: bool) -> Mapping[str, Interval | None]:
    found: dict[str, Interval | None] = {AVERAGE: each.scores.average.interval}
    for column in each.scores.columns:
        score: Score = column.raw if is_raw and column.raw is not None else column.score
        found[column.title] = score.interval
    return found


def indexed_rows(sources: Sequence[Source]) -> OwnRows:
    """Return all models of runs and results with all of their scores: the index of a folder of runs."""
    models, homes, about = merge_models(sources), _homes(sources), descriptions(sources)
    values: dict[str, dict[str, BoardValue]] = {name: {} for name in models}
    columns: list[BoardColumn] = []
    for board in boards_of(models):
        table = score_table(board, list(models), None, {})
        if table is None:
            continue
        group = SHORT_NAMES.get(table.suite, table.suite)
        if table.is_averaged:
            columns.append(BoardColumn(f"{table.suite}/{AVERAGE}", AVERAGE.lower(), group))
        for place, column in enumerate(table.described):
            key = f"{table.suite}/{column.title}"
            fewer = column.higher_is_better is False
            shown = group if table.suite != TASKS else ""
            columns.append(BoardColumn(key, column.title, shown, column.unit == PERCENT, True, fewer))
            for model, cells in table.cells.items():
                if (cell := cells[place]) is not None:
                    values[model][key] = _value(cell.score)
        for model, cell in table.averages.items():
            label = table.scores[model].average_label
            notes = (*(() if label == "average of six" else (label,)), *cell.score.notes)
            values[model][f"{table.suite}/{AVERAGE}"] = _value(cell.score)._replace(notes=notes)
    judged = _add_judged(sources, values)
    columns += judged
    rows = [
        _row(homes[name][1] if name in homes else name, own, homes.get(name), about.get(name, {}), models.get(name, {}))
        for name, own in values.items()
    ]
    empty = [row.model for row in rows if not row.values]
    scored = [row for row in rows if row.values]
    return OwnRows(_first_shown(columns), [*scored, *_unscored(sources, scored)], empty, notes_of_sources(sources))


def _unscored(sources: Sequence[Source], scored: Sequence[OwnRow]) -> Iterator[OwnRow]:
    """Yield rows of runs that have no score yet, one for each training."""
    there = {row.run for row in scored}
    for source in sources:
        if source.is_run and source.label not in there:
            names = [training.name for training in source.trainings]
            yield from (_row(name, {}, (source, name), {}, {}) for name in names or ["no model yet"])


def _value(score: Score) -> BoardValue:
    return BoardValue(score.value, score.interval, score.notes)


def _add_judged(sources: Sequence[Source], values: dict[str, dict[str, BoardValue]]) -> list[BoardColumn]:
    """Add the mean scores of judged answers to models' values; return their columns."""
    columns = []
    for each in merge_dialogues(sources):
        scores = single_scores(each.judgments.single)
        key = f"judged/{each.key.title}/{each.key.judge}/{each.key.references}"
        found = {model: own for model, own in scores.items() if own.average is not None}
        for model, own in found.items():
            notes = ("by a rule of the demo, no model",) if each.is_demo else own.notes
            value = BoardValue(float(own.average or 0.0), own.intervals["average"], notes)
            values.setdefault(model, {})[key] = value
        if found:
            columns.append(BoardColumn(key, each.key.title, each.key.judge))
    return columns


def _first_shown(columns: Sequence[BoardColumn]) -> list[BoardColumn]:
    """Show averages and judges' scores first where there are many columns; the rest as far as there is room."""
    if len(columns) <= MOST_SHOWN:
        return list(columns)
    first = [each.key for each in columns if each.key.endswith(f"/{AVERAGE}") or each.key.startswith("judged/")]
    rest = [each.key for each in columns if each.key not in first]
    shown = {*first, *rest[: max(0, MOST_SHOWN - len(first))]}
    return [each._replace(is_shown=each.key in shown) for each in columns]


def _homes(sources: Sequence[Source]) -> dict[str, tuple[Source, str]]:
    """Name on the page to the source that holds the model, and what it calls it."""
    found: dict[str, tuple[Source, str]] = {}
    for source in sources:
        for model, name in names_on_page(sources)[source.label].items():
            found.setdefault(name, (source, model))
    return found


def _row(
    model: str,
    values: Mapping[str, BoardValue],
    home: tuple[Source, str] | None,
    about: Mapping[str, Any],
    results: Mapping[str, TaskResult],
) -> OwnRow:
    source = None if home is None else home[0]
    manifest = {} if source is None or source.manifest is None else source.manifest
    return OwnRow(
        model=model,
        run="" if source is None else source.label,
        values={key: value for key, value in values.items() if math.isfinite(value.value)},
        billions=billions(about, results),
        precision=_precision(about, results),
        recipe=_recipe_words(manifest, "" if home is None else home[1]),
        date=str(manifest.get("created") or "")[:10] or _date(results),
        folder=None if source is None else source.folder,
    )


def _precision(about: Mapping[str, Any], results: Mapping[str, TaskResult]) -> str:
    said = about.get("dtype")
    recorded = (mapping(each.settings.get("config")).get("model_dtype") for each in results.values())
    found = next((each for each in (said, *recorded) if isinstance(each, str) and each), "")
    return found.removeprefix("torch.")


def _date(results: Mapping[str, TaskResult]) -> str:
    dates = [each.date for each in results.values() if each.date and math.isfinite(each.date)]
    try:
        return datetime.datetime.fromtimestamp(max(dates), datetime.timezone.utc).date().isoformat() if dates else ""
    except (OverflowError, OSError, ValueError):
        return ""


def _recipe_words(manifest: Mapping[str, Any], model: str) -> str:
    """How a run trained a model, as its recipe says: the loss and the keys that people tune."""
    training = mapping(mapping(mapping(manifest.get("recipe")).get("trainings")).get(model))
    return ", ".join(
        str(training[key]) if key == "loss" else f"{key} {training[key]}"
        for key in _KEYS
        if isinstance(training.get(key), str | int | float)
    )
