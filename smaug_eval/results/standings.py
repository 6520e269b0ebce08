"""Rank the models of runs and lm-eval results on the archived leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v2_scores
from smaug_eval.leaderboard.columns import Task
from smaug_eval.leaderboard.published import V1, V2, published_rows_of
from smaug_eval.leaderboard.rescore import leaderboard_task
from smaug_eval.results.boards import boards_of
from smaug_eval.results.identity import billions, hub_name
from smaug_eval.results.merging import descriptions, merge_models, names_on_page, with_distinct_labels
from smaug_eval.results.sources import Source, read_sources, unread_notes, without_damaged_samples
from smaug_eval.results.tables import KnownScores
from smaug_eval.results.task_results import TaskResult
from smaug_eval.results.views import ARCHIVED, OWN_TASKS, all_views

if TYPE_CHECKING:
    from smaug_eval.leaderboard.archive import Archive, Standing
    from smaug_eval.leaderboard.scores import SuiteScores

_THEIRS = "lm-eval's leaderboard tasks"


def leaderboard_rows(suite: str = V1) -> list[dict[str, Any]]:
    """Return the published rows of a leaderboard that we state as facts, as plain data."""
    return [asdict(row) for row in published_rows_of(suite)]


def rank(paths: Sequence[Path], archive_file: Path, *, include_flagged: bool = False) -> dict[str, Any]:
    """Rank every model found under ``paths``; files of one model are joined.

    Args:
        paths: Run directories, folders or files of lm-eval results; none: only the archive is described.
        archive_file: Rows of the leaderboard (CSV, CSV.gz).
        include_flagged: Also rank against the models the leaderboard flagged.

    Returns:
        ``archive``: what was read and left out; ``standings``: :class:`Standing` per model as plain data; ``left_out``:
        models without any of the six benchmarks; ``notes``: files that were not read, and what was decided.

    Raises:
        SmaugError: the archive or a path cannot be used, or no path holds a task of its suite.
    """
    from smaug_eval.leaderboard.archive import read_archive

    archive = read_archive(archive_file)
    suite = archive.kind.suite
    sources = without_damaged_samples(with_distinct_labels(read_sources(paths))) if paths else []
    ranked, left_out = ranked_models(sources, archive, include_flagged=include_flagged)
    if paths and not ranked:
        results = merge_models(sources)
        if any(each.stopped for model in left_out for each in results[model].values()):
            raise SmaugError(
                f"{', '.join(map(str, paths))}: every score stopped early, and such a score is not ranked",
                fix="complete the evaluation: leave stop out and run it again; only the rest is computed",
            )
        where = ", ".join(map(str, paths))
        raise SmaugError(f"{where} holds no score in {suite} to rank", fix=f"evaluate on {suite} (smaug-eval eval)")
    return {
        "archive": archive.describe(include_flagged=include_flagged),
        "standings": [each.standing.as_dict() for each in ranked],
        "left_out": left_out,
        "notes": [note for source in sources for note in (*source.notes, *unread_notes(source))],
    }


class RankedModel(NamedTuple):
    """Hold a model's place on an archived leaderboard.

    Attributes:
        name: Its name on the page.
        scores: Its scores on the archive's rules.
        standing: Its ranks.
        about: What a run's manifest says of it.
        results: Its results.
    """

    name: str
    scores: SuiteScores
    standing: Standing
    about: Mapping[str, Any]
    results: Mapping[str, TaskResult]


def ranked_models(
    sources: Sequence[Source], archive: Archive, *, include_flagged: bool = False
) -> tuple[list[RankedModel], list[str]]:
    """Rank every model of some sources; return also the names of those without any task of the archive's suite.

    A model whose scores all stopped early is one of the latter.

    Args:
        sources: With labels that tell them apart.
        archive: The archive.
        include_flagged: Also rank against the models the leaderboard flagged.
    """
    models, about, shown = merge_models(sources), descriptions(sources), _shown_names(sources)
    found, left_out = [], []
    for model, results in models.items():
        own = _scores_of(model, results, archive.kind.suite)
        whole = [(*each, scores) for each in own if (scores := without_stopped(each[1], results)[0]).columns]
        for origin, measured, scores in whole:
            said = about.get(model, {})
            standing = _standing(archive, measured, origin, (model, shown[model]), results, said, include_flagged)
            found.append(RankedModel(model, _on_its_rules(archive, scores, results), standing, said, results))
        left_out += [] if whole else [model]
    return found, left_out


def _scores_of(model: str, results: Mapping[str, TaskResult], suite: str) -> list[tuple[str, SuiteScores]]:
    """A model's scores by a leaderboard's rules, each with whose tasks it was measured on.

    The second leaderboard's tasks in lm-eval, ``leaderboard_ifeval`` and so on, are those that it ran itself.
    """
    found = [(each.origin, each.scores) for each in all_views({model: results}) if each.suite == suite]
    if found or suite != V2:
        return found
    boards = (each for each in boards_of({model: results}) if each.name == v2_scores.NAME)
    return [(_THEIRS, scores) for each in boards if (scores := KnownScores().of(each, model)) is not None]


def without_stopped(scores: SuiteScores, results: Mapping[str, TaskResult]) -> tuple[SuiteScores, tuple[str, ...]]:
    """Leave out the columns that stopped early: a score of the documents that one decision took has no rank.

    Args:
        scores: A model's.
        results: Its results.

    Returns:
        The scores, whose average is then none of six, and the titles left out.
    """
    early = {leaf.name for task, result in results.items() if result.stopped for leaf in _leaves_of(task)}
    out = tuple(column.title for column in scores.columns if early & column.leaves.keys())
    if not out:
        return scores, ()
    kept = tuple(column for column in scores.columns if column.title not in out)
    return replace(scores, columns=kept, average_label=f"{', '.join(out)} stopped early"), out


def _leaves_of(task: str) -> list[Task]:
    """The task as it is called in the results, and as the leaderboard calls it."""
    spec = leaderboard_task(task)
    return [Task(task), *([] if spec is None else [Task(spec.name)])]


def _shown_names(sources: Sequence[Source]) -> dict[str, str]:
    """Name on the page to the name in the table, which says the run of a run's model."""
    found = {}
    for source in sources:
        for model, name in names_on_page([*sources])[source.label].items():
            is_labelled = source.is_run and not name.startswith(f"{source.label}/")
            found[name] = f"{source.label}/{model}" if is_labelled else name
    return found


