"""What a training run and a pair set are, as data. Free of torch, so that a recipe is read in milliseconds."""

from __future__ import annotations

import math
from enum import Enum
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from smaug_eval.names import unreadable_kind

DEFAULT_BETA = 0.3
DEFAULT_LAMBDA = 50.0
DEFAULT_MARGIN = 1.0
DEFAULT_LIKELIHOOD_WEIGHT = 1.0
DEFAULT_EPOCHS = 1.0
LOSS_WEIGHTS = ("beta", "lambda", "margin", "likelihood_weight")
FILE_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")

Seed = Annotated[int, Field(ge=0, lt=1 << 32)]
"""What every generator of random numbers takes that a training sets; numpy's takes no more."""


class Loss(str, Enum):
    """A preference loss. ``rho_w`` and ``rho_l`` are the log-ratios of the chosen and the rejected completion."""

    DPO = "dpo"
    DPOP = "dpop"
    DPOP_V1_MISPRINT = "dpop_v1_misprint"
    IPO = "ipo"
    IPO_AVERAGED = "ipo_averaged"
    HINGE = "hinge"
    SLIC = "slic"
    SFT = "sft"

    @property
    def weights(self) -> dict[str, float]:
        """Names and defaults of the loss's weights, which are keys of a training."""
        beta, lambda_ = {"beta": DEFAULT_BETA}, {"lambda": DEFAULT_LAMBDA}
        return {
            Loss.DPO: beta,
            Loss.DPOP: beta | lambda_,
            Loss.DPOP_V1_MISPRINT: beta | lambda_,
            Loss.IPO: beta,
            Loss.IPO_AVERAGED: beta,
            Loss.HINGE: beta,
            Loss.SLIC: {"margin": DEFAULT_MARGIN, "likelihood_weight": DEFAULT_LIKELIHOOD_WEIGHT},
            Loss.SFT: {},
        }[self]

    @property
    def uses_lambda(self) -> bool:
        """Whether the loss has a penalty weight ``lambda``."""
        return "lambda" in self.weights

    @property
    def needs_reference(self) -> bool:
        """Whether the loss reads the reference's log-probabilities (they are computed for the log all the same)."""
        return self not in (Loss.SLIC, Loss.SFT)

    @property
    def is_averaged(self) -> bool:
        """Whether the loss averages log-probabilities over the tokens of a completion; the others sum them."""
        return self in (Loss.IPO_AVERAGED, Loss.SFT)

    def start_value(self, beta: float | None) -> float | None:
        """The loss of a pair while the policy still equals its reference: both log-ratios are 0.

        None for losses without a reference, whose value depends on the pair.
        """
        if not self.needs_reference:
            return None
        if self in (Loss.IPO, Loss.IPO_AVERAGED):
            return 1 / (2 * (beta or DEFAULT_BETA)) ** 2
        return 1.0 if self is Loss.HINGE else math.log(2)

    @property
    def display_name(self) -> str:
        """The name as papers print it."""
        return {
            Loss.DPO: "DPO",
            Loss.DPOP: "DPO-Positive",
            Loss.DPOP_V1_MISPRINT: "DPO-Positive as misprinted in v1",
            Loss.IPO: "IPO, summed",
            Loss.IPO_AVERAGED: "IPO, averaged over tokens",
            Loss.HINGE: "hinge on log-ratios",
            Loss.SLIC: "SLiC",
            Loss.SFT: "SFT on chosen",
        }[self]

    @property
    def formula(self) -> str:
        """The loss of one pair, in plain text."""
        return {
            Loss.DPO: "-log sigmoid(beta * (rho_w - rho_l))",
            Loss.DPOP: "-log sigmoid(beta * (rho_w - rho_l - lambda * max(0, -rho_w)))",
            Loss.DPOP_V1_MISPRINT: "-log sigmoid(beta * (rho_w - rho_l)) + lambda * max(0, -rho_w)",
            Loss.IPO: "(rho_w - rho_l - 1 / (2 * beta))^2",
            Loss.IPO_AVERAGED: "(rho_w / |y_w| - rho_l / |y_l| - 1 / (2 * beta))^2",
            Loss.HINGE: "max(0, 1 - beta * (rho_w - rho_l))",
            Loss.SLIC: "max(0, margin - log pi(y_w) + log pi(y_l)) - likelihood_weight * log pi(y_w)",
            Loss.SFT: "-log pi(y_w) / |y_w|",
        }[self]


