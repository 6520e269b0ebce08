"""Preference training on transformers' ``Trainer``: its optimiser, schedule and checkpoints, our loss and metrics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import DistributedType, gather_object
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from smaug_eval.engines.journal import Journal
from smaug_eval.prefix import Layout, row_budgets
from smaug_eval.scorer import Scorer
from trainers.config import TrainingConfig
from trainers.log_probs import computed_tokens, pair_layout, pair_log_probs
from trainers.losses import PairScores, preference_loss
from trainers.models import not_finite
from trainers.reference import TokenLogProbs, score_pairs
from trainers.tokenization import EncodedPair

SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED)


@dataclass
class ScoredPairs(Dataset):
    """Pairs together with what the reference thinks of them, which may be found only when training begins."""

    pairs: Sequence[EncodedPair]
    reference: TokenLogProbs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        chosen, rejected = self.reference.sums
        return {"pair": self.pairs[index], "chosen": chosen[index], "rejected": rejected[index]}


@dataclass(frozen=True)
class Part:
    """Pairs that go through the model together.

    Attributes:
        layout: The input.
        reference_chosen: ``log pi_ref(y_w | x)`` of each pair, shape ``(pairs,)``.
        reference_rejected: ``log pi_ref(y_l | x)`` of each pair, shape ``(pairs,)``.
    """

    layout: Layout
    reference_chosen: Tensor
    reference_rejected: Tensor


@dataclass(frozen=True)
class Collator:
    """Makes the parts of a batch: rows of at most ``row_tokens`` tokens.

    Attributes:
        scorer: How the model is asked.
        row_tokens: Most tokens of a part; None for one part whatever its size.
    """

    scorer: Scorer
    row_tokens: int | None

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> list[Part]:
        lengths = [computed_tokens(self.scorer, item["pair"]) for item in items]
        rows = row_budgets(lengths, self.row_tokens or sum(lengths))
        return [self._part([items[index] for index in row]) for row in rows]

    def _part(self, items: Sequence[Mapping[str, Any]]) -> Part:
        return Part(
            pair_layout(self.scorer, [item["pair"] for item in items]),
            torch.tensor([item["chosen"] for item in items], dtype=torch.float64),
            torch.tensor([item["rejected"] for item in items], dtype=torch.float64),
        )


def pair_metrics(config: TrainingConfig, losses: Tensor, scores: PairScores) -> dict[str, Tensor]:
    """What is logged of each pair, every tensor of shape ``(pairs,)``.

    Rewards are ``beta`` times log-ratios, or log-ratios themselves for losses without ``beta``.
    """
    rho_w, rho_l = scores.rho_w, scores.rho_l
    metrics = {
        "loss": losses,
        "logps/chosen": scores.chosen,
        "logps/rejected": scores.rejected,
        "log_ratios/chosen": rho_w,
        "log_ratios/rejected": rho_l,
        "rewards/margins": (config.beta or 1.0) * (rho_w - rho_l),
        "rewards/accuracies": (rho_w > rho_l).double(),
    }
    if config.lambda_ is not None:
        metrics |= {
            "penalty/active": (rho_w < 0).double(),
            "penalty/nats": config.lambda_ * torch.relu(-rho_w),
        }
    return metrics


class Records:
    """The metrics of the pairs of any number of batches, kept on the device until they are asked for."""

    def __init__(self) -> None:
        self._batches: list[dict[str, Tensor]] = []

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Count one batch; every value has shape ``(pairs,)``."""
        self._batches.append({name: values.detach() for name, values in metrics.items()})

    def drain(self) -> dict[str, list[float]]:
        """The values so far, of each metric one a pair; counting starts anew."""
        batches, self._batches = self._batches, []
        if not batches:
            return {}
        return {name: torch.cat([batch[name].double() for batch in batches]).tolist() for name in batches[0]}


