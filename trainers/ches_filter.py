"""Train on the pairs alone whose completions the start represents least alike: those with the lowest CHES.

Razin et al., arXiv 2410.08847 (ICLR 2025), keep the 5% of UltraFeedback with the lowest length-normalised scores, after
which the preferred answers no longer fell (the share is from notes on the paper, unverified here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.journal import StreamedJournal
from smaug_eval.prefix.scorer import NoHiddenStates, Scorer
from smaug_eval.trainers.encoded_pair import EncodedPair, EncodedPairs
from smaug_eval.trainers.items import Item, Items
from smaug_eval.trainers.pairs.config import ChesKeys
from smaug_eval.trainers.probes import Ches, ches
from smaug_eval.trainers.processes import weights_are_sharded
from smaug_eval.trainers.reference import reference_key
from smaug_eval.trainers.settled import SettledTraining

DROPPED = "high_ches"
"""Reason under which the pairs that are not kept are counted."""


class Selected(Items[Item]):
    """Show some items of a sequence, which is not copied.

    Args:
        items: The sequence.
        numbers: Of the items, in the order in which they are shown.
    """

    def __init__(self, items: Sequence[Item], numbers: Sequence[int]) -> None:
        self._items, self._numbers = items, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def at(self, place: int) -> Item:
        """Return the item that is shown at a place."""
        return self._items[self._numbers[place]]


def check_ches(training: SettledTraining) -> None:
    """Refuse what cannot be filtered, before a model is loaded.

    Raises:
        SmaugError: the loss reads unpaired completions, or the weights are sharded.
    """
    if training.spec.ches is None:
        return
    if training.config.entry.unpaired:
        raise SmaugError(
            f"ches compares the two completions of a pair, and loss {training.config.loss} reads single ones",
            fix="leave ches out of the pair set, or choose a loss of pairs",
        )
    if weights_are_sharded():
        raise SmaugError(
            "ches cannot be computed where FSDP or DeepSpeed shards the weights",
            fix="launch it with recipes/accelerate/ddp.yaml, or leave ches out of the pair set",
        )


def lowest(scores: Sequence[Ches], keys: ChesKeys) -> list[int]:
    """Return the numbers of the pairs to keep, in their order: at least one; of equal scores the first.

    Args:
        scores: Of all pairs.
        keys: How many to keep, and by which score.
    """
    count = max(1, round(keys.keep * len(scores)))
    values = [each.normalised if keys.normalised else each.score for each in scores]
    return sorted(sorted(range(len(values)), key=lambda number: (values[number], number))[:count])


def filtered(
    training: SettledTraining, scorer: Scorer, model: nn.Module, encoded: EncodedPairs
) -> tuple[EncodedPairs, list[int], str]:
    """Score training pairs by a model, or read the scores of an earlier call, and keep the lowest.

    Args:
        training: The training, whose pair set says how many to keep.
        scorer: How texts are batched and scored.
        model: What the training starts from.
        encoded: Its pairs.

    Returns:
        The pairs kept, their numbers among all, and a sentence on them.

    Raises:
        Interrupted: stopped on request; the scores so far are kept.
        SmaugError: the model does not show its hidden states.
        ValueError: the pair set keeps all.
    """
    keys = training.spec.ches
    if keys is None:
        raise ValueError("the pair set keeps all pairs")
    try:
        scores = _scores(training, scorer, model, encoded)
    except NoHiddenStates as error:
        raise SmaugError(f"ches cannot be computed: {error}", fix="leave ches out of the pair set") from error
    kept = lowest(scores, keys)
    values = [scores[number].normalised if keys.normalised else scores[number].score for number in kept]
    form = "length-normalised CHES" if keys.normalised else "CHES"
    text = (
        f"{len(kept):,} of {len(scores):,} training pairs are kept: those with the lowest {form} under the model that "
        f"the training starts from, up to {max(values):.4g}"
    )
    dropped = encoded.dropped.copy()
    dropped[DROPPED] += len(scores) - len(kept)
    pairs: Sequence[EncodedPair] = Selected(encoded.pairs, kept)
    return replace(encoded, pairs=pairs, dropped=+dropped), kept, text


def _scores(training: SettledTraining, scorer: Scorer, model: nn.Module, encoded: EncodedPairs) -> list[Ches]:
    spec = training.spec
    precision = " ".join([spec.dtype, "autocast" * (training.autocast is not None), str(training.quantize)])
    key = reference_key(model_sha256=f"ches {spec.model_sha256}", pairs_sha256=encoded.sha256(), precision=precision)
    folder = training.reference_dir / f"ches-{key[:16]}"
    journal = StreamedJournal(folder, {"ches": key})
    try:
        return ches(
            scorer,
            model,
            encoded.pairs,
            row_tokens=training.config.row_tokens,
            autocast=training.autocast,
            before_batch=lambda done, total: _between(training, done, total),
            known={int(number): Ches(*values) for number, values in journal.stored()},
            after_batch=lambda new: journal.add(
                {str(number): [each.score, each.normalised] for number, each in new.items()}
            ),
        )
    finally:
        journal.close()


def _between(training: SettledTraining, done: int, total: int) -> None:
    if training.listeners.asked_to_stop():
        raise training.interrupted("while the pairs were scored by CHES")
    if training.listeners.on_progress is not None:
        training.listeners.on_progress(done, total, {})
