"""Hold the token ids of pairs."""

from __future__ import annotations

import datetime
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.int32]


@dataclass(frozen=True)
class EncodedPair:
    """Hold the token ids of a pair; each completion follows the same prompt.

    Attributes:
        prompt: Ids of the prompt, at least one.
        chosen: Ids of the chosen completion.
        rejected: Ids of the rejected completion.
        weight: Factor of the pair's loss.
        label: Of an unpaired completion whether it is desirable; None for a pair. The completion is ``chosen``,
            whatever its label; ``rejected`` is that of another prompt, from which KTO estimates a divergence (see
            :mod:`smaug_eval.trainers.unpaired`).
    """

    prompt: TokenIds
    chosen: TokenIds
    rejected: TokenIds
    weight: float = 1.0
    label: bool | None = None

    @property
    def length(self) -> int:
        """Return the tokens of the prompt and the longer completion."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def common(self) -> int:
        """Return how many leading tokens chosen and rejected share; at most the shorter one's length."""
        return shared_length(self.chosen, self.rejected)


@dataclass
class EncodedPairs:
    """Hold the pairs that can be trained on.

    Attributes:
        pairs: In the order of the rows.
        dropped: Pairs left out, by reason; see :meth:`smaug_eval.trainers.tokenization.PairEncoder.encode`.
        truncated: Pairs of which the prompt or a completion was cut.
        truncated_prompts: Pairs of which the prompt was cut.
        truncated_completions: Pairs of which at least one completion was cut.
        cut_systems: Pairs of which the prompt was cut and its system's turn did not fit.
        merged: Pairs of which a token spans the border, so that the end of the prompt is scored with the completions.
        merged_characters: Most characters of a prompt that are scored so.
        reopened: Pairs of which the chat template opens an answer otherwise than it writes one; the prompt ends there.
        altered: Pairs of which the chat template leaves out or changes a part of a completion.
        unread: Keys of messages and template settings that the chat template does not read.
        date: The day that the chat template took for today; None where it did not ask.
    """

    pairs: Sequence[EncodedPair] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    truncated_prompts: int = 0
    truncated_completions: int = 0
    cut_systems: int = 0
    merged: int = 0
    merged_characters: int = 0
    reopened: int = 0
    altered: int = 0
    unread: tuple[str, ...] = ()
    date: datetime.date | None = None
    _known: tuple[Sequence[EncodedPair], str] | None = field(default=None, repr=False, compare=False)

    def sha256(self) -> str:
        """Digest of every id and boundary, and of weights: what the data and the tokenisation together amount to."""
        if self._known is not None and self._known[0] is self.pairs and not isinstance(self.pairs, list):
            return self._known[1]  # what is no list does not change
        digest = hashlib.sha256()
        for pair in self.pairs:
            for ids in (pair.prompt, pair.chosen, pair.rejected):
                digest.update(len(ids).to_bytes(8, "little"))
                digest.update(np.ascontiguousarray(ids, dtype="<i4").tobytes())
            if pair.weight != 1:
                digest.update(f"weight {pair.weight!r}".encode())
            if pair.label is not None:
                digest.update(f"label {pair.label}".encode())
        self._known = (self.pairs, digest.hexdigest())
        return self._known[1]


def shared_length(one: TokenIds, other: TokenIds) -> int:
    """Return how many leading ids two sequences share."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length
