"""Define a run: its keys, their meaning, and how they fit together. Unknown keys are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from smaug_eval.common.embedded import PREFIX, embedded_path
from smaug_eval.common.names import PLAIN_NAME, is_plain_name
from smaug_eval.common.schemas import JsonSchema
from smaug_eval.common.settings import ADDED, Strict
from smaug_eval.common.suggest import nearest, there_is
from smaug_eval.engines.registry import ENGINES
from smaug_eval.models.checkpoint import served_name
from smaug_eval.mt_bench.config import API, MtBenchConfig
from smaug_eval.runs.following import check_checkpoint_evaluations
from smaug_eval.runs.lineage import check_origins
from smaug_eval.runs.recipe_entries import EvaluationConfig, ModelSpec
from smaug_eval.trainers.config import PairsConfig, Seed, TrainingConfig
from smaug_eval.trainers.pairs.config import MixturePairs
from smaug_eval.trainers.study import Study
from smaug_eval.trainers.study_names import BASE as BASE

_BY_NAME = ("models", "pairs", "trainings", "evaluations", "mt_bench")
"""Keys of a recipe whose entries have names."""


class ReportConfig(Strict):
    """Configure the HTML comparison."""

    title: str | None = Field(None, description="Heading of the report; the recipe's name if empty.")
    baseline: str = Field(
        BASE,
        description="The model that differences are taken against (default: base, or the first that is scored).",
    )


class Recipe(Strict):
    """Define a whole run: base model, pair sets, trainings, evaluations and report."""

    name: str = Field(description="Name of the run; its folder under the runs directory.")
    description: str | None = Field(None, description="What the run is for; shown in the report.")
    seed: Seed = Field(42, description="Seed of everything that has none of its own.")
    model: ModelSpec | None = Field(None, description="The base model; a plain string is its path.")
    models: dict[str, ModelSpec] = Field(
        default_factory=dict,
        description="Further existing models by name: a path, a Hub id (NAME@REVISION), or an adapter "
        "({base: ..., adapter: ...}).",
        json_schema_extra=ADDED,
    )
    data_root: str | None = Field(None, description="Offline mirror of the Hub's data sets; the Hub if empty.")
    pairs: dict[str, PairsConfig] = Field(default_factory=dict, description="Pair sets by name.")
    trainings: dict[str, TrainingConfig] = Field(default_factory=dict, description="Trainings by name.")
    study: Study | None = Field(None, description="A grid of trainings, and the questions put to it.")
    evaluations: dict[str, EvaluationConfig] = Field(default_factory=dict, description="Evaluations by name.")
    mt_bench: dict[str, MtBenchConfig] = Field(default_factory=dict, description="Dialogues and their judges by name.")
    report: ReportConfig = Field(default_factory=lambda: ReportConfig(), description="The report.")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        """Describe what names there may be, and that there is a model."""
        made = handler.resolve_ref_schema(handler(schema))
        made["properties"]["name"]["pattern"] = f"^{PLAIN_NAME}$"
        for key in _BY_NAME:
            made["properties"][key]["propertyNames"] = {"pattern": f"^{PLAIN_NAME}$"}
        made["anyOf"] = [{"required": ["model"]}, {"required": ["models"]}]
        return made

    @field_validator("name")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        return _checked_name(value)

    @field_validator(*_BY_NAME)
    @classmethod
    def _safe_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            _checked_name(name)
        return value

    @field_validator("pairs", mode="before")
    @classmethod
    def _embedded_pairs(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: _with_embedded_path(pair_set) for name, pair_set in value.items()}

    @field_validator("model", mode="before", json_schema_input_type=ModelSpec | str | None)
    @classmethod
    def _model_from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @field_validator("models", mode="before", json_schema_input_type=dict[str, ModelSpec | str])
    @classmethod
    def _models_from_paths(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: {"path": model} if isinstance(model, str) else model for name, model in value.items()}

    @model_validator(mode="after")
    def _names_fit_together(self) -> Recipe:
        for key, names in (("trainings", [*self.trainings]), ("models", [*self.models])):
            if BASE in names:
                raise ValueError(f"{key}.{BASE}: this name means the model before training; choose another")
        if self.study is not None:
            self._add_study(self.study)
        self._check_models()
        for name, training in self.trainings.items():
            if training.pairs is None:
                if len(self.pairs) != 1:
                    which = ", ".join(self.pairs) or "none"
                    raise ValueError(f"trainings.{name}.pairs: name one of the pair sets ({which})")
                training.pairs = next(iter(self.pairs))
            elif training.pairs not in self.pairs:
                hint = nearest(training.pairs, self.pairs)
                raise ValueError(f"trainings.{name}.pairs = {training.pairs!r}: no such pair set{hint}")
            self._check_pairs_of(name, training)
        check_origins(self.trainings)
        for name, pair_set in self.pairs.items():
            if isinstance(pair_set, MixturePairs):
                self._check_mixture(name, pair_set)
        check_checkpoint_evaluations(self.trainings, self.evaluations)
        known = self.model_names
        for key, entries in (("evaluations", self.evaluations), ("mt_bench", self.mt_bench)):
            for name, entry in entries.items():
                if self.study is not None and entry.models:
                    entry.models = [part for model in entry.models for part in self.study.models_of(model) or [model]]
                for model in entry.models or []:
                    if model not in known:
                        options = [*known, *(self.study.arms if self.study is not None else ())]
                        raise ValueError(f"{key}.{name}.models: no model {model!r}{nearest(model, options)}")
        is_chosen = "baseline" in self.report.model_fields_set
        if not is_chosen and BASE not in known:
            self.report.baseline = known[0]
        if self.report.baseline not in known:
            raise ValueError(
                f"report.baseline = {self.report.baseline!r}: no such model{nearest(self.report.baseline, known)}"
            )
        self._settle_baseline(is_chosen)
        for name, evaluation in self.evaluations.items():
            if evaluation.engine in ENGINES and ENGINES[evaluation.engine].is_served:
                asked = self.models_of(evaluation)
                place = "an evaluation of its own"
                self._check_asked(f"evaluations.{name}", asked, asked, evaluation.engine_args, place)
            self._check_stop(name)
        for name, entry in self.mt_bench.items():
            self._check_served(name, entry)
            self._check_judging_stop(name, entry)
        return self

    def _check_pairs_of(self, name: str, training: TrainingConfig) -> None:
        """Make sure that a training's pair set has what the training goes by."""
        pair_set = self.pairs[str(training.pairs)]
        if training.needs_held_out is not None and not pair_set.holdout:
            raise ValueError(
                f"trainings.{name}: {training.needs_held_out} uses held-out pairs, and pairs.{training.pairs}.holdout "
                "is 0: set it to the number to hold out"
            )
        if pair_set.ches is not None and training.entry.unpaired:
            raise ValueError(
                f"trainings.{name}: loss {training.loss} reads single completions, and pairs.{training.pairs}.ches "
                "compares the two of a pair: leave ches out, or choose a loss of pairs"
            )

    def baseline_of(self, entry: EvaluationConfig | MtBenchConfig) -> str:
        """Return what an evaluation that may stop compares with: a model's name, or a path; of judging, a name."""
        return entry.against or self.report.baseline

    def _check_served(self, name: str, entry: MtBenchConfig) -> None:
        """Make sure of which models of an entry a server runs, and that it can tell them apart."""
        answering = self.models_of(entry)
        for model in entry.served:
            if model not in answering:
                hint = nearest(model, answering)
                raise ValueError(f"mt_bench.{name}.served: {model!r} is none of the models that answer{hint}")
        asked = [model for model in answering if entry.of(model).engine == API]
        for model in answering:
            path = self.spec_of(model).path
            if model not in asked and served_name(path) is not None:
                raise ValueError(
                    f"mt_bench.{name}: a server runs {model} ({path}): set engine: api with engine_args.base_url, or, "
                    f"where others answer here, served.{model}.base_url"
                )
        shared = [model for model in asked if model not in entry.served]
        self._check_asked(f"mt_bench.{name}", asked, shared, entry.engine_args, "served")

    def _check_asked(
        self, key: str, asked: Sequence[str], shared: Sequence[str], engine_args: Mapping[str, Any], place: str
    ) -> None:
        """Make sure that a server can have the models that it is asked for, and can tell them apart.

        Args:
            key: The entry.
            asked: The models of it that a server runs.
            shared: Those of them that have its ``engine_args``.
            engine_args: Of the entry.
            place: Where a model can have its own.
        """
        for model in asked:
            if model in self.trainings:
                raise ValueError(
                    f"{key}: {model} is trained in this run, and no server has it: name in models those that the "
                    f"server has, or give these their own engine_args in {place} and choose another engine for it"
                )
        if len(shared) > 1 and engine_args.get("model"):
            raise ValueError(
                f"{key}.engine_args.model: one name on the server for {', '.join(shared)}, which would be the same "
                f"model: leave it out, or give each its own in {place}"
            )

    def _check_judging_stop(self, name: str, entry: MtBenchConfig) -> None:
        """Make sure that a judging which may stop has two models to compare."""
        if entry.stop is None:
            return
        baseline, judged = self.baseline_of(entry), self.models_of(entry)
        if baseline not in judged:
            raise ValueError(
                f"mt_bench.{name}.against: {baseline!r} is none of the models that answer{nearest(baseline, judged)}"
            )
        if len(judged) < 2:
            raise ValueError(f"mt_bench.{name}.stop: there is no model to compare with {baseline!r}; add one to models")

    def _check_stop(self, name: str) -> None:
        """Make sure that an evaluation which may stop has two models to compare."""
        entry = self.evaluations[name]
        if entry.stop is None:
            return
        baseline, scored = self.baseline_of(entry), self.models_of(entry)
        if baseline not in self.model_names:
            if not Path(baseline).exists():
                raise ValueError(
                    f"evaluations.{name}.against = {entry.against!r}: no such model or results"
                    f"{nearest(baseline, self.model_names)}"
                )
        elif baseline not in scored:
            raise ValueError(f"evaluations.{name}.against: {baseline!r} is none of the models of this evaluation")
        elif len(scored) < 2:
            raise ValueError(
                f"evaluations.{name}.stop: there is no model to compare with {baseline!r}; add one to models, or name "
                "a run with against"
            )

    def _check_models(self) -> None:
        """Make sure that there is a model, one to train from where something is trained, and one of each name."""
        if self.model is None and not self.models:
            raise ValueError("model: this key is required, or models with a name for each")
        if self.model is None and self.trainings:
            raise ValueError("model: this key is required where something is trained: the base model")
        for name in self.models:
            if name in self.trainings:
                raise ValueError(f"models.{name}: a training has this name, too; rename one of them")

    def _settle_baseline(self, is_chosen: bool) -> None:
        """Differences need a model that is scored: where the base is not, the first that is."""
        entries: Sequence[EvaluationConfig | MtBenchConfig] = [*(self.evaluations or self.mt_bench).values()]
        scored = [model for model in self.model_names if any(model in self.models_of(entry) for entry in entries)]
        if not scored or self.report.baseline in scored:
            return
        if is_chosen:
            raise ValueError(f"report.baseline = {self.report.baseline!r}: no evaluation is for this model")
        self.report.baseline = scored[0]

    def _add_study(self, study: Study) -> None:
        """Make the study's grid part of the trainings; those of a recipe that was written out with it are there."""
        for arm, config in study.arms.items():
            for pair_set in config.sets:
                if pair_set not in self.pairs:
                    raise ValueError(f"study.arms.{arm}.sets: no pair set {pair_set!r}{nearest(pair_set, self.pairs)}")
        for name, training in study.trainings().items():
            try:
                _checked_name(name)
            except ValueError as error:
                raise ValueError(f"study.arms: {error}; shorten the arm's or the set's name") from None
            if self.trainings.setdefault(name, training) != training:
                raise ValueError(f"trainings.{name}: the study makes a training of this name; rename one of them")

    def _check_mixture(self, name: str, mixture: MixturePairs) -> None:
        sources = [other for other, pair_set in self.pairs.items() if not isinstance(pair_set, MixturePairs)]
        for part in mixture.sets:
            if part in sources:
                continue
            if part == name:
                raise ValueError(f"pairs.{name}.sets: {part!r} is this mixture itself{there_is(sources)}")
            if part in self.pairs:
                raise ValueError(
                    f"pairs.{name}.sets: {part!r} is a mixture too: name the sets it draws from{there_is(sources)}"
                )
            raise ValueError(f"pairs.{name}.sets: no pair set {part!r}{nearest(part, sources)}")

    @property
    def given_models(self) -> dict[str, ModelSpec]:
        """Return the models that are there already, by name: the base and those of ``models``."""
        return {**({} if self.model is None else {BASE: self.model}), **self.models}

    @property
    def model_names(self) -> list[str]:
        """Return the models that are there and every training, in order."""
        return [*self.given_models, *self.trainings]

    def spec_of(self, model: str) -> ModelSpec:
        """Return how a model is configured; a trained one like the base."""
        given = self.given_models
        return given[model] if model in given else given[BASE]

    def rounds(self) -> list[list[str]]:
        """Return the trainings in the order of work.

        All at once or, of a study, one seed of the whole grid after the other.

        Each round is evaluated before the next begins, so that a study that is not finished can be read already.
        """
        by_seed = self.study.rounds() if self.study is not None else [[]]
        own = [name for name in self.trainings if not any(name in names for names in by_seed)]
        return [[*own, *by_seed[0]], *by_seed[1:]]

    def followed_by(self, evaluation: str) -> list[str]:
        """Return the trainings whose checkpoints an evaluation scores, in order."""
        found = self.trainings.items()
        return [name for name, each in found if each.evaluate is not None and evaluation in each.evaluate.evaluations]

    def asked_of(self, evaluation: str) -> list[str]:
        """Return the models that an evaluation asks something: those it is for, and those of which checkpoints are."""
        return list(dict.fromkeys([*self.models_of(self.evaluations[evaluation]), *self.followed_by(evaluation)]))

    def models_of(self, entry: EvaluationConfig | MtBenchConfig) -> list[str]:
        """Return the models that an evaluation or dialogues are for, in order; none of a development evaluation."""
        if isinstance(entry, EvaluationConfig) and entry.development:
            return []
        return [model for model in self.model_names if not entry.models or model in entry.models]


def recipe_as_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe with every default filled in, as plain data under the names that YAML uses."""
    return recipe.model_dump(mode="json", by_alias=True)


def _with_embedded_path(pair_set: Any) -> Any:
    path = pair_set.get("path") if isinstance(pair_set, Mapping) else None
    if isinstance(path, str) and path.startswith(PREFIX):
        return {**pair_set, "path": str(embedded_path(path))}
    return pair_set


def _checked_name(value: str) -> str:
    if not is_plain_name(value):
        raise ValueError(
            f"the name {value[:80]!r} must be letters, digits, '.', '_' or '-', 64 at most (it becomes a folder)"
        )
    return value
