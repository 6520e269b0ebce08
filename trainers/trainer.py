"""Preference training on transformers' ``Trainer``: its optimiser, schedule and checkpoints, our loss and metrics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainers.config import TrainingConfig
from trainers.log_probs import PairBatch, pair_batch, token_log_probs
from trainers.losses import preference_loss
from trainers.models import not_finite
from trainers.reference import ReferenceLogProbs
from trainers.tokenization import EncodedPair, batches_by_length


@dataclass
class ScoredPairs(Dataset):
    """Pairs together with what the reference thinks of them."""

    pairs: Sequence[EncodedPair]
    reference: ReferenceLogProbs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "pair": self.pairs[index],
            "chosen": self.reference.chosen[index],
            "rejected": self.reference.rejected[index],
        }


def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The tensors of a :class:`PairBatch`, and of each pair ``reference_chosen`` and ``reference_rejected``."""
    batch = pair_batch([item["pair"] for item in items])
    return {
        **vars(batch),
        "reference_chosen": torch.tensor([item["chosen"] for item in items]),
        "reference_rejected": torch.tensor([item["rejected"] for item in items]),
    }


def pair_metrics(
    losses: Tensor,
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
) -> dict[str, Tensor]:
    """What is logged of each pair, every tensor of shape ``(pairs,)``.

    Args:
        losses: The loss of each pair.
        chosen: ``log pi(y_w | x)`` under the policy, in nats.
        rejected: ``log pi(y_l | x)`` under the policy.
        reference_chosen: ``log pi_ref(y_w | x)``.
        reference_rejected: ``log pi_ref(y_l | x)``.
        beta: Scale of the margin.
    """
    rho_w, rho_l = chosen - reference_chosen, rejected - reference_rejected
    return {
        "loss": losses,
        "logps/chosen": chosen,
        "logps/rejected": rejected,
        "log_ratios/chosen": rho_w,
        "log_ratios/rejected": rho_l,
        "rewards/margins": beta * (rho_w - rho_l),
        "rewards/accuracies": (rho_w > rho_l).float(),
        "penalty/active": (rho_w < 0).float(),
    }


class Means:
    """Means over pairs of any number of batches, kept on the device until they are asked for."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Count one batch; every value has shape ``(pairs,)``."""
        for name, values in metrics.items():
            total = values.detach().double().sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._count += len(next(iter(metrics.values())))

    def drain(self) -> dict[str, float]:
        """The means so far; counting starts anew."""
        means = {name: total.item() / self._count for name, total in self._sums.items()}
        self._reset()
        return means


class PreferenceTrainer(Trainer):
    """A ``Trainer`` whose batches are pairs and whose loss is a preference loss.

    Args:
        model: The policy, equal to the reference when training starts.
        args: Arguments of the base class.
        config: The training's settings.
        train_pairs: Pairs to train on.
        eval_pairs: Held-out pairs, or None.
        autocast: Half-precision type to compute in, for weights kept in float32.
        callbacks: As in the base class.
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
        train_pairs: ScoredPairs,
        eval_pairs: ScoredPairs | None,
        autocast: torch.dtype | None,
        callbacks: list[TrainerCallback],
    ) -> None:
        super().__init__(model, args, data_collator=collate, train_dataset=train_pairs, callbacks=callbacks)
        self.remove_callback(PrinterCallback)
        self._config = config
        self._eval_pairs = eval_pairs
        self._autocast = autocast
        self._train_means = Means()

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], int]:
        """The batches of one optimiser step, and how many pairs they hold together."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        return batches, sum(len(batch["reference_chosen"]) for batch in batches)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> Tensor:
        """This batch's part of the mean loss over the ``num_items_in_batch`` pairs of the optimiser step.

        Raises:
            SmaugError: a loss is not a finite number.
        """
        metrics = self._metrics(model, inputs)
        if not torch.isfinite(metrics["loss"]).all():
            raise not_finite("loss", self.state.global_step + 1)
        self._train_means.add(metrics)
        return metrics["loss"].sum() / (num_items_in_batch or len(metrics["loss"]))

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the held-out pairs and log the means.

        Raises:
            SmaugError: the loss is not a finite number.
        """
        if self._eval_pairs is None:
            return {}
        means = Means()
        self.model.eval()
        for indices in batches_by_length(self._eval_pairs.pairs, self._config.batch_size):
            batch = collate([self._eval_pairs[index] for index in indices])
            inputs = {name: tensor.to(self.args.device) for name, tensor in batch.items()}
            with torch.no_grad():
                means.add(self._metrics(self.model, inputs))
        row = means.drain()
        if not math.isfinite(row["loss"]):
            raise not_finite("held-out loss", self.state.global_step)
        self.log({"split": "eval", **row})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, row)
        return row

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Replace the base class's loss by the means over the pairs since the last row.

        Raises:
            SmaugError: the gradient is not finite.
        """
        if "loss" in logs and "split" not in logs:
            if not math.isfinite(logs["grad_norm"]):
                raise not_finite("gradient", self.state.global_step)
            kept = {name: logs[name] for name in ("grad_norm", "learning_rate")}
            logs = {"split": "train", **self._train_means.drain(), **kept}
        super().log(logs, start_time)

    def _metrics(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        batch = PairBatch(inputs["input_ids"], inputs["completion_mask"])
        sums = token_log_probs(model, batch, autocast=self._autocast).sum(dim=1)
        chosen, rejected = sums.chunk(2)
        references = inputs["reference_chosen"].to(sums.device), inputs["reference_rejected"].to(sums.device)
        losses = preference_loss(
            self._config.loss,
            chosen - references[0],
            rejected - references[1],
            beta=self._config.beta,
            lambda_=self._config.lambda_,
        )
        return pair_metrics(losses, chosen, rejected, *references, beta=self._config.beta)


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
