"""Order the stages of a run: pairs, trainings round by round, what each model is measured on, the report."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smaug_eval.common.console import Reporter
from smaug_eval.engines.pool import EnginePool
from smaug_eval.leaderboard.lm_eval.task_code import trust_warning
from smaug_eval.mt_bench.stage.answering import Answering
from smaug_eval.mt_bench.stage.judging import Judging
from smaug_eval.results.layout import training_stage
from smaug_eval.runs.asked import EvaluationsAsked
from smaug_eval.runs.data import RunData
from smaug_eval.runs.execution import Stage
from smaug_eval.runs.lineage import parents
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.stages.checkpoints import CheckpointStages
from smaug_eval.runs.stages.dialogues import DialogueStages
from smaug_eval.runs.stages.evaluations import EvaluationStages
from smaug_eval.runs.stages.listing import StageList
from smaug_eval.runs.stages.pairs import PairStages
from smaug_eval.runs.stages.report import add_report
from smaug_eval.runs.stages.trainings import TrainingStages


class StageBuilder:
    """Build the stages of a run: pairs, search for test documents, trainings, evaluations, dialogues, report.

    Args:
        models: Of the run.
        reporter: Shows progress.
        created: When the run was begun.
        engines: Keeps loaded models; emptied before a judge works.
        write_manifest: Writes the manifest, which the report shows.

    Attributes:
        stages: What was made, in order.
        judges: By the recipe's name of what they judge.
        dialogues: How models answer, by the recipe's name of the questions and by model.

    Raises:
        SmaugError: a pair file, a suite, a task, a question set or a data file named by the recipe is not there.
    """

    def __init__(
        self,
        models: RunModels,
        reporter: Reporter,
        *,
        created: datetime.datetime,
        engines: EnginePool,
        write_manifest: Callable[[], None],
    ) -> None:
        recipe = self._recipe = models.recipe
        data_root = Path(recipe.data_root) if recipe.data_root else None
        self._models, self._data = models, RunData(data_root, models.directory, reporter.warn)
        self._list = StageList()
        questions = EvaluationsAsked(models, self._data)
        self._trainings = TrainingStages(self._list, models, created)
        self._checkpoints = CheckpointStages(self._list, models, self._data, questions, reporter.say)
        self._evaluations = EvaluationStages(self._list, models, self._data, questions)
        pairs = PairStages(self._list, models, self._data, reporter.say)
        # A mixture comes after the sets it draws from.
        for name in sorted(recipe.pairs, key=lambda name: recipe.pairs[name].source == "mixture"):
            pairs.add_pairs(name)
        for pair_set in recipe.pairs:
            pairs.add_leaks(pair_set)
        self._dialogues = DialogueStages(self._list, models, reporter, engines)
        for number, trainings in enumerate(recipe.rounds()):
            for name in trainings:
                self._add_with_parents(name)
            given = [] if number else list(models.given)
            for model in (*given, *trainings):  # in turn, so that each is loaded once
                self._add_measurements(model)
        for name, evaluation in recipe.evaluations.items():
            if evaluation.stop is not None:
                self._evaluations.add_decided(name)
        for name in recipe.mt_bench:
            self._dialogues.add_judgments(name)
        add_report(self._list, models, reporter.warn, write_manifest)
        self.stages: list[Stage] = self._list.all
        self.judges: dict[str, Judging] = self._dialogues.judges
        self.dialogues: dict[str, dict[str, Answering]] = self._dialogues.dialogues

    def _add_with_parents(self, name: str) -> None:
        """Add a training behind those that it starts from or is compared with."""
        for parent in parents(name, self._recipe.trainings):
            self._add_with_parents(parent)
        if training_stage(name) not in self._list:
            self._trainings.add_training(name)
            self._checkpoints.add_curves(name)
            self._checkpoints.add_choice(name)

    def _add_measurements(self, model: str) -> None:
        for name, evaluation in self._recipe.evaluations.items():
            if model in self._recipe.models_of(evaluation) and evaluation.stop is None:
                self._evaluations.add_evaluation(name, model)
        for name, dialogues in self._recipe.mt_bench.items():
            if model in self._recipe.models_of(dialogues):
                self._dialogues.add_answers(name, model)

    def conversations(self) -> dict[str, dict[str, Any]]:
        """Return how each model is spoken to in each of the recipe's dialogues, for the manifest."""
        return self._dialogues.conversations()

    def warnings(self) -> list[str]:
        """Return what is known of the tasks before anything runs, for those who read their numbers."""
        told: list[str] = []
        for suite in self._data.lm_eval_suites:
            if code := suite.code():
                told.append(trust_warning(code, suite.settings.include_path))
            told += suite.hazards()
        return list(dict.fromkeys(told))
