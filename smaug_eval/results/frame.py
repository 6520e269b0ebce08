"""Collect the scores of runs and results in a data frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.scores.pairs import pair_scores
from smaug_eval.mt_bench.scores.single import ModelScores, single_scores
from smaug_eval.results.comparison import compare
from smaug_eval.results.judged import JudgedSet
from smaug_eval.results.merging import with_distinct_labels
from smaug_eval.results.metrics import chosen_metrics
from smaug_eval.results.sources import read_sources
from smaug_eval.results.tables import ScoreCell, ScoreTable

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    *("suite", "model", "column", "metric", "score", "stderr", "low", "high", "n", "delta", "notes"),
    *("unit", "higher_is_better", "p_value", "verdict"),
)


def scores(paths: Sequence[Path], *, baseline: str | None = None, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """Return every score found under ``paths``, one row each.

    Args:
        paths: Run directories, folders or files of lm-eval results.
        baseline: The model that ``delta`` is taken against; the one called ``base``, else the first.
        metrics: Metrics to stand for tasks of no suite, ``METRIC[,FILTER]`` or ``TASK=METRIC[,FILTER]``; each task's
            first one otherwise.

    Returns:
        Columns ``suite`` (``tasks`` for what is part of none), ``model``, ``column`` (a title of the suite, its
        average, or a task), ``metric``, ``score``, ``stderr``, ``low`` and ``high`` (the ends of the 95% interval),
        ``n`` (documents; missing where unknown), ``delta`` (missing for the baseline and where nothing compares),
        ``notes``, ``unit`` (``%`` for scores in percent and differences in points, empty for lm-eval's own),
        ``higher_is_better`` (missing where nobody says so), ``p_value`` (adjusted) and ``verdict``.

    Raises:
        SmaugError: a path holds nothing, or nothing that can be read.
    """
    import pandas as pd

    sources = with_distinct_labels(read_sources(paths))
    tables = compare(sources, title=None, baseline=baseline, whole=True, metrics=chosen_metrics(metrics)).all_tables
    return pd.DataFrame((row for table in tables for row in _rows(table)), columns=list(_COLUMNS))


def judged_scores(paths: Sequence[Path], *, baseline: str | None = None) -> pd.DataFrame:
    """Return every judged score found under ``paths``, one row each.

    Args:
        paths: Run directories, FastChat's judgments, or folders of them.
        baseline: The model that ``delta`` is taken against; the one called ``base``, else the first.

    Returns:
        The columns of :func:`scores`: ``suite`` is the question set, ``column`` a turn, ``average``, a category or
        ``pairs``, ``metric`` who judged. Scores are from 1 to 10; of pairs, the share of wins and half of the ties in
        percent. ``n`` counts judgments, ``delta`` is missing where the baseline has none, or was judged otherwise.

    Raises:
        SmaugError: there is no judgment, or a file is damaged.
    """
    import pandas as pd

    sources = with_distinct_labels(read_sources(paths))
    comparison = compare(sources, title=None, baseline=baseline, whole=True)
    rows = [row for each in comparison.dialogues for row in _judged_rows(each, comparison.baseline)]
    if not rows:
        raise SmaugError(
            "there is no score", fix="give finished runs, lm-eval results, or judgments that have verdicts"
        )
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _judged_rows(each: JudgedSet, baseline: str | None) -> Iterator[tuple[Any, ...]]:
    title, judgments = each.key.title, each.judgments
    metric = f"judged by {each.key.judge}" if each.key.judge else "judged"
    single = single_scores(judgments.single)
    for model, own in single.items():
        is_alike = baseline in single and not each.why_not(model, baseline)
        reference = _parts(single[baseline]) if baseline in single and is_alike else {}
        for column, (value, interval, n) in _parts(own).items():
            low, high = interval or (None, None)
            other = reference.get(column)
            delta = None if model == baseline or other is None else value - other[0]
            own_row = title, model, column, metric, value, None, low, high, n, delta, "; ".join(own.notes)
            yield *own_row, "of 10", True, None, None
    for model, pair in pair_scores(judgments.pairs).items():
        low, high = (None, None) if pair.interval is None else (100 * end for end in pair.interval)
        value = 100 * pair.win_rate_adjusted
        pair_row = title, model, "pairs", metric, value, None, low, high, pair.n, None, "; ".join(pair.notes)
        yield *pair_row, "%", True, None, None


def _parts(own: ModelScores) -> dict[str, tuple[float, tuple[float, float] | None, int | None]]:
    """Map a column to its score, interval and number."""
    found: dict[str, tuple[float, tuple[float, float] | None, int | None]] = {}
    for column, name in (("turn 1", "turn1"), ("turn 2", "turn2"), ("average", "average")):
        value = getattr(own, name)
        if value is not None:
            found[column] = value, own.intervals.get(name), own.n if name == "average" else None
    found |= {f"turn {turn}": (value, None, None) for turn, value in own.later.items()}
    found |= {name: (each.mean, each.interval, each.n) for name, each in own.by_category.items()}
    return found


def _rows(table: ScoreTable) -> Iterator[tuple[Any, ...]]:
    for model, cells in table.cells.items():
        for column, metric, cell in zip(table.described, table.metrics, cells, strict=True):
            if cell is not None:
                own = _row(table.suite, model, column.title, metric, cell)
                yield *own, column.unit.name, column.higher_is_better, *_judged(cell)
        if table.is_averaged:
            cell = table.averages[model]
            own = _row(table.suite, model, table.average_label or "average", "mean", cell)
            yield *own, "%", True, *_judged(cell)


def _row(suite: str, model: str, title: str, metric: str, cell: ScoreCell) -> tuple[Any, ...]:
    score = cell.score
    low, high = score.interval or (None, None)
    notes = "; ".join(score.notes)
    return suite, model, title, metric, score.value, score.stderr, low, high, score.n, cell.delta, notes


def _judged(cell: ScoreCell) -> tuple[float | None, str | None]:
    apart = cell.difference
    return (None, None) if apart is None else (apart.adjusted_p, apart.verdict.outcome.value)
