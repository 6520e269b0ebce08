"""Judge whether results that are already there, whoever made them, reproduce published rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.published import V1, V2
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.leaderboard.rescore import leaderboard_task
from smaug_eval.leaderboard.v2_rules import of_february_2025
from smaug_eval.leaderboard.verdicts import ROUNDING, find_row, judge, judge_math_verify
from smaug_eval.results.asked import LEADERBOARD, limit_words
from smaug_eval.results.gates import conditions
from smaug_eval.results.identity import hub_name
from smaug_eval.results.json_files import mapping
from smaug_eval.results.merging import descriptions, merge_models, with_distinct_labels
from smaug_eval.results.sources import read_sources, unread_notes
from smaug_eval.results.task_results import TaskResult
from smaug_eval.results.views import OWN_TASKS, ModelViews, all_views

if TYPE_CHECKING:
    from smaug_eval.leaderboard.archive import Archive
    from smaug_eval.leaderboard.published import PublishedRow

INCOMPARABLE = "not comparable: "
"""How a note begins that says why a number is not the leaderboard's."""


def judge_results(
    paths: Sequence[Path],
    *,
    model: str | None = None,
    against: str | None = None,
    tasks: Sequence[str] | None = None,
    archive: Archive | None = None,
    suite: str = V1,
) -> dict[str, Any]:
    """Return verdicts on every model with results of a leaderboard's benchmarks.

    Args:
        paths: Run directories, folders or files of results.
        model: The one model to look at, by its name in the results or on the Hub; all if None.
        against: Hub id of the published row, or ``id@commit``; each model's own if None.
        tasks: Columns to look at; all if None.
        archive: Rows beyond those we keep.
        suite: Of which leaderboard. Of the second one results of this project's own tasks are judged.

    Returns:
        ``reproductions``: per model ``model``, ``results``, ``origin``, ``dtype``, ``engines``, ``limit``, ``harness``,
        ``against`` (the row), ``verdicts`` (one per column, then the average's; each with ``how`` its score was found
        and ``effects``, the points that lm-eval's own rules would add) and ``remarks``; ``left_out``: model to why it
        has no verdict; ``notes``: what was decided while reading, and what was not read.

    Raises:
        SmaugError: nothing can be read, no such model or row, or no model has both scores and a row.
    """
    sources = with_distinct_labels(read_sources(paths))
    models, about = merge_models(sources), descriptions(sources)
    names = {name: hub_name(name, about.get(name, {}), results) for name, results in models.items()}
    board = find_suite(suite)
    titles = {column.title for column in board.select(tasks)}
    wanted = models if model is None else [_chosen(model, names)]
    found: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    fix = ""
    for name in wanted:
        views = [each for each in all_views({name: models[name]}) if each.suite == board.name]
        if not views:
            left_out[name] = (
                "it has no results of the leaderboard's six benchmarks"
                if board.name == V1
                else f"it has no results of the tasks of {board.name}"
            )
            continue
        try:
            row = find_row(against or names[name], archive, precision=_dtype(models[name].values()), suite=board.name)
        except SmaugError as error:
            if against is not None:
                raise
            left_out[name], fix = error.message, error.fix or ""
            continue
        found += [_judged(each, models[name], names[name], row, titles) for each in views]
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise SmaugError(
            f"{', '.join(map(str, paths))}: no results to hold against a published row: {reasons}",
            fix=fix or "give results of arc_challenge, hellaswag, mmlu, truthfulqa_mc2, winogrande or gsm8k",
        )
    notes = [note for source in sources for note in (*source.notes, *unread_notes(source))]
    return {"reproductions": found, "left_out": left_out, "notes": notes}


def _chosen(wanted: str, names: Mapping[str, str]) -> str:
    matching = [name for name, full in names.items() if wanted in (name, full)]
    matching = matching or [name for name in names if name.endswith(f"/{wanted}")]
    if len(matching) == 1:
        return matching[0]
    problem = "several of the models" if matching else "none of the models"
    raise SmaugError(f"{wanted!r} is {problem} of the results: {', '.join(matching or names)}", fix="name one of them")


