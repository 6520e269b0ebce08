"""Train one model from a base model and a pair file to a checkpoint, interruptible at any step."""

from __future__ import annotations

import copy
import itertools
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from smaug_eval.common.digests import sha256_of_file
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import write_json
from smaug_eval.models.quantised import Use
from smaug_eval.models.quiet import quiet_transformers
from smaug_eval.prefix.scorer import Scorer, scoring
from smaug_eval.trainers.adapters import check_adapter, described, further_adapter, with_adapter
from smaug_eval.trainers.base_model import DTYPES, check_finite, check_ids, fitting_length, load_model, no_dropout
from smaug_eval.trainers.begun import check_same_pairs, checkpoint_to_resume_from, kept_date
from smaug_eval.trainers.chat_templates import template_text
from smaug_eval.trainers.checkpoints import TrainingResult, finished_result, mark_finished
from smaug_eval.trainers.ches_filter import Selected, check_ches, filtered
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.coverage import LoraCoverage
from smaug_eval.trainers.encoded_sets import EncodedSets, check_row_form, encode_sets
from smaug_eval.trainers.held_out import last_diagnosis
from smaug_eval.trainers.layout import ADAPTER_FOLDER, CHECKPOINT_FOLDER, SUMMARY_FILE
from smaug_eval.trainers.model_parts import measured_coverage
from smaug_eval.trainers.optimisers import check_libraries
from smaug_eval.trainers.other_reference import score_other_reference
from smaug_eval.trainers.processes import any_process, process_count, process_index, weights_are_sharded
from smaug_eval.trainers.randomness import Noise, without_noise
from smaug_eval.trainers.reference import TokenLogProbs
from smaug_eval.trainers.reference_scoring import ReferenceScoring
from smaug_eval.trainers.remarks import Remark
from smaug_eval.trainers.router_loss import RouterLoss
from smaug_eval.trainers.saving import check_place, save_result, write_kept
from smaug_eval.trainers.settled import Listeners, Progress, SettledTraining
from smaug_eval.trainers.shortfalls import process_warnings
from smaug_eval.trainers.spec import TrainingSpec
from smaug_eval.trainers.start_check import START_TOLERANCE, start_losses, start_tolerance, start_warnings
from smaug_eval.trainers.steps import Extras, Steps, training_arguments
from smaug_eval.trainers.tokenization import ENCODING_RULE
from smaug_eval.trainers.trainer import ScoredPairs
from smaug_eval.trainers.training_log import Row
from smaug_eval.trainers.trial import seen_pairs


def train(
    spec: TrainingSpec,
    *,
    should_stop: Callable[[], bool],
    on_progress: Progress | None = None,
    on_note: Callable[[str], None] = lambda note: None,
    on_warning: Callable[[str], None] = lambda warning: None,
) -> TrainingResult:
    """Train a model on preference pairs, or resume where an earlier call with the same arguments stopped.

    In a process group (``python -m smaug_eval.trainers`` under ``accelerate launch`` or torchrun) every process makes
    this call with the same arguments; the main one writes, and where one of them is told to stop, all do.

    With ``dtype`` bfloat16 a full training keeps its weights in float32 and computes in bfloat16 (updates of 1e-5 would
    be lost in bfloat16 weights); LoRA keeps the base in bfloat16 and its adapter in float32.

    Args:
        spec: What to train, on what, and where to.
        should_stop: Asked after every step; true saves a checkpoint to resume from and ends the call.
        on_progress: Receives ``(step, steps, row)`` for every row of ``log.jsonl``, and before that
            ``(pairs, all pairs, {})`` while the reference is scored.
        on_note: Receives what is worth saying once: the exact loss, how the model scores pairs, and how many pairs were
            cut, left out or encoded with a remark (:mod:`smaug_eval.trainers.remarks`).
        on_warning: Receives what a reader of the numbers should know, as soon as it shows: other processes than were
            asked for, a part of the model without an adapter; and, at the first evaluation before the end that shows
            it, that the preferred answers have become less likely than the base model has them.

    Raises:
        Interrupted: ``should_stop`` was true before the last step.
        SmaugError: the model or the pairs cannot be used, or a loss is not finite.
    """
    spec = spec.with_digests()
    training = SettledTraining(spec, Listeners(should_stop, on_progress, on_note, on_warning))
    spec.out_dir.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        result = _finish(training)
    if process_index() == 0:
        write_json(spec.out_dir / SUMMARY_FILE, result.summary())
        mark_finished(spec.out_dir, training.identity)
        shutil.rmtree(training.resume_dir, ignore_errors=True)
    return result