def summarise(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Means over pairs; of log-ratios also the median, the 10th percentile and the share below the reference (< 0)."""
    row = {name: float(np.mean(numbers)) for name, numbers in values.items()}
    for name in ("log_ratios/chosen", "log_ratios/rejected"):
        numbers = np.asarray(values[name])
        row |= {
            f"{name}_median": float(np.median(numbers)),
            f"{name}_p10": float(np.percentile(numbers, 10)),
            f"{name}_below": float(np.mean(numbers < 0)),
        }
    return row


class PreferenceTrainer(Trainer):
    """A ``Trainer`` whose batches are pairs and whose loss is a preference loss.

    Args:
        model: The policy, equal to the reference when training starts, taught by :func:`smaug_eval.scorer.scoring`.
        args: Arguments of the base class.
        config: The training's settings.
        scorer: How the model is asked.
        train_pairs: Pairs to train on.
        eval_pairs: Held-out pairs, or None.
        autocast: Half-precision type to compute in, for weights kept in float32.
        callbacks: As in the base class.
        on_held_out: Receives what the policy thinks of the held-out pairs whenever they are scored, and returns
            further numbers for their row in the log.
    """

    # compute_loss divides by the pairs of the whole optimiser step, so the base class must not divide again.
    loss_is_scaled_for_ga = True
    control: TrainerControl

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        config: TrainingConfig,
        scorer: Scorer,
        train_pairs: ScoredPairs,
        eval_pairs: ScoredPairs | None,
        autocast: torch.dtype | None,
        callbacks: list[TrainerCallback],
        on_held_out: Callable[[TokenLogProbs], Mapping[str, float]] = lambda tokens: {},
    ) -> None:
        collator = Collator(scorer, config.row_tokens)
        super().__init__(model, args, data_collator=collator, train_dataset=train_pairs, callbacks=callbacks)
        self.remove_callback(PrinterCallback)
        self._config = config
        self._scorer = scorer
        self._eval_pairs = eval_pairs
        self._autocast = autocast
        self._on_held_out = on_held_out
        self._records = Records()
        if self._sharded:
            # Every process must take part in every forward pass, so all must do the same number of them.
            self.data_collator = Collator(scorer, None)

    @property
    def _sharded(self) -> bool:
        return self.accelerator.distributed_type in SHARDED

    def get_batch_samples(
        self, epoch_iterator: Iterator[list[Part]], num_batches: int, device: torch.device
    ) -> tuple[list[list[Part]], int]:
        """The batches of one optimiser step, and how many pairs all processes hold together."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        pairs = sum(len(part.reference_chosen) for batch in batches for part in batch)
        if self.accelerator.num_processes > 1:
            pairs = sum(gather_object([pairs]))
        return batches, pairs

    def _prepare_inputs(self, inputs: Part) -> Part:
        """Parts find the model's device by themselves."""
        return inputs

    def floating_point_ops(self, inputs: Sequence[Part]) -> int:
        """Not counted."""
        return 0

    def training_step(
        self, model: nn.Module, inputs: list[Part], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward pass of each part in turn; gradients are exchanged once, with the last."""
        losses = []
        for number, part in enumerate(inputs, 1):
            with nullcontext() if number == len(inputs) else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part, num_items_in_batch))
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Part,
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> Tensor:
        """This part's share of the mean loss over the ``num_items_in_batch`` pairs of the optimiser step.

        Raises:
            SmaugError: a loss is not a finite number.
        """
        found = pair_log_probs(self._scorer, model, inputs.layout, autocast=self._autocast)
        chosen, rejected = found.sums()
        device = chosen.device
        scores = PairScores(
            chosen,
            rejected,
            inputs.reference_chosen.to(device),
            inputs.reference_rejected.to(device),
            torch.tensor([len(tokens) for tokens in found.chosen], device=device),
            torch.tensor([len(tokens) for tokens in found.rejected], device=device),
        )
        losses = preference_loss(self._config, scores)
        if not torch.isfinite(losses).all():
            raise not_finite("loss", self.state.global_step + 1)
        self._records.add(pair_metrics(self._config, losses, scores))
        # Gradients are averaged over processes, of which each holds its own pairs.
        return losses.sum() * self.accelerator.num_processes / (num_items_in_batch or len(losses))

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the held-out pairs and log what they say; with several processes each scores its share.

        Raises:
            SmaugError: the loss is not a finite number.
        """
        if self._eval_pairs is None:
            return {}
        tokens = self.score(self._eval_pairs.pairs)
        scores = pair_scores(tokens, self._eval_pairs.reference)
        losses = preference_loss(self._config, scores)
        metrics = pair_metrics(self._config, losses, scores)
        row = summarise({name: values.tolist() for name, values in metrics.items()})
        if not math.isfinite(row["loss"]):
            raise not_finite("held-out loss", self.state.global_step)
        self.log({"split": "eval", **row, **self._on_held_out(tokens)})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, row)
        return row

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Replace the base class's loss by what the pairs since the last row say.

        Raises:
            SmaugError: the gradient is not finite.
        """
        if "loss" in logs and "split" not in logs:
            if not math.isfinite(logs["grad_norm"]):
                raise not_finite("gradient", self.state.global_step)
            values = self._records.drain()
            if self.accelerator.num_processes > 1:
                shares = gather_object([values])
                values = {name: [value for share in shares for value in share[name]] for name in values}
            norm = float(logs["grad_norm"])
            logs = {
                "split": "train",
                **summarise(values),
                "grad_norm": norm,
                "clip_ratio": min(1.0, self._config.max_grad_norm / norm) if norm else 1.0,
                "learning_rate": logs["learning_rate"],
            }
        super().log(logs, start_time)

    def score(
        self,
        pairs: Sequence[EncodedPair],
        before_batch: Callable[[int, int], None] = lambda done, total: None,
        journal: Journal | None = None,
    ) -> TokenLogProbs:
        """What the policy thinks of some pairs; every process must ask. Arguments as of :func:`score_pairs`."""
        model = self.model_wrapped if self._sharded else self.model
        row_tokens = self._config.row_tokens
        return score_pairs(
            self._scorer,
            model,
            pairs,
            row_tokens=row_tokens,
            autocast=self._autocast,
            before_batch=before_batch,
            journal=journal,
        )

    def full_weights(self) -> dict[str, Tensor]:
        """The policy's weights under its own names; sharded ones are gathered and go to the main process alone.

        Every process must ask.
        """
        return self.accelerator.get_state_dict(self.model_wrapped)


def pair_scores(policy: TokenLogProbs, reference: TokenLogProbs) -> PairScores:
    """What the losses of scored pairs are made of, on the CPU."""
    sums = (torch.from_numpy(side) for scored in (policy, reference) for side in scored.sums)
    counts = (torch.tensor([len(tokens) for tokens in side]) for side in (reference.chosen, reference.rejected))
    return PairScores(*sums, *counts)


class Schedule(TrainerCallback):
    """When to log, evaluate and save, and when to stop on request; hands every row on.

    Args:
        config: The training's settings.
        should_stop: Asked after every step; training ends there once it is true.
        on_row: Receives ``(step, steps, row)``.
    """

    def __init__(
        self,
        config: TrainingConfig,
        should_stop: Callable[[], bool],
        on_row: Callable[[int, int, dict[str, Any]], None],
    ) -> None:
        self._config = config
        self._should_stop = should_stop
        self._on_row = on_row
        self.stopped = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Set what the trainer does after this step."""
        step, config = state.global_step, self._config
        last = step >= state.max_steps
        self.stopped = not last and self._should_stop()
        # The last step needs no checkpoint to resume from: the finished one follows.
        control.should_save = self.stopped or (not last and _due(step, config.save_every))
        control.should_evaluate = last or _due(step, config.eval_every)
        # A row never reaches across a checkpoint, so that nothing is lost or logged twice when resuming from it. The
        # first step has a row of its own: it is taken with the reference's weights.
        control.should_log = step == 1 or last or control.should_save or _due(step, config.log_every)
        control.should_training_stop = last or self.stopped
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Hand on a row of training or evaluation means."""
        if logs and "split" in logs:
            row = {"split": logs["split"], "step": state.global_step, **logs}
            self._on_row(state.global_step, state.max_steps, row)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
