"""Score everything under some paths: the leaderboard's views, and every other task with differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import modern, v2_scores
from smaug_eval.results.boards import SIX, TASKS
from smaug_eval.results.comparison import Comparison, compare
from smaug_eval.results.differences import Difference
from smaug_eval.results.files import Unread
from smaug_eval.results.merging import with_distinct_labels
from smaug_eval.results.metrics import chosen_metrics
from smaug_eval.results.oddities import result_notes
from smaug_eval.results.sources import read_sources, unread_notes
from smaug_eval.results.tables import ScoreTable
from smaug_eval.results.views import OWN_TASKS, ModelViews, View, all_views, apart_as_dict

OTHER_TABLES = {v2_scores.NAME: "leaderboard v2's tasks, normalised", TASKS: "all other tasks"}
"""Board that has no two views to what its tasks are."""


@dataclass(frozen=True)
class Scored:
    """Hold the scores of every model under some paths.

    Attributes:
        views: On the rules of the first leaderboard and of lm-eval 0.4.13, for models with its benchmarks or a suite.
        comparison: All tables, with differences from a baseline.
        notes: What was decided while reading, and what was not read.
        unread: Files that were found and not read.
    """

    views: Sequence[ModelViews]
    comparison: Comparison
    notes: Sequence[str]
    unread: Sequence[Unread]

    @property
    def others(self) -> list[ScoreTable]:
        """Return the tables that have no two views."""
        return [table for table in self.comparison.all_tables if table.suite in OTHER_TABLES]

    def as_list(self, view: View = "both") -> list[dict[str, Any]]:
        """Return plain data for JSON: an entry for each model and suite, then one for each model's other tasks."""
        entries = [each.as_dict(view) for each in self.views]
        for table in self.others:
            entries += [_entry(table, model) for model in table.cells]
        return entries


def score_paths(paths: Sequence[Path], *, baseline: str | None = None, metrics: Sequence[str] = ()) -> Scored:
    """Score everything under some paths.

    Args:
        paths: Run directories, folders or files of results.
        baseline: The model that others are compared with; see :func:`~smaug_eval.results.comparison.compare`.
        metrics: Metrics to stand for tasks of no suite, ``METRIC[,FILTER]`` or ``TASK=METRIC[,FILTER]``.

    Raises:
        SmaugError: a path holds nothing, nothing that can be read, no score, or there is no such baseline or metric.
    """
    sources = with_distinct_labels(read_sources(paths))
    comparison = compare(sources, title=None, baseline=baseline, whole=True, metrics=chosen_metrics(metrics))
    views = [_with_differences(each, comparison) for each in all_views(comparison.models)]
    if not views and not comparison.all_tables:
        raise SmaugError(
            f"{', '.join(map(str, paths))}: no task has a score", fix="give results of lm-eval or lighteval"
        )
    unread = [*(each for source in sources for each in source.unread), *comparison.unread]
    notes = [note for source in sources for note in (*source.notes, *unread_notes(source))]
    notes += [f"not read: {each.path.name}: {each.reason}" for each in comparison.unread]
    notes += result_notes(comparison)
    return Scored(views, comparison, notes, unread)


def _with_differences(views: ModelViews, comparison: Comparison) -> ModelViews:
    """Add to the views the differences of the table that the same results make."""
    names = (views.suite,) if views.origin == OWN_TASKS else (SIX, modern.NAME, views.suite)
    table = next((each for each in comparison.tables if each.suite in names and views.model in each.cells), None)
    if table is None or views.model == comparison.baseline or len(comparison.models) < 2:
        return views
    apart: dict[str, Difference | str] = {}
    for title, cell in zip(table.columns, table.cells[views.model], strict=True):
        if cell is not None and (cell.difference is not None or cell.why_not):
            apart[title] = cell.difference if cell.difference is not None else str(cell.why_not)
    return replace(views, apart=apart)


def _entry(table: ScoreTable, model: str) -> dict[str, Any]:
    columns = zip(table.columns_as_dicts(), table.cells[model], strict=True)
    average = table.averages.get(model)
    found: dict[str, Any] = {
        "model": model,
        "suite": table.suite,
        "origin": OTHER_TABLES[table.suite],
        "average_label": table.scores[model].average_label or None,
        "missing": list(table.scores[model].missing),
        "left_out": [],
        "columns": [
            {**column, "score": asdict(cell.score), **_apart(cell.difference, cell.why_not)}
            for column, cell in columns
            if cell is not None
        ],
    }
    if average is not None:
        apart = _apart(average.difference, average.why_not)
        found |= {"average": asdict(average.score), **{f"average_{key}": value for key, value in apart.items()}}
    return found


def _apart(difference: Difference | None, why_not: str | None) -> Mapping[str, Any]:
    if difference is None and why_not is None:
        return {"difference": None, "why_not": None}
    return apart_as_dict(str(why_not) if difference is None else difference)
