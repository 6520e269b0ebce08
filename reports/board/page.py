"""Write the leaderboard page: one file that opens offline, loads nothing, and reads without JavaScript, too."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from smaug_eval._version import __version__
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import write_text
from smaug_eval.common.redaction import without_keys
from smaug_eval.common.text import fixed, significant, visible
from smaug_eval.leaderboard.archive import Archive, read_archive
from smaug_eval.leaderboard.published import V1
from smaug_eval.reports.board.payload import FLAG_WORDS, FLAGS, BoardLine, board_lines, payload
from smaug_eval.reports.board.rows import (
    REPORT_FILE,
    BoardColumn,
    BoardValue,
    OwnRow,
    OwnRows,
    indexed_rows,
    ranked_rows,
    read_runs,
)
from smaug_eval.reports.html.script import page_script
from smaug_eval.reports.page import template_environment
from smaug_eval.results.files import warn_of_failures

STATIC_ROWS = 50
"""Rows of an archive that stand in the page without a script; all of one's own do."""
_NAMES = {V1: "Open LLM Leaderboard v1"}


class StaticCell(NamedTuple):
    """Hold a score as it is written where no script runs."""

    text: str
    interval: str
    notes: str


def build_board(
    paths: Sequence[Path],
    out: Path,
    *,
    archive_file: Path | None = None,
    include_flagged: bool = False,
    title: str | None = None,
) -> Path:
    """Write the page of an archived leaderboard with one's own models in it, or of one's own runs alone.

    It depends on the files alone: building it twice gives the same bytes.

    Args:
        paths: Run directories, a folder of run directories, files or folders of lm-eval's results.
        out: The page; replaced in one step.
        archive_file: The leaderboard's rows (CSV, CSV.gz); where None, the page is an index of the runs.
        include_flagged: Also rank against the models that the leaderboard flagged.
        title: Its heading; made from the archive's or the folders' names where None.

    Returns:
        ``out``.

    Raises:
        SmaugError: the archive or a path cannot be used, or there is nothing to show.
    """
    if not paths and archive_file is None:
        raise SmaugError("there is nothing to show", fix="give run directories, or rows with --archive FILE.csv[.gz]")
    archive = None if archive_file is None else read_archive(archive_file)
    sources, unread = read_runs(paths)
    own = indexed_rows(sources) if archive is None else ranked_rows(sources, archive, include_flagged=include_flagged)
    if archive is None and not any(row.values for row in own.rows):
        raise SmaugError(f"{', '.join(map(str, paths))}: no model has a score", fix="give runs that were evaluated")
    own = OwnRows(own.columns, own.rows, own.left_out, [*unread, *own.notes])
    warn_of_failures(each for source in sources for each in source.unread)
    write_text(out, without_keys(_rendered(own, archive, out, include_flagged, title or _title(archive, paths))))
    return out


def _title(archive: Archive | None, paths: Sequence[Path]) -> str:
    if archive is not None:
        return _NAMES.get(archive.kind.suite, "Open LLM Leaderboard v2")
    names = list(dict.fromkeys(path.resolve().name for path in paths))
    return f"Runs in {names[0]}" if len(names) == 1 else f"{len(names)} runs"


def _rendered(own: OwnRows, archive: Archive | None, out: Path, include_flagged: bool, title: str) -> str:
    lines = board_lines(own, archive, include_flagged=include_flagged)
    has_ranks = archive is not None and not archive.kind.is_raw
    links = {
        place: _link(line.own, out) for place, line in enumerate(lines) if line.own is not None and line.own.has_report
    }
    static = lines if archive is None else [line for line in lines if not line.flags & 1][:STATIC_ROWS]
    script = page_script("board.js")
    page = template_environment().get_template("board.html.j2")
    return page.render(
        title=title,
        about=None if archive is None else _about(archive, include_flagged),
        columns=own.columns,
        shown=[each for each in own.columns if each.is_shown],
        own=[(row, _link(row, out) if row.has_report else None) for row in _own_in_order(own, lines)],
        own_notes=_own_notes(own.rows),
        has_classes=any(row.class_rank is not None for row in own.rows),
        static=static,
        total=len(lines),
        has_archive=archive is not None,
        has_ranks=has_ranks,
        notes=[*own.notes, *(f"{model} has no score to show" for model in own.left_out)],
        cell=_cell,
        own_cell=_own_cell,
        link_of=partial(_link, out=out),
        flag_words=_flag_words,
        data=payload(lines, own, links, has_ranks=has_ranks, limit=len(static)),
        script=script,
        version=__version__,
    )


def _own_in_order(own: OwnRows, lines: Sequence[BoardLine]) -> list[OwnRow]:
    return [line.own for line in lines if line.own is not None] if own.rows else []


def _own_notes(rows: Sequence[OwnRow]) -> list[str]:
    """What to know beside own rows, once for all models that it is said of."""
    found: dict[str, list[str]] = {}
    for row in rows:
        marked = () if row.rank is None else tuple(f"* {each}" for each in row.rank.not_comparable)
        for note in (*row.notes, *marked):
            found.setdefault(note, []).append(row.model)
    return [
        f"{note} ({f'all {len(rows)} models' if len(models) == len(rows) > 1 else ', '.join(models)})"
        for note, models in found.items()
    ]


def _link(row: OwnRow, out: Path) -> str:
    """The address of a run's report, relative to the page."""
    folder = Path(os.path.relpath(Path(str(row.folder)).resolve(), out.resolve().parent))
    return quote((folder / REPORT_FILE).as_posix())


def _cell(line: BoardLine, column: BoardColumn) -> StaticCell:
    """A score of a row as the script shows it, too."""
    if line.own is not None:
        return _own_cell(line.own, column)
    value = line.values.get(column.key)
    return StaticCell("" if value is None else score_text(value, column), "", "")


def _own_cell(row: OwnRow, column: BoardColumn) -> StaticCell:
    own = row.values.get(column.key)
    if own is None:
        return StaticCell("", "", "")
    return StaticCell(score_text(own.value, column), interval_text(own, column), "; ".join(map(visible, own.notes)))


def score_text(value: float, column: BoardColumn) -> str:
    """Return a score: two decimals of percent as the verb prints, four significant digits of all else."""
    return fixed(value, 2) if column.is_percent else significant(value)


def interval_text(value: BoardValue | None, column: BoardColumn) -> str:
    """Return both ends of an own score's 95% interval; empty where there is none."""
    if value is None or value.interval is None:
        return ""
    return " to ".join(score_text(end, column) for end in value.interval)


def _flag_words(line: BoardLine) -> str:
    return ", ".join(FLAG_WORDS[name] for place, name in enumerate(FLAGS) if line.flags >> place & 1)


def _about(archive: Archive, include_flagged: bool) -> Mapping[str, Any]:
    return {**archive.describe(include_flagged=include_flagged), "is_raw": archive.kind.is_raw}
