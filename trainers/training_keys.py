"""Define further keys of a training, in groups: where it starts, how it is followed, how it is optimised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from smaug_eval.common.settings import ADDED, Strict
from smaug_eval.common.suggest import nearest
from smaug_eval.trainers.chat_templates import TEMPLATES

if TYPE_CHECKING:
    from typing_extensions import Self

SYNC_WEIGHT = 0.6
METRICS = {
    "loss": -1.0,
    "rewards/margins": 1.0,
    "rewards/accuracies": 1.0,
    "log_ratios/chosen": 1.0,
    "logps/chosen": 1.0,
}
"""Columns of the log over held-out pairs by which the best weights are told: 1 where more is better, -1 where less."""


class StartKeys(Strict):
    """Say where a training starts and what it is compared with."""

    start: str | None = Field(
        None,
        min_length=1,
        description="What the training continues from: another training of the recipe (its checkpoint; NAME/adapter "
        "for its adapter beside that one's start), a folder, ORGANISATION/MODEL or ORGANISATION/MODEL@REVISION of the "
        "Hub, or the folder of a PEFT adapter of the base, which is trained further (default: the base).",
        json_schema_extra=ADDED,
    )
    reference: str | None = Field(
        None,
        min_length=1,
        description="The reference model: start (what the training starts from), base, or any model as for start, of "
        "the same tokenizer (default: start).",
        json_schema_extra=ADDED,
    )
    reference_sync_every: PositiveInt | None = Field(
        None,
        description="Steps after which the reference moves towards the policy, again and again (TR-DPO, arXiv "
        "2404.09656); never if empty. Held-out pairs are compared with the reference of the start.",
        json_schema_extra=ADDED,
    )
    reference_sync_weight: float = Field(
        SYNC_WEIGHT,
        gt=0.0,
        le=1.0,
        description="TR-DPO: share of the policy's weights in the moved reference; 1 replaces it (default as in TRL).",
        json_schema_extra=ADDED,
    )


class RowKeys(Strict):
    """Say how rows of messages become text, beside ``chat_template_kwargs``."""

    chat_template: str | None = Field(
        None,
        min_length=1,
        description=f"Chat template instead of the tokenizer's own: one of {', '.join(TEMPLATES)}, or a file with a "
        "Jinja template; the checkpoint gets it.",
        json_schema_extra=ADDED,
    )
    system_prompt: str | None = Field(
        None,
        min_length=1,
        description="System message for rows of messages that have none.",
        json_schema_extra=ADDED,
    )


class CheckpointEvaluations(Strict):
    """Say which benchmarks are run on checkpoints in between."""

    every: PositiveInt = Field(description="Steps between the checkpoints that are kept and scored.")
    evaluations: list[str] = Field(
        min_length=1, description="Names of the recipe's evaluations that score them, beside start and end."
    )


class FollowKeys(Strict):
    """Say which weights a training keeps, when it ends early, and what it shows while it runs."""

    keep: Literal["last", "best", "all"] = Field(
        "last",
        description="Weights in checkpoint/: the last, or the best of those evaluated on held-out pairs (by "
        "keep_metric); all: the last, and those of each evaluation in checkpoints/step-N.",
        json_schema_extra=ADDED,
    )
    keep_metric: str = Field(
        "loss",
        min_length=1,
        description=f"What best and patience use: a column of the log over held-out pairs ({', '.join(METRICS)}; of "
        "loss less is better, of the others more). Or, for best, an evaluation of evaluate with development: true: its "
        "NAME (the mean over its tasks) or NAME/TASK.",
        json_schema_extra=ADDED,
    )
    evaluate: CheckpointEvaluations | None = Field(
        None,
        description="Keep checkpoints (checkpoints/step-N) and score them after the training; the report draws the "
        "curve.",
        json_schema_extra=ADDED,
    )
    patience: PositiveInt | None = Field(
        None,
        description="End the training after this number of evaluations without a better one; never early if empty.",
        json_schema_extra=ADDED,
    )
    keep_checkpoints: PositiveInt | None = Field(
        None, description="Newest checkpoints that keep: all leaves; every one if empty.", json_schema_extra=ADDED
    )
    sample_prompts: NonNegativeInt = Field(
        0,
        description="Held-out prompts that the policy answers at each evaluation, greedily, into samples.jsonl.",
        json_schema_extra=ADDED,
    )
    sample_tokens: PositiveInt = Field(
        64, description="Maximum number of tokens of such an answer.", json_schema_extra=ADDED
    )

    @property
    def keeps_best_on_pairs(self) -> bool:
        """Return whether the best weights are those of the best evaluation on held-out pairs."""
        return self.keep == "best" and self.keep_metric in METRICS

    @property
    def chosen_by(self) -> tuple[str, str | None] | None:
        """Return the evaluation, and its task (None for all), by which the best checkpoint is chosen; None for none."""
        if self.keep != "best" or self.keep_metric in METRICS:
            return None
        name, _, task = self.keep_metric.partition("/")
        return name, task or None

    def as_trained(self) -> Self:
        """Return the settings with what is decided after the training at its default: its steps are the same."""
        chosen = {"keep": "last", "keep_metric": "loss"} if self.chosen_by is not None else {}
        return self.model_copy(update={"evaluate": None, **chosen})

    def keeps_step(self, step: int) -> bool:
        """Return whether the checkpoint after a step that is not the last is kept."""
        every: int | None = getattr(self, "eval_every", None)
        return (self.keep == "all" and every is not None and step % every == 0) or self.scores_step(step)

    def scores_step(self, step: int) -> bool:
        """Return whether the checkpoint after a step that is not the last is kept to be scored."""
        return self.evaluate is not None and step % self.evaluate.every == 0

    def check_keep_metric(self) -> None:
        """Check that there is such a metric, and that it can decide what is asked.

        Raises:
            ValueError: it is none.
        """
        if self.keep_metric in METRICS:
            return
        known = [] if self.evaluate is None else self.evaluate.evaluations
        name = self.keep_metric.partition("/")[0]
        if name not in known:
            raise ValueError(
                f"keep_metric = {self.keep_metric!r}: neither a column of the log nor an evaluation of evaluate"
                f"{nearest(self.keep_metric, [*METRICS, *known])}"
            )
        if self.keep != "best":
            raise ValueError(f"keep_metric = {self.keep_metric!r} chooses among checkpoints: set keep: best")
        if self.patience is not None:
            raise ValueError(f"patience uses held-out pairs: give one of their metrics, not {self.keep_metric!r}")


class OptimiserKeys(Strict):
    """Say how weights are updated, beside the learning rate."""

    optimizer: Literal["adamw", "adafactor", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"] = Field(
        "adamw",
        description="AdamW; Adafactor with the given learning rate (no relative steps, no scaling by parameters); or "
        "AdamW of bitsandbytes with states in 8 bit, in pages that move to the CPU's memory, or both (needs "
        "smaug-eval[qlora]).",
        json_schema_extra=ADDED,
    )
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999), description="Decay rates of AdamW's means of gradients and of squares.", json_schema_extra=ADDED
    )
    min_learning_rate_ratio: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the learning rate that cosine and wsd end with.",
        json_schema_extra=ADDED,
    )
    decay_ratio: float = Field(
        0.1,
        gt=0,
        le=1,
        description="wsd: share of the steps, at the end, over which the learning rate falls.",
        json_schema_extra=ADDED,
    )
    router_aux_loss_coef: float | None = Field(
        None,
        ge=0,
        description="Mixtures of experts: weight of the router's load-balancing loss over the tokens of a forward "
        "pass; none if empty.",
        json_schema_extra=ADDED,
    )
