"""Read the recipe's ``study`` section, and expand it into trainings named ``<arm>.<set>.s<seed>``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from smaug_eval.common.schemas import JsonSchema, SchemaOf, without_keys
from smaug_eval.common.suggest import nearest
from smaug_eval.trainers.config import Seed, TrainingConfig
from smaug_eval.trainers.study_names import BASE, Questions, once, training_name

Seeds = Annotated[list[Seed], Field(min_length=1)]
_SETTLED = ("pairs", "seed")


class Arm(TrainingConfig):
    """Describe one way to train, on some pair sets with some seeds."""

    sets: list[str] = Field(min_length=1, description="Pair sets that the arm is trained on, each by itself.")
    seeds: Seeds | None = Field(None, description="Seeds of this arm (default: the study's).")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        """Describe an arm as recipes have it: the study gives pairs and seed, and may give the other keys, too."""
        return without_keys(handler.resolve_ref_schema(handler(schema)), _SETTLED, required=("sets",))

    @field_validator("sets")
    @classmethod
    def _setsonce(cls, value: list[str]) -> list[str]:
        return once(value)

    @field_validator("seeds")
    @classmethod
    def _seedsonce(cls, value: list[int] | None) -> list[int] | None:
        return None if value is None else once(value)

    @model_validator(mode="after")
    def _leaves_sets_and_seeds_to_the_study(self) -> Arm:
        for key, instead in zip(_SETTLED, ("sets", "seeds"), strict=True):
            if getattr(self, key) is not None:
                raise ValueError(f"{key} has no meaning for an arm: give {instead}")
        return self

    def training(self, pairs: str, seed: int) -> TrainingConfig:
        """Return the training of this arm on one pair set with one seed."""
        settings = self.model_dump(by_alias=True, exclude={"sets", "seeds"})
        return TrainingConfig.model_validate({**settings, "pairs": pairs, "seed": seed})


class SharedKeys(TrainingConfig):
    """Describe the keys that all trainings of a study share, for the recipe's schema."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        """Return the keys of a training that the study does not settle, none of them required."""
        return without_keys(handler.resolve_ref_schema(handler(schema)), _SETTLED)


class Study(BaseModel):
    """Describe arms x pair sets x seeds, and the questions put to them."""

    model_config = ConfigDict(extra="forbid")

    seeds: Seeds = Field(description="Seeds of the order of the pairs; each gives a training of its own.")
    training: Annotated[dict[str, Any], SchemaOf(SharedKeys)] = Field(
        default_factory=dict, description="Keys that all trainings share; an arm's own take precedence."
    )
    arms: dict[str, Arm] = Field(
        min_length=1, description="Arms by name: keys of a training, the pair sets and, if need be, seeds."
    )
    questions: Questions = Field(
        default_factory=lambda: Questions(), description="Who plays which part in the study's questions."
    )

    @field_validator("seeds")
    @classmethod
    def _seedsonce(cls, value: list[int]) -> list[int]:
        return once(value)

    @field_validator("training")
    @classmethod
    def _known_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        known = {field.alias or name for name, field in TrainingConfig.model_fields.items()} - set(_SETTLED)
        for key in value:
            if key in _SETTLED:
                raise ValueError(f"{key} has no meaning here: arms give sets, and the study gives seeds")
            if key not in known:
                raise ValueError(f"{key}: unknown key{nearest(key, sorted(known))}")
        return value

    @field_validator("arms", mode="before")
    @classmethod
    def _with_shared_keys(cls, value: Any, info: ValidationInfo) -> Any:
        shared = info.data.get("training")
        if not isinstance(value, Mapping) or shared is None:
            return value
        return {name: {**shared, **arm} if isinstance(arm, Mapping) else arm for name, arm in value.items()}

    @field_validator("arms")
    @classmethod
    def _arms_are_not_the_base(cls, value: dict[str, Arm]) -> dict[str, Arm]:
        if BASE in value:
            raise ValueError(f"{BASE}: this name means the model before training; choose another")
        return value

    @model_validator(mode="after")
    def _questions_can_be_asked(self) -> Study:
        questions = self.questions
        for part in ("subject", "remedy", "before"):
            arm = getattr(questions, part)
            if arm not in self.arms and not (part == "before" and arm == BASE):
                options = [BASE, *self.arms] if part == "before" else list(self.arms)
                raise ValueError(f"questions.{part} = {arm!r}: no such arm{nearest(arm, options)}")
        if questions.subject == questions.remedy:
            raise ValueError(f"questions.remedy = {questions.remedy!r}: the subject cannot be its own remedy")
        asked = {"low": questions.low, "high": questions.high} | {
            f"curve.{number}": name for number, name in enumerate(questions.curve)
        }
        for key, pair_set in asked.items():
            for part in ("subject", "remedy"):
                arm = getattr(questions, part)
                if pair_set not in self.arms[arm].sets:
                    raise ValueError(
                        f"questions.{key} = {pair_set!r}: the {part} {arm} is not trained on it: add it to "
                        f"arms.{arm}.sets{nearest(pair_set, self.arms[arm].sets)}"
                    )
        return self

    def seeds_of(self, arm: str) -> list[int]:
        """Return the seeds of an arm."""
        return self.arms[arm].seeds or self.seeds

    def models_of(self, name: str) -> list[str]:
        """Return the trainings that a name stands for.

        Those of an arm, or of ``<arm>.<set>``; none if it is neither.
        """
        return [
            training_name(arm, pair_set, seed)
            for arm, config in self.arms.items()
            for pair_set in config.sets
            if name in (arm, f"{arm}.{pair_set}")
            for seed in self.seeds_of(arm)
        ]

    def rounds(self) -> list[list[str]]:
        """Return the names of the trainings, seed by seed: each seed with all its arms and sets."""
        seeds = dict.fromkeys(seed for arm in self.arms for seed in self.seeds_of(arm))
        return [
            [
                training_name(arm, pair_set, seed)
                for arm, config in self.arms.items()
                if seed in self.seeds_of(arm)
                for pair_set in config.sets
            ]
            for seed in seeds
        ]

    def trainings(self) -> dict[str, TrainingConfig]:
        """Return every training of the grid by its name, in the order of :meth:`rounds`.

        Raises:
            ValueError: two trainings would have the same name.
        """
        grid: dict[str, TrainingConfig] = {}
        for arm, config in self.arms.items():
            for pair_set in config.sets:
                for seed in self.seeds_of(arm):
                    name = training_name(arm, pair_set, seed)
                    if name in grid:
                        raise ValueError(f"arms.{arm}.sets: two trainings are called {name!r}; rename an arm or set")
                    grid[name] = config.training(pair_set, seed)
        return {name: grid[name] for names in self.rounds() for name in names}