def _judged(
    views: ModelViews, results: Mapping[str, TaskResult], name: str, row: PublishedRow, titles: set[str]
) -> dict[str, Any]:
    scores = replace(views.scores, columns=tuple(each for each in views.scores.columns if each.title in titles))
    used = {column.title: _results_of(column, results, views.origin) for column in find_suite(views.suite).columns}
    is_own = views.origin == OWN_TASKS
    obstacles = {
        each.title: _recorded(used[each.title])
        if is_own
        else [note.removeprefix(INCOMPARABLE) for note in each.score.notes if note.startswith(INCOMPARABLE)]
        for each in scores.columns
    }
    for title, own in obstacles.items():
        stops = [result.stopped.words for result in used[title] if result.stopped is not None]
        own += [words for words in dict.fromkeys(stops) if words not in own]
    by_title = {each.title: each for each in views.columns}
    entries = {task: result.entry for task, result in results.items()}
    published = of_february_2025(scores, entries) if views.suite == V2 else scores
    judged = judge(row, published, obstacles=obstacles) + judge_math_verify(row, scores, obstacles)
    verdicts = []
    for verdict in judged:
        notes = [note for note in verdict.notes if note.removeprefix(INCOMPARABLE) not in verdict.because]
        notes = [note for note in notes if note.partition(": ")[0] not in by_title]  # the average's are the columns'
        effects = by_title[verdict.column].causes if verdict.column in by_title and verdict.ours is not None else ()
        verdicts.append(
            {
                **replace(verdict, notes=tuple(notes)).as_dict(),
                "words": verdict.words,
                "how": views.how.get(verdict.column),
                "effects": [asdict(each) for each in effects if each.points is not None],
            }
        )
    measured = [result for title in titles & set(by_title) for result in used[title]]
    machinery = [conditions(views.model, result) for result in measured]
    harnesses = sorted({result.asked.harness for result in measured if result.asked.harness})
    limits = {result.asked.limit for result in measured if result.asked.limit is not None}
    return {
        "model": views.model,
        "protocol": views.suite,
        "origin": views.origin,
        "dtype": _dtype(measured),
        "engines": sorted({str(each.engine) for each in machinery if each.engine is not None}),
        "limit": min(limits, default=None),
        "harness": harnesses,
        "results": sorted({str(result.source) for result in measured}),
        "against": asdict(row),
        "verdicts": verdicts,
        "remarks": list(_remarks(row, name, measured, () if is_own else harnesses)),
    }


def _results_of(column: Column, results: Mapping[str, TaskResult], origin: str) -> list[TaskResult]:
    leaves = {leaf.name for leaf in column.leaves}
    if origin == OWN_TASKS:
        return [result for name, result in results.items() if name in leaves]
    found = ((leaderboard_task(name), result) for name, result in results.items())
    return [result for leaf, result in found if leaf is not None and leaf.name in leaves]


def _recorded(results: Sequence[TaskResult]) -> list[str]:
    """Say what a run of ours recorded beside its numbers: other data, truncated prompts."""
    return list(dict.fromkeys(note for result in results for note in result.notes))


def _dtype(results: Iterable[TaskResult]) -> str | None:
    """Return the one precision that all were measured in; None where it is not recorded."""
    found = {str(dtype) for each in results if (dtype := conditions("", each).dtype) is not None}
    return found.pop() if len(found) == 1 else None


def _commits(results: Iterable[TaskResult]) -> set[str]:
    """Return the commits of the model that the files name."""
    holders = [(mapping(each.settings.get("config")), mapping(each.settings.get("config_general"))) for each in results]
    found = (general.get("model_sha") or config.get("model_sha") for config, general in holders)
    return {commit for commit in found if isinstance(commit, str) and commit}


def _remarks(row: PublishedRow, model: str, results: Sequence[TaskResult], harnesses: Sequence[str]) -> Iterator[str]:
    yield f"reproduced: the published value lies in the 95% interval of these results; {ROUNDING}"
    asked = {limit_words(result.asked) for result in results if result.asked.limit is not None}
    if asked:
        yield f"{', '.join(sorted(asked))}: intervals are wider than those of all documents"
    dtype = _dtype(results)
    if dtype is None:
        yield f"the precision of these results is not recorded; published in {row.precision}"
    elif dtype != row.precision:
        yield f"measured in {dtype}, published in {row.precision}"
    others = [each for each in harnesses if each != LEADERBOARD]
    if others:
        yield f"measured with {', '.join(others)}, published with the leaderboard's harness"
    if model.lower() != row.model.lower():
        yield f"{model} is held against the row of {row.model}"
    commits = _commits(results)
    if not commits:
        yield "whether these results are of the published commit is not known"
    elif commits != {row.revision}:
        yield f"measured at commit {', '.join(sorted(commits))}, published at {row.revision or 'an unknown one'}"
