"""Show two views of scores in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from smaug_eval.cli.tables.whole import print_whole
from smaug_eval.common.text import counted, visible
from smaug_eval.leaderboard.rescore import (
    RECOMPUTED,
)
from smaug_eval.leaderboard.scores import Score
from smaug_eval.leaderboard.views import ColumnViews
from smaug_eval.results.views import OTHER_TASKS, ModelViews, View


def print_views(found: Sequence[ModelViews], view: View) -> None:
    """Print one table per model, each with what belongs beside it."""
    for views in found:
        print_whole(views_table(views, view))
        for line in view_lines(views, view):
            print(line)


def views_table(views: ModelViews, view: View = "both") -> Table:
    """Return one model's scores for the terminal: a line per column, then the average."""
    where = "in the columns of" if views.origin == OTHER_TASKS else "on"
    table = Table(
        title=f"{visible(views.model)} {where} {views.suite} ({views.origin}), %",
        title_justify="left",
        pad_edge=False,
        box=None,
    )
    shows_v1, shows_modern = view != "modern", view != "v1"
    headings = [*(["score ± se", "95% interval"] if shows_v1 else []), *(["0.4.13"] if shows_modern else [])]
    table.add_column("column", no_wrap=True)
    for heading in (*headings, *(["diff."] if view == "both" else []), "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in views.columns:
        modern = each.modern.value if each.modern else None
        cells = _cells(each.v1, modern, view, at_least=each.modern_is_least)
        table.add_row(f"{each.title} ({each.metric})", *cells, counted(each.v1.n))
    average = views.scores.average
    table.add_row(
        views.scores.average_label,
        *_cells(average, views.modern_average, view, at_least=any(each.modern_is_least for each in views.columns)),
        counted(average.n),
        style="bold",
    )
    return table


def view_lines(views: ModelViews, view: View = "both") -> list[str]:
    """Return what belongs beside :func:`views_table`: notes, how scores were found, further metrics, causes."""
    shown = [(each.title, each.modern if view == "modern" else each.v1) for each in views.columns]
    about: dict[str, list[str]] = {}
    for title, score in shown:
        for note in score.notes if score else ():
            about.setdefault(note, []).append(title)
    for title, how in views.how.items():
        if how != RECOMPUTED:
            about.setdefault(how, []).append(title)
    lines = [f"{', '.join(titles)}: {note}" for note, titles in about.items()]
    if view != "modern":
        lines.append(f"interval of the average: {views.scores.interval_method}")
        lines += [
            f"{each.title}, too: " + ", ".join(f"{name} {score.value:.2f}" for name, score in each.others.items())
            for each in views.columns
            if each.others
        ]
    if view == "both":
        lines += list(_cause_lines(views.columns))
    if views.left_out:
        lines.append(f"not part of {views.suite}: {', '.join(views.left_out)}")
    return lines


def _cause_lines(columns: Sequence[ColumnViews]) -> Iterator[str]:
    asked: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        for cause in column.causes:
            if cause.run is not None:
                asked.setdefault((cause.name, cause.detail), []).append(cause.run)
            else:
                points = "not known" if cause.points is None else f"{cause.points:+.2f} points"
                yield f"{column.title}, {cause.name}: {points}; {cause.detail}"
    for (name, detail), where in asked.items():
        yield f"{name}: {detail}; run {', '.join(where)}"


def _cells(score: Score, modern: float | None, view: View, *, at_least: bool) -> list[str]:
    sign = "≥ " if at_least else ""
    shown = "" if modern is None else f"{sign}{modern:.2f}"
    if view == "modern":
        return [shown]
    error = "" if score.stderr is None else f" ± {score.stderr:.2f}"
    interval = "" if score.interval is None else f"{score.interval[0]:.2f} to {score.interval[1]:.2f}"
    difference = "" if modern is None else f"{sign}{modern - score.value:+.2f}"
    return [f"{score.value:.2f}{error}", interval, *([shown, difference] if view == "both" else [])]
