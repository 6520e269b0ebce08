"""Check training pairs for contamination: which evaluated documents stand in them, whole or in part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from typing import Any

from smaug_eval.common.console import Reporter
from smaug_eval.common.errors import SmaugError
from smaug_eval.contamination import grams
from smaug_eval.contamination.grams import Overlap, OverlapFinder
from smaug_eval.contamination.leaks import EXAMPLES, LeakFinder, TaskLeaks, column_documents
from smaug_eval.leaderboard.protocol import data_revisions
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.trainers.layout import TRAIN_FILE
from smaug_eval.trainers.pairs.columns import known
from smaug_eval.trainers.pairs.config import measured_rows
from smaug_eval.trainers.pairs.files import FORMATS, is_local, is_saved
from smaug_eval.trainers.pairs.formats import AUTO, UnusableRow, pairs_of_row
from smaug_eval.trainers.pairs.read import raw_rows
from smaug_eval.trainers.pairs.sources import Location, at_commit, known_format, locations


def check_pairs(
    pairs: str, *, suite: Suite, tasks: Sequence[str] | None, data_root: Path | None, reporter: Reporter
) -> dict[str, Any]:
    """Search training pairs for the documents of some tasks.

    Args:
        pairs: A ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file; a folder that ``pairs build`` wrote, of which the
            training pairs are read; or a Hub id, of which the training split is.
        suite: Where the tasks are.
        tasks: Columns of the suite; all if None.
        data_root: Offline mirror of pairs and benchmarks; None for the Hub.
        reporter: Shows progress.

    Returns:
        Plain data.

        - ``pairs``: what was read, its ``rows``, and how many are ``left_out`` as they contradict themselves; of a Hub
          set also the ``revision``, its commit.
        - ``data_revisions``: the Hub's commits of the benchmarks.
        - ``measures``: the numbers behind the measures. ``not_searched``: documents too short to look for as a whole.
        - ``tasks``: for each ``task`` (short name) the ``documents`` of its evaluated split and three findings, each
          with ``found``, how many documents, their ``share`` of all, and ``first``, examples of ``document`` and
          ``place`` of a pair: ``whole``, documents whose whole identifying text stands in a pair
          (:mod:`smaug_eval.contamination.leaks`); ``long_run``, documents of which any run of 13 words does;
          ``short_runs``, those of which at least 70% of the runs of 8 words do (:mod:`smaug_eval.contamination.grams`).
          The latter two name the ``words`` of a run, its document's ``share`` of runs in the pairs, and documents
          ``too_short`` for them.

    Raises:
        SmaugError: the pairs, a task or its data cannot be used.
    """
    location = _location(pairs, data_root)
    suite = suite.pinned(tasks, data_root)
    chosen = suite.select(tasks)
    rows, places, left_out = _rows(location, data_root)
    documents = [each for column in chosen for each in column_documents(suite, column, data_root)]
    overlaps, leaks = OverlapFinder(documents), LeakFinder(documents)
    with reporter.stage(f"search {location} for {len(documents):,} documents"):
        for index, row in enumerate(rows):
            reporter.update(index, len(rows))
            overlaps.look(index, row)
        whole = leaks.find(rows)
    long, short = (_by_task(overlaps.found(length)) for length in (grams.LONG, grams.SHORT))
    return {
        "data_revisions": data_revisions(
            each for column in chosen for each in suite.commits(column, data_root).items()
        ),
        "pairs": {
            "path": str(location),
            **({} if location.revision is None else {"revision": location.revision}),
            "rows": len(rows) + left_out,
            "left_out": left_out,
        },
        "measures": {"long": grams.LONG, "short": grams.SHORT, "short_share": grams.SHORT_SHARE},
        "not_searched": leaks.not_searched,
        "tasks": [
            {
                "task": task,
                "documents": len(found),
                "whole": _whole(whole.get(task, TaskLeaks()), len(found), places),
                "long_run": _runs(found, [each for each in found if each.seen], places),
                "short_runs": _runs(short[task], [each for each in short[task] if _mostly_seen(each)], places),
            }
            for task, found in long.items()
        ],
    }


def _location(pairs: str, data_root: Path | None) -> Location:
    """Where the training pairs are."""
    place = str(Path(pairs) / TRAIN_FILE) if Path(pairs).is_dir() and not is_saved(Path(pairs)) else pairs
    if not is_local(place) and (Path(place).is_file() or place.count("/") != 1):
        raise SmaugError(
            f"pairs {pairs!r}: neither a pair file nor a Hub id",
            fix=f"give {FORMATS}, a folder that pairs build wrote, or organisation/dataset",
        )
    return locations(at_commit(measured_rows(place), data_root))[0]


def _rows(location: Location, data_root: Path | None) -> tuple[list[dict[str, Any]], list[str], int]:
    """The pairs, the place of each, and how many rows are none."""
    rows, places, left_out = [], [], 0
    for place, raw in raw_rows(location, data_root=data_root):
        try:
            pairs, _ = pairs_of_row(place, known(raw), known_format(location) or AUTO)
        except UnusableRow:
            left_out += 1
            continue
        rows += [pair.row() for pair in pairs]
        places += [place] * len(pairs)
    return rows, places, left_out


def _by_task(overlaps: Sequence[Overlap]) -> dict[str, list[Overlap]]:
    found: dict[str, list[Overlap]] = defaultdict(list)
    for overlap in overlaps:
        found[overlap.document.task].append(overlap)
    return found


def _mostly_seen(overlap: Overlap) -> bool:
    return overlap.share >= grams.SHORT_SHARE


def _whole(leaks: TaskLeaks, documents: int, places: Sequence[str]) -> dict[str, Any]:
    lines: dict[str, int] = {}
    for line, name in leaks.pairs.items():
        lines.setdefault(name, line)
    return {
        "found": len(leaks.documents),
        "share": len(leaks.documents) / documents,
        "first": [{"document": name, "place": places[line - 1]} for name, line in islice(lines.items(), EXAMPLES)],
    }


def _runs(documents: Sequence[Overlap], counted: Sequence[Overlap], places: Sequence[str]) -> dict[str, Any]:
    first = nsmallest(EXAMPLES, ((each.pair, number) for number, each in enumerate(counted) if each.pair is not None))
    return {
        "found": len(counted),
        "share": len(counted) / len(documents),
        "too_short": sum(not each.runs for each in documents),
        "first": [
            {
                "document": counted[number].document.name,
                "place": places[pair],
                "words": counted[number].words,
                "share": counted[number].share,
            }
            for pair, number in first
        ],
    }
