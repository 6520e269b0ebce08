"""The archived leaderboard as a table, and where a score would have ranked in it.

Source of the format: the leaderboard's contents table (``open-llm-leaderboard-old/contents``). Two of its columns say
the opposite of their names: "Flagged" and "MoE" are True for models that are *not* flagged and *not* mixtures, because
the leaderboard stored there what its "hide" filters keep.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rapidfuzz import process

from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard.published import TITLES, PublishedRow
from smaug_eval.leaderboard.scores import Score, SuiteScores
from smaug_eval.names import refuse_unreadable

AVERAGE = "Average"
"""How the mean of the six is called in ranks and verdicts."""

SIZE_CLASSES = (("~1.5", 2.0), ("~3", 4.0), ("~7", 9.0), ("~13", 20.0), ("~35", 45.0), ("~60", 70.0))
"""The leaderboard's own size filters: name and largest number of parameters in billions; ``70+`` is above the last."""
LARGEST_CLASS = "70+"
UNKNOWN_CLASS = "?"
"""The leaderboard's class of size 0: below one billion, as it dropped the decimals, or not known to it."""

LARGEST = 1 << 28
"""Bytes of an archive; the leaderboard's own has some ten million."""

_AVERAGE_TOLERANCE = 0.01
_NEAREST_SHOWN = 3
_COLUMNS = {
    "Model": "model",
    "Average ⬆️": AVERAGE,
    **{title: title for title in TITLES},
    "Precision": "precision",
    "#Params (B)": "billions",
    "Model sha": "revision",
    "Flagged": "flagged",
    "date": "date",
}


@dataclass(frozen=True)
class Archive:
    """The usable rows of an archive file, best average first.

    Attributes:
        source: The file's name.
        rows: Columns ``model``, ``Average``, the six titles, ``precision``, ``billions`` (0: unknown or below one),
            ``revision`` and ``date`` (text; empty where unknown) and ``flagged``.
        read: Rows in the file.
        unusable: Rows left out because a score was missing or outside 0 to 100.
    """

    source: str
    rows: pd.DataFrame
    read: int
    unusable: int

    def competitors(self, *, include_flagged: bool = False, without: str | None = None) -> pd.DataFrame:
        """One row per model, its best; flagged models are left out unless asked for, and so is ``without``."""
        rows = self.rows if include_flagged else self.rows[~self.rows["flagged"]]
        names = rows["model"].str.lower()
        return rows[~names.duplicated() & (names != (without or "").lower())]

    def describe(self, *, include_flagged: bool = False) -> dict[str, Any]:
        """What was read, left out and kept, and whether the averages are the means of their columns."""
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
        }


@dataclass(frozen=True)
class Neighbour:
    """An archived model and its score in percent."""

    model: str
    score: float


@dataclass(frozen=True)
class Rank:
    """Where a score would have stood.

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
    """A model's ranks.

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
        """The standing as plain data."""
        return asdict(self)


def read_archive(path: Path) -> Archive:
    """Read an archive of the leaderboard.

    Args:
        path: A CSV file, compressed where it ends in ``.gz``.

    Raises:
        SmaugError: the file is an archive, cannot be read, is too large, lacks a column, or a value of "Flagged" is
            neither True nor False.
    """
    refuse_unreadable(str(path), "archive")
    try:
        table = pd.read_csv(io.BytesIO(_content(path)), keep_default_na=True, low_memory=False)
    except (OSError, EOFError, zlib.error, ValueError) as error:  # pandas' own errors are ValueErrors
        raise SmaugError(f"{path} cannot be read: {error}", fix="give a CSV file of the leaderboard's rows") from error
    _check_columns(path, list(table.columns))
    table = table[list(_COLUMNS)].rename(columns=_COLUMNS)
    table["flagged"] = ~_kept_by_filter(path, table["flagged"])
    for column in (AVERAGE, *TITLES, "billions"):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    scores = table[[AVERAGE, *TITLES]]
    usable = table["model"].notna() & ((scores >= 0) & (scores <= 100)).all(axis=1)
    texts = ["model", "precision", "revision", "date"]
    rows = table[usable].fillna({"billions": 0.0, **dict.fromkeys(texts, "")}).astype(dict.fromkeys(texts, str))
    order = ([AVERAGE, "date", "revision"], [False, False, True])
    rows = rows.sort_values(order[0], ascending=order[1], kind="stable", ignore_index=True)
    return Archive(path.name, rows, len(table), int((~usable).sum()))


def _content(path: Path) -> bytes:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        content: bytes = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise SmaugError(f"{path} unpacks to more than {LARGEST:,} bytes", fix="give the leaderboard's own table")
    return content


def wrong_averages(archive: Archive) -> list[dict[str, Any]]:
    """The rows whose average differs by more than 0.01 from the plain mean of their six columns."""
    differences = _average_differences(archive)
    rows = archive.rows.assign(recomputed=archive.rows[list(TITLES)].mean(axis=1).round(3))[
        differences > _AVERAGE_TOLERANCE
    ]
    return [
        {"model": row.model, "published": getattr(row, AVERAGE), "recomputed": row.recomputed}
        for row in rows.itertuples()
    ]


def size_class(billions: float) -> str:
    """The leaderboard's filter that a number of parameters falls under; as there, decimals are dropped first."""
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
        scores: The model's scores in ``open_llm_v1``; the average is ranked only where all six columns are complete.
        model: Its name; rows of the archive under the same name are not ranked against.
        billions: Its parameters in billions; None where unknown, then it is ranked over all models only.
        include_flagged: Also rank against models the leaderboard flagged as contaminated or the like.
    """
    own = {column.title: column.score for column in scores.columns}
    notes = []
    if scores.average_label == "average of six":
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
    """Where ``score`` would have stood among ``rows`` of an archive on ``column``; ``named`` is their size class."""
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
    """A model's rows, newest first; case is ignored as on the Hub."""
    own = archive.rows[archive.rows["model"].str.lower() == model.lower()].sort_values("date", ascending=False)
    return [
        PublishedRow(
            model=row["model"],
            revision=row["revision"],
            precision=row["precision"],
            average=float(row[AVERAGE]),
            scores={title: float(row[title]) for title in TITLES},
            date=row["date"][:10] or None,
            source=archive.source,
        )
        for row in own.to_dict("records")
    ]


def _average_differences(archive: Archive) -> pd.Series:
    return (archive.rows[list(TITLES)].mean(axis=1) - archive.rows[AVERAGE]).abs().round(6)


def _check_columns(path: Path, found: Sequence[str]) -> None:
    missing = [column for column in _COLUMNS if column not in found]
    if not missing:
        return
    nearest = process.extractOne(missing[0], [str(column) for column in found])
    hint = f"; nearest to {missing[0]!r} is {nearest[0]!r}" if nearest else ""
    raise SmaugError(
        f"{path} has no column {', '.join(map(repr, missing))}{hint}",
        fix="use the leaderboard's own column names (open-llm-leaderboard-old/contents)",
    )


def _kept_by_filter(path: Path, values: pd.Series) -> pd.Series:
    """The "Flagged" column as it is stored: True where the model is *not* flagged; an empty cell counts as that."""
    known = {"true": True, "false": False, "nan": True}
    kept = values.astype(str).str.lower().map(known)
    if kept.isna().any():
        line = int(kept.isna().to_numpy().argmax()) + 2  # the header is line 1
        raise SmaugError(f"{path}, line {line}: Flagged is {values.iloc[line - 2]!r}", fix="write True or False")
    return kept.astype(bool)
