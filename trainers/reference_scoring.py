"""Score a training's pairs by the reference, interruptibly, or read the scores of an earlier call."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.journal import StreamedJournal
from smaug_eval.prefix.scorer import Scorer
from smaug_eval.trainers.processes import any_process, process_index, wait_for_all, weights_are_sharded
from smaug_eval.trainers.reference import TokenLogProbs, load_reference, reference_key, save_reference, score_pairs
from smaug_eval.trainers.settled import SettledTraining
from smaug_eval.trainers.tokenization import EncodedPairs
from smaug_eval.trainers.trainer import PairTrainer, ScoredPairs
from smaug_eval.trainers.trial import spread

# Of a folder with the finished batches of a reference that is being scored.
UNFINISHED = ".unfinished"


class ReferenceScoring:
    """Score the reference once for each set of pairs.

    Args:
        training: What is trained.
    """

    def __init__(self, training: SettledTraining) -> None:
        self._training = training

    def path(self, encoded: EncodedPairs) -> Path:
        """Return the file of the scores of some pairs."""
        training, spec = self._training, self._training.spec
        quantize = training.quantize
        how = ["autocast"] * (training.autocast is not None) + [quantize] * (quantize is not None)
        how += ["sharded"] * weights_are_sharded()
        precision = " ".join([spec.dtype, *map(str, how)])
        key = reference_key(model_sha256=training.reference_sha256, pairs_sha256=encoded.sha256(), precision=precision)
        return training.reference_dir / f"reference-{key[:16]}.safetensors"

    def scored(
        self, scorer: Scorer, model: PreTrainedModel, encoded: EncodedPairs, *, seen: Sequence[int] | None = None
    ) -> ScoredPairs:
        """Return the pairs with the reference's log-probabilities: from an earlier call or computed, unless sharded.

        Args:
            scorer: How texts are batched and scored.
            model: The reference.
            encoded: The pairs.
            seen: Numbers of the pairs that are needed; None for all.
        """
        reference = load_reference(self.path(encoded))
        # All must do the same, even where one cannot read what the others can.
        reference = None if any_process(reference is None) else reference
        if reference is None and self._training.spec.reference is not None:
            raise SmaugError(f"{self.path(encoded)} cannot be read", fix="run the same command again to score it again")
        if reference is None and seen is not None and self._training.spec.reference is None:
            few = EncodedPairs([encoded.pairs[number] for number in seen])
            return ScoredPairs(encoded.pairs, spread(self.scored(scorer, model, few).reference, seen, encoded.pairs))
        if reference is None and not weights_are_sharded():
            reference = self.score(scorer, model, encoded)
        return ScoredPairs(encoded.pairs, reference or TokenLogProbs((), ()))

    def is_kept(self, sets: Sequence[EncodedPairs]) -> bool:
        """Return whether every process has the scores of some sets of pairs from an earlier call."""
        return not any_process(any(load_reference(self.path(each)) is None for each in sets if each.pairs))

    def score(self, scorer: Scorer, model: PreTrainedModel, encoded: EncodedPairs) -> TokenLogProbs:
        """Score some pairs, and keep the scores."""
        with self._finished_batches(encoded) as journal:
            reference = score_pairs(
                scorer,
                model,
                encoded.pairs,
                row_tokens=self._training.config.row_tokens,
                autocast=self._training.autocast,
                before_batch=self.between_batches,
                journal=journal,
                folder=self._training.reference_dir,
            )
        self._keep(reference, encoded)
        return reference

    def score_sharded(self, trainer: PairTrainer, sets: Sequence[ScoredPairs]) -> None:
        """Let the policy, which no update has touched yet, score the reference: only together do they hold a model."""
        policy = trainer.model
        is_fresh = isinstance(policy, PeftModel) and self._training.spec.start_adapter is None
        with policy.disable_adapter() if is_fresh else nullcontext():
            for pairs in sets:
                encoded = EncodedPairs(pairs.pairs)
                with self._finished_batches(encoded) as journal:
                    pairs.reference = trainer.score(pairs.pairs, self.between_batches, journal)
                self._keep(pairs.reference, encoded)

    def between_batches(self, done: int, total: int) -> None:
        """Stop where that is asked for, and tell how far it is.

        Raises:
            Interrupted: it is; the batches that are done stay.
        """
        listeners = self._training.listeners
        if listeners.asked_to_stop():
            raise self._training.interrupted("while scoring the reference")
        if listeners.on_progress is not None:
            listeners.on_progress(done, total, {})

    @contextmanager
    def _finished_batches(self, encoded: EncodedPairs) -> Iterator[StreamedJournal]:
        """Yield a journal of the reference's batches, from which a stopped scoring resumes."""
        path = self.path(encoded)
        journal = StreamedJournal(path.with_suffix(UNFINISHED), {"reference": path.stem})
        try:
            yield journal
        finally:
            journal.close()

    def _keep(self, reference: TokenLogProbs, encoded: EncodedPairs) -> None:
        wait_for_all()
        if process_index() == 0:
            path = self.path(encoded)
            save_reference(reference, path)
            shutil.rmtree(path.with_suffix(UNFINISHED), ignore_errors=True)
