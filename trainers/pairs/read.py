"""Read rows from files, folders or the Hub. The rows are untrusted: every fault names the file and the row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub import mirror_file, read_split
from smaug_eval.trainers.pairs.checks import checked_object, checked_text
from smaug_eval.trainers.pairs.columns import mapped
from smaug_eval.trainers.pairs.files import row_files, rows_of, without_padding
from smaug_eval.trainers.pairs.formats import UnusableRow, pairs_of_row
from smaug_eval.trainers.pairs.pair import WEIGHT_COLUMN, Pair
from smaug_eval.trainers.pairs.sources import Location


def raw_rows(location: Location, *, data_root: Path | None) -> list[tuple[str, Any]]:
    """Return every row of a file, or of a split on the Hub or in its mirror, as it stands, each with its place.

    Args:
        location: The file or the split.
        data_root: Mirror of the Hub to read from.

    Raises:
        SmaugError: the file is missing, damaged or empty, or a line is not JSON.
    """
    return list(stream_rows(location, data_root=data_root))


def stream_rows(location: Location, *, data_root: Path | None) -> Iterator[tuple[str, Any]]:
    """Yield the rows of :func:`raw_rows` one after the other; none is kept.

    Raises:
        SmaugError: as there.
    """
    columns = dict(location.columns)
    where = None
    for where, row in _rows(location, data_root):
        yield where, mapped(where, row, columns)
    if where is None:
        raise SmaugError(f"{location} has no rows", fix="give a file or split with at least one row")


def text_columns(where: str, row: Any, columns: Sequence[str]) -> dict[str, str]:
    """Return the named columns of a row, all of them text.

    Raises:
        SmaugError: one is missing or something else.
    """
    values = checked_object(where, row, columns)
    return {column: checked_text(where, column, values[column]) for column in columns}


def pairs_of_file(path: Path) -> list[Pair]:
    """Return the pairs of a file that :func:`smaug_eval.trainers.pairs.build.build_pairs` wrote, or one like it.

    Raises:
        SmaugError: a row is neither ``prompt``, ``chosen``, ``rejected`` text nor messages, nor an unpaired one.
    """
    return list(_ready_pairs(path))


def first_pair(path: Path) -> Pair:
    """Return the first pair of such a file.

    Raises:
        SmaugError: as of :func:`pairs_of_file`.
    """
    return next(_ready_pairs(path))


def read_pairs(path: Path) -> list[Mapping[str, Any]]:
    """Read the pairs of a file in the form of its rows, checked.

    Args:
        path: JSON lines of ``prompt``, ``chosen`` and ``rejected``, each row all texts or all lists of
            ``{"role", "content"}`` with any further keys; beside messages a row may have ``tools``, ``documents`` and
            ``chat_template_kwargs``. Or of ``prompt``, ``completion`` and ``label``.

    Returns:
        For each row these columns, texts or lists of messages; a chat row's prompt ends with a message of the user or
        of a tool, and its completions hold assistant messages.

    Raises:
        SmaugError: a row is something else; the message names it.
    """
    return list(stream_pairs(path))


def stream_pairs(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the pairs of :func:`read_pairs` one after the other; none is kept.

    Raises:
        SmaugError: as there, when it comes to the row.
    """
    return (pair.row() for pair in _ready_pairs(path))


def source_files(location: Location, *, data_root: Path | None) -> list[Path]:
    """Return the files that :func:`raw_rows` would read for the same arguments; none where it would ask the Hub.

    Raises:
        SmaugError: the file or the mirror's split is not there.
    """
    if location.is_file:
        return row_files(location.path, location.split)
    return [mirror_file(data_root, location.path, location.config, location.split)] if data_root else []


def _ready_pairs(path: Path) -> Iterator[Pair]:
    return (_ready_pair(where, row) for where, row in stream_rows(Location(str(path)), data_root=None))


def _ready_pair(where: str, row: Any) -> Pair:
    try:
        weighs = WEIGHT_COLUMN if isinstance(row, dict) and isinstance(row.get(WEIGHT_COLUMN), int | float) else None
        (pair, *others), _ = pairs_of_row(where, row, weight=weighs)
    except UnusableRow as error:
        raise SmaugError(f"{where}: {error.reason.replace('_', ' ')}", fix="build the pair set again") from error
    if others:
        raise SmaugError(f"{where}: it has several answers of one kind", fix="build the pair set again")
    for name, completion in pair.completions.items():
        if completion == ():
            raise SmaugError(f"{where}: {name} has no message", fix="correct or remove the row")
    return pair


def _rows(location: Location, data_root: Path | None) -> Iterator[tuple[str, Any]]:
    if location.is_file:
        for file in row_files(location.path, location.split):
            yield from rows_of(file)
        return
    data = read_split(location.path, location.config, location.split, data_root=data_root, revision=location.revision)
    for number, row in enumerate(data, start=1):
        yield f"{location}, row {number}", without_padding(row)
