"""Hold a training's specification with what follows from it, and those who are told of its progress."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from smaug_eval.common.digests import sha256_of_file
from smaug_eval.common.errors import Interrupted
from smaug_eval.common.files import canonical_json, sha256_of_text
from smaug_eval.common.settings import deciding_settings
from smaug_eval.models.configuration import read_config
from smaug_eval.models.quantised import Quantisation, quantisation
from smaug_eval.trainers.base_model import DTYPES
from smaug_eval.trainers.chat_templates import template_text
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.layout import RESUME_FOLDER
from smaug_eval.trainers.processes import any_process, process_count
from smaug_eval.trainers.spec import TrainingSpec
from smaug_eval.trainers.training_log import Row

Progress = Callable[[int, int, Row], None]


@dataclass(frozen=True)
class Listeners:
    """Hold whom a training asks whether to stop, and tells its progress; see :func:`smaug_eval.trainers.train.train`.

    Attributes:
        should_stop: Whether to stop after this step.
        on_progress: Receives how far it is.
        on_note: Receives what is worth saying once.
        on_warning: Receives what a reader of the numbers should know.
    """

    should_stop: Callable[[], bool]
    on_progress: Progress | None
    on_note: Callable[[str], None]
    on_warning: Callable[[str], None]

    def asked_to_stop(self) -> bool:
        """Return whether any of the processes is told to stop."""
        return any_process(self.should_stop())

    def warned(self, warnings: list[str]) -> list[str]:
        """Tell of what is known before the training, which the result tells again."""
        for warning in warnings:
            self.on_warning(warning)
        return warnings


@dataclass(frozen=True)
class SettledTraining:
    """Hold a training's specification with what follows from it.

    Attributes:
        spec: What was asked for.
        listeners: Whom it tells.
    """

    spec: TrainingSpec
    listeners: Listeners

    @property
    def config(self) -> TrainingConfig:
        """Return the training's settings."""
        return self.spec.config

    @property
    def seed(self) -> int:
        """Return the seed: the settings' own, if they have one."""
        return self.spec.seed if self.config.seed is None else self.config.seed

    @cached_property
    def eval_file(self) -> Path | None:
        """Return the held-out pairs; None where there are none."""
        file = self.spec.eval_file
        return None if file is None or (file.is_file() and file.stat().st_size == 0) else file

    @property
    def base(self) -> str:
        """Name of the base model."""
        return self.spec.base or self.spec.model_path.name

    @property
    def reference_dir(self) -> Path:
        """Return the folder of the reference's log-probabilities."""
        return self.spec.reference_dir or self.spec.out_dir

    @cached_property
    def date(self) -> datetime.date:
        """Return the day that chat templates take for today, unless the training was begun on another."""
        return self.spec.date or datetime.datetime.now().astimezone().date()

    @property
    def reference_sha256(self) -> str:
        """Digest of the reference's weights.

        Raises:
            ValueError: the digests of the specification were not looked up.
        """
        spec = self.spec
        found = spec.model_sha256 if spec.reference is None else spec.reference.sha256
        if found is None:
            raise ValueError("the specification lacks digests: see TrainingSpec.with_digests")
        return found

    @property
    def resume_dir(self) -> Path:
        """Return the folder of the checkpoints to resume from."""
        return self.spec.out_dir / RESUME_FOLDER

    @property
    def quantize(self) -> str | None:
        """Return the type that the base's weights are quantised to while an adapter is trained; None for not at all."""
        return self.config.lora.quantize if self.config.lora else None

    @property
    def pairs_a_step(self) -> int:
        """Return the number of pairs of an optimiser step in each process."""
        return self.config.batch_size * self.config.gradient_accumulation

    @cached_property
    def identity(self) -> str:
        """Return a digest of all that decides the result."""
        spec = self.spec
        files = [None if file is None else sha256_of_file(file) for file in (spec.train_file, self.eval_file)]
        settings = deciding_settings(self.config.as_trained(), ("launch",))
        decisive = [settings, spec.name, spec.dtype, self.seed, spec.model_sha256, self.base, process_count(), *files]
        if spec.reference is not None:
            decisive.append(spec.reference.sha256)
        if self.config.evaluate is not None:
            decisive.append(f"a checkpoint every {self.config.evaluate.every} steps")
        if self.config.chat_template is not None:
            decisive.append(template_text(self.config.chat_template))
        if spec.ches is not None:
            decisive.append(spec.ches.model_dump())
        return sha256_of_text(canonical_json(decisive))

    @property
    def autocast(self) -> torch.dtype | None:
        """Return the type to compute in where the weights are kept in float32 but wanted in half precision."""
        return DTYPES[self.spec.dtype] if self.spec.dtype != "float32" and self.config.lora is None else None

    @cached_property
    def stored(self) -> Quantisation | None:
        """Return how the base's weights are stored, where that is quantised."""
        return quantisation(read_config(self.spec.model_path))

    def interrupted(self, when: str) -> Interrupted:
        """Return the error that says how to resume."""
        return Interrupted(f"training {self.spec.name} stopped {when}", fix="run the same command again to resume")
