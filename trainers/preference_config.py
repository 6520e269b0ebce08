"""Describe a training as TRL's ``DPOConfig`` does: transformers' ``TrainingArguments`` with a loss and its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.suggest import nearest
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.losses import LOSSES, WEIGHTS, loss_name

TRL_LOSSES = {"ipo": "ipo_averaged", "ipo_summed": "ipo"}
"""Names that mean another loss here than in a recipe, since TRL's ``ipo`` averages over tokens."""

TRL_BETA = 0.1
_OWN_BETA = ("dpop", "dpop_v1_misprint", "simpo", "dpo_norm")
"""Losses whose default beta is their paper's; the others have TRL's."""

_WEIGHTS = {
    "dpop_lambda": "lambda",
    "label_smoothing": "label_smoothing",
    "ld_alpha": "tail_weight",
    "rpo_alpha": "alpha",
    "cpo_alpha": "alpha",
    "simpo_gamma": "gamma",
    "desirable_weight": "desirable_weight",
    "undesirable_weight": "undesirable_weight",
}
"""Arguments, as TRL's versions have named them, to weights of losses."""

_BETA = ("beta", "beta")

SHARDED_ELSEWHERE = "launch it with plain data parallelism, or train with smaug-eval train and launch"
"""What to do instead of sharding a model's weights here."""

_REFUSED = {
    "padding_free": "leave it out: rows are packed, and what a pair shares is computed once (share_prefix)",
    "f_divergence_type": "leave it out: only the reverse KL divergence is here",
    "use_weighting": "leave it out: pairs are not weighted by WPO's rule",
    "sync_ref_model": "leave it out, or train by a recipe with reference_sync_every: the reference stays as it is here",
    **dict.fromkeys(
        ("ref_model_sync_steps", "ref_model_mixup_alpha"), "leave it out: the reference stays as it is here"
    ),
    **dict.fromkeys(
        ("ref_model_init_kwargs", "model_adapter_name", "ref_adapter_name", "force_use_ref_model"),
        "leave it out, and give ref_model where the reference is not the model as it begins",
    ),
    **dict.fromkeys(
        ("use_liger_kernel", "use_liger_loss", "use_logits_to_keep"),
        "leave it out: only the log-probabilities that the loss reads are computed",
    ),
    **dict.fromkeys(
        ("pad_token", "pad_to_multiple_of", "padding_value", "label_pad_token_id"),
        "leave it out: rows are packed, and no token of padding is scored",
    ),
    "precompute_ref_batch_size": "leave it out: the reference is scored in rows of row_tokens",
    "f_alpha_divergence_coef": "leave it out: only the reverse KL divergence is here",
    "discopop_tau": "leave it out: discopop is not here",
    **dict.fromkeys(("fsdp", "deepspeed"), SHARDED_ELSEWHERE),
    "activation_offloading": "use gradient_checkpointing=True",
    "generate_during_eval": "generate after the training, with the model",
    "reference_free": "choose a loss without a reference: simpo, cpo, orpo or slic",
    "tools": "put them into the rows, in a column tools",
}
"""Arguments of TRL's that are known and not taken, with what to do instead."""

_SCORED_HERE = "leave it out: held-out rows are scored here, in rows of row_tokens"
_WITHOUT_EFFECT: dict[str, tuple[tuple[Any, ...], str]] = {
    "precompute_ref_log_probs": ((True,), "leave it out: the reference is scored once, before the first step"),
    "dataset_num_proc": ((None, 1), "leave it out: rows are encoded in this process, on all cores"),
    "label_smoothing_factor": ((0.0,), "give label_smoothing, the loss's own"),
    "neftune_noise_alpha": ((None,), "leave it out: the policy begins at its reference, without noise"),
    "include_num_input_tokens_seen": (("no", False), "leave it out: tokens are not counted"),
    "train_sampling_strategy": (("random", "sequential"), "leave it out: rows are filled with pairs of any length"),
    **dict.fromkeys(("prediction_loss_only", "batch_eval_metrics", "bf16_full_eval"), ((False,), _SCORED_HERE)),
    **dict.fromkeys(("fp16_full_eval", "eval_use_gather_object"), ((False,), _SCORED_HERE)),
    "eval_do_concat_batches": ((True,), _SCORED_HERE),
    **dict.fromkeys(("eval_accumulation_steps", "label_names"), ((None,), _SCORED_HERE)),
    "include_for_metrics": (([],), _SCORED_HERE),
}
"""Arguments that would change nothing: the values that pass, and what to do instead of others."""


