"""Describe an archived leaderboard as a table, and where a score would have ranked in it.

Source of the formats: the first leaderboard's contents table (``open-llm-leaderboard-old/contents``). Two of its
columns say the opposite of their names: "Flagged" and "MoE" are True for models that are *not* flagged and *not*
mixtures, because the leaderboard stored there what its "hide" filters keep. Of the second leaderboard the table of
February 2025, with normalised columns and averages, and its last state, which has raw columns alone: BBH and MuSR
cannot be normalised from those, so that scores are ranked by their raw columns there, and no average is.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rapidfuzz import process

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import refuse_unreadable
from smaug_eval.leaderboard.archive_formats import AVERAGE as AVERAGE
from smaug_eval.leaderboard.archive_formats import FIRST, RAW, ArchiveFormat, format_of
from smaug_eval.leaderboard.columns import above_floor
from smaug_eval.leaderboard.published import PublishedRow
from smaug_eval.leaderboard.scores import Score, SuiteScores

if TYPE_CHECKING:
    import pandas as pd

SIZE_CLASSES = (("~1.5", 2.0), ("~3", 4.0), ("~7", 9.0), ("~13", 20.0), ("~35", 45.0), ("~60", 70.0))
"""The leaderboard's own size filters: name and largest number of parameters in billions; ``70+`` is above the last."""
LARGEST_CLASS = "70+"
UNKNOWN_CLASS = "?"
"""The leaderboard's class of size 0: below one billion, as it dropped the decimals, or not known to it."""

LARGEST = 1 << 28
"""Bytes of an archive; the leaderboard's own has some ten million."""

_AVERAGE_TOLERANCE = 0.01
_NEAREST_SHOWN = 3


@dataclass(frozen=True)
class Archive:
    """Hold the usable rows of an archive file, best average first.

    Attributes:
        source: The file's name.
        rows: Columns ``model``, ``Average``, the six titles, ``precision``, ``billions`` (0: unknown or below one),
            ``revision`` and ``date`` (text; empty where unknown) and ``flagged``; of the format's ``texts`` and
            ``marks`` those that the file has.
        read: Rows in the file.
        unusable: Rows left out because a score was missing or outside 0 to 100.
        kind: The format of the file: whose rows these are, and what its columns mean. Rows without an average have the
            plain mean of the raw columns there, which only says which row of a model is its best.
    """

    source: str
    rows: pd.DataFrame
    read: int
    unusable: int
    kind: ArchiveFormat = FIRST

    def competitors(self, *, include_flagged: bool = False, without: str | None = None) -> pd.DataFrame:
        """Return one row per model, its best; flagged models are left out unless asked for, and so is ``without``."""
        rows = self.rows if include_flagged else self.rows[~self.rows["flagged"]]
        names = rows["model"].str.lower()
        return rows[~names.duplicated() & (names != (without or "").lower())]

    def describe(self, *, include_flagged: bool = False) -> dict[str, Any]:
        """Say what was read, left out and kept, and whether the averages are the means of their columns."""
        competitors = self.competitors(include_flagged=include_flagged)
        kept = self.rows if include_flagged else self.rows[~self.rows["flagged"]]
        exceptions = wrong_averages(self)
        return {
            "source": self.source,
            "rows": self.read,
            "unusable_rows": self.unusable,
            "flagged_rows": int(self.rows["flagged"].sum()),
            "include_flagged": include_flagged,
            "repeated_rows": len(kept) - len(competitors),
            "models": len(competitors),
            "largest_average_difference": round(float(_average_differences(self).max()), 4) if len(self.rows) else 0.0,
            "wrong_averages": exceptions,
            **({} if self.kind is FIRST else {"suite": self.kind.suite, "is_raw": self.kind.is_raw}),
            **normalisation_check(self),
        }


@dataclass(frozen=True)
class Neighbour:
    """Hold an archived model and its score in percent."""

    model: str
    score: float


