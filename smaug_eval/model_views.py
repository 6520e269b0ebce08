"""The scores of runs and of anybody's lm-eval results, on the leaderboard's rules and on lm-eval 0.4.13's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from reports.merging import merge_models, with_distinct_labels
from reports.sources import TaskResult, json_lines, read_source
from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.registry import SUITES
from smaug_eval.leaderboard.rescore import (
    AS_REPORTED,
    RECOMPUTED,
    Rescored,
    document_metrics,
    leaderboard_task,
    rescore,
)
from smaug_eval.leaderboard.scores import Score, SuiteScores, suite_scores
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.leaderboard.views import ColumnViews, average_difference, column_views

View = Literal["v1", "modern", "both"]
VIEWS: tuple[View, ...] = ("v1", "modern", "both")
OWN_TASKS = "the suite's tasks"
OTHER_TASKS = "lm-eval's own tasks, re-scored"


@dataclass(frozen=True)
class ModelViews:
    """One model's scores in one suite.

    Attributes:
        model: The model, as the results name it.
        suite: The suite whose rules are applied.
        origin: Whether the suite's own tasks were run, or lm-eval's.
        scores: On the suite's rules, the leaderboard's.
        columns: Both views of each measured column.
        how: Column title to how its score was found: recomputed from samples, or taken as reported.
        modern_average: Mean of the columns on lm-eval 0.4.13's rules; None where one of them is not known.
        average_difference: ``modern_average`` minus the leaderboard's, in points.
        left_out: Tasks of the results that no column measures.
    """

    model: str
    suite: str
    origin: str
    scores: SuiteScores
    columns: tuple[ColumnViews, ...]
    how: dict[str, str]
    modern_average: float | None
    average_difference: float | None
    left_out: tuple[str, ...] = ()

    def as_dict(self, view: View = "both") -> dict[str, Any]:
        """Plain data for JSON, with the columns of one view or of both."""
        columns = [
            {"title": each.title, "metric": each.metric, "how": self.how[each.title], **_column_part(each, view)}
            for each in self.columns
        ]
        average = {"average": asdict(self.scores.average), "interval_method": self.scores.interval_method}
        modern = {"modern_average": self.modern_average}
        averages: dict[View, dict[str, Any]] = {
            "v1": average,
            "modern": modern,
            "both": average | modern | {"average_difference": self.average_difference},
        }
        return {
            "model": self.model,
            "suite": self.suite,
            "origin": self.origin,
            "average_label": self.scores.average_label,
            "missing": list(self.scores.missing),
            "left_out": list(self.left_out),
            "columns": columns,
            **averages[view],
        }


def _column_part(column: ColumnViews, view: View) -> dict[str, Any]:
    own = {"v1": asdict(column.v1), "others": {name: asdict(score) for name, score in column.others.items()}}
    modern = {"modern": asdict(column.modern) if column.modern else None}
    parts: dict[View, dict[str, Any]] = {
        "v1": own,
        "modern": modern,
        "both": own | modern | {"causes": [asdict(cause) for cause in column.causes]},
    }
    return parts[view]


def checked_view(name: str) -> View:
    """``name`` as a view.

    Raises:
        SmaugError: there is none of that name.
    """
    for view in VIEWS:
        if view == name:
            return view
    raise SmaugError(f"--view {name}: there is no such view", fix=f"choose one of {', '.join(VIEWS)}")


def score_views(paths: Sequence[Path]) -> list[ModelViews]:
    """Both views of every model found under ``paths``.

    Args:
        paths: Run directories, folders or files of lm-eval results, of this project's tasks or of lm-eval's own.

    Raises:
        SmaugError: a path holds nothing, a damaged file, or no task of the leaderboard.
    """
    found = list(all_views(merge_models(with_distinct_labels([read_source(path) for path in paths]))))
    if not found:
        raise SmaugError(
            f"{', '.join(map(str, paths))}: no task of a suite or of the leaderboard's six benchmarks",
            fix="give results of arc_challenge, hellaswag, mmlu, truthfulqa_mc2, winogrande or gsm8k",
        )
    return found


def rescored_views(path: Path) -> list[ModelViews]:
    """The views of lm-eval's own tasks alone; none where a run did not evaluate any.

    Raises:
        SmaugError: a file is damaged.
    """
    found = all_views(read_source(path).results)
    return [views for views in found if views.origin == OTHER_TASKS]


def all_views(models: Mapping[str, Mapping[str, TaskResult]]) -> Iterator[ModelViews]:
    """The views of each model on each suite that it has results of.

    Raises:
        SmaugError: a samples file is damaged, or cannot be scored by the leaderboard's rules.
    """
    for model, results in models.items():
        yield from _model_views(model, results)


def _model_views(model: str, results: Mapping[str, TaskResult]) -> Iterator[ModelViews]:
    for make in SUITES.values():
        suite = make()
        if suite.folder is None:  # lm-eval's own tasks are re-scored
            continue
        leaves = {leaf.name: leaf for column in suite.columns for leaf in column.leaves}
        own = {name: result for name, result in results.items() if name in leaves}
        if own:
            parts = {name: _own(leaves[name], result) for name, result in own.items()}
            yield _views(model, suite, OWN_TASKS, parts, ())
    others = {name: leaf for name in results if (leaf := leaderboard_task(name)) is not None}
    if others:
        parts = _rescored({name: results[name] for name in others})
        if parts:
            left_out = tuple(name for name, result in results.items() if not (name in others or result.is_group))
            yield _views(model, v1.SUITE, OTHER_TASKS, parts, left_out)


def _own(leaf: Any, result: TaskResult) -> Rescored:
    if result.samples is None:
        return Rescored(result.entry, {}, AS_REPORTED, result.notes)
    return Rescored(result.entry, document_metrics(leaf, json_lines(result.samples)), RECOMPUTED, result.notes)


def _rescored(results: Mapping[str, TaskResult]) -> dict[str, Rescored]:
    """The leaderboard's leaf task to its results; where several stand for one, samples go before reports."""
    parts: dict[str, Rescored] = {}
    for name, result in results.items():
        samples = None if result.samples is None else json_lines(result.samples)
        leaf, part = leaderboard_task(name), rescore(name, result.entry, result.settings, samples)
        if leaf is not None and part is not None and (leaf.name not in parts or part.how == RECOMPUTED):
            parts[leaf.name] = replace(part, notes=(*result.notes, *part.notes))
    return parts


