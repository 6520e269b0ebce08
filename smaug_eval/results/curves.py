"""Read how the scores of a training's checkpoints went, and tell which was best.

The checkpoints of a training are compared like models: each has a score with its interval, and a difference from the
first, of the same documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.suggest import nearest
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.scores import Score
from smaug_eval.results.comparison import compare
from smaug_eval.results.differences import Difference
from smaug_eval.results.files import refusal_of
from smaug_eval.results.layout import training_stage
from smaug_eval.results.sources import Source, with_checkpoints
from smaug_eval.results.tables import ScoreTable
from smaug_eval.results.task_results import TaskResult
from smaug_eval.results.trainings import Training, read_training


@dataclass(frozen=True)
class CurvePoint:
    """Hold the score of one checkpoint.

    Attributes:
        step: After which it was kept; 0 for what the training started from.
        score: In the column's unit.
        difference: From the first point; None at that one, and where nothing compares.
    """

    step: int
    score: Score
    difference: Difference | None


@dataclass(frozen=True)
class ScoreCurve:
    """Hold the scores of a training's checkpoints on one task or column of an evaluation.

    Attributes:
        training: Name of the training.
        evaluation: The recipe's name of the evaluation.
        task: The column's name in folders and recipes.
        is_development: Whether the evaluation is for development alone.
        column: What is scored.
        metric: The metric, as tables word it.
        points: In the order of the steps.
    """

    training: str
    evaluation: str
    task: str
    is_development: bool
    column: Column
    metric: str
    points: tuple[CurvePoint, ...]


def training_curves(training: Training) -> list[ScoreCurve]:
    """Return the curves of a training, in the order of evaluations and tasks.

    Raises:
        SmaugError: a samples file is damaged.
    """
    found = (_curve(training, evaluation, task, steps) for (evaluation, task), steps in training.scored.items())
    return [curve for curve in found if curve is not None]


def best_step(run: Path, training: str, evaluation: str, task: str | None) -> tuple[int, dict[int, float]]:
    """Find the checkpoint with the best score, the first of equal ones; what the training started from is none.

    Args:
        run: The run directory.
        training: Name of the training.
        evaluation: Name of the evaluation that decides.
        task: The task of it that does; None for the mean over all.

    Returns:
        The step, and the deciding score by step, in the unit of the table.

    Raises:
        SmaugError: there is no such task, a checkpoint lacks a score, or nobody says whether more of it is better.
    """
    found = _read(run, training)
    curves = [curve for curve in (training_curves(found) if found else []) if curve.evaluation == evaluation]
    if task is not None:
        chosen = [curve for curve in curves if task.casefold() in _names(curve)]
        if not chosen:
            options = [curve.task for curve in curves]
            raise SmaugError(
                f"evaluation {evaluation} has no score of {task!r}{nearest(task, options)}", fix="correct keep_metric"
            )
        curves = chosen
    if not curves:
        raise SmaugError(f"evaluation {evaluation} has no score of {training}", fix="run the same command again")
    signs = {curve.column.higher_is_better for curve in curves}
    if len(signs) != 1 or None in signs:
        names = ", ".join(curve.task for curve in curves)
        why = "nobody says whether more is better" if None in signs else "more is better of some, less of others"
        raise SmaugError(
            f"the best checkpoint of {training} cannot be chosen by {evaluation} ({names}): {why}",
            fix=f"set keep_metric to one of its tasks, such as {evaluation}/{curves[0].task}",
        )
    values = _means(curves)
    trained = {step: value for step, value in values.items() if step > 0 and math.isfinite(value)}
    if not trained:
        raise SmaugError(f"no checkpoint of {training} has a score of {evaluation}", fix="look at its results files")
    sign = 1.0 if True in signs else -1.0
    return max(trained, key=lambda step: (sign * trained[step], -step)), values


def _read(run: Path, name: str) -> Training | None:
    training = read_training(run / training_stage(name))
    if training is None:
        return None
    source = Source(name, is_run=True)
    found = with_checkpoints(source, run, training)
    if source.unread:
        raise refusal_of(source.unread, run)
    return found


def _means(curves: Sequence[ScoreCurve]) -> dict[int, float]:
    """The mean over curves at each step that all of them have."""
    by_step = [{point.step: point.score.value for point in curve.points} for curve in curves]
    steps = [step for step in by_step[0] if all(step in each for each in by_step)]
    return {step: math.fsum(each[step] for each in by_step) / len(by_step) for step in steps}


def _names(curve: ScoreCurve) -> set[str]:
    return {curve.task.casefold(), curve.column.title.casefold(), curve.column.task.casefold()}


def _curve(
    training: Training, evaluation: str, task: str, steps: Mapping[int, Mapping[str, TaskResult]]
) -> ScoreCurve | None:
    names = {f"step {step}": step for step in sorted(steps)}
    results = {name: dict(steps[step]) for name, step in names.items()}
    compared = compare([Source(training.name, is_run=True, results=results)], title=None, baseline=None, whole=True)
    found = _main_column(compared.all_tables, task)
    if found is None:
        return None
    table, place = found
    points = [
        CurvePoint(names[name], cell.score, cell.difference)
        for name, cells in table.cells.items()
        if (cell := cells[place]) is not None
    ]
    return ScoreCurve(
        training=training.name,
        evaluation=evaluation,
        task=task,
        is_development=evaluation in training.development,
        column=table.described[place],
        metric=table.metrics[place],
        points=tuple(sorted(points, key=lambda point: point.step)),
    )


def _main_column(tables: Sequence[ScoreTable], task: str) -> tuple[ScoreTable, int] | None:
    """The column that stands for what one stage evaluated: a group's own, else the first."""
    places = [(table, place) for table in tables for place in range(len(table.described))]
    # A suite's tasks begin with its name.
    named = [(table, place) for table, place in places if f"_{table.described[place].task}".endswith(f"_{task}")]
    return next(iter([*named, *places]), None)
