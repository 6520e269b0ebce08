"""Add the stages that score models: each model on each column, or all together until they are decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from smaug_eval.common.errors import SmaugError
from smaug_eval.results.layout import DECISIONS_FILE, decision_stage, evaluation_stage
from smaug_eval.runs.asked import EvaluationsAsked
from smaug_eval.runs.data import RunData
from smaug_eval.runs.decisions import decision_of
from smaug_eval.runs.jobs import Decisions
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.stages.listing import StageList


class EvaluationStages:
    """Add the stages of a run's evaluations.

    Args:
        stages: Receives them, behind those that make the models.
        models: Of the run.
        data: Of the run.
        questions: What its evaluations ask.
    """

    def __init__(self, stages: StageList, models: RunModels, data: RunData, questions: EvaluationsAsked) -> None:
        self._stages, self._models, self._data, self._questions = stages, models, data, questions

    def add_decided(self, name: str) -> None:
        """Score an evaluation's models together until its columns are decided; then write each one's results."""
        recipe, models = self._models.recipe, self._models
        config = recipe.evaluations[name]
        suite, scored = self._data.suite(config), recipe.models_of(config)
        try:
            decision = decision_of(name, recipe, suite, self._data.root)
        except SmaugError as error:
            raise SmaugError(f"evaluations.{name}.stop: {error.message}", fix=error.fix) from error
        evaluated = {model: list(self._questions.asked(name, model)) for model in scored}
        jobs = {model: {asked.title: asked.job for asked in own} for model, own in evaluated.items()}
        needs = dict.fromkeys(stage for model in scored for stage in models.stages(model))
        inputs = {
            "models": {model: [asked.inputs for asked in own] for model, own in evaluated.items()},
            **decision.inputs,
        }
        after = tuple(
            dict.fromkeys(
                stage
                for model, own in evaluated.items()
                for asked in own
                for stage in self._stages.scored_on_the_same(model, asked.inputs["data"])
            )
        )
        stage = decision_stage(name)
        revisions = self._data.revisions([(suite, column) for column in suite.select(config.tasks)])
        title = f"compare {', '.join(scored)} until {name} is decided"
        self._stages.add(stage, title, inputs, tuple(needs), decision.job(jobs), after=after, data_revisions=revisions)
        file = models.directory.folder(stage) / DECISIONS_FILE
        for model in scored:
            decisions = {each.title: Decisions(file, model, each.title, each.order) for each in decision.columns}
            self.add_evaluation(name, model, decisions)

    def add_evaluation(self, name: str, model: str, decisions: Mapping[str, Decisions] | None = None) -> None:
        """Score a model on the columns of an evaluation.

        Args:
            name: The evaluation's.
            model: The model's.
            decisions: By column, where it says how many documents were scored; None for an evaluation of all.
        """
        for asked in self._questions.asked(name, model):
            held = None if decisions is None else decisions[asked.title]
            self._stages.add(
                evaluation_stage(model, name, asked.column),
                f"evaluate {model} on {asked.title}",
                asked.inputs if held is None else {**asked.inputs, "seed": held.order.seed},
                (*self._models.stages(model), *(() if held is None else (decision_stage(name),))),
                asked.job if held is None else replace(asked.job, decisions=held),
                after=self._stages.scored_on_the_same(model, asked.inputs["data"]),
                data_revisions=asked.revisions,
            )
