"""Train on unpaired rows: split pairs into them, and set each completion beside that of another prompt.

KTO compares a completion's log-ratio with an estimate of the policy's divergence from the reference, which is the mean
log-ratio of completions behind prompts that they do not answer. As in TRL's ``KTOTrainer`` these are the completions of
the same batch, each moved to the next prompt: ``(x_1, y_n), (x_2, y_1), ..., (x_n, y_n-1)``. Batches are therefore
drawn in a fixed order. A prompt is computed once for its own completion and the other.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.encoded_pair import EncodedPair, TokenIds
from smaug_eval.trainers.items import Items
from smaug_eval.trainers.losses import PairScores
from smaug_eval.trainers.pairs.pair import COMPLETION_COLUMN, LABEL_COLUMN
from smaug_eval.trainers.reference import TokenLogProbs

Row = Mapping[str, Any]
SPLIT_TOGETHER = 1000
"""Pairs whose chosen completions all come before their rejected ones, as in TRL's ``unpair_preference_dataset``."""


def unpaired_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield unpaired rows as they are, and a pair's chosen and rejected completions as two of them.

    Args:
        rows: As :func:`smaug_eval.trainers.pairs.read.read_pairs` gives them.
    """
    rows = iter(rows)
    while taken := list(itertools.islice(rows, SPLIT_TOGETHER)):
        yield from (row if LABEL_COLUMN in row else _half(row, "chosen", True) for row in taken)
        yield from (_half(row, "rejected", False) for row in taken if LABEL_COLUMN not in row)


def order_of(count: int, seed: int) -> list[int]:
    """Return a random order of so many completions, in which every pass over them goes."""
    order = list(range(count))
    random.Random(f"{seed}:unpaired").shuffle(order)
    return order


class Mismatched(Items[EncodedPair]):
    """Hold unpaired completions, each beside that of another prompt of the same batch.

    Args:
        examples: The completions; what is under ``rejected`` is not read.
        batch_size: Completions of a batch; the last may have fewer. One that is alone stands beside itself, as in TRL.
        max_length: Most tokens of a prompt and the completion that is not its own, which is cut at its end.
        order: Numbers of the completions in the order in which they come; None for their own.
    """

    def __init__(
        self, examples: Sequence[EncodedPair], batch_size: int, max_length: int, order: Sequence[int] | None = None
    ) -> None:
        self._examples, self._size, self._most = examples, batch_size, max_length
        self._order: Sequence[int] = range(len(examples)) if order is None else order

    def __len__(self) -> int:
        return len(self._order)

    def at(self, place: int) -> EncodedPair:
        """Return the completion of a number, beside the other prompt's."""
        first = place - place % self._size
        last = min(first + self._size, len(self)) - 1
        own = self._examples[self._order[place]]
        other = self._examples[self._order[place - 1 if place > first else last]]
        return replace(own, rejected=other.chosen[: max(1, self._most - len(own.prompt))])


class Rejoined:
    """Find both completions of pairs among single completions, so that a pair's scores are put together again.

    A pair is found where prompt and completions have the same token ids in both. It is not where a limit cuts a pair
    and its completions in different ways.

    Args:
        pairs: Pairs, as a loss of pairs has them.
        completions: Single completions with labels, into which these and others were split.

    Attributes:
        pairs: Those that were found.
        lost: How many were not.
    """

    def __init__(self, pairs: Iterable[EncodedPair], completions: Iterable[EncodedPair]) -> None:
        known = {_ids(each.prompt, each.chosen, each.label): place for place, each in enumerate(completions)}
        self.pairs: list[EncodedPair] = []
        self.lost = 0
        self._places: list[tuple[int, int]] = []
        for pair in pairs:
            chosen, rejected = (
                known.get(_ids(pair.prompt, completion, label))
                for completion, label in ((pair.chosen, True), (pair.rejected, False))
            )
            if chosen is None or rejected is None:
                self.lost += 1
            else:
                self.pairs.append(pair)
                self._places.append((chosen, rejected))

    @cached_property
    def completions(self) -> frozenset[int]:
        """Return the numbers of the completions that are of :attr:`pairs`."""
        return frozenset(itertools.chain.from_iterable(self._places))

    def scores(self, completions: TokenLogProbs) -> TokenLogProbs:
        """Return the log-probabilities of :attr:`pairs`, from those of all completions."""
        return TokenLogProbs(*([completions.chosen[both[side]] for both in self._places] for side in (0, 1)))


def with_labels(
    scores: PairScores, labels: Sequence[bool | None] | Tensor, *, batch_size: int | None = None
) -> PairScores:
    """Return the scores of unpaired completions with their labels and the estimate of the divergence of each batch.

    The estimate is the mean log-ratio of the completions that are not the prompts' own, and at least 0.

    Args:
        scores: Of the completions (``chosen``) and of those beside them (``rejected``), in the order of the batches.
        labels: Whether each is desirable.
        batch_size: Completions of a batch; None for all.
    """
    ratios = scores.rho_l.detach()
    means = [part.mean().clamp(min=0).expand(len(part)) for part in ratios.split(batch_size or max(1, len(ratios)))]
    known = torch.as_tensor(labels, dtype=torch.bool, device=ratios.device)
    return replace(scores, labels=known, kl=torch.cat(means))


def label_remarks(labels: Sequence[bool | None], weights: Mapping[str, float], what: str) -> list[str]:
    """Return what is worth saying of labels: that there is only one, or that the weights do not even out their numbers.

    Source of the range from 1 to 4/3: Ethayarajh et al., arXiv 2402.01306, Eq. 8, as TRL's ``KTOTrainer`` has it.

    Args:
        labels: Whether each completion is desirable.
        weights: ``desirable_weight`` and ``undesirable_weight``.
        what: What to call the completions.
    """
    desirable = sum(bool(label) for label in labels)
    undesirable = len(labels) - desirable
    if not desirable or not undesirable:
        only, missing = ("desirable", "lowered") if desirable else ("undesirable", "raised")
        return [f"all {len(labels):,} {what} are {only}: no completion is {missing} by its label"]
    ratio = desirable * weights["desirable_weight"] / max(1e-12, undesirable * weights["undesirable_weight"])
    if 0.995 <= ratio <= 4 / 3 + 0.005:
        return []
    return [
        f"{desirable:,} {what} are desirable and {undesirable:,} undesirable, which their weights bring to a ratio of "
        f"{ratio:.3g}; KTO's authors recommend 1 to 1.33: set desirable_weight or undesirable_weight"
    ]


def check_unpaired(pairs: Sequence[EncodedPair], what: str) -> None:
    """Refuse a set of one completion, from which no divergence can be estimated.

    Raises:
        SmaugError: it is one.
    """
    if len(pairs) == 1:
        raise SmaugError(
            f"{what}: one completion is left, and KTO estimates its divergence from those of other prompts",
            fix="give at least two rows",
        )


def _ids(prompt: TokenIds, completion: TokenIds, label: bool | None) -> tuple[bytes, bytes, bool]:
    return prompt.tobytes(), completion.tobytes(), bool(label)


def _half(row: Row, side: str, label: bool) -> Row:
    rest = {name: value for name, value in row.items() if name not in ("chosen", "rejected")}
    return {**rest, COMPLETION_COLUMN: row[side], LABEL_COLUMN: label}
