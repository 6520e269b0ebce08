"""Train on preferences with transformers' ``Trainer``: its optimiser, schedule, checkpoints; our loss and metrics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils import DistributedType, gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainingArguments

from smaug_eval.engines.journal import StreamedJournal
from smaug_eval.prefix.scorer import Scorer
from smaug_eval.trainers.base_model import not_finite
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.log_probs import PairLayout, pair_layout, pair_log_probs, pair_rows
from smaug_eval.trainers.losses import PairScores, preference_loss
from smaug_eval.trainers.metrics import Records, pair_metrics, pair_scores, summarise
from smaug_eval.trainers.moving_reference import MovingReference
from smaug_eval.trainers.optimisers import schedule_arguments
from smaug_eval.trainers.questions import sampler_of
from smaug_eval.trainers.reference import TokenLogProbs, score_pairs
from smaug_eval.trainers.router_loss import RouterLoss
from smaug_eval.trainers.tokenization import EncodedPair
from smaug_eval.trainers.unpaired import with_labels

SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED)


@dataclass
class ScoredPairs(Dataset):
    """Hold pairs with the reference's log-probabilities, which may be computed only when training begins."""

    pairs: Sequence[EncodedPair]
    reference: TokenLogProbs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sums, heads = self.reference.sums, self.reference.heads
        return {
            "pair": self.pairs[index],
            "reference": [side[index] for side in sums],
            "reference_heads": [side[index] for side in heads],
        }


@dataclass(frozen=True)
class ScoredPart:
    """Hold pairs that go through the model together.

    Attributes:
        layout: The input.
        reference: ``log pi_ref(y_w | x)`` and ``log pi_ref(y_l | x)`` of each pair, shape ``(pairs, 2)``.
        reference_heads: The same over the first ``min(|y_w|, |y_l|)`` tokens.
        weights: Factor of each pair's loss, shape ``(pairs,)``.
        labels: Of unpaired completions whether each is desirable, shape ``(pairs,)``; None for pairs.
    """

    layout: PairLayout
    reference: Tensor
    reference_heads: Tensor
    weights: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True)
class Collator:
    """Make the parts of a batch: rows of about ``row_tokens`` tokens.

    Attributes:
        scorer: How texts are batched and scored.
        row_tokens: About how many tokens a part has at most; None for one part whatever its size.
        layout: Lays the pairs of a part out.
    """

    scorer: Scorer
    row_tokens: int | None
    layout: Callable[[Scorer, Sequence[EncodedPair]], PairLayout] = pair_layout

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> list[ScoredPart]:
        rows = [list(range(len(items)))]
        if self.row_tokens is not None:
            rows = pair_rows(self.scorer, (item["pair"] for item in items), self.row_tokens)
        return [self._part([items[index] for index in row]) for row in rows]

    def _part(self, items: Sequence[Mapping[str, Any]]) -> ScoredPart:
        labels = [item["pair"].label for item in items]
        return ScoredPart(
            self.layout(self.scorer, [item["pair"] for item in items]),
            torch.tensor([item["reference"] for item in items], dtype=torch.float64),
            torch.tensor([item["reference_heads"] for item in items], dtype=torch.float64),
            torch.tensor([item["pair"].weight for item in items]),
            None if None in labels else torch.tensor(labels, dtype=torch.bool),
        )


