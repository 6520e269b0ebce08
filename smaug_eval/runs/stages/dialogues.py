"""Add the stages of dialogues: the models' answers to question sets, and a judge's judgments of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smaug_eval.common.console import Reporter
from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.pool import EnginePool
from smaug_eval.mt_bench.files.layout import answers_file, answers_stage, decided_stage, judgments_stage
from smaug_eval.mt_bench.stage.answering import Answering
from smaug_eval.mt_bench.stage.deciding import StopRule
from smaug_eval.mt_bench.stage.judging import Judging, JudgingTask
from smaug_eval.runs.jobs import AnswersJob
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.stages.listing import StageList


class DialogueStages:
    """Add the stages of a run's dialogues; making one checks the question sets and every model's template.

    Args:
        stages: Receives them, answers behind the stages that make the model.
        models: Of the run.
        reporter: Shows progress.
        engines: Keeps loaded models; emptied before a judge works.

    Attributes:
        judges: By the recipe's name of what they judge.
        dialogues: How models answer, by the recipe's name of the questions and by model.

    Raises:
        SmaugError: a question set is not there, or a model cannot answer it.
    """

    def __init__(self, stages: StageList, models: RunModels, reporter: Reporter, engines: EnginePool) -> None:
        self._stages, self._models, self._reporter, self._engines = stages, models, reporter, engines
        self._recipe, self._directory = models.recipe, models.directory
        self.judges: dict[str, Judging] = {}
        self._checked: dict[tuple[object, ...], Answering] = {}
        self.dialogues = {
            name: {model: self._answering(name, model) for model in self._recipe.models_of(entry)}
            for name, entry in self._recipe.mt_bench.items()
        }

    def _answering(self, name: str, model: str) -> Answering:
        """How a model answers; made and checked once for the models that have the base's tokenizer."""
        entry, models = self._recipe.mt_bench[name], self._models
        folders = models.weights_of(model), models.tokenizer_of(model)
        key = (name, *folders, models.dtype(model), models.is_trusted(model), model if model in entry.served else None)
        if key in self._checked:
            return self._checked[key]
        answering = Answering(
            entry.of(model),
            seed=self._recipe.seed,
            dtype=self._models.dtype(model),
            reporter=self._reporter,
            trust_remote_code=self._models.is_trusted(model),
        )
        try:
            answering.check(models.given.get(model) or models.weights_of(model), models.tokenizer_of(model))
        except SmaugError as error:
            where = f"mt_bench.{name}.served.{model}" if model in entry.served else f"mt_bench.{name}"
            raise SmaugError(f"{where}: {error.message}", fix=error.fix) from error
        self._checked[key] = answering
        return answering

    def add_answers(self, name: str, model: str) -> None:
        """Let a model answer a question set."""
        answering, models = self.dialogues[name][model], self._models
        checkpoint = models.given.get(model) or models.checkpoint(model)
        config, dtype = self._recipe.mt_bench[name].of(model), models.dtype(model)
        start = models.base_of(model)
        base = None if start is None else start.checkpoint or start.path
        job = AnswersJob(config, self._recipe.seed, dtype, model, checkpoint, models.is_trusted(model), base)
        self._stages.add(
            answers_stage(name, model),
            f"{model} answers {answering.questions.title}",
            answering.inputs | models.inputs(model),
            models.stages(model),
            job,
        )

    def add_judgments(self, name: str) -> None:
        """Let a judge judge what the models answered, where the entry names one."""
        config = self._recipe.mt_bench[name]
        if config.judge is None:
            return
        questions = next(iter(self.dialogues[name].values())).questions
        judging = self.judges[name] = Judging(config.judge, questions, self._reporter, config.thinking)
        rule = None
        if config.stop is not None:
            rule = StopRule(self._recipe.baseline_of(config), config.within, self._recipe.seed)
            self._add_decided_judgments(name, judging, rule)
        decided = decided_stage(name)
        for task in self._to_judge(name, judging):
            stage = judgments_stage(name, task.name)
            answered = [answers_stage(name, model) for model in task.models]
            files = [answers_file(self._directory.folder(answers_stage(name, model)), model) for model in task.models]

            def work(folder: Path, stage: str = stage, files: list[Path] = files) -> Mapping[str, Any]:
                self._engines.close()  # a judge may take hours, or need the memory
                return judging.judge(files, judging.file(folder), self._directory.superseded(stage))

            def taken(folder: Path, models: tuple[str, ...] = task.models) -> Mapping[str, Any]:
                return judging.part_of(judging.file(self._directory.folder(decided)), models, judging.file(folder))

            title = f"{judging.name} judges {task.name} on {questions.title}"
            if rule is None:
                self._stages.add(stage, title, judging.inputs, tuple(answered), work)
            else:
                self._stages.add(stage, title, judging.inputs | rule.inputs, (*answered, decided), taken)

    def _add_decided_judgments(self, name: str, judging: Judging, rule: StopRule) -> None:
        """Judge all models' answers together until they are decided."""
        models = self._recipe.models_of(self._recipe.mt_bench[name])
        stage = decided_stage(name)
        files = [answers_file(self._directory.folder(answers_stage(name, model)), model) for model in models]

        def work(folder: Path) -> Mapping[str, Any]:
            self._engines.close()
            file = judging.file(folder)
            return judging.judge_until_decided(files, file, rule, self._directory.superseded(stage))

        title = f"{judging.name} judges {', '.join(models)} until they are decided"
        needs = tuple(answers_stage(name, model) for model in models)
        self._stages.add(stage, title, judging.inputs | rule.inputs | {"models": models}, needs, work)

    def conversations(self) -> dict[str, dict[str, Any]]:
        """Return how each model is spoken to in each of the recipe's dialogues, for the manifest."""
        models = self._models
        return {
            name: {
                model: each.conversation(models.given.get(model) or models.weights_of(model))
                for model, each in own.items()
            }
            for name, own in self.dialogues.items()
        }

    def _to_judge(self, name: str, judging: Judging) -> list[JudgingTask]:
        try:
            return judging.tasks(self._recipe.models_of(self._recipe.mt_bench[name]))
        except SmaugError as error:
            raise SmaugError(f"mt_bench.{name}.judge: {error.message}", fix=error.fix) from error