@dataclass
class PreferenceConfig(TrainingArguments):
    """Hold the arguments of a :class:`~smaug_eval.trainers.preference_trainer.PreferenceTrainer`.

    Those of ``TrainingArguments`` keep their meaning. Those of TRL's ``DPOConfig`` are mapped, or refused by name with
    what to do instead.

    Attributes:
        loss_type: A loss of docs/losses.md or TRL's name of one, or several. ``ipo`` is TRL's, averaged over tokens;
            ``ipo_summed`` is the other.
        loss_weights: Factors of several losses; 1 each where None.
        beta: Strength of the pull towards the reference; where None, 0.1 as in TRL, or the paper's for ``dpop``
            (0.3), ``simpo`` and ``dpo_norm``.
        dpop_lambda: DPO-Positive's lambda; where None, 50.
        label_smoothing: Of ``dpo`` (conservative DPO) and ``robust``.
        ld_alpha: TRL's name of the weight of tokens beyond the shorter completion; turns ``dpo`` into ``ld_dpo``.
        rpo_alpha: An older TRL's weight of the likelihood term; turns ``dpo`` into ``dpo_nll``.
        simpo_gamma: SimPO's gamma.
        cpo_alpha: CPO's weight of the likelihood term.
        desirable_weight: KTO's weight of desirable completions; where None, 1.
        undesirable_weight: KTO's weight of undesirable ones; where None, 1.
        loss_kwargs: Further weights by the names of recipes, such as ``{"shift": 0.9}``.
        columns: Columns of the rows under other names, such as ``{"prompt": "instruction"}``, as in a recipe.
        weight_column: Column with the factor of each pair's loss, a number from 0 on; rows without it weigh 1. None to
            let all weigh the same.
        system_prompt: System message for rows of messages that have none.
        chat_template: Chat template instead of the tokenizer's own: a name or a file, as in a recipe.
        chat_template_kwargs: What the chat template gets beside the messages; a row's own take precedence.
        append_eos: Whether completions that are not cut end with the end-of-text token.
        long_prompts: ``truncate`` or ``drop``: what becomes of a prompt that is too long.
        max_length: Maximum number of tokens of prompt and completion.
        max_prompt_length: Maximum number of tokens of the prompt; None for what is left.
        max_completion_length: Maximum number of tokens of a completion; None for what is left.
        router_aux_loss_coef: Factor of the load-balancing loss of a mixture of experts; None or 0 for none.
        truncation_mode: ``keep_start``, as TRL, or ``balanced``; see :mod:`smaug_eval.trainers.truncation`.
        disable_dropout: Whether the model is trained without dropout, which prefix sharing needs; only True.
        precompute_ref_log_probs: Only True: the reference is always scored once, before the first step.
        dataset_num_proc: Only None or 1: rows are encoded in this process.
        share_prefix: Whether what the completions of a pair share is computed once.
        row_tokens: Tokens of a packed row.
        batching: ``pairs``, or ``question``: the pairs of a question (those with the same prompt) in one batch, which
            computes its prompt and chosen answer once.
        model_init_kwargs: ``revision`` and ``dtype`` of a model given by its name.
        trust_remote_code: Whether Python code that came with a model given by its name may run.
    """

    learning_rate: float = field(default=1e-6, metadata={"help": "Peak learning rate of AdamW."})
    logging_steps: float = field(default=10, metadata={"help": "Steps that a row of the log averages."})
    loss_type: str | list[str] = field(default="sigmoid", metadata={"help": "The loss, or several."})
    loss_weights: list[float] | None = field(default=None, metadata={"help": "Factors of several losses."})
    beta: float | None = field(default=None, metadata={"help": "Strength of the pull towards the reference."})
    dpop_lambda: float | None = field(default=None, metadata={"help": "DPO-Positive's lambda."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Share of labels taken to be wrong."})
    ld_alpha: float | None = field(default=None, metadata={"help": "Weight of tokens beyond the shorter completion."})
    rpo_alpha: float | None = field(default=None, metadata={"help": "Weight of the likelihood term of dpo_nll."})
    simpo_gamma: float | None = field(default=None, metadata={"help": "SimPO's gamma."})
    cpo_alpha: float | None = field(default=None, metadata={"help": "CPO's weight of the likelihood term."})
    desirable_weight: float | None = field(default=None, metadata={"help": "KTO's weight of desirable completions."})
    undesirable_weight: float | None = field(default=None, metadata={"help": "KTO's weight of undesirable ones."})
    columns: dict[str, Any] | str | None = field(default=None, metadata={"help": "Columns under other names."})
    weight_column: str | None = field(default="weight", metadata={"help": "Column with the factor of a pair's loss."})
    system_prompt: str | None = field(default=None, metadata={"help": "System message for rows without one."})
    chat_template: str | None = field(default=None, metadata={"help": "Chat template: a name or a file."})
    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "What the chat template gets beside the messages."}
    )
    append_eos: bool = field(default=True, metadata={"help": "End completions with the end-of-text token."})
    long_prompts: str = field(default="truncate", metadata={"help": "truncate or drop prompts that are too long."})
    loss_kwargs: dict[str, Any] | str | None = field(default=None, metadata={"help": "Further weights of the loss."})
    max_length: int = field(default=1024, metadata={"help": "Maximum number of tokens of prompt and completion."})
    max_prompt_length: int | None = field(default=None, metadata={"help": "Maximum number of tokens of the prompt."})
    max_completion_length: int | None = field(
        default=None, metadata={"help": "Maximum number of tokens of a completion."}
    )
    router_aux_loss_coef: float | None = field(default=None, metadata={"help": "Factor of the routers' loss."})
    truncation_mode: str = field(default="keep_start", metadata={"help": "keep_start or balanced."})
    disable_dropout: bool = field(default=True, metadata={"help": "Train without dropout."})
    precompute_ref_log_probs: bool = field(default=True, metadata={"help": "The reference is scored beforehand."})
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Rows are encoded in this process."})
    share_prefix: bool = field(default=True, metadata={"help": "Compute what a pair shares once."})
    row_tokens: int = field(default=8192, metadata={"help": "Tokens of a packed row."})
    batching: str = field(default="pairs", metadata={"help": "pairs, or question: its pairs in one batch."})
    model_init_kwargs: dict[str, Any] | str | None = field(default=None, metadata={"help": "revision and dtype."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run Python code that came with the model."})
    padding_free: Any = field(default=None, metadata={"help": "Refused."})
    f_divergence_type: Any = field(default=None, metadata={"help": "Refused, but for reverse_kl."})
    use_weighting: Any = field(default=None, metadata={"help": "Refused."})
    sync_ref_model: Any = field(default=None, metadata={"help": "Refused."})
    activation_offloading: Any = field(default=None, metadata={"help": "Refused."})
    generate_during_eval: Any = field(default=None, metadata={"help": "Refused."})
    reference_free: Any = field(default=None, metadata={"help": "Refused."})
    tools: Any = field(default=None, metadata={"help": "Refused."})
    ref_model_sync_steps: Any = field(default=None, metadata={"help": "Refused."})
    ref_model_mixup_alpha: Any = field(default=None, metadata={"help": "Refused."})
    ref_model_init_kwargs: Any = field(default=None, metadata={"help": "Refused."})
    model_adapter_name: Any = field(default=None, metadata={"help": "Refused."})
    ref_adapter_name: Any = field(default=None, metadata={"help": "Refused."})
    force_use_ref_model: Any = field(default=None, metadata={"help": "Refused."})
    use_liger_loss: Any = field(default=None, metadata={"help": "Refused."})
    use_logits_to_keep: Any = field(default=None, metadata={"help": "Refused."})
    pad_token: Any = field(default=None, metadata={"help": "Refused."})
    pad_to_multiple_of: Any = field(default=None, metadata={"help": "Refused."})
    padding_value: Any = field(default=None, metadata={"help": "Refused."})
    label_pad_token_id: Any = field(default=None, metadata={"help": "Refused."})
    precompute_ref_batch_size: Any = field(default=None, metadata={"help": "Refused."})
    f_alpha_divergence_coef: Any = field(default=None, metadata={"help": "Refused."})
    discopop_tau: Any = field(default=None, metadata={"help": "Refused."})

    def __post_init__(self) -> None:
        for name, instead in _REFUSED.items():
            if getattr(self, name) not in (None, False, "reverse_kl", "", []):
                raise SmaugError(f"PreferenceConfig({name}={getattr(self, name)!r}) is not taken", fix=instead)
        for name, (passes, instead) in _WITHOUT_EFFECT.items():
            if getattr(self, name) not in passes:
                raise SmaugError(f"PreferenceConfig({name}={getattr(self, name)!r}) is not taken", fix=instead)
        if self.max_length is None:
            raise SmaugError(
                "PreferenceConfig(max_length=None) is not taken", fix="give a number; the model's context limits it"
            )
        if not self.disable_dropout:
            raise SmaugError(
                "PreferenceConfig(disable_dropout=False) is not taken", fix="leave it out: dropout would make noise"
            )
        if self.fp16:
            raise SmaugError("PreferenceConfig(fp16=True) is not taken: it needs a scaler", fix="use bf16=True")
        # Log-probabilities are computed in half precision by the scorer, not by a wrapper around the model.
        self.computes_in_bf16 = bool(getattr(self, "bf16", False))
        self.bf16 = False
        super().__post_init__()
        self.remove_unused_columns = False
        # Says what is wrong with the loss before a model is loaded.
        if self.settings().entry.unpaired:
            self.train_sampling_strategy = "sequential"  # as TRL: mismatched completions are those of a batch
            if self.auto_find_batch_size:
                raise SmaugError(
                    "PreferenceConfig(auto_find_batch_size=True) is not taken with kto",
                    fix="give per_device_train_batch_size: the divergence is that of a batch of this size",
                )
        if self.batching == "question" and self.train_sampling_strategy != "random":
            raise SmaugError(
                f"train_sampling_strategy={self.train_sampling_strategy!r} orders pairs otherwise than "
                "batching='question'",
                fix="leave one of them out",
            )

    @property
    def columns_by_name(self) -> dict[str, str]:
        """Return the columns under other names; of the command line they come as JSON.

        Raises:
            SmaugError: they are no names by names.
        """
        found = self.object_of("columns")
        if not all(isinstance(name, str) for name in (*found, *found.values())):
            raise SmaugError(
                f"PreferenceConfig(columns={self.columns!r}) is no object of names", fix='{"prompt": "NAME"}'
            )
        return found

    def object_of(self, name: str) -> dict[str, Any]:
        """Return an argument that is an object by names, empty where it is None; of the command line it comes as JSON.

        Args:
            name: The argument.

        Raises:
            SmaugError: it is something else.
        """
        found = value = getattr(self, name)
        if isinstance(value, str):
            try:
                found = json.loads(value)
            except ValueError:
                found = value
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise SmaugError(f"PreferenceConfig({name}={value!r}) is no object", fix='give {"NAME": VALUE}')
        return found

    def settings(self) -> TrainingConfig:
        """Return the loss, its weights and the limits as a recipe's training has them.

        Raises:
            SmaugError: the loss is unknown, a weight has no meaning for it, or is out of bounds.
        """
        names = [self.loss_type] if isinstance(self.loss_type, str) else list(self.loss_type)
        given = [1.0] * len(names) if self.loss_weights is None else self.loss_weights
        factors = list(given) if isinstance(given, Sequence) else [given]
        if len(factors) != len(names):
            raise SmaugError(
                f"loss_weights has {len(factors)} factors and loss_type {len(names)} losses", fix="give one for each"
            )
        try:
            own = self._own_names(names)
            loss = loss_name(_summed(own, factors))
            weights = self._weights(own)
            return TrainingConfig.model_validate(
                {
                    "loss": loss,
                    **weights,
                    "share_prefix": self.share_prefix,
                    "row_tokens": self.row_tokens,
                    "batching": self.batching,
                    "router_aux_loss_coef": self.router_aux_loss_coef or None,
                    "max_length": self.max_length,
                    "max_prompt_length": self.max_prompt_length,
                    "max_completion_length": self.max_completion_length,
                    "truncation_mode": self.truncation_mode,
                    "batch_size": self.per_device_train_batch_size,
                    "append_eos": self.append_eos,
                    "long_prompts": self.long_prompts,
                    "system_prompt": self.system_prompt,
                    "chat_template": self.chat_template,
                    "chat_template_kwargs": self.object_of("chat_template_kwargs") or None,
                    "max_grad_norm": self.max_grad_norm or 1e30,
                }
            )
        except ValueError as error:  # pydantic's are, too
            raise SmaugError(
                f"PreferenceConfig: {_first(error)}", fix="see docs/losses.md for losses and weights"
            ) from error

    def _own_names(self, names: Sequence[str]) -> list[str]:
        """Our names of losses; an argument that makes another loss of DPO counts."""
        own = [loss_name(TRL_LOSSES.get(name, name)) for name in names] if names else []
        if self.ld_alpha is not None:
            own = ["ld_dpo" if name == "dpo" else name for name in own]
        if self.rpo_alpha is not None:
            own = ["dpo_nll" if name == "dpo" else name for name in own]
        return own

    def _weights(self, losses: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        given_by: dict[str, str] = {}
        further = self.object_of("loss_kwargs")
        for name in further:
            if name not in WEIGHTS:
                raise ValueError(f"loss_kwargs: {name} is no weight of a loss{nearest(name, WEIGHTS)}")
        named = [(argument, weight, getattr(self, argument)) for argument, weight in (*_WEIGHTS.items(), _BETA)]
        named = [each for each in named if each[0] != "label_smoothing" or each[2]]
        for argument, weight, value in (*named, *(("loss_kwargs", *each) for each in further.items())):
            if value is None:
                continue
            if weight in found:
                raise ValueError(f"{given_by[weight]} and {argument} both give {weight}: leave one out")
            found[weight], given_by[weight] = value, argument
        has_beta = any("beta" in LOSSES[name].weights for name in losses if name in LOSSES)
        if "beta" not in found and has_beta and not any(name in _OWN_BETA for name in losses):
            found["beta"] = TRL_BETA
        return found


def _summed(names: Sequence[str], factors: Sequence[float]) -> dict[str, float]:
    total: dict[str, float] = {}
    for name, factor in zip(names, factors, strict=True):
        total[name] = total.get(name, 0.0) + factor
    return total


def _first(error: ValueError) -> str:
    """The first complaint, in one line."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    found = errors(include_url=False)[0]
    message = found["msg"].removeprefix("Value error, ")
    return ": ".join(filter(None, [".".join(map(str, found["loc"])), message]))
