"""Write the page's rows as columnar JSON that a script tag holds: small, and nothing in it can end the tag."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup

from smaug_eval.common.redaction import without_keys
from smaug_eval.common.text import visible
from smaug_eval.leaderboard.archive import LARGEST_CLASS, SIZE_CLASSES, UNKNOWN_CLASS, Archive, size_class
from smaug_eval.leaderboard.archive_formats import AVERAGE
from smaug_eval.reports.board.rows import BoardColumn, OwnRow, OwnRows

if TYPE_CHECKING:
    import pandas as pd

CLASSES = (UNKNOWN_CLASS, *(name for name, _ in SIZE_CLASSES), LARGEST_CLASS)
FLAGS = ("flagged", "merged", "moe", "chat_template", "off_hub")
"""What a row's bits stand for, the lowest first."""
FLAG_WORDS = {
    "flagged": "flagged",
    "merged": "merge",
    "moe": "mixture",
    "chat_template": "chat template",
    "off_hub": "not on the Hub",
}
_OWN_TYPE = "own run"
_REVISION = 8


class BoardLine(NamedTuple):
    """Hold one row of the table, archived or own, as the page shows it.

    Attributes:
        model: Its name.
        values: By the column's key; None where there is none.
        rank: By the average, among the archived models; None where there is none.
        billions: Parameters in billions; None where unknown.
        size: Class of sizes.
        precision: Of the weights.
        kind: Pretrained, chat model and so on.
        flags: Bits of :data:`FLAGS`.
        date: ISO date; empty where unknown.
        own: The own row; None for archived ones.
    """

    model: str
    values: Mapping[str, float | None]
    rank: int | None
    billions: float | None
    size: str
    precision: str
    kind: str
    flags: int
    date: str
    own: OwnRow | None = None


def board_lines(own: OwnRows, archive: Archive | None, *, include_flagged: bool = False) -> list[BoardLine]:
    """Return all rows, the best by the first column of scores first."""
    lines = [] if archive is None else _archived(archive, own.columns, include_flagged)
    lines += [_own(row, own.columns) for row in own.rows]
    if not own.columns:
        return lines
    first = own.columns[0]
    sign = 1 if first.fewer_is_better else -1

    def order(line: BoardLine) -> tuple[bool, float]:
        value = line.values.get(first.key)
        return value is None, 0.0 if value is None else sign * value

    return sorted(lines, key=order)


def _own(row: OwnRow, columns: Sequence[BoardColumn]) -> BoardLine:
    values = {each.key: row.values[each.key].value if each.key in row.values else None for each in columns}
    size = UNKNOWN_CLASS if row.billions is None else size_class(row.billions)
    rank = None if row.rank is None else row.rank.rank
    return BoardLine(row.model, values, rank, row.billions, size, row.precision, _OWN_TYPE, 0, row.date, row)


def _archived(archive: Archive, columns: Sequence[BoardColumn], include_flagged: bool) -> list[BoardLine]:
    rows = archive.rows
    keys = [each.key for each in columns]
    ranks = [None] * len(rows) if archive.kind.is_raw else _ranks(archive, include_flagged)
    kinds = [_kind(each) for each in rows["type"]] if "type" in rows else [""] * len(rows)
    flags = _flags(rows)
    numbers = rows[keys].to_numpy(dtype=float)
    texts = (rows[name].tolist() for name in ("model", "billions", "precision", "date"))
    return [
        BoardLine(
            model=model,
            values=dict(zip(keys, values, strict=True)),
            rank=rank,
            billions=size or None,
            size=size_class(size),
            precision=precision,
            kind=kind,
            flags=bits,
            date=date[:10],
        )
        for model, size, precision, date, values, rank, kind, bits in zip(
            *texts, numbers.tolist(), ranks, kinds, flags, strict=True
        )
    ]


def _ranks(archive: Archive, include_flagged: bool) -> list[int | None]:
    """1 and the number of archived models with a higher average, as own models are ranked."""
    values = np.sort(archive.competitors(include_flagged=include_flagged)[AVERAGE].to_numpy(dtype=float))
    averages = archive.rows[AVERAGE].to_numpy(dtype=float)
    return [1 + int(each) for each in len(values) - np.searchsorted(values, averages, side="right")]


def _kind(text: str) -> str:
    """A type without the sign before it."""
    return text if text[:1].isalnum() else text.partition(" ")[2]


def _flags(rows: pd.DataFrame) -> list[int]:
    bits = np.zeros(len(rows), dtype=int)
    for place, name in enumerate(FLAGS):
        source = "on_hub" if name == "off_hub" else name
        if source in rows:
            own = rows[source].astype(str).str.lower() == ("false" if name == "off_hub" else "true")
            bits += own.to_numpy(dtype=int) << place
    return [int(each) for each in bits]


def payload(
    lines: Sequence[BoardLine], own: OwnRows, links: Mapping[int, str], *, has_ranks: bool, limit: int
) -> Markup:
    """Return the rows as the JSON of a script tag.

    Args:
        lines: In the order of the page.
        own: The own rows, with the columns.
        links: Place in ``lines`` to the address of a report.
        has_ranks: Whether there is a column of ranks.
        limit: Rows that stand in the page without a script.
    """
    content = {
        "columns": [
            {
                "key": each.key,
                "title": visible(each.title),
                "group": visible(each.group),
                "percent": each.is_percent,
                "shown": each.is_shown,
                "fewer": each.fewer_is_better,
            }
            for each in own.columns
        ],
        "ranks": has_ranks,
        "limit": limit,
        "model": [visible(line.model) for line in lines],
        "rank": [line.rank for line in lines] if has_ranks else None,
        "scores": [[_shown(line.values.get(each.key), each) for line in lines] for each in own.columns],
        "size": [None if line.billions is None else float(f"{line.billions:.3g}") for line in lines],
        "class": _coded([line.size for line in lines], CLASSES),
        "precision": _coded([visible(line.precision) for line in lines]),
        "type": _coded([visible(line.kind) for line in lines]),
        "date": _coded([visible(line.date) for line in lines]),
        "flags": [line.flags for line in lines],
        "flagNames": list(FLAG_WORDS.items()),
        "own": {place: _own_part(line.own, own.columns) for place, line in enumerate(lines) if line.own is not None},
        "links": {str(place): link for place, link in links.items()},
    }
    text = without_keys(json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - no character of HTML is left in it


def _shown(value: float | None, column: BoardColumn) -> float | None:
    """A number as it is shown: two decimals of percent, else four significant digits."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.2f}" if column.is_percent else f"{value:.4g}")


def _own_part(row: OwnRow, columns: Sequence[BoardColumn]) -> dict[str, Any]:
    intervals = []
    for each in columns:
        value = row.values.get(each.key)
        found = None if value is None or value.interval is None else value.interval
        intervals.append(None if found is None else [_shown(end, each) for end in found])
    notes = {
        place: "; ".join(map(visible, row.values[each.key].notes))
        for place, each in enumerate(columns)
        if each.key in row.values and row.values[each.key].notes
    }
    rank = row.rank
    return {
        "run": visible(row.run),
        "recipe": visible(row.recipe),
        "intervals": intervals,
        "notes": notes,
        "range": None if rank is None or rank.best is None else [rank.best, rank.worst],
    }


def _coded(values: Sequence[str], order: Sequence[str] = ()) -> dict[str, Any]:
    """Texts as places in a list of those that there are."""
    words = [each for each in order if each in set(values)] or sorted(set(values))
    places = {word: place for place, word in enumerate(words)}
    return {"words": words, "at": [places[value] for value in values]}