class _Strict(BaseModel):
    """Unknown keys are refused: a misspelt setting must not pass silently."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, allow_inf_nan=False)


class LoraConfig(_Strict):
    """Train a low-rank adapter instead of all weights."""

    r: PositiveInt = Field(16, description="Rank of the adapter matrices.")
    alpha: PositiveFloat = Field(32.0, description="Scale of the adapter; its output is multiplied by alpha / r.")
    dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="Dropout on the adapter's input while training; the base model has none."
    )
    target_modules: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="Modules to adapt: all-linear (all but the output head), or a list of module names."
    )
    quantize: Literal["nf4", "int8"] | None = Field(
        None,
        description="Keep the frozen base in 4 (nf4: QLoRA) or 8 bits (needs smaug-eval[qlora]); the reference is the "
        "quantised base. Empty: in the model's dtype.",
    )


class LaunchConfig(_Strict):
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


class TrainingConfig(_Strict):
    """One preference training: the loss, its weights, the optimiser, and how often to look."""

    loss: Loss = Field(description="One of " + ", ".join(loss.value for loss in Loss) + ".")
    beta: PositiveFloat | None = Field(
        None, description="Strength of the pull towards the reference model (default 0.3)."
    )
    lambda_: float | None = Field(
        None,
        alias="lambda",
        ge=0.0,
        description="Weight of DPO-Positive's penalty on a chosen completion that fell below the reference "
        "(default 50).",
    )
    margin: float | None = Field(
        None, ge=0.0, description="SLiC: lead in nats that the chosen completion shall have (default 1)."
    )
    likelihood_weight: float | None = Field(
        None, ge=0.0, description="SLiC: weight of the likelihood of the chosen completion (default 1)."
    )
    pairs: str | None = Field(
        None, description="Name of the pair set to train on; may be left out where the recipe has only one."
    )
    learning_rate: PositiveFloat = Field(5e-5, description="Peak learning rate of AdamW.")
    lr_scheduler: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="Course of the learning rate after warm-up."
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
        1024, ge=2, description="Tokens of prompt and completion together. The prompt loses its beginning first."
    )
    max_prompt_length: PositiveInt | None = Field(
        None, description="Tokens kept of the prompt's end (default: what max_length leaves beside the completion)."
    )
    long_prompts: Literal["truncate", "drop"] = Field(
        "truncate", description="What becomes of a prompt that is too long: cut its beginning, or drop the pair."
    )
    append_eos: bool = Field(True, description="End every completion that is not truncated with the end-of-text token.")
    lora: LoraConfig | None = Field(None, description="Train a LoRA adapter with these settings; all weights if empty.")
    launch: LaunchConfig | None = Field(
        None, description="Train in several processes: a configuration file of accelerate, or processes and config."
    )
    share_prefix: bool = Field(
        True,
        description="Compute what the completions of a pair share once, in packed rows, where the model can; "
        "false: padded rows.",
    )
    row_tokens: PositiveInt = Field(
        8192, description="Tokens of one packed row; a batch that needs more is computed in several, one by one."
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

    @field_validator("launch", mode="before")
    @classmethod
    def _launch_from_path(cls, value: object) -> object:
        return {"config": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _settle(self) -> TrainingConfig:
        for name in LOSS_WEIGHTS:
            attribute = f"{name}_" if name == "lambda" else name
            given = getattr(self, attribute)
            if name in self.loss.weights:
                setattr(self, attribute, self.loss.weights[name] if given is None else given)
            elif given is not None:
                users = ", ".join(loss.value for loss in Loss if name in loss.weights)
                raise ValueError(f"{name} has no meaning for loss {self.loss.value}: remove it, or choose {users}")
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
        return self

    def describe(self) -> str:
        """The exact loss and its normalisation, in one line."""
        values = {name: getattr(self, f"{name}_" if name == "lambda" else name) for name in self.loss.weights}
        weights = "".join(f", {name} {value:g}" for name, value in values.items())
        per_pair = "averaged" if self.loss.is_averaged else "summed"
        return (
            f"{self.loss.display_name}: {self.loss.formula}{weights}; log-probabilities {per_pair} over the tokens of "
            "a completion, losses averaged over the pairs of an optimiser step"
        )


class _PairSource(_Strict):
    """What every pair set has: how many pairs to keep for evaluation, and a seed."""

    holdout: NonNegativeInt = Field(
        64, description="Pairs kept for evaluation, drawn at random; they share no question with the training pairs."
    )
    seed: NonNegativeInt = Field(42, description="Seed of every random choice made for this pair set.")
    allow_leaks: list[str] = Field(
        default_factory=list,
        description="Benchmark tasks whose evaluated documents may stand in the training pairs: a warning instead of "
        "an error.",
    )


class _RowSource(_PairSource):
    """A pair set made from rows: where they are, and how many pairs to use."""

    path: str = Field(
        min_length=1, description="A .jsonl, .jsonl.gz or .parquet file, or the id of a data set on the Hub."
    )
    config: str | None = Field(
        None, description="Configuration of the Hub data set (default: the known set's own, else default)."
    )
    split: str | None = Field(
        None, description="Split of the Hub data set to train on (default: the known set's own, else train)."
    )
    revision: str | None = Field(
        None, min_length=1, description="Branch, tag or commit of the Hub data set (default: the newest)."
    )
    eval_path: str | None = Field(None, description="File to draw the held-out pairs from; the training rows if empty.")
    eval_split: str | None = Field(
        None,
        description="Split of the Hub data set to draw the held-out pairs from (default: the known set's own, else the "
        "training split).",
    )
    limit: PositiveInt | None = Field(None, description="Training pairs to keep, from the beginning; all if empty.")

    @property
    def is_file(self) -> bool:
        """Whether ``path`` names a local file (by its suffix) rather than a data set on the Hub."""
        return self.path.endswith(FILE_SUFFIXES)

    @model_validator(mode="after")
    def _keys_fit_the_path(self) -> _RowSource:
        useless = ("config", "split", "revision", "eval_split") if self.is_file else ("eval_path",)
        given = [key for key in useless if getattr(self, key) is not None]
        if given:
            kind = "a file" if self.is_file else "a Hub data set (no .jsonl, .jsonl.gz or .parquet suffix)"
            raise ValueError(f"{', '.join(given)} has no meaning where path is {kind}: remove it")
        if self.eval_path is not None and not self.eval_path.endswith(FILE_SUFFIXES):
            raise ValueError(f"eval_path must end in one of {', '.join(FILE_SUFFIXES)}")
        if end := unreadable_kind(self.path):
            raise ValueError(f"path: {end} files are archives or can run code; give one of {', '.join(FILE_SUFFIXES)}")
        return self


class _ExampleSource(_RowSource):
    """A pair set whose prompts begin with solved examples."""

    shots: tuple[NonNegativeInt, NonNegativeInt] = Field(
        (0, 4), description="Fewest and most solved examples before the question; the number is drawn for each row."
    )

    @model_validator(mode="after")
    def _shots_in_order(self) -> _ExampleSource:
        if self.shots[0] > self.shots[1]:
            raise ValueError(f"shots must be [fewest, most], not {list(self.shots)}")
        return self


class MetaMathPairs(_ExampleSource):
    """Pairs made from GSM8K or MetaMathQA rows: one intermediate result is falsified, or more places of the solution.

    Source: the MetaMath_DPO_FewShot construction of arXiv 2402.13228.
    """

    source: Literal["metamath"] = Field(
        description="metamath: falsify one intermediate result of a GSM8K-format solution."
    )
    annotations: Literal["strip", "keep"] = Field(
        "strip",
        description="GSM8K's <<48/2=24>> annotations: strip removes them, keep falsifies them together with the text.",
    )
    falsify: PositiveInt | Literal["all"] = Field(
        1,
        description="Places of the solution that are falsified, as far as it has them: one intermediate result, then "
        "the others, then its other numbers, then words, exchanged for those of other solutions; all but the final "
        "answer if all. Prompts, chosen answers and the held-out questions are the same whatever the number.",
    )

    @field_validator("falsify", mode="before")
    @classmethod
    def _some_places_or_all(cls, value: object) -> object:
        if value != "all" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{value!r} is no number of places: give 1, 2, ... or all")
        return value


class ArcPairs(_ExampleSource):
    """Pairs made from ARC rows: the correct choice against each wrong one.

    Source: the ARC_DPO_FewShot construction of arXiv 2402.13228.
    """

    source: Literal["arc"] = Field(description="arc: the correct choice of an ARC question against each wrong one.")
    path: str = Field(
        "allenai/ai2_arc", min_length=1, description="A .jsonl, .jsonl.gz or .parquet file, or a Hub data set, of ARC."
    )


class HellaSwagPairs(_ExampleSource):
    """Pairs made from HellaSwag rows: the correct ending against each wrong one.

    Source: the HellaSwag_DPO_FewShot construction of arXiv 2402.13228.
    """

    source: Literal["hellaswag"] = Field(
        description="hellaswag: the correct ending of a HellaSwag text against each wrong one."
    )
    path: str = Field(
        "Rowan/hellaswag",
        min_length=1,
        description="A .jsonl, .jsonl.gz or .parquet file, or a Hub data set, of HellaSwag.",
    )


class RowPairs(_RowSource):
    """Ready-made preference rows, as text or as chat messages."""

    source: Literal["rows"] = Field(description="rows: ready-made prompt, chosen, rejected rows, text or chat.")
    format: Literal["auto", "text", "chat", "ultrafeedback", "orca", "truthy", "openai"] = Field(
        "auto", description="Columns of the rows; auto tells each row's by its columns and the kinds of their values."
    )
    drop_equal: bool | None = Field(
        None,
        description="Drop and count rows whose chosen equals their rejected, instead of refusing the file "
        "(default: true for a Hub data set).",
    )
    drop_empty: bool | None = Field(
        None,
        description="Drop and count rows with an empty completion, instead of refusing the file "
        "(default: true for a Hub data set).",
    )

    @model_validator(mode="after")
    def _hub_rows_cannot_be_mended(self) -> RowPairs:
        self.drop_equal = not self.is_file if self.drop_equal is None else self.drop_equal
        self.drop_empty = not self.is_file if self.drop_empty is None else self.drop_empty
        return self


class MixturePairs(_PairSource):
    """Pairs drawn from other pair sets of the recipe."""

    source: Literal["mixture"] = Field(description="mixture: pairs drawn from other pair sets of the recipe.")
    sets: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        min_length=1, description="Names of the pair sets, each with its weight: its share of the pairs."
    )
    count: PositiveInt | None = Field(
        None, description="Training pairs to draw, without replacement; until the first set is exhausted if empty."
    )


SourcedPairs = MetaMathPairs | ArcPairs | HellaSwagPairs | RowPairs
"""The pair sets made from rows, which stand on their own."""

PairsConfig = Annotated[
    MetaMathPairs | ArcPairs | HellaSwagPairs | RowPairs | MixturePairs, Field(discriminator="source")
]
"""The union of the pair sources, told apart by ``source``; read one on its own with ``TypeAdapter(PairsConfig)``."""
