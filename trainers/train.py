"""One training from a base model and a pair file to a checkpoint, interruptible at any step."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from smaug_eval.errors import Interrupted, SmaugError
from smaug_eval.files import sha256_of_file, write_json
from trainers.checkpoints import TrainingResult, checkpoint_step, newest_checkpoint, save_result
from trainers.config import TrainingConfig
from trainers.journal import Journal, Row
from trainers.models import (
    DTYPES,
    check_finite,
    check_ids,
    fitting_length,
    load_model,
    no_dropout,
    quiet_transformers,
    with_adapter,
)
from trainers.pairs.read import read_rows
from trainers.pairs.rows import COLUMNS
from trainers.reference import ReferenceLogProbs, load_reference, reference_key, reference_log_probs, save_reference
from trainers.tokenization import EncodedPairs, PairEncoder
from trainers.trainer import PreferenceTrainer, Schedule, ScoredPairs

START_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}

Progress = Callable[[int, int, Row], None]


def train(
    config: TrainingConfig,
    *,
    name: str,
    model_path: Path,
    dtype: str,
    train_file: Path,
    eval_file: Path | None,
    out_dir: Path,
    seed: int,
    model_sha256: str,
    should_stop: Callable[[], bool],
    on_progress: Progress | None = None,
    reference_dir: Path | None = None,
) -> TrainingResult:
    """Train a model on preference pairs, or go on where an earlier call with the same arguments stopped.

    With ``dtype`` bfloat16 a full training keeps its weights in float32 and computes in bfloat16 (updates of 1e-5 would
    be lost in bfloat16 weights); LoRA keeps the base in bfloat16 and its adapter in float32.

    Args:
        config: The training's settings; its own ``seed``, if set, takes precedence over ``seed``.
        name: Name of the training.
        model_path: Folder of the base model: safetensors weights and tokenizer.
        dtype: ``float32`` or ``bfloat16``.
        train_file: Pairs as ``{"prompt", "chosen", "rejected"}`` JSON lines.
        eval_file: Held-out pairs in the same form; None or an empty file for none.
        out_dir: Receives ``checkpoint/`` (and ``adapter/`` for LoRA), ``log.jsonl``, ``tensorboard/``,
            ``summary.json``, and ``resume/`` while unfinished.
        seed: Seed of the order of the pairs and of a fresh adapter.
        model_sha256: Digest of the base model's weights: the key of the saved reference log-probabilities.
        should_stop: Asked after every step; true saves a checkpoint to resume from and ends the call.
        on_progress: Receives ``(step, steps, row)`` for every row of ``log.jsonl``, and before that
            ``(pairs, all pairs, {})`` while the reference is scored.
        reference_dir: Where ``reference-*.safetensors`` are kept; trainings of one base on the same pairs that share it
            score the reference once. ``out_dir`` if None.

    Raises:
        Interrupted: ``should_stop`` was true before the last step.
        SmaugError: the model or the pairs cannot be used, or a loss is not finite.
    """
    training = _Training(
        config=config,
        name=name,
        model_path=model_path,
        dtype=dtype,
        train_file=train_file,
        eval_file=None if eval_file is None or _is_empty(eval_file) else eval_file,
        out_dir=out_dir,
        seed=seed if config.seed is None else config.seed,
        model_sha256=model_sha256,
        should_stop=should_stop,
        on_progress=on_progress,
        reference_dir=reference_dir or out_dir,
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        result = training.finish()
    write_json(out_dir / "summary.json", result.summary())
    shutil.rmtree(training.resume_dir, ignore_errors=True)
    return result


@dataclass(frozen=True)
class _Training:
    """The arguments of :func:`train`, settled, and its stages."""

    config: TrainingConfig
    name: str
    model_path: Path
    dtype: str
    train_file: Path
    eval_file: Path | None
    out_dir: Path
    seed: int
    model_sha256: str
    should_stop: Callable[[], bool]
    on_progress: Progress | None
    reference_dir: Path

    @property
    def resume_dir(self) -> Path:
        return self.out_dir / "resume"

    @property
    def autocast(self) -> torch.dtype | None:
        """The type to compute in where the weights are kept in float32 but wanted in half precision."""
        return DTYPES[self.dtype] if self.dtype != "float32" and self.config.lora is None else None

    def finish(self) -> TrainingResult:
        """Load, encode, score the reference, train, save."""
        resume_from = newest_checkpoint(self.resume_dir)
        model, tokenizer = load_model(self.model_path, dtype=self.dtype, keep_dtype=self.config.lora is not None)
        base_config = copy.deepcopy(model.config)
        max_length = fitting_length(self.config.max_length, model)
        train_pairs, eval_pairs = self._encode(tokenizer, max_length)
        check_ids(train_pairs.pairs + eval_pairs.pairs, model, self.model_path)
        arguments = _arguments(self.config, self.resume_dir, self.seed, resuming=resume_from is not None)
        if getattr(model, "hf_device_map", None) is None:
            model.to(arguments.device)
        with no_dropout(model):
            scored = ScoredPairs(train_pairs.pairs, self._reference(model, train_pairs, arguments.device))
            held_out = (
                ScoredPairs(eval_pairs.pairs, self._reference(model, eval_pairs, arguments.device))
                if eval_pairs.pairs
                else None
            )
            policy = with_adapter(model, self.config.lora, self.seed) if self.config.lora else model
            rows = self._run(policy, arguments, scored, held_out, resume_from)
        last_step = max(row["step"] for row in rows)
        check_finite(policy, last_step)
        result = TrainingResult(
            name=self.name,
            loss=self.config.loss.value,
            formula=self.config.loss.formula,
            beta=self.config.beta,
            lambda_=self.config.lambda_,
            steps=last_step,
            pairs=len(train_pairs.pairs),
            eval_pairs=len(eval_pairs.pairs),
            dropped=dict(sorted((train_pairs.dropped + eval_pairs.dropped).items())),
            truncated=train_pairs.truncated,
            max_length=max_length,
            seed=self.seed,
            dtype=self.dtype,
            model_sha256=self.model_sha256,
            train_sha256=sha256_of_file(self.train_file),
            seconds=rows[-1]["seconds"],
            final=_final(rows),
            warnings=[
                *_length_warnings(self.config.max_length, max_length, train_pairs.truncated),
                *start_warnings(rows, self.config.loss.start_value, START_TOLERANCE[self.dtype]),
            ],
        )
        save_result(policy, tokenizer, base_config, self.model_path, self.out_dir, result)
        return result

    def _encode(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> tuple[EncodedPairs, EncodedPairs]:
        encoder = PairEncoder(tokenizer, max_length, self.config.max_prompt_length, self.config.append_eos)
        train_pairs = _encode_file(encoder, self.train_file)
        if not train_pairs.pairs:
            reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in train_pairs.dropped.items())
            raise SmaugError(
                f"{self.train_file}: no pair is left to train on ({reasons})",
                fix="raise max_length, or give pairs whose completions differ",
            )
        return train_pairs, EncodedPairs() if self.eval_file is None else _encode_file(encoder, self.eval_file)

    def _reference(self, model: PreTrainedModel, encoded: EncodedPairs, device: torch.device) -> ReferenceLogProbs:
        """The reference's log-probabilities: from an earlier call where it left them, else computed and kept."""
        precision = f"{self.dtype}{'' if self.autocast is None else ' autocast'}"
        key = reference_key(model_sha256=self.model_sha256, pairs_sha256=encoded.sha256(), precision=precision)
        path = self.reference_dir / f"reference-{key[:16]}.safetensors"
        reference = load_reference(path)
        if reference is None:
            reference = reference_log_probs(
                model,
                encoded.pairs,
                batch_size=self.config.batch_size,
                device=device,
                autocast=self.autocast,
                before_batch=self._between_reference_batches,
            )
            self.reference_dir.mkdir(parents=True, exist_ok=True)
            save_reference(reference, path)
        return reference

    def _between_reference_batches(self, done: int, total: int) -> None:
        if self.should_stop():
            raise self._interrupted("while scoring the reference")
        if self.on_progress is not None:
            self.on_progress(done, total, {})

    def _interrupted(self, when: str) -> Interrupted:
        return Interrupted(f"training {self.name} stopped {when}", fix="run the same command again to go on")

    def _run(
        self,
        policy: torch.nn.Module,
        arguments: TrainingArguments,
        train_pairs: ScoredPairs,
        eval_pairs: ScoredPairs | None,
        resume_from: Path | None,
    ) -> list[Row]:
        """Train to the last step; returns the rows of the log.

        Raises:
            Interrupted: stopped on request; the checkpoint to resume from is saved.
        """
        step = None if resume_from is None else checkpoint_step(resume_from)
        with Journal(self.out_dir, step=step, wandb_project=self.config.wandb_project) as journal:
            start = time.monotonic() - (journal.rows[-1]["seconds"] if journal.rows else 0.0)

            def on_row(step: int, steps: int, row: dict[str, Any]) -> None:
                row["seconds"] = round(time.monotonic() - start, 3)
                journal.append(row)
                if self.on_progress is not None:
                    self.on_progress(step, steps, row)

            schedule = Schedule(self.config, self.should_stop, on_row)
            trainer = PreferenceTrainer(
                policy,
                arguments,
                config=self.config,
                train_pairs=train_pairs,
                eval_pairs=eval_pairs,
                autocast=self.autocast,
                callbacks=[schedule],
            )
            trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
        if schedule.stopped:
            raise self._interrupted(f"after step {journal.rows[-1]['step']}")
        return journal.rows