class PairTrainer(Trainer):
    """Train with batches of pairs and a preference loss.

    Args:
        model: The policy, equal to the reference when training starts, taught by
            :func:`smaug_eval.prefix.scorer.scoring`.
        args: Arguments of the base class.
        config: The training's settings.
        scorer: How texts are batched and scored.
        train_pairs: Pairs to train on.
        eval_pairs: Held-out pairs, or None.
        autocast: Half-precision type to compute in, for weights kept in float32.
        callbacks: As in the base class.
        on_held_out: Receives the policy's scores of the held-out pairs whenever they are scored, with the means of
            their metrics, and returns further numbers for their row in the log.
        moving: The reference, where it moves.
        **base: Further arguments of the base class.
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
        on_held_out: Callable[[TokenLogProbs, Mapping[str, float]], Mapping[str, float]] = lambda tokens, row: {},
        moving: MovingReference | None = None,
        **base: Any,
    ) -> None:
        collator = Collator(scorer, config.row_tokens)
        super().__init__(model, args, data_collator=collator, train_dataset=train_pairs, callbacks=callbacks, **base)
        self.remove_callback(PrinterCallback)
        self._config = config
        self._scorer = scorer
        self._eval_pairs = eval_pairs
        self._autocast = autocast
        self._on_held_out = on_held_out
        self._moving = moving
        self._router = RouterLoss(model) if config.router_aux_loss_coef else None
        self._records = Records()
        self._divergence: float | None = None  # of the batch at hand, where that has several parts or processes
        self.sampler = sampler_of(config, self.args, train_pairs.pairs)
        if self._sharded:
            # Every process must take part in every forward pass, so all must do the same number of them.
            self.data_collator = Collator(scorer, None)

    @property
    def _sharded(self) -> bool:
        return self.accelerator.distributed_type in SHARDED

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        return super()._get_train_sampler(train_dataset) if self.sampler is None else self.sampler

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the batches; it tells the sampler its epochs."""
        loader = super().get_train_dataloader()
        return loader if self.sampler is None else self.sampler.used_by(loader)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Make the schedule of the learning rate."""
        further = schedule_arguments(self._config, num_training_steps)
        if further is not None:
            self.args.lr_scheduler_kwargs = further
        return super().create_scheduler(num_training_steps, optimizer)

    def get_batch_samples(
        self, epoch_iterator: Iterator[list[ScoredPart]], num_batches: int, device: torch.device
    ) -> tuple[list[list[ScoredPart]], int]:
        """Return the batches of one optimiser step, and how many pairs all processes hold together."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        pairs = sum(len(part.reference) for batch in batches for part in batch)
        if self.accelerator.num_processes > 1:
            pairs = sum(gather_object([pairs]))
        return batches, pairs

    def _prepare_inputs(self, inputs: ScoredPart) -> ScoredPart:
        """Parts find the model's device by themselves."""
        return inputs

    def floating_point_ops(self, inputs: Sequence[ScoredPart]) -> int:
        """Return 0: operations are not counted."""
        return 0

    def training_step(
        self, model: nn.Module, inputs: list[ScoredPart], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Run forward and backward of each part in turn; exchange gradients once, with the last."""
        losses = []
        if self._config.entry.unpaired and (len(inputs) > 1 or self.accelerator.num_processes > 1):
            self._divergence = self._divergence_of(inputs)
        for number, part in enumerate(inputs, 1):
            with nullcontext() if number == len(inputs) else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part, num_items_in_batch))
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: ScoredPart,
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> Tensor:
        """Compute this part's share of the optimiser step's mean loss over ``num_items_in_batch`` pairs.

        Each pair's loss counts with its weight; the log shows it without.

        Raises:
            SmaugError: a loss is not a finite number.
        """
        scores = self._scores(model, inputs)
        losses = preference_loss(self._config.loss, self._config.weights, scores)
        if not torch.isfinite(losses).all():
            raise not_finite("loss", self.state.global_step + 1)
        self._records.add(pair_metrics(self._config, losses, scores))
        # Gradients are averaged over processes, of which each holds its own pairs.
        weighted = losses * inputs.weights.to(losses)
        if self._router is not None:  # for each pair of this part, so that parts of a batch count by their pairs
            weighted = weighted + (self._config.router_aux_loss_coef or 0.0) * self._router.loss(inputs.layout.input)
        return weighted.sum() * self.accelerator.num_processes / (num_items_in_batch or len(losses))

    def _scores(self, model: nn.Module, inputs: ScoredPart) -> PairScores:
        """What the losses of a part are made of."""
        # The weights of the policy must be its own again before its forward pass.
        moved = self._moved_reference(inputs)
        with nullcontext() if self._router is None else self._router.collecting():
            found = pair_log_probs(self._scorer, model, inputs.layout, autocast=self._autocast)
        chosen, rejected = found.sums()
        device = chosen.device
        (reference_chosen, reference_rejected), (head_w, head_l) = moved or (
            inputs.reference.to(device).unbind(1),
            inputs.reference_heads.to(device).unbind(1),
        )
        heads = (*found.heads(), head_w, head_l) if self._config.entry.needs_heads else None
        scores = PairScores(
            chosen,
            rejected,
            reference_chosen,
            reference_rejected,
            torch.tensor([len(tokens) for tokens in found.chosen], device=device),
            torch.tensor([len(tokens) for tokens in found.rejected], device=device),
            heads=heads,
            progress=self._progress(),
        )
        if inputs.labels is None or not self._config.entry.unpaired:
            return scores
        labelled = with_labels(scores, inputs.labels)
        if self._divergence is None or labelled.kl is None:
            return labelled
        return replace(labelled, kl=torch.full_like(labelled.kl, self._divergence))

    def _divergence_of(self, parts: Sequence[ScoredPart]) -> float:
        """The estimate of KTO's divergence over all parts of a batch, and over the processes' batches."""
        with torch.no_grad():
            ratios = torch.cat([self._scores(self.model_wrapped, part).rho_l for part in parts])
        # The mean of the processes' means, as TRL takes it.
        mean = self.accelerator.reduce(ratios.mean(), "mean")
        return max(0.0, float(mean))

    def _moved_reference(self, inputs: ScoredPart) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
        """The sums of a part's completions under the reference once it has moved, and those of their first tokens."""
        if self._moving is None or not self._moving.has_moved:
            return None
        with self._moving.in_place():
            found = pair_log_probs(self._scorer, self.model, inputs.layout, autocast=self._autocast)
        return found.sums(), found.heads()

    def _progress(self) -> float:
        return self.state.global_step / self.state.max_steps if self.state.max_steps > 0 else 0.0

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the held-out pairs and log their metrics; with several processes each scores its share.

        Raises:
            SmaugError: the loss is not a finite number.
        """
        if self._eval_pairs is None:
            return {}
        tokens = self.score(self._eval_pairs.pairs)
        scores = self._held_out_scores(tokens, self._eval_pairs, self._config.batch_size)
        losses = preference_loss(self._config.loss, self._config.weights, scores)
        metrics = pair_metrics(self._config, losses, scores)
        row = summarise({name: values.tolist() for name, values in metrics.items()})
        if not math.isfinite(row["loss"]):
            raise not_finite("held-out loss", self.state.global_step)
        self.log({"split": "eval", **row, **self._on_held_out(tokens, row)})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, row)
        return row

    def _held_out_scores(self, policy: TokenLogProbs, pairs: ScoredPairs, batch_size: int) -> PairScores:
        """What the losses of held-out pairs are made of; a divergence is estimated over as many as in training."""
        scores = pair_scores(policy, pairs.reference, self._progress())
        if not self._config.entry.unpaired:
            return scores
        return with_labels(scores, [pair.label for pair in pairs.pairs], batch_size=batch_size)

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Replace the base class's loss by the metrics of the pairs since the last row.

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
        journal: StreamedJournal | None = None,
    ) -> TokenLogProbs:
        """Score some pairs with the policy; every process must call it. Arguments as of :func:`score_pairs`."""
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
        """Return the policy's weights under its own names; sharded ones are gathered and go to the main process alone.

        Every process must ask.
        """
        return self.accelerator.get_state_dict(self.model_wrapped)
