"""Add the stages that train, each with all that decides its weights."""

from __future__ import annotations

import datetime
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import sha256_of_text
from smaug_eval.common.settings import deciding_settings
from smaug_eval.results.layout import REFERENCES, leaks_stage, pairs_stage, training_stage
from smaug_eval.runs.jobs import TrainingJob
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.origins import Origin
from smaug_eval.runs.recipe import BASE
from smaug_eval.runs.stages.listing import StageList
from smaug_eval.trainers.chat_templates import template_text
from smaug_eval.trainers.config import LaunchConfig, TrainingConfig
from smaug_eval.trainers.launch import process_number
from smaug_eval.trainers.layout import EVAL_FILE, TRAIN_FILE
from smaug_eval.trainers.spec import ReferenceModel, TrainingSpec

# Keys of a training that do not decide its result, or decide it elsewhere in the inputs.
_QUIET = (
    *("pairs", "seed", "log_every", "save_every", "wandb_project", "gradient_cosine_pairs", "launch"),
    *("start", "reference", "chat_template", "sample_prompts", "sample_tokens", "evaluate"),
)


class TrainingStages:
    """Add the stages of a run's trainings.

    Args:
        stages: Receives them.
        models: Of the run.
        created: When the run was begun.
    """

    def __init__(self, stages: StageList, models: RunModels, created: datetime.datetime) -> None:
        self._stages, self._models, self._created = stages, models, created
        self._recipe, self._directory = models.recipe, models.directory
        self._grid = list(self._recipe.study.trainings()) if self._recipe.study is not None else []

    def add_training(self, name: str) -> None:
        """Add a training, behind those that it starts from or is compared with."""
        config, models = self._recipe.trainings[name], self._models
        pair_set = str(config.pairs)
        pairs = pairs_stage(pair_set)
        seed = self._recipe.seed if config.seed is None else config.seed
        dtype = models.training_dtype(name)
        start, reference = models.origins.start(name), models.origins.reference(name)
        settings = deciding_settings(config.as_trained(), _QUIET)
        inputs = {"training": settings, "seed": seed, "dtype": dtype, "base": start.sha256 or models.base.sha256}
        inputs |= _origins(config, start, reference)
        ches = self._recipe.pairs[pair_set].ches
        if ches is not None:
            inputs["ches"] = ches.model_dump()
        if config.chat_template is not None:
            inputs["chat_template"] = _template_sha256(name, config.chat_template)
        if config.evaluate is not None:
            inputs["checkpoints_every"] = config.evaluate.every
        if config.launch is not None:
            inputs["processes"] = _processes(name, config.launch)

        folder = self._directory.folder
        spec = TrainingSpec(
            config=config,
            name=name,
            model_path=start.path,
            dtype=dtype,
            train_file=folder(pairs) / TRAIN_FILE,
            eval_file=folder(pairs) / EVAL_FILE,
            out_dir=folder(training_stage(name)),
            seed=seed,
            model_sha256=start.sha256,
            base=start.name,
            reference_dir=self._directory.path / REFERENCES,
            trust_remote_code=models.is_trusted(name),
            date=self._created.date(),
            base_source=start.source,
            base_revision=start.revision,
            start_adapter=start.adapter,
            reference=None if reference is None else _reference(reference),
            ches=ches,
        )
        guards = (leaks_stage(pair_set),) if leaks_stage(pair_set) in self._stages else ()
        needs = dict.fromkeys((pairs, *start.needs, *(reference.needs if reference is not None else ())))
        title = f"train {name} ({config.entry.title}){self._place_in_study(name)}"
        job = TrainingJob(spec, config.launch)
        self._stages.add(training_stage(name), title, inputs, tuple(needs), job, after=guards)

    def _place_in_study(self, name: str) -> str:
        """Say which of the study's trainings this is; nothing outside a study."""
        return f", training {self._grid.index(name) + 1} of {len(self._grid)}" if name in self._grid else ""


def _reference(origin: Origin) -> ReferenceModel:
    return ReferenceModel(name=origin.name, path=origin.path, sha256=origin.sha256, adapter=origin.adapter)


def _origins(config: TrainingConfig, start: Origin, reference: Origin | None) -> dict[str, Any]:
    """What a training's stage says of its start and its reference where these are not the base; nothing where they are.

    The results of other trainings are named by their stages, which it needs.
    """
    found: dict[str, Any] = {}
    if config.start not in (None, BASE):
        found["start"] = _named_by(start)
    if reference is not None:
        found["reference"] = _named_by(reference)
    return found


def _named_by(origin: Origin) -> dict[str, Any]:
    return origin.digest or {"adapter": origin.adapter is not None, "stage": origin.needs[-1]}


def _template_sha256(name: str, template: str) -> str:
    try:
        return sha256_of_text(template_text(template))
    except SmaugError as error:
        raise SmaugError(f"trainings.{name}.{error.message}", fix=error.fix) from error


def _processes(name: str, launch: LaunchConfig) -> int:
    try:
        return process_number(launch)
    except SmaugError as error:
        raise SmaugError(f"trainings.{name}.launch: {error.message}", fix=error.fix) from error
