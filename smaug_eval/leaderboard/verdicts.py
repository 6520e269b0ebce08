"""Judge whether a published row is reproduced: a verdict per column and for the average.

"Reproduced" means that the published value lies inside the 95% interval of ours, its ends included. Published values
have two decimals; that rounding, at most 0.005, widens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from rapidfuzz import process

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.archive import AVERAGE, Archive, archived_rows
from smaug_eval.leaderboard.published import V1, V2_TITLES, PublishedRow, published_row, published_rows_of
from smaug_eval.leaderboard.scores import Score, SuiteScores

ROUNDING = "published values have two decimals; that rounding (at most 0.005) widens no interval"

_FLOAT_NOISE = 1e-9
_NAMES_SHOWN = 3
# What an evaluation can be run in; the leaderboard also had 8bit, 4bit and GPTQ.
_DTYPES = ("float16", "bfloat16", "float32")


class Reproduction(str, Enum):
    """Name the outcomes of a comparison with a published value."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class ColumnVerdict:
    """Hold one published value beside ours; scores are in percent.

    Attributes:
        column: A column's title, or ``Average``.
        published: The value on the leaderboard.
        ours: Our value; None where it was not measured.
        gap: Ours minus the published one, in points.
        interval: 95% interval of ours; None where there is none.
        n: Documents behind ours.
        outcome: The verdict.
        because: Why the two are not comparable; empty where they are.
        notes: What else a reader must know, such as a limited number of documents.
    """

    column: str
    published: float
    ours: float | None
    gap: float | None
    interval: tuple[float, float] | None
    n: int | None
    outcome: Reproduction
    because: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain data."""
        return {**asdict(self), "outcome": self.outcome.value}

    @property
    def words(self) -> str:
        """Word the verdict as a phrase: "reproduced", or "not comparable, because ..."."""
        return f"{self.outcome.value}, because {'; '.join(self.because)}" if self.because else self.outcome.value


def find_row(
    name: str, archive: Archive | None = None, *, precision: str | None = None, suite: str = V1
) -> PublishedRow:
    """Return the published row to compare with.

    Args:
        name: A Hub id, or ``id@commit`` (its first digits are enough) where a model has several rows.
        archive: Rows beyond those we keep.
        precision: The row of this precision is taken where there are several rows; else the one we keep, else the
            newest.
        suite: Of which leaderboard.

    Raises:
        SmaugError: there is no such row, and the fix names the nearest; or the archive is another leaderboard's, or has
            raw columns alone.
    """
    if archive is not None and (archive.kind.suite != suite or archive.kind.is_raw):
        what = "has raw columns, rounded, and no averages" if archive.kind.is_raw else f"is of {archive.kind.suite}"
        raise SmaugError(
            f"{archive.source} {what}: its rows cannot be reproduced in {suite}",
            fix="give the table of February 2025, or another --suite",
        )
    model, _, commit = name.partition("@")
    kept = [row for row in [published_row(model, suite)] if row is not None]
    known = {(row.revision, row.precision) for row in kept}
    found = archived_rows(archive, model) if archive is not None else []
    rows = [*kept, *(row for row in found if (row.revision, row.precision) not in known)]
    if not rows:
        raise SmaugError(f"the leaderboard has no row of {model!r} here", fix=_nearest(model, archive, suite))
    rows = [row for row in rows if row.revision.startswith(commit)]
    if not rows:
        raise SmaugError(f"the rows of {model} have no commit {commit!r}", fix="leave @... out, or check the commit")
    return next((row for row in rows if row.precision == precision), rows[0])


def published_dtype(row: PublishedRow) -> str:
    """Return the dtype to run a row's model in.

    Raises:
        SmaugError: the row was measured on quantised weights.
    """
    if row.precision not in _DTYPES:
        raise SmaugError(
            f"{row.model} was published in {row.precision}, which this program does not load",
            fix=f"choose one with --dtype ({', '.join(_DTYPES)}); the verdict will say that it differs",
        )
    return row.precision


def judge(
    row: PublishedRow, scores: SuiteScores, *, obstacles: Mapping[str, Sequence[str]] | None = None
) -> list[ColumnVerdict]:
    """Judge every column of a row, in its order, and its average.

    Args:
        row: What was published.
        scores: What was measured, in ``open_llm_v1``.
        obstacles: Column title to reasons why ours does not compare with the published value.

    Returns:
        One verdict per column, then the average's. The average compares only where all six columns are complete and
        comparable.
    """
    found = {column.title: column for column in scores.columns}
    verdicts = []
    for title, published in row.scores.items():
        column = found.get(title)
        if column is None:
            verdicts.append(_unmeasured(title, published))
            continue
        because = list((obstacles or {}).get(title, ()))
        if not column.complete:
            because.append("not all of its tasks were measured")
        verdicts.append(_verdict(title, published, column.score, because))
    return [*verdicts, _average_verdict(row, scores, verdicts)]


def judge_math_verify(
    row: PublishedRow, scores: SuiteScores, obstacles: Mapping[str, Sequence[str]] | None = None
) -> list[ColumnVerdict]:
    """Return the verdict on MATH by math-verify, against the second leaderboard's last state; none if unknown.

    Args:
        row: What was published.
        scores: What was measured, in ``open_llm_v2``.
        obstacles: As of :func:`judge`.
    """
    title = V2_TITLES[2]
    column = next((each for each in scores.columns if each.title == title), None)
    if row.math_verify is None or column is None:
        return []
    because = [*(obstacles or {}).get(title, ()), *([] if column.complete else ["not all of its tasks were measured"])]
    return [_verdict(f"{title}, math-verify", row.math_verify, column.score, because)]


def _average_verdict(row: PublishedRow, scores: SuiteScores, verdicts: Sequence[ColumnVerdict]) -> ColumnVerdict:
    unmeasured = [verdict.column for verdict in verdicts if verdict.ours is None]
    if unmeasured:
        because = (f"{', '.join(unmeasured)} not measured",)
        return ColumnVerdict(AVERAGE, row.average, None, None, None, None, Reproduction.NOT_COMPARABLE, because)
    incomparable = [verdict.column for verdict in verdicts if verdict.outcome is Reproduction.NOT_COMPARABLE]
    because_of = [f"{', '.join(incomparable)} not comparable"] if incomparable else []
    return _verdict(AVERAGE, row.average, scores.average, because_of)


def _verdict(title: str, published: float, score: Score, because: list[str]) -> ColumnVerdict:
    interval = score.interval
    if interval is None:
        because = [*because, "no interval is known" if score.n is None else f"{score.n:,} documents give no interval"]
    if because or interval is None:
        outcome = Reproduction.NOT_COMPARABLE
    elif interval[0] - _FLOAT_NOISE <= published <= interval[1] + _FLOAT_NOISE:
        outcome = Reproduction.REPRODUCED
    else:
        outcome = Reproduction.NOT_REPRODUCED
    gap = score.value - published
    notes = tuple(note for note in score.notes if note not in because)
    return ColumnVerdict(title, published, score.value, gap, interval, score.n, outcome, tuple(because), notes)


def _unmeasured(title: str, published: float) -> ColumnVerdict:
    return ColumnVerdict(title, published, None, None, None, None, Reproduction.NOT_COMPARABLE, ("not measured",))


def _nearest(model: str, archive: Archive | None, suite: str) -> str:
    names = [row.model for row in published_rows_of(suite)] if archive is None else archive.rows["model"].tolist()
    unique = list(dict.fromkeys(names))
    query = model if model.count("/") == 1 else model.rstrip("/").rpartition("/")[2]  # a path says little
    nearest = [name for name, _, _ in process.extract(query, unique, limit=_NAMES_SHOWN)]
    more = "" if archive is not None else ", or give all of the leaderboard's rows with --archive"
    return f"name a row with --against; nearest: {', '.join(nearest)}{more}"
