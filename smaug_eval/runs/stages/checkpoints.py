"""Add the stages of a training's checkpoints: scoring them, and making a model of the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.suggest import nearest
from smaug_eval.results.layout import CHECKPOINT_FOLDER, choice_stage, curve_stage, training_stage
from smaug_eval.runs.asked import EvaluationsAsked
from smaug_eval.runs.checkpoint_jobs import CheckpointsJob, Chosen
from smaug_eval.runs.data import RunData
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.stages.listing import StageList


class CheckpointStages:
    """Add the stages of checkpoints that trainings of a run keep.

    Args:
        stages: Receives them, behind the training's.
        models: Of the run.
        data: Of the run.
        questions: What its evaluations ask.
        say: Receives which checkpoint was chosen.
    """

    def __init__(
        self,
        stages: StageList,
        models: RunModels,
        data: RunData,
        questions: EvaluationsAsked,
        say: Callable[[str], None],
    ) -> None:
        self._stages, self._models, self._data, self._questions, self._say = stages, models, data, questions, say

    def add_curves(self, training: str) -> None:
        """Score the checkpoints that a training kept."""
        config, models = self._models.recipe.trainings[training], self._models
        if config.evaluate is None:
            return
        start, stage = models.origins.start(training), training_stage(training)
        folder = models.directory.folder(stage)
        for name in config.evaluate.evaluations:
            for asked in self._questions.asked(name, training, folder / CHECKPOINT_FOLDER):
                job = CheckpointsJob(
                    asked.job,
                    training=folder,
                    every=config.evaluate.every,
                    start=start.path,
                    start_adapter=start.adapter,
                    dtype=models.training_dtype(training),
                )
                self._stages.add(
                    curve_stage(training, name, asked.column),
                    f"evaluate the checkpoints of {training} on {asked.title}",
                    {**asked.inputs, "checkpoints_every": config.evaluate.every},
                    (stage,),
                    job,
                    after=self._stages.scored_on_the_same(training, asked.inputs["data"]),
                    data_revisions=asked.revisions,
                )

    def add_choice(self, training: str) -> None:
        """Make the best checkpoint of a training its model, where an evaluation decides which that is."""
        config, models = self._models.recipe.trainings[training], self._models
        if config.chosen_by is None:
            return
        evaluation, task = config.chosen_by
        self._data.refuse_reported(training, evaluation, models.recipe)
        start, stage = models.origins.start(training), training_stage(training)
        deciding = self._stages.named(curve_stage(training, evaluation, ""))
        tasks = [name.rpartition("/")[2] for name in deciding]
        if task is not None and task not in tasks:
            raise SmaugError(
                f"trainings.{training}.keep_metric = {config.keep_metric!r}: evaluations.{evaluation} has no task "
                f"{task!r}{nearest(task, tasks)}",
                fix="correct keep_metric, or leave the task out for the mean over all",
            )
        chosen = Chosen(
            training=models.directory.folder(stage),
            start=start.path,
            start_name=start.source,
            start_revision=start.revision,
            dtype=models.training_dtype(training),
            trust_remote_code=models.is_trusted(training),
        )

        def work(folder: Path) -> Mapping[str, Any]:
            from smaug_eval.results.curves import best_step  # with pandas

            step, scores = best_step(models.directory.path, training, evaluation, task)
            self._say(f"{training}: keeps the weights of step {step}, the best {config.keep_metric}")
            return chosen.make(folder, step, config.keep_metric, scores)

        title = f"choose the checkpoint of {training} by {config.keep_metric}"
        self._stages.add(choice_stage(training), title, {"keep_metric": config.keep_metric}, (stage, *deciding), work)
