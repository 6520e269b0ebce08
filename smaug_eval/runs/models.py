"""Describe the models of a run: the base, which is checked before anything starts, and those trained from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import given_path, is_there
from smaug_eval.engines.build import choose_engine
from smaug_eval.engines.registry import ENGINES
from smaug_eval.models.adapted import base_warning, locate_model
from smaug_eval.models.checkpoint import Checkpoint
from smaug_eval.models.quantised import Use
from smaug_eval.models.remote_code import trust_warning
from smaug_eval.mt_bench.files.layout import answers_stage
from smaug_eval.mt_bench.stage.answering import dialogue_engine
from smaug_eval.results.layout import (
    CHECKPOINT_FOLDER,
    choice_stage,
    curve_stage,
    evaluation_stage,
    training_stage,
)
from smaug_eval.runs.directory import RunDirectory
from smaug_eval.runs.origins import Origin, Origins
from smaug_eval.runs.recipe import BASE, Recipe

TRAINING_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class RunModels:
    """Tell where each model of a run is, and what decides it.

    Attributes:
        recipe: Names them.
        directory: Of the run.
        given: The checkpoints that are there already, by name: that which everything is trained from, and others.
    """

    recipe: Recipe
    directory: RunDirectory
    given: Mapping[str, Checkpoint]

    @classmethod
    def find(cls, recipe: Recipe, directory: RunDirectory) -> RunModels:
        """Find the models of a recipe that are there already.

        Raises:
            SmaugError: one is not there, or cannot be loaded for what the recipe does with it.
        """
        given = {}
        for name, model in recipe.given_models.items():
            try:
                given[name] = locate_model(
                    model.path,
                    adapter=model.adapter,
                    revision=model.revision,
                    trust_remote_code=model.trust_remote_code,
                    uses=list(uses_of(recipe, name).values()),
                )
            except SmaugError as error:
                if name == BASE:
                    raise
                raise SmaugError(f"models.{name}: {error.message}", fix=error.fix) from error
        return cls(recipe, directory, given)

    @cached_property
    def origins(self) -> Origins:
        """Return what the trainings start from and are compared with."""
        return Origins(self)

    @property
    def base(self) -> Checkpoint:
        """Return the checkpoint that everything is trained from."""
        return self.given[BASE]

    def is_trusted(self, model: str) -> bool:
        """Return whether Python code that came with a model may run."""
        return self.recipe.spec_of(model).trust_remote_code

    def dtype(self, model: str) -> str:
        """Return the precision to evaluate a model in."""
        return self.recipe.spec_of(model).dtype

    def checkpoint(self, model: str) -> Path:
        """Return the folder of a model's checkpoint, which may be still to be made."""
        if model in self.given:
            return self.given[model].path
        return self.directory.folder(self.made_by(model)) / CHECKPOINT_FOLDER

    def made_by(self, training: str) -> str:
        """Return the stage that leaves the model of a training: the training, or the choice among its checkpoints."""
        chosen = self.recipe.trainings[training].chosen_by is not None
        return choice_stage(training) if chosen else training_stage(training)

    def adapter(self, model: str) -> Path | None:
        """Return the adapter that stands beside a model's weights; None for none."""
        return self.given[model].adapter if model in self.given else None

    def tokenizer_of(self, model: str) -> Path:
        """Return the folder with a model's tokenizer, before anything runs: trained models keep the base's."""
        return self.given[model].tokenizer if model in self.given else self.base.path

    def weights_of(self, model: str) -> Path:
        """Return the folder with a model's configuration, before anything runs: trained models keep the base's."""
        return self.given[model].path if model in self.given else self.base.path

    def base_of(self, model: str) -> Origin | None:
        """Return what a model with an adapter starts from: the adapter may be evaluated beside it. None for others."""
        adapted = model not in self.given and self.recipe.trainings[model].lora is not None
        return self.origins.start(model) if adapted else None

    def inputs(self, model: str) -> dict[str, str]:
        """Return what decides the results of a model that is there; those of a trained one depend on its training."""
        return {"model": self.given[model].sha256_with_tokenizer} if model in self.given else {}

    def stages(self, model: str) -> tuple[str, ...]:
        """Return the stages that make a model."""
        return () if model in self.given else tuple(dict.fromkeys((training_stage(model), self.made_by(model))))

    def training_dtype(self, training: str) -> str:
        """Return the precision of a training.

        Raises:
            SmaugError: the one that its start was saved in, or the recipe's, is none to train in.
        """
        wanted = self.dtype(BASE)
        dtype = self.origins.start(training).dtype if wanted == "auto" else wanted
        if dtype not in TRAINING_DTYPES:
            raise SmaugError(
                f"model.dtype: {dtype} cannot be trained in", fix=f"set model.dtype to {' or '.join(TRAINING_DTYPES)}"
            )
        return dtype

    def base_name(self) -> str:
        """Return the base model as a model card may name it: not by a path on this machine."""
        folder = given_path(self.base.source)
        # Not of what a link leads to, which may be a cache.
        return Path(os.path.abspath(folder)).name if is_there(folder) else self.base.source  # noqa: PTH100

    def named_base(self) -> str:
        """Return the base model as the user named it."""
        folder = given_path(self.base.source)
        return str(folder) if is_there(folder) else self.base.source

    def warnings(self) -> list[str]:
        """Return what is known of the models before anything runs, for those who have them scored."""
        given = self.recipe.given_models  # an adapter by itself is put beside the very base that it names
        found = [base_warning(each) for name, each in self.given.items() if given[name].adapter is not None]
        return list(dict.fromkeys(warning for warning in found if warning and self.recipe.evaluations))

    def trust_warnings(self) -> list[str]:
        """Return that code which came with the models may run, where it may."""
        return [trust_warning(each.source) for name, each in self.given.items() if self.is_trusted(name)]

    def describe(self, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Describe the models for the manifest.

        Args:
            records: The record of each stage, by its name.
        """
        names = self.recipe.trainings
        trained = {name: records[self.made_by(name)].get("summary", {}).get("model") for name in names}
        given = {name: model.describe() for name, model in self.given.items()}
        return {**given, **{name: model for name, model in trained.items() if model}}


def uses_of(recipe: Recipe, model: str) -> dict[str, Use]:
    """Return what a model that is there is loaded for, by a pattern of the stages that load it."""
    trainings = recipe.trainings if model == BASE else {}
    uses = {
        training_stage(name): Use.TRAINING if training.lora is None else Use.ADAPTER
        for name, training in trainings.items()
        if BASE in (training.start or BASE, training.reference)
    }
    for name, evaluation in recipe.evaluations.items():
        if model in recipe.models_of(evaluation):
            uses[evaluation_stage(model, name, "*")] = ENGINES[choose_engine(evaluation.engine)].use
        for training in recipe.followed_by(name) if model == BASE else ():
            if (recipe.trainings[training].start or BASE) == BASE:  # it is scored at step 0, or beside adapters
                uses[curve_stage(training, name, "*")] = ENGINES[choose_engine(evaluation.engine)].use
    for name, dialogues in recipe.mt_bench.items():
        if model in recipe.models_of(dialogues):
            uses[answers_stage(name, model)] = ENGINES[dialogue_engine(dialogues.of(model).engine)].use
    return uses
