"""Score runs and anybody's lm-eval results on the leaderboard's rules and on lm-eval 0.4.13's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v1, v2_scores
from smaug_eval.leaderboard.registry import SUITES
from smaug_eval.leaderboard.rescore import (
    AS_REPORTED,
    RECOMPUTED,
    Rescored,
    document_metrics,
    leaderboard_task,
    rescore,
)
from smaug_eval.leaderboard.scores import SuiteScores, suite_scores
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.leaderboard.views import ColumnViews, average_difference, column_views
from smaug_eval.results.asked import LEADERBOARD
from smaug_eval.results.differences import Difference
from smaug_eval.results.fitting import misfit, readable
from smaug_eval.results.merging import merge_models, with_distinct_labels
from smaug_eval.results.sample_files import Samples, sample_rows
from smaug_eval.results.sources import read_source, read_sources
from smaug_eval.results.task_results import TaskResult

View = Literal["v1", "modern", "both"]


VIEWS: tuple[View, ...] = ("v1", "modern", "both")


OWN_TASKS = "the suite's tasks"


OTHER_TASKS = "lm-eval's own tasks, re-scored"


ARCHIVED = "the leaderboard's own results"


@dataclass(frozen=True)
class ModelViews:
    """Hold one model's scores in one suite.

    Attributes:
        model: The model, as the results name it.
        suite: The suite whose rules are applied.
        origin: Whether the suite's own tasks were run, or lm-eval's, or the leaderboard itself wrote the results.
        scores: On the suite's rules, the leaderboard's.
        columns: Both views of each measured column.
        how: Column title to how its score was found: recomputed from samples, or taken as reported.
        modern_average: Mean of the columns on lm-eval 0.4.13's rules; None where one of them is not known.
        average_difference: ``modern_average`` minus the leaderboard's, in points.
        left_out: Tasks of the results that no column measures.
        apart: Column title to the difference from the baseline's score, or why there is none; empty where there is
            nothing to compare with.
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
    apart: Mapping[str, Difference | str] = field(default_factory=dict)

    def as_dict(self, view: View = "both") -> dict[str, Any]:
        """Return plain data for JSON, with the columns of one view or of both."""
        columns = [
            {
                "title": each.title,
                "metric": each.metric,
                "how": self.how[each.title],
                **_column_part(each, view),
                **(apart_as_dict(self.apart[each.title]) if each.title in self.apart else {}),
            }
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


def apart_as_dict(apart: Difference | str) -> dict[str, Any]:
    """Return a difference, or why there is none, as plain data."""
    if isinstance(apart, str):
        return {"difference": None, "why_not": apart}
    outcome = {"verdict": apart.verdict.outcome.value, "held_back": apart.held_back, "unit": apart.unit.name}
    return {"difference": {**asdict(apart), **outcome}, "why_not": None}


def checked_view(name: str) -> View:
    """Return ``name`` as a view.

    Raises:
        SmaugError: there is none of that name.
    """
    for view in VIEWS:
        if view == name:
            return view
    raise SmaugError(f"--view {name}: there is no such view", fix=f"choose one of {', '.join(VIEWS)}")


def score_views(paths: Sequence[Path]) -> list[ModelViews]:
    """Score every model found under ``paths`` in both views.

    Args:
        paths: Run directories, folders or files of lm-eval results, of this project's tasks or of lm-eval's own.

    Raises:
        SmaugError: a path holds nothing, nothing that can be read, or no task of the leaderboard.
    """
    found = list(all_views(merge_models(with_distinct_labels(read_sources(paths)))))
    if not found:
        raise SmaugError(
            f"{', '.join(map(str, paths))}: no task of a suite or of the leaderboard's six benchmarks",
            fix="give results of arc_challenge, hellaswag, mmlu, truthfulqa_mc2, winogrande or gsm8k; the verb scores "
            "and smaug_eval.scores score any other task",
        )
    return found


def rescored_views(path: Path) -> list[ModelViews]:
    """Return the views of lm-eval's own tasks alone; none where a run did not evaluate any.

    Raises:
        SmaugError: a file is damaged.
    """
    found = all_views(read_source(path).results)
    return [views for views in found if views.origin == OTHER_TASKS]


def all_views(models: Mapping[str, Mapping[str, TaskResult]], *, must_rescore: bool = False) -> Iterator[ModelViews]:
    """Yield the views of each model on each suite that it has results of.

    Args:
        models: Model to task to result.
        must_rescore: Whether samples that cannot be scored by the leaderboard's rules, such as those of documents that
            were cut out, are an error; else scores are taken as reported, and notes say so.

    Raises:
        SmaugError: a model's results do not make scores, or, with ``must_rescore``, samples cannot be scored.
    """
    for model, results in models.items():
        yield from _model_views(model, results, must_rescore)


def _model_views(model: str, results: Mapping[str, TaskResult], must_rescore: bool) -> Iterator[ModelViews]:
    for make in SUITES.values():
        suite = make()
        if suite.folder is None:  # lm-eval's own tasks are re-scored
            continue
        leaves = {leaf.name: leaf for column in suite.columns for leaf in column.leaves}
        own = {name: result for name, result in results.items() if name in leaves}
        if own:
            parts = {name: _own(leaves[name], result, must_rescore) for name, result in own.items()}
            yield _views(model, suite, OWN_TASKS, parts, ())
    others = {name: leaf for name in results if (leaf := leaderboard_task(name)) is not None}
    if others:
        parts = _rescored({name: results[name] for name in others}, must_rescore)
        if parts:
            left_out = tuple(name for name, result in results.items() if not (name in others or result.is_group))
            is_archived = all(results[name].asked.harness == LEADERBOARD for name in others)
            yield _views(model, v1.SUITE, ARCHIVED if is_archived else OTHER_TASKS, parts, left_out)


def _own(leaf: Any, result: TaskResult, must_rescore: bool) -> Rescored:
    samples, notes = _usable(result)
    entry = result.entry if result.n is None else {**result.entry, "sample_len": result.n}
    entry = {**entry, **(v2_scores.ifeval_entry(entry) or {})}
    if samples is not None:
        try:
            values = document_metrics(leaf, sample_rows(samples))
            return Rescored(entry, values, RECOMPUTED, (*result.notes, *notes))
        except SmaugError as error:
            if must_rescore:
                raise
            notes = (*notes, _not_rescored(error))
    return Rescored(entry, {}, AS_REPORTED, (*result.notes, *notes))


def _not_rescored(error: SmaugError) -> str:
    return f"the samples cannot be scored again, the score is as reported: {error.message}"


def _usable(result: TaskResult) -> tuple[Samples | None, tuple[str, ...]]:
    """Return a result's samples where they are all of its documents, and what to say where they are not."""
    if (why := readable(result)) is not None:
        return None, (f"the samples cannot be read: {why}",)
    reason = misfit(result)
    return (result.samples, ()) if reason is None else (None, (f"the samples {reason}: scored as reported",))


def _rescored(results: Mapping[str, TaskResult], must_rescore: bool) -> dict[str, Rescored]:
    """Map the leaderboard's leaf tasks to their results; where several stand for one, samples go before reports."""
    parts: dict[str, Rescored] = {}
    for name, result in results.items():
        samples, told = _usable(result)
        leaf = leaderboard_task(name)
        try:
            part = _part(name, result, samples, told)
        except SmaugError as error:
            if must_rescore:
                raise
            told = (*told, _not_rescored(error))
            part = _part(name, result, None, told)
        if leaf is not None and part is not None and (leaf.name not in parts or part.how == RECOMPUTED):
            parts[leaf.name] = replace(part, notes=(*result.notes, *part.notes, *told))
    return parts


def _part(name: str, result: TaskResult, samples: Samples | None, told: Sequence[str]) -> Rescored | None:
    rows = None if samples is None else sample_rows(samples)
    unsampled = "the samples are not used" if told else "there are no samples"
    return rescore(name, result.entry, result.settings, rows, documents=result.n, unsampled=unsampled)


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