@dataclass(frozen=True)
class _Loaded:
    """Hold what a training starts from.

    Attributes:
        model: The base.
        tokenizer: Its own.
        base_config: The base's configuration as it was read.
        max_length: Longest text in tokens.
        pairs: Encoded.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    base_config: PreTrainedConfig
    max_length: int
    pairs: EncodedSets


@dataclass(frozen=True)
class _StepsTaken:
    """Hold what the steps have led to.

    Attributes:
        policy: The trained model.
        weights: All its weights.
        rows: Of the log.
        scorer: Scores pairs with the model.
        noise: What of the model answers at random.
        scored: The training pairs, with the reference's scores.
        held_out: The held-out pairs; None where there are none.
        pairs: The sets, after any filter.
        coverage: What the adapter adapts; None for a full training.
        warnings: Told before the first step.
        kept_step: Step that the weights are of, where that is not the last.
    """

    policy: Any
    weights: Mapping[str, Tensor]
    rows: list[Row]
    scorer: Scorer
    noise: Noise
    scored: ScoredPairs
    held_out: ScoredPairs | None
    pairs: EncodedSets
    coverage: LoraCoverage | None
    warnings: list[str]
    kept_step: int | None = None

    @property
    def last_step(self) -> int:
        """Return the last step that the log has."""
        return int(max(row["step"] for row in self.rows))


def _finish(training: SettledTraining) -> TrainingResult:
    """Load, encode, score the reference, train, save."""
    spec, config = training.spec, training.config
    if spec.dtype not in START_TOLERANCE:
        raise SmaugError(f"cannot train in dtype {spec.dtype!r}", fix=f"choose one of {', '.join(START_TOLERANCE)}")
    if (setting := config.needs_held_out) is not None and training.eval_file is None:
        raise SmaugError(f"{setting} uses held-out pairs, and there are none", fix="set holdout in the pair set")
    check_libraries(config)
    # Brings several processes together.
    arguments = training_arguments(config, training.resume_dir, training.seed)
    # A caller may have been killed before it took note of the result.
    before = finished_result(spec.out_dir, training.identity)
    if not any_process(before is None) and before is not None:
        return before
    check_row_form(config, spec.train_file)
    check_ches(training)
    for name in (CHECKPOINT_FOLDER, *([ADAPTER_FOLDER] if config.lora else [])):
        check_place(spec.out_dir / name)
    found = process_warnings(spec.processes_asked, process_count(), training.pairs_a_step)
    early = training.listeners.warned(found)
    resume_from = checkpoint_to_resume_from(training.resume_dir, spec.name, training.date)
    arguments.eval_on_start = resume_from is None
    loaded = _load(training, arguments)
    trained = _train(training, loaded, arguments, resume_from, early)
    names = {name for name, weight in trained.policy.named_parameters() if weight.requires_grad}
    check_finite({name: weight for name, weight in trained.weights.items() if name in names}, trained.last_step)
    result = _result(training, loaded, trained)
    if process_index() == 0:
        result = save_result(
            trained.policy,
            trained.weights,
            loaded.tokenizer,
            loaded.base_config,
            spec.model_path,
            spec.out_dir,
            result,
            pairs=(trained.held_out or trained.scored).pairs,
            on_note=training.listeners.on_note,
            trust_remote_code=spec.trust_remote_code,
            base_source=spec.base_source,
            base_revision=spec.base_revision,
            own_template=training.config.chat_template is not None,
        )
    return result


def _load(training: SettledTraining, arguments: TrainingArguments) -> _Loaded:
    """Load the model and encode the pairs for it; a reference that is another model is scored in between."""
    spec, config = training.spec, training.config
    model, tokenizer = _load_start(training, arguments)
    try:
        check_parts(model, config, tokenizer)
    except SmaugError as error:
        raise SmaugError(f"training {spec.name}: {error.message}", fix=error.fix) from error
    base_config = copy.deepcopy(model.config)
    max_length = fitting_length(config.max_length, model)
    pairs = encode_sets(
        config,
        tokenizer,
        spec.train_file,
        training.eval_file,
        max_length=max_length,
        date=kept_date(training.resume_dir),
        seed=training.seed,
        folder=spec.out_dir,
    )
    check_ids(itertools.chain(pairs.train.pairs, pairs.eval.pairs), model, spec.model_path)
    if spec.reference is not None and not ReferenceScoring(training).is_kept((pairs.train, pairs.eval)):
        del model  # one model in memory at a time
        score_other_reference(training, arguments, tokenizer, pairs, max_length)
        model, _ = _load_start(training, arguments)
    return _Loaded(model, tokenizer, base_config, max_length, pairs)


def check_parts(model: PreTrainedModel, config: TrainingConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse settings that name what a model does not have, before anything is encoded or scored.

    Raises:
        SmaugError: the model has no such module, parameter or token, or no router.
    """
    if config.lora is not None:
        check_adapter(model, config.lora, tokenizer)
    if config.router_aux_loss_coef:
        RouterLoss(model)


