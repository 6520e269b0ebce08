"""Read ready-made preference rows: text or chat, in the forms of :mod:`smaug_eval.trainers.pairs.formats`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.columns import known
from smaug_eval.trainers.pairs.config import RowPairs, measured_rows
from smaug_eval.trainers.pairs.files import FILE_SUFFIXES
from smaug_eval.trainers.pairs.formats import AUTO, UnusableRow, pairs_of_row
from smaug_eval.trainers.pairs.pair import Pair, PairSet, is_empty, split_pairs
from smaug_eval.trainers.pairs.read import stream_rows
from smaug_eval.trainers.pairs.sources import Location, at_commit, commits_of, known_format, locations
from smaug_eval.trainers.pairs.unused import UnusedColumns


def row_pairs(config: RowPairs, *, data_root: Path | None) -> PairSet:
    """Read, check and split ready-made pairs.

    See :func:`smaug_eval.trainers.pairs.pair.question_of` for a pair's question.

    Raises:
        SmaugError: a row does not fit its format, has an empty completion (unless ``drop_empty``), or its two
            completions are equal (unless ``drop_equal``).
    """
    train_rows, eval_rows = locations(config)
    result, unused = PairSet([], [], 0), UnusedColumns()
    pairs = _checked(train_rows, config, data_root, result, unused)
    candidates = _checked(eval_rows, config, data_root, result, unused) if eval_rows else None
    result.unused, result.notes = unused.names, [*unused.notes(), *_labels_of(pairs)]
    return split_pairs(config, result, pairs, candidates)


def pairs_to_measure(
    path: str, *, data_root: Path | None, columns: Mapping[str, str] | None, **settings: str | None
) -> tuple[Location, PairSet]:
    """Read all ready-made pairs of a file or split, and where it is; unusable rows are left out and counted.

    Args:
        path: A file, a folder or a Hub id.
        data_root: Mirror of the Hub.
        columns: Columns under other names: by the name here, the name in the rows.
        **settings: ``config``, ``split`` and ``revision`` of a Hub set; None where they are not given.

    Raises:
        SmaugError: there are no such rows, one is no pair, or a file is given with settings of a Hub set.
    """
    useless = [name for name, value in settings.items() if value is not None]
    if path.endswith(FILE_SUFFIXES) and useless:
        raise SmaugError(f"{', '.join(useless)} has no meaning for the file {path}", fix="leave it out")
    rows = at_commit(measured_rows(path, columns=dict(columns or {}), **settings), data_root)
    location, _ = locations(rows)
    if not location.is_file:
        rows.eval_split = location.split  # the set's own held-out split is not what was requested
    found = row_pairs(rows, data_root=data_root)
    found.revision = commits_of(rows, data_root).get(path)
    return location, found


def _checked(
    location: Location, config: RowPairs, data_root: Path | None, result: PairSet, unused: UnusedColumns
) -> list[Pair]:
    """The usable pairs of one file or split; adds what was read and left out to ``result``."""
    form = (known_format(location) or AUTO) if config.format == AUTO else config.format
    dropped: Counter[str] = result.dropped
    seen: set[Pair] = set()
    pairs: list[Pair] = []
    for where, row in stream_rows(location, data_root=data_root):
        result.rows += 1
        row = known(row) if form == AUTO else row
        try:
            found_pairs, found = pairs_of_row(where, row, form, config.weight)
        except UnusableRow as error:
            dropped[error.reason] += 1
            continue
        result.formats[found] += 1
        unused.look({key: value for key, value in row.items() if key != config.weight}, found)
        for pair in found_pairs:
            if any(map(is_empty, pair.completions.values())):
                _refuse_empty(where, pair, config)
                dropped["empty_completion"] += 1
            elif pair.label is None and pair.chosen == pair.rejected:
                _refuse_equal(where, config)
                dropped["chosen_equals_rejected"] += 1
            elif pair in seen:
                dropped["duplicate"] += 1
            else:
                seen.add(pair)
                pairs.append(pair)
    return pairs


def _labels_of(pairs: Sequence[Pair]) -> list[str]:
    """What is said of unpaired rows."""
    labels = Counter(pair.label for pair in pairs if pair.label is not None)
    if not labels:
        return []
    return [f"unpaired rows: {labels[True]:,} completions are desirable and {labels[False]:,} undesirable"]


def _refuse_empty(where: str, pair: Pair, config: RowPairs) -> None:
    if not config.drop_empty:
        raise SmaugError(
            f"{where}: {next(name for name, answer in pair.completions.items() if is_empty(answer))} is empty",
            fix="remove the row, or set drop_empty: true in the pair set to drop and count such rows",
        )


def _refuse_equal(where: str, config: RowPairs) -> None:
    if not config.drop_equal:
        raise SmaugError(
            f"{where}: chosen equals rejected, so the pair teaches nothing",
            fix="remove the row, or set drop_equal: true in the pair set to drop and count such rows",
        )