def _standing(
    archive: Archive,
    scores: SuiteScores,
    origin: str,
    names: tuple[str, str],
    results: Mapping[str, TaskResult],
    about: Mapping[str, Any],
    include_flagged: bool,
) -> Standing:
    model, shown = names
    name = hub_name(model, about, results)
    own = standing_of(archive, scores, name, about, results, include_flagged=include_flagged)
    said = () if origin in (OWN_TASKS, ARCHIVED) else (f"from {origin}",)
    return replace(own, model=shown, notes=(*own.notes, *said))


def standing_of(
    archive: Archive,
    scores: SuiteScores,
    name: str,
    about: Mapping[str, Any],
    results: Mapping[str, TaskResult],
    *,
    include_flagged: bool = False,
) -> Standing:
    """Rank a model; its size is its checkpoint's, its files' or its own archived row's.

    Args:
        archive: The archive.
        scores: The model's, in the leaderboard's columns.
        name: Its name on the Hub.
        about: What a run's manifest says of it.
        results: Its results.
        include_flagged: Also rank against the models the leaderboard flagged.
    """
    from smaug_eval.leaderboard.archive import standing

    scores, out = without_stopped(scores, results)
    scores = _on_its_rules(archive, scores, results)
    size = billions(about, results)
    if size is None:
        listed = archive.rows.loc[archive.rows["model"].str.lower() == name.lower(), "billions"]
        size = next((float(value) for value in listed if value > 0), None)
    found = standing(archive, scores, model=name, billions=size, include_flagged=include_flagged)
    return replace(found, notes=(*found.notes, *(f"{title} is not ranked: it stopped early" for title in out)))


def _on_its_rules(archive: Archive, scores: SuiteScores, results: Mapping[str, TaskResult]) -> SuiteScores:
    """Scores as the leaderboard had them when the archive was made."""
    from smaug_eval.leaderboard.archive_formats import SECOND
    from smaug_eval.leaderboard.v2_rules import of_february_2025

    if archive.kind is not SECOND:
        return scores
    return of_february_2025(scores, {task: result.entry for task, result in results.items()})