def start_warnings(rows: list[Row], expected: float, tolerance: float) -> list[str]:
    """Compare the losses taken before the first update with the loss of a policy that equals its reference.

    Args:
        rows: The training log.
        expected: The loss where every log-ratio is 0.
        tolerance: Largest difference that rounding explains.
    """
    places = {("eval", 0): "held-out pairs", ("train", 1): "the first batch"}
    return [
        f"before the first update the loss on {places[place]} was {row['loss']:.4f}, not {expected:.4f}: "
        "the reference log-probabilities do not match the base model"
        for row in rows
        if (place := (row["split"], row["step"])) in places and abs(row["loss"] - expected) > tolerance
    ]


def _length_warnings(asked: int, used: int, truncated: int) -> list[str]:
    if used == asked or not truncated:
        return []
    return [f"{truncated} pairs were cut to the model's context of {used} tokens (max_length is {asked})"]


def _arguments(config: TrainingConfig, folder: Path, seed: int, *, resuming: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        max_steps=config.steps or -1,
        num_train_epochs=config.epochs or 1.0,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup" if config.lr_scheduler == "constant" else config.lr_scheduler,
        # transformers reads a number below 1 as a share of all steps
        warmup_steps=config.warmup_ratio if config.warmup_steps is None else config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if config.gradient_checkpointing else None,
        seed=seed,
        data_seed=seed,
        use_cpu=not torch.cuda.is_available(),
        eval_on_start=not resuming,
        # trainers.trainer.Schedule decides when to log, evaluate and save.
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",
        save_total_limit=1,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        log_level="error",
        report_to="none",
    )


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def _encode_file(encoder: PairEncoder, path: Path) -> EncodedPairs:
    return encoder.encode([dict(row.values) for row in read_rows(str(path), COLUMNS, data_root=None)])


def _final(rows: list[Row]) -> dict[str, float]:
    """The means of the last row over held-out pairs, or of the last training row where there are none."""
    row = next((row for row in reversed(rows) if row["split"] == "eval"), rows[-1])
    return {name: value for name, value in row.items() if name not in ("split", "step", "epoch", "seconds")}