def _load_start(
    training: SettledTraining, arguments: TrainingArguments
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    spec, config = training.spec, training.config
    model, tokenizer = load_model(
        spec.model_path,
        dtype=spec.dtype,
        keep_dtype=config.lora is not None,
        use=Use.TRAINING if config.lora is None else Use.ADAPTER,
        quantize=training.quantize,
        device=None if weights_are_sharded() else arguments.device,
        trust_remote_code=spec.trust_remote_code,
    )
    if config.chat_template is not None:
        tokenizer.chat_template = template_text(config.chat_template)
    return model, tokenizer


def _train(
    training: SettledTraining,
    loaded: _Loaded,
    arguments: TrainingArguments,
    resume_from: Path | None,
    early: list[str],
) -> _StepsTaken:
    """Score the reference and take the steps."""
    config, listeners = training.config, training.listeners
    model, pairs = loaded.model, loaded.pairs
    reference = ReferenceScoring(training)
    check_same_pairs(
        training.resume_dir,
        pairs.digests(),
        resumes=resume_from is not None,
        scored=all(reference.path(each).is_file() for each in (pairs.train, pairs.eval) if each.pairs),
        writes=process_index() == 0,
    )
    coverage = None
    listeners.on_note(config.describe())
    if config.rate_note is not None:
        listeners.on_note(config.rate_note)
    for remark in pairs.remarks:
        listeners.on_note(remark.text)
    with ExitStack() as still:
        still.enter_context(no_dropout(model))
        scorer = still.enter_context(scoring(model, share=config.share_prefix))
        listeners.on_note(scorer.describe())
        check_sharded(scorer, loaded.max_length)
        noise = still.enter_context(without_noise(model, scorer))
        if (note := noise.note()) is not None:
            listeners.on_note(note)
        before = training.spec.start_adapter
        further = further_adapter(model, before, config.lora) if config.lora and before else None
        pairs, scored = _scored_training_pairs(training, scorer, model, pairs, reference, arguments)
        held_out = reference.scored(scorer, model, pairs.eval) if pairs.eval.pairs else None
        # The reference is the model without its fresh adapter, which comes only now.
        policy = further or (
            with_adapter(model, config.lora, training.seed, loaded.tokenizer) if config.lora else model
        )
        if further is not None and before is not None:
            listeners.on_note(described(further, before))
        if isinstance(policy, PeftModel):
            coverage = measured_coverage(policy)
            listeners.on_note(coverage.describe())
            early = early + listeners.warned(coverage.warnings())
        steps = Steps(training, reference, arguments, resume_from)
        extras = Extras(loaded.tokenizer, partial(_write_kept, training, loaded, policy), pairs.rejoined)
        taken = steps.take(policy, scorer, scored, held_out, extras)
    return _StepsTaken(
        policy, taken.weights, taken.rows, scorer, noise, scored, held_out, pairs, coverage, early, taken.kept_step
    )


def _scored_training_pairs(
    training: SettledTraining,
    scorer: Scorer,
    model: Any,
    pairs: EncodedSets,
    reference: ReferenceScoring,
    arguments: TrainingArguments,
) -> tuple[EncodedSets, ScoredPairs]:
    """Filter the training pairs where that is asked for, and score those that will be seen by the reference."""
    whole, kept = pairs, None
    if training.spec.ches is not None:
        found, kept, text = filtered(training, scorer, model, pairs.train)
        training.listeners.on_note(text)
        pairs = replace(pairs, train=found, remarks=(*pairs.remarks, Remark(text, is_warning=True)))
    if kept is not None and training.spec.reference is not None:  # it was scored before the pairs were filtered
        tokens = reference.scored(scorer, model, whole.train).reference
        few = TokenLogProbs(Selected(tokens.chosen, kept), Selected(tokens.rejected, kept))
        return pairs, ScoredPairs(pairs.train.pairs, few)
    seen = seen_pairs(training.config, arguments, pairs.train.pairs)
    return pairs, reference.scored(scorer, model, pairs.train, seen=seen)


def _write_kept(
    training: SettledTraining, loaded: _Loaded, policy: Any, weights: Mapping[str, Tensor], folder: Path
) -> None:
    dtype = DTYPES[training.spec.dtype]
    write_kept(policy, weights, loaded.tokenizer, loaded.base_config, training.spec.model_path, folder, dtype)


def _result(training: SettledTraining, loaded: _Loaded, trained: _StepsTaken) -> TrainingResult:
    """Return what the training left, before it is saved."""
    spec, config = training.spec, training.config
    train_pairs, eval_pairs = trained.pairs.train, trained.pairs.eval
    diagnosis = last_diagnosis(spec.out_dir, trained.kept_step) if trained.held_out else None
    return TrainingResult(
        name=spec.name,
        loss=config.loss,
        formula=config.entry.formula,
        normalisation=config.entry.normalisation,
        weights=config.weights,
        forward=trained.scorer.way.value,
        steps=trained.last_step,
        pairs=len(train_pairs.pairs),
        eval_pairs=len(eval_pairs.pairs),
        dropped=dict(sorted((train_pairs.dropped + eval_pairs.dropped).items())),
        truncated=train_pairs.truncated,
        truncated_prompts=train_pairs.truncated_prompts,
        truncated_completions=train_pairs.truncated_completions,
        max_length=loaded.max_length,
        seed=training.seed,
        dtype=spec.dtype,
        quantize=training.quantize,
        processes=process_count(),
        base=training.base,
        model_sha256=str(spec.model_sha256),
        train_sha256=sha256_of_file(spec.train_file),
        seconds=trained.rows[-1]["seconds"],
        final=_final(trained.rows, trained.kept_step),
        diagnostics=diagnosis,
        warnings=_warnings(training, trained, diagnosis),
        encoding={
            "rule": ENCODING_RULE,
            "date": None if train_pairs.date is None else train_pairs.date.isoformat(),
            "merged": train_pairs.merged,
            "notes": [remark.text for remark in trained.pairs.remarks],
        },
        processes_asked=spec.processes_asked,
        lora=None if trained.coverage is None else trained.coverage.as_dict(),
        stored=None if training.stored is None else training.stored.name,
        reference=None if spec.reference is None else spec.reference.name,
        kept_step=trained.kept_step,
    )


def _warnings(training: SettledTraining, trained: _StepsTaken, diagnosis: Mapping[str, Any] | None) -> list[str]:
    """List what a reader of the numbers should know."""
    config = training.config
    expected = start_losses(training, trained.held_out)
    return [
        *trained.warnings,
        *_merge_warnings(config, training.stored is not None),
        *([warning] if (warning := trained.noise.warning()) else []),
        *(remark.text for remark in trained.pairs.remarks if remark.is_warning),
        *start_warnings(trained.rows, expected, start_tolerance(training)),
        *([diagnosis["warning"]] if diagnosis and diagnosis["warning"] else []),
    ]


def _merge_warnings(config: TrainingConfig, stored: bool) -> list[str]:
    if stored or config.lora is None or config.lora.quantize is None:
        return []  # what is stored quantised is merged into the very weights that it was trained on
    return [
        f"the adapter was trained on a base of {config.lora.quantize} weights; checkpoint/ is merged into the base as "
        "it was given, whose log-probabilities differ a little from those of the log"
    ]


def check_sharded(scorer: Scorer, max_length: int) -> None:
    """Refuse texts that go through a sharded model one at a time.

    Each process would make another number of passes, and all of them wait for each other in every one.

    Raises:
        SmaugError: there may be such texts.
    """
    if weights_are_sharded() and not scorer.takes(max_length):
        raise SmaugError(
            f"FSDP and DeepSpeed cannot train this model on texts of up to {max_length} tokens: {scorer.describe()}",
            fix="launch it with recipes/accelerate/ddp.yaml"
            if scorer.limit is None
            else f"set max_length to {scorer.limit} at most, or launch it with recipes/accelerate/ddp.yaml",
        )


def _final(rows: list[Row], step: int | None) -> dict[str, float]:
    """Return the means over held-out pairs of the last row or a step's; of the last training row without such."""
    evaluated = (row for row in reversed(rows) if row["split"] == "eval" and step in (None, row["step"]))
    row = next(evaluated, rows[-1])
    return {name: value for name, value in row.items() if name not in ("split", "step", "epoch", "seconds")}
