"""Show the same outputs scored by two sets of rules: the archived leaderboard's, and lm-eval 0.4.13's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.text import signed
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.results.comparison import Comparison, Results
from smaug_eval.results.sample_files import state_of
from smaug_eval.results.views import all_views

if TYPE_CHECKING:
    from smaug_eval.leaderboard.views import ColumnViews, ViewCause
    from smaug_eval.results.views import ModelViews

READ_AT_MOST = 128 * 2**20
"""Bytes of samples that are read again for this; larger runs are left to ``smaug-eval scores``."""


class ViewRow(NamedTuple):
    """Hold one column, or the average, in both views.

    Attributes:
        title: The column.
        metric: The leaderboard's.
        v1: By the leaderboard's rules, in percent.
        modern: By lm-eval 0.4.13's; None where the samples do not tell.
        is_least: Whether ``modern`` is a lower bound.
        causes: What these outputs say of the difference, rule by rule.
        unseen: Rules whose part only other prompts or outputs would show.
    """

    title: str
    metric: str
    v1: float
    modern: float | None
    is_least: bool
    causes: list[str]
    unseen: list[str]


def views(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show both views of each model that has results of the leaderboard's six benchmarks, as far as they tell."""
    files = {state_of(each.samples) for own in comparison.models.values() for each in own.values() if each.samples}
    size = sum(each.size for each in files)
    if not comparison.tables:
        return None
    if size > READ_AT_MOST:
        return {"views": [], "failed": {}, "mebibytes": size / 2**20}
    shown: list[tuple[ModelViews, list[ViewRow]]] = []
    failed = {}
    for model, results in comparison.models.items():
        try:
            shown += _model_views(model, results)
        except SmaugError as error:  # samples of another make: all else of the report stands without them
            failed[model] = error.message
    return {"views": shown, "failed": failed, "mebibytes": size / 2**20} if shown or failed else None


def _model_views(model: str, results: Results) -> list[tuple[ModelViews, list[ViewRow]]]:
    found = all_views({model: results}, must_rescore=True)
    return [(each, rows) for each in found if (rows := list(_rows(each)))]


def _rows(views: ModelViews) -> Iterator[ViewRow]:
    if all(column.modern is None for column in views.columns):
        return
    for column in views.columns:
        yield _row(column)
    is_least = any(column.modern_is_least for column in views.columns)
    average = views.scores.average.value
    yield ViewRow(views.scores.average_label, "mean", average, views.modern_average, is_least, [], [])


def _row(column: ColumnViews) -> ViewRow:
    modern = column.modern.value if column.modern else None
    seen = [_cause(cause) for cause in column.causes if cause.run is None]
    unseen = [cause.name for cause in column.causes if cause.run is not None]
    return ViewRow(column.title, column.metric, column.v1.value, modern, column.modern_is_least, seen, unseen)


def _cause(cause: ViewCause) -> str:
    points = "not known" if cause.points is None else f"{signed(cause.points, 2)} points"
    return f"{cause.name}: {points} ({cause.detail})"


PANEL = Panel("views", "By the leaderboard's rules and by lm-eval 0.4.13's", views, same_for_all=True)
