"""Prepare comparisons that may stop: what is compared on which documents, and with which results that are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smaug_eval.common.digests import sha256_of_file
from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.lm_eval.loading import LoadedTasks
from smaug_eval.leaderboard.lm_eval.suite import LmEvalSuite
from smaug_eval.leaderboard.orders import logged_metric, order_of
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.results.corpus import is_mean
from smaug_eval.results.kept_values import check_kept
from smaug_eval.runs.deciding import ColumnToDecide, DecisionJob
from smaug_eval.runs.jobs import EvaluationJob
from smaug_eval.runs.recipe import Recipe


@dataclass(frozen=True)
class Decision:
    """Describe a comparison that may stop.

    Attributes:
        name: Of the evaluation.
        columns: What it compares.
        baseline: What with: a model's name, or a path.
        kept: Where the baseline's results are there already; None where it is a model of the run.
        digests: Of the samples there, by task.
        margin: In points; None where none was given.
        averaged: Whether the mean of the columns means something.
    """

    name: str
    columns: tuple[ColumnToDecide, ...]
    baseline: str
    kept: Path | None
    digests: Mapping[str, str]
    margin: float | None
    averaged: bool

    @property
    def inputs(self) -> dict[str, Any]:
        """Return what decides the result beside the models."""
        baseline = {"against": self.baseline} if self.kept is None else {"results": dict(self.digests)}
        seed = self.columns[0].order.seed
        return {**baseline, "margin": self.margin, "seed": seed, "columns": [each.title for each in self.columns]}

    def job(self, jobs: Mapping[str, Mapping[str, EvaluationJob]]) -> DecisionJob:
        """Return the work.

        Args:
            jobs: Model to column's title to its evaluation.
        """
        margin = None if self.margin is None else self.margin / 100
        return DecisionJob(self.name, self.columns, jobs, self.baseline, self.kept, margin, self.averaged)


def decision_of(name: str, recipe: Recipe, suite: Suite, data_root: Path | None) -> Decision:
    """Prepare the comparison of an evaluation.

    Raises:
        SmaugError: a column's score is no mean over documents, or the results to compare with lack some.
    """
    config = recipe.evaluations[name]
    columns = []
    for column in suite.select(config.tasks):
        if isinstance(suite, LmEvalSuite):
            column = replace(column, weighted_by_size=_is_weighted(suite.loaded[column.task]))
        order = order_of(suite, column, data_root, recipe.seed)
        columns.append(ColumnToDecide(column.title, logged_metric(column), order, column.higher_is_better))
    baseline = recipe.baseline_of(config)
    kept = None if baseline in recipe.model_names else Path(baseline)
    digests = {}
    if kept is not None:
        sizes = {task: size for each in columns for task, size in each.order.sizes.items()}
        digests = {task: sha256_of_file(file) for task, file in check_kept(kept, sizes).items()}
    return Decision(name, tuple(columns), baseline, kept, digests, config.within, suite.is_averaged)


def kept_results(recipe: Recipe) -> list[Path]:
    """Return the results elsewhere that evaluations of a recipe compare with, each once."""
    paths = [recipe.baseline_of(each) for each in recipe.evaluations.values() if each.stop is not None]
    return [Path(path) for path in dict.fromkeys(paths) if path not in recipe.model_names]


def _is_weighted(loaded: LoadedTasks) -> bool:
    """Return whether a group of lm-eval's weighs its tasks by their documents; for a single task it is the same.

    Raises:
        SmaugError: a task's metric is no mean over documents, or the group reports no mean of it.
    """
    metric = next(iter(loaded.tasks[0].aggregation()), "")
    whose = f"{loaded.name}: {metric}"
    for task in loaded.tasks:
        if metric not in task.aggregation() or is_mean(metric, task.dump_config()) is False:
            raise SmaugError(
                f"{whose} is no mean over documents" + (f" in {task.task_name}" if loaded.group else ""),
                fix="score this task in an evaluation without stop",
            )
    if loaded.group is None:
        return False
    listed = loaded.group.aggregate_metric_list or ()
    own = next((each for each in listed if each.metric == metric and each.aggregation == "mean"), None)
    if own is None:
        raise SmaugError(f"{whose}: the group reports no mean of it", fix="name its tasks, or a pattern such as mmlu_*")
    if any(len(task.config.filter_list or ()) > 1 for task in loaded.tasks):
        raise SmaugError(f"{whose} has several filters", fix="name the group's tasks")
    return bool(own.weight_by_size)