@dataclass(frozen=True)
class Rank:
    """Say where a score would have stood.

    Attributes:
        column: A column's title, or ``Average``.
        size_class: The class of sizes it is ranked in; None for all models.
        score: Percent.
        rank: 1 and the number of archived models with a higher score.
        best: The rank at the upper end of the score's 95% interval; None where it has none.
        worst: The rank at the lower end.
        models: Archived models ranked among.
        percentile: Share of them with a lower score, in percent; None where there are none.
        above: The nearest of them with a higher score, nearest first.
        below: The nearest of them with the same or a lower score, nearest first.
        not_comparable: Why the rank means little; empty for a complete run on the official data.
    """

    column: str
    size_class: str | None
    score: float
    rank: int
    best: int | None
    worst: int | None
    models: int
    percentile: float | None
    above: tuple[Neighbour, ...]
    below: tuple[Neighbour, ...]
    not_comparable: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """Hold a model's ranks.

    Attributes:
        model: Its name.
        billions: Its parameters in billions; None where unknown.
        size_class: The leaderboard's class for that size.
        ranks: The average's and each column's, over all models and then within the class.
        notes: What could not be ranked, and why.
    """

    model: str
    billions: float | None
    size_class: str | None
    ranks: tuple[Rank, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the standing as plain data."""
        return asdict(self)


def read_archive(path: Path) -> Archive:
    """Read an archive of the leaderboard.

    Args:
        path: A CSV file, compressed where it ends in ``.gz``.

    Raises:
        SmaugError: the file is an archive, cannot be read, is too large, lacks a column, holds no row with all scores,
            or a value of "Flagged" is neither True nor False.
    """
    import pandas as pd

    refuse_unreadable(str(path), "archive")
    try:
        table = pd.read_csv(io.BytesIO(_content(path)), keep_default_na=True, low_memory=False)
    except (OSError, EOFError, zlib.error, ValueError) as error:  # pandas' own errors are ValueErrors
        why = getattr(error, "strerror", None) or str(error).strip()
        raise SmaugError(f"{path} cannot be read: {why}", fix=_fix_of(path)) from error
    kind = format_of([str(column) for column in table.columns])
    _check_columns(path, list(table.columns), kind)
    table = _named(path, table, kind)
    scores = table[[AVERAGE, *kind.titles]]
    usable = table["model"].notna() & ((scores >= 0) & (scores <= 100)).all(axis=1)
    if not usable.any():
        raise SmaugError(
            f"{path} holds no row with a model and all scores from 0 to 100",
            fix="give a CSV file of the leaderboard's rows",
        )
    texts = ["model", "precision", "revision", "date", *(name for name in kind.texts.values() if name in table)]
    rows = table[usable].fillna({"billions": 0.0, **dict.fromkeys(texts, "")}).astype(dict.fromkeys(texts, str))
    order = ([AVERAGE, "date", "revision"], [False, False, True])
    rows = rows.sort_values(order[0], ascending=order[1], kind="stable", ignore_index=True)
    return Archive(path.name, rows, len(table), int((~usable).sum()), kind)


def _named(path: Path, table: pd.DataFrame, kind: ArchiveFormat) -> pd.DataFrame:
    """The columns of a table under our names, as numbers and truth values; what a format lacks is empty."""
    import pandas as pd

    further = [column for column in (*kind.texts, *kind.marks) if column in table]
    names = {**kind.columns, **kind.texts, **kind.marks}
    table = table[[*kind.columns, *further]].rename(columns=names)
    for mark in (kind.marks[column] for column in further if column in kind.marks):
        is_true = table[mark].astype(str).str.lower() == ("false" if mark in kind.hidden_marks else "true")
        table[mark] = is_true
    raw = [title + RAW for title in kind.titles if title + RAW in table]
    for column in ("revision", "date"):
        if column not in table:
            table[column] = ""
    table["flagged"] = _flagged(path, table["flagged"], kind) if "flagged" in table else False
    for column in (*kind.titles, *raw, "billions"):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    if kind.has_fractions:
        table[list(kind.titles)] *= 100
    table["billions"] = table["billions"].clip(lower=0.0)  # -1 where the leaderboard did not know it
    if AVERAGE in table:
        table[AVERAGE] = pd.to_numeric(table[AVERAGE], errors="coerce")
    else:
        table[AVERAGE] = table[list(kind.titles)].mean(axis=1, skipna=False)
    return table


def _fix_of(path: Path) -> str:
    """What to give instead of a file that is no CSV."""
    if path.suffix == ".parquet":
        return "write it as CSV: pandas.read_parquet(FILE).to_csv(FILE.csv, index=False)"
    return "give a CSV file of the leaderboard's rows, in UTF-8; one compressed with gzip ends in .csv.gz"


def _content(path: Path) -> bytes:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        content: bytes = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise SmaugError(f"{path} unpacks to more than {LARGEST:,} bytes", fix="give the leaderboard's own table")
    return content


def wrong_averages(archive: Archive) -> list[dict[str, Any]]:
    """Return the rows whose average differs by more than 0.01 from the plain mean of their six columns."""
    differences = _average_differences(archive)
    rows = archive.rows.assign(recomputed=archive.rows[list(archive.kind.titles)].mean(axis=1).round(3))[
        differences > _AVERAGE_TOLERANCE
    ]
    return [
        {"model": row.model, "published": getattr(row, AVERAGE), "recomputed": row.recomputed}
        for row in rows.itertuples()
    ]


def normalisation_check(archive: Archive) -> dict[str, float]:
    """Return how far normalised columns are from what their raw ones give; empty where a table has not both.

    BBH and MuSR follow from their subtasks alone, which no table has.
    """
    found = {}
    for title, floor in (("IFEval", 0.0), ("MATH Lvl 5", 0.0), ("GPQA", 1 / 4), ("MMLU-Pro", 1 / 10)):
        if title + RAW in archive.rows:
            raw = archive.rows[title + RAW].to_numpy(dtype=float)
            found[title] = float(np.nanmax(np.abs(100 * above_floor(raw, floor) - archive.rows[title]), initial=0.0))
    return {"largest_normalised_difference": max(found.values())} if found else {}


def size_class(billions: float) -> str:
    """Return the leaderboard's filter that a number of parameters falls under; as there, decimals are dropped first."""
    whole = int(billions)
    if whole == 0:
        return UNKNOWN_CLASS
    return next((name for name, largest in SIZE_CLASSES if whole <= largest), LARGEST_CLASS)


def standing(
    archive: Archive,
    scores: SuiteScores,
    *,
    model: str,
    billions: float | None = None,
    include_flagged: bool = False,
) -> Standing:
    """Rank a model's average and columns among the archived models.

    Args:
        archive: The archive.
        scores: The model's scores in the archive's suite; the average is ranked only where all six are complete.
        model: Its name; rows of the archive under the same name are not ranked against.
        billions: Its parameters in billions; None where unknown, then it is ranked over all models only.
        include_flagged: Also rank against models the leaderboard flagged as contaminated or the like.
    """
    own = {column.title: column.score for column in scores.columns}
    notes = []
    if archive.kind.is_raw:
        own = {
            column.title: column.score if column.raw is None else replace(column.raw, notes=column.score.notes)
            for column in scores.columns
        }
        notes.append("ranked by raw columns: this archive has neither normalised ones nor an average")
    elif scores.average_label == "average of six":
        own = {AVERAGE: scores.average, **own}
    else:
        notes.append(f"the average is not ranked: {scores.average_label}")
    everyone = archive.competitors(include_flagged=include_flagged, without=model)
    fields: list[tuple[str | None, pd.DataFrame]] = [(None, everyone)]
    named = None
    if billions is None:
        notes.append("not ranked by size: the model's size is unknown")
    else:
        named = size_class(billions)
        fields.append((named, everyone[everyone["billions"].map(size_class) == named]))
    ranks = [rank_of(score, title, rows, named) for named, rows in fields for title, score in own.items()]
    return Standing(model, billions, named, tuple(ranks), tuple(notes))


def rank_of(score: Score, column: str, rows: pd.DataFrame, named: str | None = None) -> Rank:
    """Rank ``score`` among ``rows`` of an archive on ``column``; ``named`` is their size class."""
    ordered = rows.sort_values(column, ascending=False, kind="stable")
    names, values = ordered["model"].tolist(), ordered[column].to_numpy(dtype=float)
    higher = int((values > score.value).sum())
    ends = () if score.interval is None else reversed(score.interval)
    best, worst = [1 + int((values > end).sum()) for end in ends] or (None, None)
    neighbours = [Neighbour(name, value) for name, value in zip(names, values.tolist(), strict=True)]
    return Rank(
        column=column,
        size_class=named,
        score=score.value,
        rank=1 + higher,
        best=best,
        worst=worst,
        models=len(values),
        percentile=100 * float(np.mean(values < score.value)) if len(values) else None,
        above=tuple(reversed(neighbours[max(0, higher - _NEAREST_SHOWN) : higher])),
        below=tuple(neighbours[higher : higher + _NEAREST_SHOWN]),
        not_comparable=score.notes,
    )


def archived_rows(archive: Archive, model: str) -> list[PublishedRow]:
    """Return a model's rows, newest first; none of an archive of raw columns. Case is ignored as on the Hub."""
    if archive.kind.is_raw:
        return []
    own = archive.rows[archive.rows["model"].str.lower() == model.lower()].sort_values("date", ascending=False)
    return [
        PublishedRow(
            model=row["model"],
            revision=row["revision"],
            precision=row["precision"],
            average=float(row[AVERAGE]),
            scores={title: float(row[title]) for title in archive.kind.titles},
            date=row["date"][:10] or None,
            source=archive.source,
            suite=archive.kind.suite,
            chat_template=bool(row["chat_template"]) if "chat_template" in row else None,
        )
        for row in own.to_dict("records")
    ]


def _average_differences(archive: Archive) -> pd.Series:
    return (archive.rows[list(archive.kind.titles)].mean(axis=1) - archive.rows[AVERAGE]).abs().round(6)


def _check_columns(path: Path, found: Sequence[str], kind: ArchiveFormat) -> None:
    missing = [column for column in kind.columns if column not in found]
    if not missing:
        return
    nearest = process.extractOne(missing[0], [str(column) for column in found])
    hint = f"; nearest to {missing[0]!r} is {nearest[0]!r}" if nearest else ""
    raise SmaugError(
        f"{path} has no column {', '.join(map(repr, missing))}{hint}",
        fix=f"use the leaderboard's own column names ({kind.hint})",
    )


def _flagged(path: Path, values: pd.Series, kind: ArchiveFormat) -> pd.Series:
    """Whether models are flagged; an empty cell counts as not."""
    known = {"true": not kind.hides_flagged, "false": kind.hides_flagged, "": False}
    flagged = values.astype(object).where(values.notna(), "").astype(str).str.lower().map(known)
    if flagged.isna().any():
        line = int(flagged.isna().to_numpy().argmax()) + 2  # the header is line 1
        raise SmaugError(f"{path}, line {line}: Flagged is {values.iloc[line - 2]!r}", fix="write True or False")
    return flagged.astype(bool)
