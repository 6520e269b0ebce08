"""Find the pairs that a training of few steps will see, so that the reference is scored for these alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather_object
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers import Trainer, TrainingArguments

from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.items import Items
from smaug_eval.trainers.processes import process_count, weights_are_sharded
from smaug_eval.trainers.questions import sampler_of
from smaug_eval.trainers.ragged import Floats
from smaug_eval.trainers.reference import TokenLogProbs
from smaug_eval.trainers.tokenization import EncodedPair


class _Numbers(Dataset):
    """Stand in for the pairs: each item is its own number."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:
        return index


class _Drawing(Trainer):
    """Draws as the trainer of a training does."""

    sampler: Sampler[int] | None = None

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        return self.sampler or super()._get_train_sampler(train_dataset)


def seen_pairs(config: TrainingConfig, arguments: TrainingArguments, pairs: Sequence[EncodedPair]) -> list[int] | None:
    """Return the numbers of the pairs that a training will see, in order; None where it sees all.

    They are those that transformers' trainer draws with the same arguments.

    Args:
        config: The settings.
        arguments: The trainer's.
        pairs: The training pairs.
    """
    count = len(pairs)
    batches = (config.steps or 0) * config.gradient_accumulation
    if not batches or batches * config.batch_size * process_count() >= count or weights_are_sharded():
        return None
    with torch.random.fork_rng():
        trainer = _Drawing(
            nn.Linear(1, 1), arguments, train_dataset=_Numbers(count), data_collator=torch.tensor, callbacks=[]
        )
        trainer.sampler = sampler_of(config, arguments, pairs)
        loader = trainer.get_train_dataloader()
        own = [int(number) for batch in itertools.islice(loader, batches) for number in batch]
    everybody = {number for share in gather_object([own]) for number in share} if process_count() > 1 else set(own)
    return sorted(everybody)


def spread(scores: TokenLogProbs, seen: Sequence[int], pairs: Sequence[EncodedPair]) -> TokenLogProbs:
    """Return scores of some pairs as scores of all, which are no numbers where a pair was not scored.

    A loss that reads one of these is none, which stops the training.
    """
    places = {number: place for place, number in enumerate(seen)}
    return _SpreadLogProbs(
        _SpreadOut(scores.chosen, places, lambda number: len(pairs[number].chosen), len(pairs)),
        _SpreadOut(scores.rejected, places, lambda number: len(pairs[number].rejected), len(pairs)),
        scores,
        seen,
    )


@dataclass(frozen=True)
class _SpreadLogProbs(TokenLogProbs):
    """Log-probabilities of some pairs as those of all; no pair that was not scored is looked at to add them up.

    Attributes:
        few: Of the scored pairs.
        seen: Their numbers.
    """

    few: TokenLogProbs
    seen: Sequence[int]

    @cached_property
    def sums(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the sums, no numbers where a pair was not scored."""
        return self._of_all(self.few.sums)

    @cached_property
    def heads(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the sums over the first tokens, no numbers where a pair was not scored."""
        return self._of_all(self.few.heads)

    def _of_all(
        self, few: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        chosen, rejected = (np.full(len(self.chosen), np.nan) for _ in few)
        chosen[self.seen], rejected[self.seen] = few
        return chosen, rejected


class _SpreadOut(Items[Floats]):
    """Rows of numbers of which only some are known."""

    def __init__(
        self, known: Sequence[Floats], places: Mapping[int, int], length: Callable[[int], int], count: int
    ) -> None:
        self._known, self._places, self._length, self._count = known, places, length, count

    def __len__(self) -> int:
        return self._count

    def at(self, place: int) -> Floats:
        if place in self._places:
            return self._known[self._places[place]]
        return np.full(self._length(place), np.nan, np.float32)
