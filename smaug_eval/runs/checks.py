"""Check before a run starts that judges can be reached, engines can be loaded, and the base can be used."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.build import check_adapter, check_device, check_engine_args
from smaug_eval.engines.registry import ENGINES
from smaug_eval.leaderboard.benchmarks import BENCHMARKS
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.leaderboard.suite_data import short_name
from smaug_eval.models.quantised import Use
from smaug_eval.mt_bench.config import MtBenchConfig
from smaug_eval.mt_bench.files.layout import answers_stage, judgments_stage
from smaug_eval.mt_bench.stage.judging import Judging
from smaug_eval.results.layout import curve_stage, evaluation_stage, training_stage
from smaug_eval.runs.models import RunModels, uses_of
from smaug_eval.runs.recipe import BASE, Recipe
from smaug_eval.runs.recipe_entries import EvaluationConfig
from smaug_eval.trainers.optimisers import check_libraries


def check_judges(judges: Mapping[str, Judging], left: Sequence[str]) -> None:
    """Make sure that a judge who will be asked can be.

    Args:
        judges: By the recipe's name of what they judge.
        left: Names of the stages that are not done.

    Raises:
        SmaugError: an address or a key cannot be right.
    """
    for name, judging in judges.items():
        prefix = judgments_stage(name, "")
        if any(stage.startswith(prefix) for stage in left):
            judging.check()


def check_engines(recipe: Recipe, left: Sequence[str], *, devices: bool) -> None:
    """Make sure of what the engines that will be used are told, and of their devices.

    Args:
        recipe: Names them.
        left: Names of the stages that are not done.
        devices: Whether they run on this machine, whose devices can be looked at.

    Raises:
        SmaugError: an argument is none that the recipe may give, or a device is not there.
    """
    entries: list[tuple[str, Sequence[str], EvaluationConfig | MtBenchConfig]] = []
    for name, evaluation in recipe.evaluations.items():
        entries.append((f"evaluations.{name}", _scoring(name, "*"), evaluation))
    for name, dialogues in recipe.mt_bench.items():
        served = {model: dialogues.of(model) for model in dialogues.served}
        others = [answers_stage(name, model) for model in recipe.models_of(dialogues) if model not in served]
        entries.append((f"mt_bench.{name}", others, dialogues))
        for model, own in served.items():
            entries.append((f"mt_bench.{name}.served.{model}", (answers_stage(name, model),), own))
    for key, stages, entry in entries:
        if not any(fnmatch.filter(left, pattern) for pattern in stages):
            continue
        try:
            check_engine_args(entry.engine_args)
            if entry.engine in ENGINES and ENGINES[entry.engine].is_served:
                from smaug_eval.engines.served.settings import api_settings  # with the key's variable looked up

                api_settings(entry.engine_args)
            elif devices and not (entry.engine in ENGINES and ENGINES[entry.engine].is_vllm):
                check_device(entry.device)
        except SmaugError as error:
            joint = "." if error.message.startswith(("engine_args", "device")) else ": "
            raise SmaugError(f"{key}{joint}{error.message}", fix=error.fix) from error


def check_trainings(recipe: Recipe, left: Sequence[str]) -> None:
    """Make sure that the libraries of the trainings to do are installed on this machine.

    Args:
        recipe: Names the trainings.
        left: Names of the stages that are not done.

    Raises:
        SmaugError: one is not.
    """
    for name, training in recipe.trainings.items():
        if training_stage(name) not in left:
            continue
        try:
            check_libraries(training)
        except SmaugError as error:
            raise SmaugError(f"trainings.{name}: {error.message}", fix=error.fix) from error


def _scoring(evaluation: str, column: str) -> tuple[str, str]:
    """Patterns of the stages that score models, and checkpoints of trainings, on a column."""
    return evaluation_stage("*", evaluation, column), curve_stage("*", evaluation, column)


def check_scoring(models: RunModels, left: Sequence[str]) -> None:
    """Make sure that what is evaluated can be scored.

    Args:
        models: Of the run.
        left: Names of the stages that are not done.

    Raises:
        SmaugError: a package is missing.
    """
    for name, evaluation in models.recipe.evaluations.items():
        if evaluation.task_settings is not None:
            continue
        suite = find_suite(evaluation.suite)
        asked = [
            column
            for column in suite.select(evaluation.tasks)
            if any(fnmatch.filter(left, pattern) for pattern in _scoring(name, short_name(suite, column)))
        ]
        forms = {column.leaves[0].form.name for column in asked}
        for check in (BENCHMARKS[form].check for form in forms if form in BENCHMARKS):
            if check is not None:
                check()


def check_given(models: RunModels, left: Sequence[str]) -> None:
    """Make sure that the models that are there, and what trainings start from, can be loaded and lack no weights.

    Args:
        models: Of the run.
        left: Names of the stages that are not done.

    Raises:
        SmaugError: one cannot.
    """
    for name, given in models.given.items():
        uses = [use for stages, use in uses_of(models.recipe, name).items() if fnmatch.filter(left, stages)]
        uses = [use for use in uses if use is not Use.API]
        if not uses:
            continue
        if given.adapter is not None:
            for engine in {use.value.removeprefix("engine ") for use in uses}:
                check_adapter(engine, given.adapter, given.path)
        from smaug_eval.models.loading import check_model  # with transformers

        check_model(given.source, given.path, uses, trust_remote_code=models.is_trusted(name))
    for stage, checkpoint, use in models.origins.external():
        if stage in left:
            from smaug_eval.models.loading import check_model

            check_model(checkpoint.source, checkpoint.path, [use], trust_remote_code=models.is_trusted(BASE))
