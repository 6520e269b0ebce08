"""Find the pairs that ask one question, and order them so that a batch holds all pairs of a question.

Pairs ask one question where they have the same prompt, by its token ids. Those of a question that also have the same
chosen answer stand beside each other.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, Sampler
from transformers import TrainingArguments

from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.encoded_pair import EncodedPair, TokenIds

Numbers = npt.NDArray[np.int64]


def question_numbers(pairs: Sequence[EncodedPair]) -> tuple[Numbers, Numbers]:
    """Return of each pair the number of the first pair with its prompt, and of the first with its chosen answer.

    Args:
        pairs: The pairs; each is read once.

    Returns:
        Two arrays of shape ``(pairs,)``.
    """
    digests = np.array([(_digest(pair.prompt), _digest(pair.chosen)) for pair in pairs], np.uint64).reshape(-1, 2)
    return _first_of_its_kind(digests[:, 0]), _first_of_its_kind(digests[:, 1])


def question_members(pairs: Sequence[EncodedPair]) -> list[Numbers]:
    """Return the numbers of the pairs of each question, questions in the order of their first pairs.

    Args:
        pairs: At least one pair; each is read once.
    """
    questions, answers = question_numbers(pairs)
    order = np.lexsort((answers, questions))
    return np.split(order, np.flatnonzero(np.diff(questions[order])) + 1)


def question_order(members: Sequence[Numbers], batch_size: int, seed: str) -> tuple[list[int], int]:
    """Return the numbers of all pairs so that batches of ``batch_size`` hold whole questions, and how many are cut.

    Questions come in a random order. Where the next one does not fit into a batch, the next that fits is taken before
    it. Where none fits, the next one is cut: its first pairs fill the batch, and the others begin the following one. A
    question with more pairs than a batch fills as many as it can.

    Args:
        members: From :func:`question_members`.
        batch_size: Pairs of a batch.
        seed: Of the order.
    """
    parts = [
        (question, part[start : start + batch_size])
        for question, part in enumerate(members)
        for start in range(0, len(part), batch_size)
    ]
    cut = {question for question, part in enumerate(members) if len(part) > batch_size}
    random.Random(seed).shuffle(parts)
    waiting: dict[int, deque[tuple[int, int, Numbers]]] = {}  # by their number of pairs
    for place, (question, part) in enumerate(parts):
        waiting.setdefault(len(part), deque()).append((place, question, part))
    order: list[int] = []
    room = batch_size
    while waiting:
        fitting = [size for size in waiting if size <= room]
        size = min(fitting or waiting, key=lambda size: waiting[size][0][0])
        _, question, part = waiting[size].popleft()
        if not waiting[size]:
            del waiting[size]
        if size > room:
            cut.add(question)
        order += part.tolist()
        room = (room - size) % batch_size or batch_size
    return order, len(cut)


class QuestionSampler(Sampler[int]):
    """Draw the pairs of each epoch in :func:`question_order`, the same in every process and after a resume.

    Args:
        pairs: The pairs.
        batch_size: Pairs of a batch.
        seed: Of the orders.
    """

    def __init__(self, pairs: Sequence[EncodedPair], batch_size: int, seed: int) -> None:
        self._members = question_members(pairs)
        self._count, self._batch_size, self._seed, self._epoch = len(pairs), batch_size, seed, 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        order, _ = question_order(self._members, self._batch_size, f"{self._seed}:questions:{self._epoch}")
        return iter(order)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, counted from 0."""
        self._epoch = epoch

    def used_by(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        """Return accelerate's loader once it tells this sampler its epochs, also in several processes."""
        set_sampler = getattr(loader, "set_sampler", None)
        if set_sampler is not None:
            set_sampler(self)
        return loader

    def describe(self) -> str:
        """Describe what the batches of the first epoch hold, in a line for the user."""
        _, cut = question_order(self._members, self._batch_size, f"{self._seed}:questions:0")
        sizes = [len(part) for part in self._members]
        several = sum(size > 1 for size in sizes)
        line = f"batches of questions: {len(sizes):,} of up to {max(sizes)} pairs, {several:,} of several"
        if not cut:
            return line
        return f"{line}; {cut:,} do not fit into a batch of {self._batch_size} and continue in the next one"


def sampler_of(
    config: TrainingConfig, arguments: TrainingArguments, pairs: Sequence[EncodedPair]
) -> QuestionSampler | None:
    """Return what draws the pairs of a training; None for transformers' own sampler.

    Args:
        config: The settings.
        arguments: The trainer's.
        pairs: The training pairs.
    """
    if config.batching != "question":
        return None
    seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
    return QuestionSampler(pairs, arguments.train_batch_size, seed)


def _digest(ids: TokenIds) -> int:
    return int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), "little")


def _first_of_its_kind(values: npt.NDArray[np.uint64]) -> Numbers:
    """For each value the place where it is first found."""
    _, first, kinds = np.unique(values, return_index=True, return_inverse=True)
    return np.asarray(first[kinds], np.int64)
