"""A preference pair, and a set of them split into training and held-out pairs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pair:
    """Two completions of one prompt, the first preferred.

    Attributes:
        prompt: What the model is given.
        chosen: The preferred completion, with its leading space or newline.
        rejected: The other one.
        question: What identifies the problem: two pairs with the same question never stand on both sides of the split.
    """

    prompt: str
    chosen: str
    rejected: str
    question: str

    def row(self) -> dict[str, str]:
        """The pair in the three columns that preference data sets use."""
        return {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected}


@dataclass
class PairSet:
    """The pairs of one source.

    Attributes:
        train: Pairs to train on.
        eval: Held-out pairs.
        rows: How many rows were read.
        dropped: How many rows or pairs were left out, by reason.
    """

    train: list[Pair]
    eval: list[Pair]
    rows: int
    dropped: Counter[str] = field(default_factory=Counter)


def draw_questions(questions: Iterable[str], count: int, rng: random.Random) -> list[str]:
    """Distinct questions in random order until at least ``count`` of the given ones are covered.

    ``questions`` may repeat (several pairs of one question); the draw depends on the set of questions and on ``rng``,
    not on their order.
    """
    pairs_of = Counter(questions)
    order = sorted(pairs_of)
    rng.shuffle(order)
    drawn: list[str] = []
    covered = 0
    for question in order:
        if covered >= count:
            break
        drawn.append(question)
        covered += pairs_of[question]
    return drawn


def without_questions(pairs: Sequence[Pair], questions: set[str]) -> list[Pair]:
    """The pairs whose question is none of ``questions``, in order."""
    return [pair for pair in pairs if pair.question not in questions]
