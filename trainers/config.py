"""Define the settings of a training and a pair set. Free of torch, so that a recipe is read in milliseconds."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    WithJsonSchema,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from smaug_eval.common.schemas import JsonSchema, spelled
from smaug_eval.common.settings import ADDED, Strict
from smaug_eval.trainers import learning_rates
from smaug_eval.trainers.lora_keys import LoraConfig as LoraConfig
from smaug_eval.trainers.losses import LOSSES, OTHER_NAMES, WEIGHTS, Loss, contested_weights, find_loss, loss_name
from smaug_eval.trainers.pairs.config import SOURCES, MixturePairs, SourcedPairs
from smaug_eval.trainers.training_keys import SYNC_WEIGHT, FollowKeys, OptimiserKeys, RowKeys, StartKeys

DEFAULT_EPOCHS = 1.0
RESERVED_SETTINGS = (
    *("chat_template", "messages", "conversation", "conversations", "add_generation_prompt", "continue_final_message"),
    *("tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs"),
    *("return_assistant_tokens_mask", "raise_exception", "strftime_now"),
)
"""What a chat template is given that is not for ``chat_template_kwargs`` to decide."""

Seed = Annotated[int, Field(ge=0, lt=1 << 32)]
"""What every generator of random numbers takes that a training sets; numpy's takes no more."""


def _known_loss(value: object) -> str:
    """Return our name of a loss or of a weighted sum of losses."""
    try:
        return loss_name(value)
    except ValueError as error:
        if isinstance(value, str):
            expected = ", ".join(map(repr, LOSSES))
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected}) from error
        raise


def _loss_schema() -> JsonSchema:
    """The JSON Schema of what :func:`_known_loss` takes: a name, a sum as text, or names with their factors."""
    names = "|".join(spelled(name, dashes=True) for name in (*LOSSES, *OTHER_NAMES))
    term = rf"\s*(?:[0-9.eE+-]+\s*\*\s*)?(?:{names})\s*"
    factor = {"type": "number", "exclusiveMinimum": 0}
    return {
        "anyOf": [
            *(
                {"const": name, "title": loss.title, "description": f"{loss.formula} ({loss.source})"}
                for name, loss in LOSSES.items()
            ),
            {"type": "string", "pattern": rf"^{term}(?: \+ {term})*$"},
            {
                "type": "object",
                "properties": dict.fromkeys(LOSSES, factor),
                "patternProperties": {rf"^\s*(?:{names})\s*$": factor},
                "additionalProperties": False,
                "minProperties": 1,
            },
        ]
    }


LossName = Annotated[str, BeforeValidator(_known_loss), WithJsonSchema(_loss_schema(), mode="validation")]


class LaunchConfig(Strict):
    """Train in several processes, one a device; a plain string is ``config``."""

    processes: PositiveInt | None = Field(
        None, description="Processes on this machine (default: what config says); without config they share the pairs."
    )
    config: str | None = Field(
        None, min_length=1, description="A configuration file of accelerate, such as accelerate/fsdp2.yaml."
    )

    @model_validator(mode="after")
    def _says_something(self) -> LaunchConfig:
        if self.processes is None and self.config is None:
            raise ValueError("give processes, or config, or both")
        return self


def _defaults_of(weight: str) -> str:
    """The defaults of a weight by loss, with where they come from."""
    users: dict[tuple[float | None, str], list[str]] = {}
    for name, loss in LOSSES.items():
        if weight in loss.weights:
            users.setdefault((loss.weights[weight], loss.default_source(weight)), []).append(name)
    shown = [
        f"{'none' if value is None else f'{value:g}'} for {', '.join(names)}{source and f' ({source})'}"
        for (value, source), names in users.items()
    ]
    return f"default: {'; '.join(shown)}"


def _weight_keys() -> Any:
    """Make the keys of a training that are weights of losses: one for each entry of the losses' table."""
    fields: dict[str, Any] = {}
    for name, weight in WEIGHTS.items():
        least: dict[str, Any] = {"gt": 0.0} if weight.positive else {"ge": 0.0}
        least |= {} if weight.most is None else {"le": weight.most}
        least |= {} if weight.below is None else {"lt": weight.below}
        if weight.added:
            least["json_schema_extra"] = ADDED
        settings = Field(None, alias=name, description=f"{weight.description} ({_defaults_of(name)}).", **least)
        fields[f"{name}_" if keyword.iskeyword(name) else name] = (float | None, settings)
    return create_model("WeightKeys", __base__=Strict, **fields)


