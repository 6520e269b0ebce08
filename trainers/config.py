"""What a training run and a pair set are, as data. Free of torch, so that a recipe is read in milliseconds."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

DEFAULT_LAMBDA = 50.0
DEFAULT_EPOCHS = 1.0
FILE_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


class Loss(str, Enum):
    """A preference loss. ``rho_w`` and ``rho_l`` are the log-ratios of the chosen and the rejected completion."""

    DPO = "dpo"
    DPOP = "dpop"

    @property
    def uses_lambda(self) -> bool:
        """Whether the loss has a penalty weight ``lambda``."""
        return self is Loss.DPOP

    @property
    def start_value(self) -> float:
        """The loss of a pair while the policy still equals its reference (both log-ratios are 0): ln 2."""
        return 0.6931471805599453

    @property
    def display_name(self) -> str:
        """The name as papers print it."""
        return {Loss.DPO: "DPO", Loss.DPOP: "DPO-Positive"}[self]

    @property
    def formula(self) -> str:
        """The loss of one pair, in plain text."""
        return {
            Loss.DPO: "-log sigmoid(beta * (rho_w - rho_l))",
            Loss.DPOP: "-log sigmoid(beta * (rho_w - rho_l - lambda * max(0, -rho_w)))",
        }[self]


class _Strict(BaseModel):
    """Unknown keys are refused: a misspelt setting must not pass silently."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


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


class TrainingConfig(_Strict):
    """One preference training: the loss, its weights, the optimiser, and how often to look."""

    loss: Loss = Field(description="dpo, or dpop (DPO-Positive).")
    beta: PositiveFloat = Field(0.3, description="Strength of the pull towards the reference model.")
    lambda_: float | None = Field(
        None,
        alias="lambda",
        ge=0.0,
        description="Weight of DPO-Positive's penalty on a chosen completion that fell below the reference "
        "(default 50). Refused for losses without one.",
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
    append_eos: bool = Field(True, description="End every completion that is not truncated with the end-of-text token.")
    lora: LoraConfig | None = Field(None, description="Train a LoRA adapter with these settings; all weights if empty.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations to save memory, at a third more time."
    )
    eval_every: PositiveInt | None = Field(
        50, description="Steps between evaluations on held-out pairs, beside those at the start and the end."
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
    seed: NonNegativeInt | None = Field(
        None, description="Seed of the order of the pairs (default: the recipe's seed)."
    )

    @model_validator(mode="after")
    def _settle(self) -> TrainingConfig:
        if self.loss.uses_lambda:
            self.lambda_ = DEFAULT_LAMBDA if self.lambda_ is None else self.lambda_
        elif self.lambda_ is not None:
            raise ValueError(f"lambda has no meaning for {self.loss.value}: remove it, or choose loss: dpop")
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


class _PairSource(_Strict):
    """What every pair set has: where its rows are, how many to use, and how many to keep for evaluation."""

    path: str = Field(
        min_length=1, description="A .jsonl, .jsonl.gz or .parquet file, or the id of a data set on the Hub."
    )
    config: str | None = Field(None, description="Configuration of the Hub data set (default: default).")
    split: str | None = Field(None, description="Split of the Hub data set to train on (default: train).")
    eval_path: str | None = Field(None, description="File to draw the held-out pairs from; the training rows if empty.")
    eval_split: str | None = Field(
        None, description="Split of the Hub data set to draw the held-out pairs from; the training split if empty."
    )
    limit: PositiveInt | None = Field(None, description="Training pairs to keep, from the beginning; all if empty.")
    holdout: NonNegativeInt = Field(
        64, description="Pairs kept for evaluation, drawn at random; they share no question with the training pairs."
    )
    seed: NonNegativeInt = Field(42, description="Seed of every random choice made for this pair set.")

    @property
    def is_file(self) -> bool:
        """Whether ``path`` names a local file (by its suffix) rather than a data set on the Hub."""
        return self.path.endswith(FILE_SUFFIXES)

    @model_validator(mode="after")
    def _keys_fit_the_path(self) -> _PairSource:
        useless = ("config", "split", "eval_split") if self.is_file else ("eval_path",)
        given = [key for key in useless if getattr(self, key) is not None]
        if given:
            kind = "a file" if self.is_file else "a Hub data set (no .jsonl, .jsonl.gz or .parquet suffix)"
            raise ValueError(f"{', '.join(given)} has no meaning where path is {kind}: remove it")
        if self.eval_path is not None and not self.eval_path.endswith(FILE_SUFFIXES):
            raise ValueError(f"eval_path must end in one of {', '.join(FILE_SUFFIXES)}")
        return self


class MetaMathPairs(_PairSource):
    """Pairs made from GSM8K-format rows (``question``, ``answer``): one intermediate result is falsified.

    Source: the MetaMath_DPO_FewShot construction of arXiv 2402.13228.
    """

    source: Literal["metamath"] = Field(
        description="metamath: falsify one intermediate result of a GSM8K-format solution."
    )
    shots: tuple[NonNegativeInt, NonNegativeInt] = Field(
        (0, 4), description="Fewest and most solved examples before the question; the number is drawn for each pair."
    )
    annotations: Literal["strip", "keep"] = Field(
        "strip",
        description="GSM8K's <<48/2=24>> annotations: strip removes them, keep falsifies them together with the text.",
    )

    @model_validator(mode="after")
    def _shots_in_order(self) -> MetaMathPairs:
        if self.shots[0] > self.shots[1]:
            raise ValueError(f"shots must be [fewest, most], not {list(self.shots)}")
        return self


class RowPairs(_PairSource):
    """Ready-made ``prompt``, ``chosen``, ``rejected`` rows."""

    source: Literal["rows"] = Field(description="rows: ready-made prompt, chosen, rejected rows.")
    drop_equal: bool = Field(
        False, description="Drop and count rows whose chosen equals their rejected, instead of refusing the file."
    )


PairsConfig = Annotated[MetaMathPairs | RowPairs, Field(discriminator="source")]
"""The union of the pair sources, told apart by ``source``; read one on its own with ``TypeAdapter(PairsConfig)``."""