def _views(
    model: str, suite: Suite, origin: str, parts: Mapping[str, Rescored], left_out: tuple[str, ...]
) -> ModelViews:
    metrics = {leaf.name: column.metric for column in suite.columns for leaf in column.leaves}
    headline = {name: part.documents[metrics[name]] for name, part in parts.items() if metrics[name] in part.documents}
    try:
        scores = suite_scores(
            suite,
            {name: part.entry for name, part in parts.items()},
            notes={name: part.notes for name, part in parts.items()},
            documents=headline,
        )
    except SmaugError as error:
        raise SmaugError(f"{model}: {error.message}", fix=error.fix) from error
    by_title = {column.title: column for column in suite.columns}
    documents = {name: part.documents for name, part in parts.items() if part.documents}
    columns = tuple(
        column_views(by_title[each.title], each, documents, own_prompts=origin == OWN_TASKS) for each in scores.columns
    )
    modern_average, difference = average_difference(columns) or (None, None)
    how = {each.title: " and ".join(sorted({parts[name].how for name in each.leaves})) for each in scores.columns}
    return ModelViews(model, suite.name, origin, scores, columns, how, modern_average, difference, left_out)


def views_table(views: ModelViews, view: View = "both") -> Table:
    """One model's scores for the terminal: a line per column, then the average."""
    table = Table(
        title=f"{views.model} on {views.suite} ({views.origin}), %", title_justify="left", pad_edge=False, box=None
    )
    shows_v1, shows_modern = view != "modern", view != "v1"
    headings = [*(["score ± se", "95% interval"] if shows_v1 else []), *(["0.4.13"] if shows_modern else [])]
    table.add_column("column", no_wrap=True)
    for heading in (*headings, *(["diff."] if view == "both" else []), "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in views.columns:
        modern = each.modern.value if each.modern else None
        cells = _cells(each.v1, modern, view, at_least=each.modern_is_least)
        table.add_row(f"{each.title} ({each.metric})", *cells, f"{each.v1.n:,}")
    average = views.scores.average
    table.add_row(
        views.scores.average_label,
        *_cells(average, views.modern_average, view, at_least=any(each.modern_is_least for each in views.columns)),
        f"{average.n:,}",
        style="bold",
    )
    return table


def view_lines(views: ModelViews, view: View = "both") -> list[str]:
    """What belongs beside :func:`views_table`: notes, how scores were found, further metrics, causes."""
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
