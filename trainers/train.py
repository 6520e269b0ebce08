"""One training from a base model and a pair file to a checkpoint, interruptible at any step."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from smaug_eval.digests import sha256_of_file
from smaug_eval.engines.journal import Journal
from smaug_eval.errors import Interrupted, SmaugError
from smaug_eval.files import canonical_json, sha256_of_text, write_json
from smaug_eval.scorer import NoHiddenStates, Scorer, scoring
from trainers.checkpoints import (
    PROCESSES_FILE,
    Sealing,
    TrainingResult,
    checkpoint_step,
    finished_result,
    mark_finished,
    newest_checkpoint,
    processes_of,
    save_result,
)
from trainers.config import TrainingConfig
from trainers.held_out import HeldOutWatch, last_diagnosis
from trainers.journal import Journal as TrainingLog
from trainers.journal import Row
from trainers.losses import preference_loss
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
from trainers.pairs.read import read_pairs
from trainers.probes import Ches, ches, gradient_cosines, sampled_indices
from trainers.processes import any_process, process_count, process_index, wait_for_all, weights_are_sharded
from trainers.reference import TokenLogProbs, load_reference, reference_key, save_reference, score_pairs
from trainers.tokenization import EncodedPairs, PairEncoder
from trainers.trainer import PreferenceTrainer, Schedule, ScoredPairs, pair_scores

# Largest log-ratio in nats that rounding explains while the policy equals its reference.
START_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}

# Of a folder with the finished batches of a reference that is being scored.
UNFINISHED = ".unfinished"

# Seconds that processes wait for each other: the main one may be writing a large checkpoint.
PATIENCE = 7200

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
    base: str | None = None,
    should_stop: Callable[[], bool],
    on_progress: Progress | None = None,
    on_note: Callable[[str], None] = lambda note: None,
    on_warning: Callable[[str], None] = lambda warning: None,
    reference_dir: Path | None = None,
    trust_remote_code: bool = False,
) -> TrainingResult:
    """Train a model on preference pairs, or go on where an earlier call with the same arguments stopped.

    In a process group (``python -m trainers`` under ``accelerate launch`` or torchrun) every process makes this call
    with the same arguments; the main one writes, and where one of them is told to stop, all do.

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
            ``diagnostics.jsonl`` and ``held_out.jsonl`` (:mod:`trainers.held_out`), ``summary.json``, ``finished.json``
            last of all, and ``resume/`` while unfinished.
        seed: Seed of the order of the pairs and of a fresh adapter.
        model_sha256: Digest of the base model's weights: the key of the saved reference log-probabilities.
        base: Name of the base model for the model card; its folder's name if None.
        should_stop: Asked after every step; true saves a checkpoint to resume from and ends the call.
        on_progress: Receives ``(step, steps, row)`` for every row of ``log.jsonl``, and before that
            ``(pairs, all pairs, {})`` while the reference is scored.
        on_note: Receives what is worth saying once: the exact loss, and how the model is asked.
        on_warning: Receives, at the first evaluation before the end that shows it, that the preferred answers have
            become less likely than the base model has them.
        reference_dir: Where ``reference-*.safetensors`` are kept; trainings of one base on the same pairs that share it
            score the reference once. ``out_dir`` if None.
        trust_remote_code: Whether Python code that came with the base model may run.

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
        base=base or model_path.name,
        should_stop=should_stop,
        on_progress=on_progress,
        on_note=on_note,
        on_warning=on_warning,
        reference_dir=reference_dir or out_dir,
        trust_remote_code=trust_remote_code,
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        result = training.finish()
    if process_index() == 0:
        write_json(out_dir / "summary.json", result.summary())
        mark_finished(out_dir, training.identity)
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
    base: str
    should_stop: Callable[[], bool]
    on_progress: Progress | None
    on_note: Callable[[str], None]
    on_warning: Callable[[str], None]
    reference_dir: Path
    trust_remote_code: bool

    @property
    def resume_dir(self) -> Path:
        return self.out_dir / "resume"

    @cached_property
    def identity(self) -> str:
        """A digest of all that decides the result."""
        files = [None if file is None else sha256_of_file(file) for file in (self.train_file, self.eval_file)]
        settings = self.config.model_dump(mode="json", by_alias=True, exclude={"launch"})
        decisive = [settings, self.name, self.dtype, self.seed, self.model_sha256, self.base, process_count(), *files]
        return sha256_of_text(canonical_json(decisive))

    @property
    def autocast(self) -> torch.dtype | None:
        """The type to compute in where the weights are kept in float32 but wanted in half precision."""
        return DTYPES[self.dtype] if self.dtype != "float32" and self.config.lora is None else None

    def finish(self) -> TrainingResult:
        """Load, encode, score the reference, train, save."""
        if self.dtype not in START_TOLERANCE:
            raise SmaugError(f"cannot train in dtype {self.dtype!r}", fix=f"choose one of {', '.join(START_TOLERANCE)}")
        arguments = _arguments(self.config, self.resume_dir, self.seed)  # brings several processes together
        # A caller may have been killed before it took note of the result.
        before = finished_result(self.out_dir, self.identity)
        if not any_process(before is None) and before is not None:
            return before
        resume_from = self._checkpoint_to_resume_from()
        arguments.eval_on_start = resume_from is None
        model, tokenizer = load_model(
            self.model_path,
            dtype=self.dtype,
            keep_dtype=self.config.lora is not None,
            quantize=self.config.lora.quantize if self.config.lora else None,
            device=None if weights_are_sharded() else arguments.device,
            trust_remote_code=self.trust_remote_code,
        )
        base_config = copy.deepcopy(model.config)
        max_length = fitting_length(self.config.max_length, model)
        train_pairs, eval_pairs = self._encode(tokenizer, max_length)
        check_ids(train_pairs.pairs + eval_pairs.pairs, model, self.model_path)
        self.on_note(self.config.describe())
        with no_dropout(model), scoring(model, share=self.config.share_prefix) as scorer:
            self.on_note(scorer.describe())
            scored = self._with_reference(scorer, model, train_pairs)
            held_out = self._with_reference(scorer, model, eval_pairs) if eval_pairs.pairs else None
            # The reference is the model without its adapter, which comes only now.
            policy = with_adapter(model, self.config.lora, self.seed) if self.config.lora else model
            rows, weights = self._run(policy, scorer, arguments, scored, held_out, resume_from)
        trained = {name for name, weight in policy.named_parameters() if weight.requires_grad}
        last_step = max(row["step"] for row in rows)
        check_finite({name: weight for name, weight in weights.items() if name in trained}, last_step)
        diagnosis = last_diagnosis(self.out_dir) if held_out else None
        result = TrainingResult(
            name=self.name,
            loss=self.config.loss.value,
            formula=self.config.loss.formula,
            normalisation="averaged" if self.config.loss.is_averaged else "summed",
            beta=self.config.beta,
            lambda_=self.config.lambda_,
            margin=self.config.margin,
            likelihood_weight=self.config.likelihood_weight,
            forward=scorer.way.value,
            steps=last_step,
            pairs=len(train_pairs.pairs),
            eval_pairs=len(eval_pairs.pairs),
            dropped=dict(sorted((train_pairs.dropped + eval_pairs.dropped).items())),
            truncated=train_pairs.truncated,
            truncated_prompts=train_pairs.truncated_prompts,
            truncated_completions=train_pairs.truncated_completions,
            max_length=max_length,
            seed=self.seed,
            dtype=self.dtype,
            quantize=self.config.lora.quantize if self.config.lora else None,
            processes=process_count(),
            base=self.base,
            model_sha256=self.model_sha256,
            train_sha256=sha256_of_file(self.train_file),
            seconds=rows[-1]["seconds"],
            final=_final(rows),
            diagnostics=diagnosis,
            warnings=[
                *_merge_warnings(self.config),
                *_length_warnings(self.config.max_length, max_length, train_pairs.truncated),
                *start_warnings(rows, self._start_losses(held_out), self._start_tolerance()),
                *([diagnosis["warning"]] if diagnosis and diagnosis["warning"] else []),
            ],
        )
        if process_index() == 0:
            save_result(
                policy,
                weights,
                tokenizer,
                base_config,
                self.model_path,
                self.out_dir,
                result,
                trust_remote_code=self.trust_remote_code,
            )
        return result

    def _checkpoint_to_resume_from(self) -> Path | None:
        """The newest checkpoint, once the main process has removed the incomplete ones; notes the number of processes.

        Raises:
            SmaugError: the training was begun with another number of processes.
        """
        if process_index() == 0:
            newest_checkpoint(self.resume_dir, remove_incomplete=True)
        wait_for_all()
        newest = newest_checkpoint(self.resume_dir)
        if newest is not None and (before := processes_of(self.resume_dir)) != process_count():
            raise SmaugError(
                f"training {self.name} was begun with {before} processes and cannot go on with {process_count()}",
                fix=f"launch it with {before} again, or remove {self.resume_dir} to begin anew",
            )
        if process_index() == 0:
            write_json(self.resume_dir / PROCESSES_FILE, {"processes": process_count()})
        return newest

    def _encode(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> tuple[EncodedPairs, EncodedPairs]:
        limits = (max_length, self.config.max_prompt_length)
        encoder = PairEncoder(tokenizer, *limits, self.config.append_eos, self.config.long_prompts)
        train_pairs = _encode_file(encoder, self.train_file)
        if not train_pairs.pairs:
            reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in train_pairs.dropped.items())
            raise SmaugError(
                f"{self.train_file}: no pair is left to train on ({reasons})",
                fix="raise max_length, or give pairs whose completions differ",
            )
        return train_pairs, EncodedPairs() if self.eval_file is None else _encode_file(encoder, self.eval_file)

    def _with_reference(self, scorer: Scorer, model: PreTrainedModel, encoded: EncodedPairs) -> ScoredPairs:
        """The pairs with the reference's log-probabilities: from an earlier call, or computed, unless sharded."""
        reference = load_reference(self._reference_path(encoded))
        # All must do the same, even where one cannot read what the others can.
        reference = None if any_process(reference is None) else reference
        if reference is None and not weights_are_sharded():
            with self._finished_batches(encoded) as journal:
                reference = score_pairs(
                    scorer,
                    model,
                    encoded.pairs,
                    row_tokens=self.config.row_tokens,
                    autocast=self.autocast,
                    before_batch=self._between_reference_batches,
                    journal=journal,
                )
            self._keep(reference, encoded)
        return ScoredPairs(encoded.pairs, reference or TokenLogProbs((), ()))

    def _score_sharded(self, trainer: PreferenceTrainer, sets: Sequence[ScoredPairs]) -> None:
        """Let the policy, which no update has touched yet, score the reference: only together do they hold a model."""
        policy = trainer.model
        with policy.disable_adapter() if isinstance(policy, PeftModel) else nullcontext():
            for pairs in sets:
                encoded = EncodedPairs(list(pairs.pairs))
                with self._finished_batches(encoded) as journal:
                    pairs.reference = trainer.score(pairs.pairs, self._between_reference_batches, journal)
                self._keep(pairs.reference, encoded)

    @contextmanager
    def _finished_batches(self, encoded: EncodedPairs) -> Iterator[Journal]:
        """A journal of the reference's batches, from which a stopped scoring goes on."""
        path = self._reference_path(encoded)
        journal = Journal(path.with_suffix(UNFINISHED), {"reference": path.stem})
        try:
            yield journal
        finally:
            journal.close()

    def _keep(self, reference: TokenLogProbs, encoded: EncodedPairs) -> None:
        wait_for_all()
        if process_index() == 0:
            path = self._reference_path(encoded)
            save_reference(reference, path)
            shutil.rmtree(path.with_suffix(UNFINISHED), ignore_errors=True)

    def _reference_path(self, encoded: EncodedPairs) -> Path:
        quantize = self.config.lora.quantize if self.config.lora else None
        how = ["autocast"] * (self.autocast is not None) + [quantize] * (quantize is not None)
        how += ["sharded"] * weights_are_sharded()
        precision = " ".join([self.dtype, *map(str, how)])
        key = reference_key(model_sha256=self.model_sha256, pairs_sha256=encoded.sha256(), precision=precision)
        return self.reference_dir / f"reference-{key[:16]}.safetensors"

    def _start_losses(self, held_out: ScoredPairs | None) -> dict[tuple[str, int], float]:
        """What the losses before the first update must be, by split and step: a closed form where there is one."""
        expected = {}
        if held_out is not None:
            untrained = pair_scores(held_out.reference, held_out.reference)
            expected["eval", 0] = float(preference_loss(self.config, untrained).mean())
        closed_form = self.config.loss.start_value(self.config.beta)
        if closed_form is not None:
            expected["train", 1] = closed_form
        return expected

    def _start_tolerance(self) -> float:
        """Difference of losses that rounding explains; DPO-Positive's penalty magnifies it."""
        quantised = self.config.lora is not None and self.config.lora.quantize is not None
        return START_TOLERANCE["bfloat16" if quantised else self.dtype] * (1 + (self.config.lambda_ or 0.0))

    def _between_reference_batches(self, done: int, total: int) -> None:
        if self._asked_to_stop():
            raise self._interrupted("while scoring the reference")
        if self.on_progress is not None:
            self.on_progress(done, total, {})

    def _asked_to_stop(self) -> bool:
        return any_process(self.should_stop())

    def _interrupted(self, when: str) -> Interrupted:
        return Interrupted(f"training {self.name} stopped {when}", fix="run the same command again to go on")

    def _run(
        self,
        policy: torch.nn.Module,
        scorer: Scorer,
        arguments: TrainingArguments,
        train_pairs: ScoredPairs,
        eval_pairs: ScoredPairs | None,
        resume_from: Path | None,
    ) -> tuple[list[Row], dict[str, torch.Tensor]]:
        """Train to the last step; returns the rows of the log and the policy's weights.

        Raises:
            Interrupted: stopped on request; the checkpoint to resume from is saved.
        """
        step = None if resume_from is None else checkpoint_step(resume_from)
        main, wandb_project = process_index() == 0, self.config.wandb_project
        with TrainingLog(self.out_dir, step=step, wandb_project=wandb_project, writes=main) as journal:
            start = time.monotonic() - (journal.rows[-1]["seconds"] if journal.rows else 0.0)

            def on_row(step: int, steps: int, row: dict[str, Any]) -> None:
                row["seconds"] = round(time.monotonic() - start, 3)
                journal.append(row)
                if self.on_progress is not None:
                    self.on_progress(step, steps, row)

            # Made at its first use: where the weights are sharded, the reference's scores come later.
            watch = cache(partial(self._watch, policy, scorer, arguments, eval_pairs, step)) if eval_pairs else None

            def on_held_out(tokens: TokenLogProbs) -> Mapping[str, float]:
                return {} if watch is None else watch().look(trainer.state.global_step, trainer.state.max_steps, tokens)

            schedule = Schedule(self.config, self._asked_to_stop, on_row)
            trainer = PreferenceTrainer(
                policy,
                arguments,
                config=self.config,
                scorer=scorer,
                train_pairs=train_pairs,
                eval_pairs=eval_pairs,
                autocast=self.autocast,
                callbacks=[schedule, Sealing()],
                on_held_out=on_held_out,
            )
            self._score_when_training_begins(trainer, [train_pairs, eval_pairs], resume_from)
            trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
            weights = {} if schedule.stopped else trainer.full_weights()
        if schedule.stopped:
            wait_for_all()  # the first to leave would end those that still write
            raise self._interrupted(f"after step {journal.rows[-1]['step']}")
        return journal.rows, weights

    def _score_when_training_begins(
        self, trainer: PreferenceTrainer, sets: Sequence[ScoredPairs | None], resume_from: Path | None
    ) -> None:
        """Where the weights are sharded, the reference can be scored only once the trainer has wrapped the model.

        Raises:
            SmaugError: the trainer goes on with an updated policy, and the reference's scores are gone.
        """
        unscored = [pairs for pairs in sets if pairs is not None and not pairs.reference.chosen]
        if not unscored:
            return
        if resume_from is not None:
            raise SmaugError(
                f"{self.reference_dir}: the scores of the reference are gone, which the training goes on with",
                fix=f"put reference-*.safetensors back, or remove {self.resume_dir} to begin anew",
            )
        trainer.add_callback(_ScoreFirst(lambda: self._score_sharded(trainer, unscored)))

    def _watch(
        self,
        policy: torch.nn.Module,
        scorer: Scorer,
        arguments: TrainingArguments,
        held_out: ScoredPairs,
        step: int | None,
    ) -> HeldOutWatch:
        """What diagnoses the held-out pairs; gradients and states are looked at by a process that is alone."""
        wanted, alone = self.config.gradient_cosine_pairs, arguments.world_size == 1
        if not alone:
            self.on_note("gradient cosines and CHES are left out: the training has several processes")
            wanted = 0

        def ches_of_held_out() -> list[Ches] | None:
            try:
                return ches(scorer, policy, held_out.pairs, row_tokens=self.config.row_tokens, autocast=self.autocast)
            except NoHiddenStates as error:
                self.on_note(f"CHES is left out: {error}")
                return None

        chosen = sampled_indices(len(held_out.pairs), wanted, self.seed)
        sample = [held_out.pairs[index] for index in chosen]
        return HeldOutWatch(
            held_out.pairs,
            held_out.reference,
            folder=self.out_dir,
            step=step,
            loss=self.config.loss.display_name,
            cosines=(lambda: gradient_cosines(scorer, policy, sample, autocast=self.autocast)) if sample else None,
            ches=ches_of_held_out if alone else None,
            on_warning=self.on_warning,
            writes=arguments.process_index == 0,
        )