_WeightKeys: Any = _weight_keys()


class TrainingConfig(StartKeys, RowKeys, FollowKeys, OptimiserKeys, _WeightKeys):
    """Configure one preference training: the loss, its weights, the optimiser, and how often to evaluate."""

    loss: LossName = Field(
        description="One of " + ", ".join(LOSSES) + "; or a weighted sum, such as {dpo: 1, sft: 0.2}."
    )
    pairs: str | None = Field(
        None, description="Name of the pair set to train on; may be left out where the recipe has only one."
    )
    learning_rate: PositiveFloat = Field(
        learning_rates.FULL,
        description=f"Peak learning rate (default {learning_rates.FULL:g} for all weights, as TRL's; "
        f"{learning_rates.LORA:g} with lora, as in alignment-handbook's and LLaMA-Factory's recipes).",
    )
    lr_scheduler: Literal["linear", "cosine", "constant", "wsd"] = Field(
        "linear",
        description="Schedule of the learning rate after warm-up; wsd: stable, and a fall at the end (warm-up, stable, "
        "decay).",
    )
    warmup_ratio: float | None = Field(
        None, ge=0.0, lt=1.0, description="Share of the steps over which the learning rate rises from 0 (default 0.1)."
    )
    warmup_steps: NonNegativeInt | None = Field(None, description="The same as a number of steps, instead of a share.")
    weight_decay: float = Field(0.0, ge=0.0, description="Decoupled weight decay of AdamW.")
    max_grad_norm: PositiveFloat = Field(1.0, description="Gradients are scaled down to this norm.")
    steps: PositiveInt | None = Field(None, description="Optimiser steps to take. Give steps or epochs, not both.")
    epochs: PositiveFloat | None = Field(None, description="Passes over the pairs (default 1).")
    batch_size: PositiveInt = Field(16, description="Pairs per forward pass on one device.")
    gradient_accumulation: PositiveInt = Field(
        1,
        description="Forward passes per optimiser step; a step sees batch_size x gradient_accumulation pairs a device.",
    )
    max_length: int = Field(
        1024, ge=2, description="Tokens of prompt and completion together; what is cut is reported, with counts."
    )
    max_prompt_length: PositiveInt | None = Field(
        None,
        description="Tokens kept of the prompt: its begin token, its system's turn, and its end (default: what "
        "max_length leaves beside the completions, and a quarter of it in any case).",
    )
    max_completion_length: PositiveInt | None = Field(
        None,
        description="Tokens kept of each completion's beginning (default: what the prompt leaves of max_length; the "
        "prompt gives way up to twice the length of the other completion, or a quarter of max_length).",
        json_schema_extra=ADDED,
    )
    truncation_mode: Literal["balanced", "keep_start"] = Field(
        "balanced",
        description="What is cut of a pair that is too long. balanced: the end of an endless completion, and the "
        "middle of the prompt; keep_start, as in TRL: the ends of the completions, and a pair whose prompt leaves no "
        "room is dropped.",
        json_schema_extra=ADDED,
    )
    long_prompts: Literal["truncate", "drop"] = Field(
        "truncate", description="What becomes of a prompt that is too long: cut it, or drop the pair."
    )
    append_eos: bool = Field(
        True,
        description="End every completion that is not truncated with the end-of-text token; in rows of messages, where "
        "the chat template writes no end of its own.",
    )
    chat_template_kwargs: dict[str, JsonValue] | None = Field(
        None,
        description="What the chat template gets beside the messages, such as enable_thinking or date_string; a "
        "row's own chat_template_kwargs take precedence.",
        json_schema_extra=ADDED,
    )
    lora: LoraConfig | None = Field(None, description="Train a LoRA adapter with these settings; all weights if empty.")
    launch: LaunchConfig | None = Field(
        None, description="Train in several processes: a configuration file of accelerate, or processes and config."
    )
    share_prefix: bool = Field(
        True,
        description="Compute what completions share once, in packed rows, where the model can; false: padded rows.",
    )
    row_tokens: PositiveInt = Field(
        8192, description="Tokens of one packed row; a batch that needs more is computed in several, one by one."
    )
    batching: Literal["pairs", "question"] = Field(
        "pairs",
        description="Order of the pairs. pairs: each by itself at random; question: questions at random, and the pairs "
        "of a question (those with the same prompt) in one batch, which computes its prompt and chosen answer once.",
        json_schema_extra=ADDED,
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations to save memory, at a third more time."
    )
    eval_every: PositiveInt | None = Field(
        50, description="Steps between evaluations on held-out pairs, beside those at the start and the end."
    )
    gradient_cosine_pairs: NonNegativeInt = Field(
        8,
        description="Held-out pairs of which each evaluation compares the gradients of chosen and rejected; 0 for none "
        "(there are none with several processes).",
    )
    save_every: PositiveInt | None = Field(
        100, description="Steps between checkpoints to resume from; empty: only when interrupted."
    )
    log_every: PositiveInt = Field(1, description="Steps that one row of log.jsonl averages.")
    wandb_project: str | None = Field(
        None,
        min_length=1,
        description="Also log to this project of Weights & Biases (needs smaug-eval[wandb]; WANDB_MODE=offline works).",
    )
    seed: Seed | None = Field(None, description="Seed of the order of the pairs (default: the recipe's seed).")

    @model_validator(mode="before")
    @classmethod
    def _default_rate(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "learning_rate" in values:
            return values
        rate = learning_rates.default_rate(lora=values.get("lora") is not None)
        return {**values, "learning_rate": rate}

    @field_validator("truncation_mode", mode="before")
    @classmethod
    def _no_side_by_itself(cls, value: object) -> object:
        if value == "keep_end":
            raise ValueError(
                "keep_end, which TRL has deprecated, cuts chosen and rejected apart, so that they follow different "
                "prompts; leave truncation_mode out (balanced): both keep the end of the same prompt"
            )
        return value

    @field_validator("chat_template_kwargs")
    @classmethod
    def _settings_of_a_template(cls, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        reserved = next((name for name in value or {} if name in RESERVED_SETTINGS), None)
        if reserved is not None:
            raise ValueError(f"{reserved} decides what is rendered, not how: give what the chat template itself reads")
        return value

    @field_validator("launch", mode="before", json_schema_input_type=LaunchConfig | str | None)
    @classmethod
    def _launch_from_path(cls, value: object) -> object:
        return {"config": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _settle(self) -> TrainingConfig:
        own = self.entry.weights
        self._check_contested()
        for attribute, field in _WeightKeys.model_fields.items():
            name, given = field.alias, getattr(self, attribute)
            if name in own:
                setattr(self, attribute, own[name] if given is None else given)
            elif given is not None:
                users = ", ".join(loss for loss, entry in LOSSES.items() if name in entry.weights)
                raise ValueError(f"{name} has no meaning for loss {self.loss}: remove it, or choose {users}")
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        if self.steps is None and self.epochs is None:
            self.epochs = DEFAULT_EPOCHS
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise ValueError("give warmup_steps or warmup_ratio, not both")
        if self.warmup_steps is None and self.warmup_ratio is None:
            self.warmup_ratio = 0.0 if self.lr_scheduler == "constant" else 0.1
        if self.max_prompt_length is not None and self.max_prompt_length >= self.max_length:
            raise ValueError("max_prompt_length must be smaller than max_length, or no room is left for a completion")
        if self.max_completion_length is not None and self.max_completion_length >= self.max_length:
            raise ValueError("max_completion_length must be smaller than max_length, or no room is left for a prompt")
        self._check_reference()
        if self.entry.unpaired and self.batch_size < 2:
            raise ValueError(
                f"{self.loss} estimates its divergence from the other completions of a batch: give a batch_size of 2 "
                "at least"
            )
        if self.entry.unpaired and self.batching != "pairs":
            raise ValueError(
                f"batching: {self.batching} is for losses of pairs, and {self.loss} sets a completion "
                "beside one of another prompt: leave it out"
            )
        self._check_keeping()
        self._check_optimiser()
        return self

    @property
    def entry(self) -> Loss:
        """Return what is known of the loss."""
        return find_loss(self.loss)

    @property
    def weights(self) -> dict[str, float]:
        """Return the loss's weights by the names that recipes use."""
        values = {field.alias: getattr(self, name) for name, field in _WeightKeys.model_fields.items()}
        return {name: values[name] for name in self.entry.weights if values[name] is not None}

    @property
    def rate_note(self) -> str | None:
        """Return a sentence on a learning rate more than tenfold off the field's; None for others."""
        return learning_rates.rate_note(self.learning_rate, self.loss, lora=self.lora is not None)

    def describe(self) -> str:
        """Write the exact loss and its normalisation in one line."""
        weights = "".join(f", {name} {value:g}" for name, value in self.weights.items())
        mixed = "as written" if self.entry.averaged is None else self.entry.normalisation
        return (
            f"{self.entry.title}: {self.entry.formula}{weights}; log-probabilities {mixed} over the tokens of a "
            "completion, losses averaged over the pairs of an optimiser step"
        )

    def _check_reference(self) -> None:
        """Check that a reference that moves is one, and starts where the policy does."""
        if self.reference_sync_every is None:
            if self.reference_sync_weight != SYNC_WEIGHT:
                raise ValueError("reference_sync_weight has no meaning without reference_sync_every: give both")
            return
        if not self.entry.needs_reference:
            raise ValueError(f"reference_sync_every has no meaning for loss {self.loss}, which reads no reference")
        if self.reference not in (None, "start"):
            raise ValueError("reference_sync_every moves the reference from the start on: leave reference out")

    def _check_keeping(self) -> None:
        """Check that what is kept after evaluations is evaluated."""
        self.check_keep_metric()
        by_pairs = self.keep != "last" and self.chosen_by is None
        given = ["patience"] * (self.patience is not None) + [f"keep: {self.keep}"] * by_pairs
        if given and self.eval_every is None:
            raise ValueError(f"{given[0]} uses evaluations: give eval_every")
        if self.keep_checkpoints is not None and self.keep != "all":
            raise ValueError("keep_checkpoints is for keep: all: give both")

    def _check_optimiser(self) -> None:
        """Check that the optimiser and the schedule take what is given."""
        defaults = OptimiserKeys()
        if self.optimizer == "adafactor" and self.betas != defaults.betas:
            raise ValueError("betas are AdamW's: leave them out with optimizer: adafactor")
        if self.min_learning_rate_ratio and self.lr_scheduler not in ("cosine", "wsd"):
            raise ValueError(
                f"min_learning_rate_ratio has no meaning for lr_scheduler {self.lr_scheduler}: choose cosine or wsd"
            )
        if self.decay_ratio != defaults.decay_ratio and self.lr_scheduler != "wsd":
            raise ValueError("decay_ratio is for lr_scheduler: wsd")

    @property
    def needs_held_out(self) -> str | None:
        """Return the setting that goes by held-out pairs, as text; None where none does."""
        if self.keeps_best_on_pairs:
            return "keep: best"
        return "patience" if self.patience is not None else "sample_prompts" if self.sample_prompts else None

    def _check_contested(self) -> None:
        values = {field.alias: getattr(self, name) for name, field in _WeightKeys.model_fields.items()}
        for name, defaults in contested_weights(self.loss).items():
            if values[name] is None:
                each = " and ".join(
                    f"{'none' if value is None else value} of {loss}" for loss, value in defaults.items()
                )
                raise ValueError(f"{name} has the defaults {each}: give the one that all terms of the loss shall use")


if TYPE_CHECKING:
    PairsConfig = SourcedPairs | MixturePairs
else:
    _CONFIGS = (*(source.config for source in SOURCES.values()), MixturePairs)
    PairsConfig = Annotated[Union[_CONFIGS], Field(discriminator="source")]  # noqa: UP007 - of a tuple
"""Any pair set of a recipe, distinguished by ``source``; read one on its own with ``TypeAdapter(PairsConfig)``."""
