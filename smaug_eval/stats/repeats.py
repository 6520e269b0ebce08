"""Estimate what several sampled answers to each document say: pass@k, maj@k, and the two parts of a mean's variance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RepeatedMean:
    """Hold the mean of values with several repeats of each document.

    Attributes:
        mean: Mean over documents of their means over repeats.
        stderr: Its standard error, of documents and repeats together; None for a single document.
        stderr_repeats: The part of it that more repeats would take away; None for a single repeat.
        per_repeat: The mean over documents of each repeat.
    """

    mean: float
    stderr: float | None
    stderr_repeats: float | None
    per_repeat: tuple[float, ...]

    @property
    def stderr_documents(self) -> float | None:
        """Return the part of the standard error that only more documents would take away."""
        if self.stderr is None or self.stderr_repeats is None:
            return self.stderr
        return math.sqrt(max(0.0, self.stderr**2 - self.stderr_repeats**2))

    @property
    def between_repeats(self) -> float | None:
        """Return the standard deviation of the repeats' means; None for a single repeat."""
        return float(np.std(self.per_repeat, ddof=1)) if len(self.per_repeat) > 1 else None


def repeated_mean(values: Sequence[Sequence[float]]) -> RepeatedMean:
    """Average over documents and repeats.

    The variance of the mean is ``Var(x) / n + E[sigma^2] / (n k)`` for document means ``x`` and variances ``sigma^2``
    within documents (Miller 2024, "Adding Error Bars to Evals", arXiv:2411.00640, section 3.1). The standard deviation
    of the documents' observed means, over ``sqrt(n)``, holds both parts.

    Args:
        values: Of each document the values of its repeats, shape ``(documents, repeats)``.

    Raises:
        ValueError: there is no document, or the documents have different numbers of repeats.
    """
    table = np.array(values, np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError("values must have the shape (documents, repeats), neither of them 0")
    documents, repeats = table.shape
    means = table.mean(axis=1)
    stderr = float(means.std(ddof=1) / math.sqrt(documents)) if documents > 1 else None
    within = float(math.sqrt(table.var(axis=1, ddof=1).mean() / (documents * repeats))) if repeats > 1 else None
    return RepeatedMean(float(means.mean()), stderr, within, tuple(map(float, table.mean(axis=0))))


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Return the probability that one of ``k`` answers is right, without bias, from more answers than that.

    ``1 - C(n - c, k) / C(n, k)`` (Chen et al. 2021, "Evaluating Large Language Models Trained on Code",
    arXiv:2107.03374, equation 1).

    Args:
        samples: Answers sampled, ``n``.
        correct: How many of them are right, ``c``.
        k: How many may be tried.

    Raises:
        ValueError: ``k`` or ``correct`` is more than ``samples``, or ``k`` is not positive.
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(f"pass@{k} cannot be estimated from {samples} answers, {correct} of them right")
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def majority_at_k(votes: Mapping[Hashable, int], right: Mapping[Hashable, float], k: int, abstained: int = 0) -> float:
    """Return the expected score of the answer that most of ``k`` samples give, without bias, from more samples.

    Self-consistency (Wang et al. 2022, arXiv:2203.11171), as maj1@k of Lewkowycz et al. 2022 (arXiv:2206.14858). The
    mean is over all sets of ``k`` among the samples, each of them as likely, which makes it a U-statistic. Of answers
    with equally many votes each wins equally often.

    Args:
        votes: Number of samples that gave each answer.
        right: Score of each answer, in [0, 1].
        k: Samples that vote.
        abstained: Samples without an answer; a set of these alone scores 0.

    Raises:
        ValueError: there are fewer than ``k`` samples.
    """
    samples = sum(votes.values()) + abstained
    if not 1 <= k <= samples:
        raise ValueError(f"maj@{k} cannot be estimated from {samples} answers")
    total = 0.0
    for answer, count in votes.items():
        if not right[answer]:
            continue
        others = [number for other, number in votes.items() if other != answer]
        for won in range(1, min(count, k) + 1):
            ways = _ways(others, k - won, won, abstained)
            total += right[answer] * math.comb(count, won) * sum(way / (1 + ties) for ties, way in ways.items())
    return total / math.comb(samples, k)


def _ways(others: Sequence[int], left: int, most: int, abstained: int) -> dict[int, int]:
    """In how many ways the rest of a set can be drawn, no other answer more than ``most`` times, by who has as many."""
    found: dict[tuple[int, int], int] = {(0, 0): 1}  # drawn, other answers with exactly ``most`` votes
    for count in others:
        after: dict[tuple[int, int], int] = {}
        for (drawn, ties), ways in found.items():
            for taken in range(min(count, most, left - drawn) + 1):
                key = drawn + taken, ties + (taken == most)
                after[key] = after.get(key, 0) + ways * math.comb(count, taken)
        found = after
    ends: dict[int, int] = {}
    for (drawn, ties), ways in found.items():
        if 0 <= left - drawn <= abstained:
            ends[ties] = ends.get(ties, 0) + ways * math.comb(abstained, left - drawn)
    return ends
