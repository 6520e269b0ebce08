"""Take the steps of a training, from the first or from a checkpoint to the last, with its log and its diagnosis."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from smaug_eval.common.errors import SmaugError
from smaug_eval.prefix.scorer import NoHiddenStates, Scorer
from smaug_eval.trainers.checkpoints import Sealing, checkpoint_step
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.held_out import HeldOutWatch, LabelledWatch
from smaug_eval.trainers.keeping import Keeping
from smaug_eval.trainers.moving_reference import MovingReference
from smaug_eval.trainers.optimisers import optimiser_arguments
from smaug_eval.trainers.probes import Ches, ches, gradient_cosines, sampled_indices
from smaug_eval.trainers.processes import process_index, wait_for_all, weights_are_sharded
from smaug_eval.trainers.reference import TokenLogProbs
from smaug_eval.trainers.reference_scoring import ReferenceScoring
from smaug_eval.trainers.sampling import Samples
from smaug_eval.trainers.schedule import Schedule
from smaug_eval.trainers.settled import SettledTraining
from smaug_eval.trainers.trainer import PairTrainer, ScoredPairs
from smaug_eval.trainers.training_log import Row, TrainingLog
from smaug_eval.trainers.unpaired import Rejoined

# Seconds that processes wait for each other: the main one may be writing a large checkpoint.
PATIENCE = 7200


@dataclass(frozen=True)
class Extras:
    """Hold what a training needs to show answers and to keep checkpoints between its steps.

    Attributes:
        tokenizer: The model's.
        write: Writes a model with some trained weights into a folder.
        rejoined: Held-out pairs whose completions are scored one by one; None for a loss of pairs.
    """

    tokenizer: PreTrainedTokenizerBase
    write: Callable[[Mapping[str, torch.Tensor], Path], None]
    rejoined: Rejoined | None = None


@dataclass(frozen=True)
class Taken:
    """Hold what the steps of a training left.

    Attributes:
        rows: Of the log.
        weights: The policy's.
        kept_step: Step that the weights are of, where that is not the last.
    """

    rows: list[Row]
    weights: dict[str, torch.Tensor]
    kept_step: int | None = None


class Steps:
    """Take the steps of a training.

    Args:
        training: What is trained.
        reference: Scores the reference where that can only be done once the trainer has wrapped the model.
        arguments: The trainer's.
        resume_from: The checkpoint to resume from; None to start.
    """

    def __init__(
        self,
        training: SettledTraining,
        reference: ReferenceScoring,
        arguments: TrainingArguments,
        resume_from: Path | None,
    ) -> None:
        self._training, self._reference = training, reference
        self._arguments, self._resume_from = arguments, resume_from

    def take(
        self,
        policy: torch.nn.Module,
        scorer: Scorer,
        train_pairs: ScoredPairs,
        eval_pairs: ScoredPairs | None,
        extras: Extras,
    ) -> Taken:
        """Train to the last step, or until patience ends; returns what that left.

        Raises:
            Interrupted: stopped on request; the checkpoint to resume from is saved.
        """
        training, listeners, resume_from = self._training, self._training.listeners, self._resume_from
        step = None if resume_from is None else checkpoint_step(resume_from)
        main, wandb_project = process_index() == 0, training.config.wandb_project
        with TrainingLog(training.spec.out_dir, step=step, wandb_project=wandb_project, writes=main) as journal:
            start = time.monotonic() - (journal.rows[-1]["seconds"] if journal.rows else 0.0)

            def on_row(step: int, steps: int, row: dict[str, Any]) -> None:
                row["seconds"] = round(time.monotonic() - start, 3)
                journal.append(row)
                if listeners.on_progress is not None:
                    listeners.on_progress(step, steps, row)

            # Made at its first use: where the weights are sharded, the reference's scores come later.
            watch = cache(partial(self._watch, policy, scorer, eval_pairs, step, extras)) if eval_pairs else None

            samples = self._samples(policy, eval_pairs, extras, step)

            def on_held_out(tokens: TokenLogProbs, row: Mapping[str, float]) -> Mapping[str, float]:
                state, config = trainer.state, training.config
                if samples is not None:
                    samples.answer(state.global_step)
                if watch is None:
                    return {}
                kept = None if config.patience is None else True
                kept = state.global_step > 0 and keeping.is_best(dict(row)) if config.keeps_best_on_pairs else kept
                return watch().look(state.global_step, state.max_steps, tokens, kept=kept)

            keeping = Keeping(
                training.config,
                training.spec.out_dir,
                training.resume_dir,
                rows=lambda: journal.rows,
                weights=lambda: self._trained_weights(trainer, policy),
                write=extras.write,
                is_main=main,
            )
            moving = self._moving_reference(policy)
            schedule = Schedule(training.config, listeners.asked_to_stop, on_row)
            trainer = PairTrainer(
                policy,
                self._arguments,
                config=training.config,
                scorer=scorer,
                train_pairs=train_pairs,
                eval_pairs=eval_pairs,
                autocast=training.autocast,
                callbacks=[schedule, *([] if moving is None else [moving]), keeping, Sealing()],
                on_held_out=on_held_out,
                moving=moving,
            )
            if trainer.sampler is not None:
                listeners.on_note(trainer.sampler.describe())
            self._score_when_training_begins(trainer, [train_pairs, eval_pairs])
            trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
            weights = {} if schedule.stopped else trainer.full_weights()
        if schedule.stopped and not keeping.stopped_early:
            wait_for_all()  # the first to leave would end those that still write
            raise training.interrupted(f"after step {journal.rows[-1]['step']}")
        if keeping.stopped_early:
            listeners.on_note(
                f"ended after step {trainer.state.global_step} of {trainer.state.max_steps}: "
                f"{training.config.patience} evaluations without a better {training.config.keep_metric}"
            )
        best = keeping.best()
        if best is None:
            return Taken(journal.rows, weights)
        listeners.on_note(f"keeps the weights of step {best[0]}, the best {training.config.keep_metric}")
        return Taken(journal.rows, {**weights, **{n: w.to(weights[n].dtype) for n, w in best[1].items()}}, best[0])

    def _trained_weights(self, trainer: PairTrainer, policy: torch.nn.Module) -> dict[str, torch.Tensor]:
        """The weights that are trained, under the policy's names; all where every one is."""
        names = {name for name, weight in policy.named_parameters() if weight.requires_grad}
        return {name: weight for name, weight in trainer.full_weights().items() if name in names}

    def _samples(
        self, policy: torch.nn.Module, held_out: ScoredPairs | None, extras: Extras, step: int | None
    ) -> Samples | None:
        config = self._training.config
        if held_out is None or not config.sample_prompts:
            return None
        if weights_are_sharded():
            self._training.listeners.on_note("sample_prompts are left out: the weights are sharded")
            return None
        if process_index() != 0:
            return None
        pairs = held_out.pairs[: config.sample_prompts]
        return Samples(
            policy, extras.tokenizer, pairs, self._training.spec.out_dir, step=step, tokens=config.sample_tokens
        )

    def _moving_reference(self, policy: torch.nn.Module) -> MovingReference | None:
        config = self._training.config
        if config.reference_sync_every is None:
            return None
        if weights_are_sharded():
            raise SmaugError(
                "reference_sync_every needs whole weights, which FSDP and DeepSpeed shard",
                fix="launch it with recipes/accelerate/ddp.yaml, or leave reference_sync_every out",
            )
        return MovingReference(policy, config.reference_sync_every, config.reference_sync_weight, self._resume_from)

    def _score_when_training_begins(self, trainer: PairTrainer, sets: Sequence[ScoredPairs | None]) -> None:
        """Score the reference once the trainer has wrapped the model, where the weights are sharded.

        Raises:
            SmaugError: the trainer resumes with an updated policy, and the reference's scores are gone.
        """
        unscored = [pairs for pairs in sets if pairs is not None and not pairs.reference.chosen]
        if not unscored:
            return
        if self._resume_from is not None:
            raise SmaugError(
                f"{self._training.reference_dir}: the scores of the reference are gone, "
                "which the training needs to resume",
                fix=f"put reference-*.safetensors back, or remove {self._training.resume_dir} to start again",
            )
        trainer.add_callback(_ScoreFirst(lambda: self._reference.score_sharded(trainer, unscored)))

    def _watch(
        self,
        policy: torch.nn.Module,
        scorer: Scorer,
        held_out: ScoredPairs,
        step: int | None,
        extras: Extras,
    ) -> HeldOutWatch | LabelledWatch:
        """Return what diagnoses the held-out pairs.

        Only a process that is alone looks at gradients and states.
        """
        training, listeners, arguments = self._training, self._training.listeners, self._arguments
        if extras.rejoined is not None:
            return LabelledWatch(
                held_out.pairs,
                held_out.reference,
                extras.rejoined,
                folder=training.spec.out_dir,
                step=step,
                loss=training.config.entry.title,
                on_warning=listeners.on_warning,
                writes=arguments.process_index == 0,
            )
        wanted, alone = training.config.gradient_cosine_pairs, arguments.world_size == 1
        if not alone:
            listeners.on_note("gradient cosines and CHES are left out: the training has several processes")
            wanted = 0

        def ches_of_held_out() -> list[Ches] | None:
            try:
                return ches(
                    scorer, policy, held_out.pairs, row_tokens=training.config.row_tokens, autocast=training.autocast
                )
            except NoHiddenStates as error:
                listeners.on_note(f"CHES is left out: {error}")
                return None

        chosen = sampled_indices(len(held_out.pairs), wanted, training.seed)
        sample = [held_out.pairs[index] for index in chosen]
        return HeldOutWatch(
            held_out.pairs,
            held_out.reference,
            folder=training.spec.out_dir,
            step=step,
            loss=training.config.entry.title,
            cosines=(lambda: gradient_cosines(scorer, policy, sample, autocast=training.autocast)) if sample else None,
            ches=ches_of_held_out if alone else None,
            on_warning=listeners.on_warning,
            writes=arguments.process_index == 0,
        )


