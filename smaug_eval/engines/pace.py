"""Measure how fast requests are answered, and what answering them took."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Work:
    """Hold what scoring some requests took.

    Attributes:
        requested: Tokens that one forward pass for each request would compute.
        unique: Tokens that any scorer must compute: those of the requests' prefix trie.
        computed: Tokens computed, padding included.
        recalled: Requests answered from the journal, which are no part of the other numbers.
    """

    requested: int
    unique: int
    computed: int
    recalled: int = 0

    def __add__(self, other: Work) -> Work:
        """Return what two scorings took together."""
        return Work(
            self.requested + other.requested,
            self.unique + other.unique,
            self.computed + other.computed,
            self.recalled + other.recalled,
        )

    @property
    def saved(self) -> float:
        """Return the share of the requested tokens that were not computed."""
        return 1 - self.computed / self.requested if self.requested else 0.0


class Pace:
    """Measure the progress of some requests.

    Attributes:
        recalled: Requests that need no work.
        requested: Tokens that one forward pass for each request answered since would have computed.
        computed: Tokens that were.
    """

    def __init__(self, documents: Sequence[Any], lengths: Sequence[int], recalled: Iterable[int] = ()) -> None:
        """Start the clock.

        Args:
            documents: The document that each request belongs to.
            lengths: Tokens that one forward pass for each would compute.
            recalled: Requests that need no work.
        """
        self._documents, self._lengths = documents, lengths
        self.recalled = set(recalled)
        self._open = Counter(document for number, document in enumerate(documents) if number not in self.recalled)
        self._finished = self.requested = self.computed = 0
        self._started = time.monotonic()

    def answered(self, numbers: Iterable[int]) -> None:
        """Count these requests as answered."""
        for number in numbers:
            if number not in self.recalled:
                self._open[self._documents[number]] -= 1
                self._finished += not self._open[self._documents[number]]
                self.requested += self._lengths[number]

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        parts = [f"{self._finished / seconds:.3g} docs/s", f"{self.computed / seconds:,.0f} tokens/s"]
        if self.computed < self.requested:
            parts.append(f"{1 - self.computed / self.requested:.0%} of tokens saved")
        return ", ".join(parts)
