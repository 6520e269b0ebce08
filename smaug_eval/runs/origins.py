"""Find the models that trainings start from and are compared with: the base, another training's, or any other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import given_path, is_there
from smaug_eval.models.adapter_files import ADAPTER_CONFIG, adapter_settings
from smaug_eval.models.checkpoint import Checkpoint, locate
from smaug_eval.models.quantised import Use
from smaug_eval.results.layout import CHECKPOINT_FOLDER, training_stage
from smaug_eval.runs.lineage import ADAPTER, START, trained_part
from smaug_eval.runs.recipe import BASE
from smaug_eval.trainers.layout import ADAPTER_FOLDER

if TYPE_CHECKING:
    from smaug_eval.runs.models import RunModels


@dataclass(frozen=True)
class Origin:
    """Describe a model that a training starts from or is compared with.

    Attributes:
        name: What a model card calls it.
        path: Folder of its weights.
        sha256: Digest of the weights, and of the adapter's; None where they are still to be made.
        source: As an adapter that is trained from it names its base: Hub id or path.
        dtype: The type its weights are saved in.
        revision: Commit on the Hub; None for one from elsewhere.
        adapter: Folder of an adapter beside the weights; None for none.
        needs: Stages that make it.
        checkpoint: The checkpoint, where it is there already.
    """

    name: str
    path: Path
    sha256: str | None
    source: str
    dtype: str
    revision: str | None = None
    adapter: Path | None = None
    needs: tuple[str, ...] = ()
    checkpoint: Checkpoint | None = None

    @property
    def digest(self) -> dict[str, str]:
        """Return what names the model in a stage's inputs; empty where the stages that make it do."""
        return {} if self.sha256 is None else {"sha256": self.sha256}


class Origins:
    """Find the origins of a recipe's trainings, each once.

    Args:
        models: The models of the run.
    """

    def __init__(self, models: RunModels) -> None:
        self._models, self._trainings = models, models.recipe.trainings
        self._found: dict[tuple[str, bool], Origin] = {}

    @cached_property
    def base(self) -> Origin:
        """Return the recipe's base."""
        models = self._models
        base = models.base
        return Origin(
            models.base_name(),
            base.path,
            base.sha256,
            models.named_base(),
            base.dtype,
            base.revision,
            checkpoint=base,
        )

    def start(self, name: str) -> Origin:
        """Return what a training starts from.

        Raises:
            SmaugError: there is no such model, or an adapter cannot be put beside the base.
        """
        config = self._trainings[name]
        found = self._named(f"trainings.{name}.start", config.start or BASE, lora=config.lora is not None)
        if found.adapter is not None and config.lora is None:
            raise SmaugError(
                f"trainings.{name}.start: {config.start} is an adapter, and the training is of all weights",
                fix="give lora to continue with the adapter, or start from the checkpoint that it was merged into",
            )
        return found

    def reference(self, name: str) -> Origin | None:
        """Return what a training is compared with; None for what it starts from.

        Raises:
            SmaugError: there is no such model.
        """
        value = self._trainings[name].reference
        if value in (None, START):
            return None
        found = self._named(f"trainings.{name}.reference", value, lora=True)
        return None if found == self.start(name) else found

    def external(self) -> list[tuple[str, Checkpoint, Use]]:
        """Return every checkpoint that is not of this run, with the stage that loads it and what for."""
        found = []
        for name, config in self._trainings.items():
            for origin in (self.start(name), self.reference(name)):
                if origin is not None and origin.checkpoint is not None and origin.checkpoint != self._models.base:
                    use = Use.TRAINING if config.lora is None else Use.ADAPTER
                    found.append((training_stage(name), origin.checkpoint, use))
        return found

    def _named(self, key: str, value: str, *, lora: bool) -> Origin:
        if value == BASE:
            return self.base
        if (value, lora) not in self._found:
            try:
                self._found[value, lora] = self._trained(value) or self._elsewhere(value, lora=lora)
            except SmaugError as error:
                raise SmaugError(f"{key}: {error.message}", fix=error.fix) from error
        return self._found[value, lora]

    def _trained(self, value: str) -> Origin | None:
        part = trained_part(value, self._trainings)
        if part is None:
            return None
        stage = self._models.made_by(part.training)
        folder = self._models.directory.folder(stage)
        own = self.start(part.training)
        if part.is_adapter:
            return replace(
                own,
                name=f"{own.name} with the adapter of {part.training}",
                sha256=None,
                adapter=folder / ADAPTER_FOLDER,
                needs=(*own.needs, stage),
            )
        path, name = folder / CHECKPOINT_FOLDER, f"{self._models.base_name()} after training {part.training}"
        return Origin(name, path, None, str(path), own.dtype, needs=(stage,))

    def _elsewhere(self, value: str, *, lora: bool) -> Origin:
        folder = given_path(value)
        trusted = self._models.is_trusted(BASE)
        if is_there(folder) and (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
            self._check_base_of(folder)
            beside = self._models.base.with_adapter(folder)
            return replace(
                self.base, name=f"{self.base.name} with {ADAPTER} {folder.name}", sha256=beside.sha256, adapter=folder
            )
        name, revision = value, None
        if not is_there(folder) and "@" in value:
            name, _, revision = value.rpartition("@")
        use = Use.ADAPTER if lora else Use.TRAINING
        found = locate(name, revision=revision, trust_remote_code=trusted, uses=[use])
        public = name if found.revision is not None else found.path.name
        return Origin(public, found.path, found.sha256, name, found.dtype, found.revision, checkpoint=found)

    def _check_base_of(self, adapter: Path) -> None:
        """Refuse an adapter that names another base than the recipe's."""
        named = str(adapter_settings(adapter).get("base_model_name_or_path") or "")
        base = self._models.base
        if not named or named in (base.source, str(base.path)):
            return
        folder = given_path(named)
        if is_there(folder) and folder.resolve() == base.path:
            return
        if is_there(folder) or named.count("/") == 1:
            raise SmaugError(
                f"the adapter {adapter} was trained from {named}, and model.path is {base.source}",
                fix=f"set model.path to {named}, or base_model_name_or_path in {adapter / ADAPTER_CONFIG} if both are "
                "the same model",
            )