class _ScoreFirst(TrainerCallback):
    """Do something before the first step, when the trainer has wrapped the model."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Do it."""
        self._work()


def training_arguments(config: TrainingConfig, folder: Path, seed: int) -> TrainingArguments:
    """Make transformers' arguments of the settings; brings several processes together.

    Args:
        config: The settings.
        folder: Receives checkpoints.
        seed: Of the order of the pairs.
    """
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        max_steps=config.steps or -1,
        # KTO's mismatched completions are those of a pair's batch, which are set before the reference scores them.
        train_sampling_strategy="sequential" if config.entry.unpaired else "random",
        num_train_epochs=config.epochs or 1.0,
        learning_rate=config.learning_rate,
        **optimiser_arguments(config),
        # transformers reads a number below 1 as a share of all steps
        warmup_steps=config.warmup_ratio if config.warmup_steps is None else config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if config.gradient_checkpointing else None,
        seed=seed,
        data_seed=seed,
        ddp_timeout=PATIENCE,
        use_cpu=not torch.cuda.is_available(),
        # smaug_eval.trainers.schedule.Schedule decides when to log, evaluate and save.
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",
        save_total_limit=None,  # smaug_eval.trainers.checkpoints.Sealing removes the older ones
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        log_level="error",
        report_to="none",
    )