class _ScoreFirst(TrainerCallback):
    """Does something before the first step, when the trainer has wrapped the model."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Do it."""
        self._work()


def start_warnings(rows: list[Row], expected: Mapping[tuple[str, int], float], tolerance: float) -> list[str]:
    """Compare the losses taken before the first update with those of a policy that equals its reference.

    Args:
        rows: The training log.
        expected: The loss where every log-ratio is 0, by split and step: of the held-out pairs at step 0, of the first
            batch at step 1.
        tolerance: Largest difference that rounding explains.
    """
    names = {"eval": "held-out pairs", "train": "the first batch"}
    return [
        f"before the first update the loss on {names[row['split']]} was {row['loss']:.4f}, not {value:.4f}: "
        "the reference log-probabilities do not match the base model"
        for row in rows
        if (value := expected.get((row["split"], row["step"]))) is not None and abs(row["loss"] - value) > tolerance
    ]


def _merge_warnings(config: TrainingConfig) -> list[str]:
    if config.lora is None or config.lora.quantize is None:
        return []
    return [
        f"the adapter was trained on a base of {config.lora.quantize} weights; checkpoint/ is merged into the base as "
        "it was given, whose log-probabilities differ a little from those of the log"
    ]


def _length_warnings(asked: int, used: int, truncated: int) -> list[str]:
    if used == asked or not truncated:
        return []
    return [f"pairs cut to the model's context of {used} tokens: {truncated} (max_length is {asked})"]


def _arguments(config: TrainingConfig, folder: Path, seed: int) -> TrainingArguments:
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
        ddp_timeout=PATIENCE,
        use_cpu=not torch.cuda.is_available(),
        # trainers.trainer.Schedule decides when to log, evaluate and save.
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",
        save_total_limit=None,  # trainers.checkpoints.Sealing removes the older ones
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
    return encoder.encode(read_pairs(path))


def _final(rows: list[Row]) -> dict[str, float]:
    """The means of the last row over held-out pairs, or of the last training row where there are none."""
    row = next((row for row in reversed(rows) if row["split"] == "eval"), rows[-1])
    return {name: value for name, value in row.items() if name not in ("split", "step", "epoch", "seconds")}
