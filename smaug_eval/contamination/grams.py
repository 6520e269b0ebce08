"""Find runs of words that benchmark documents have in common with training pairs.

:mod:`smaug_eval.contamination.leaks` finds documents whose whole identifying text stands in a pair. Here parts of it
count, too, so that a question with a word altered, or half of one, leaves a trace. Two published measures:

- GPT-3 (Brown et al., arXiv:2005.14165): a document counts where any run of 13 of its words stands in the training
  text, as the Llama 2 report describes it (arXiv:2307.09288, appendix A.6). Documents of fewer words are counted as too
  short; how the original treats them was not looked up.
- PaLM (Chowdhery et al., arXiv:2204.02311): a document counts where at least 70% of its runs of 8 words do. The two
  numbers are from memory, not checked against the report.

Both are given for what identifies a document (:class:`smaug_eval.contamination.leaks.BenchmarkDocument`: the question,
not the answer), as words that :func:`smaug_eval.contamination.leaks.words` normalises; of several wordings the one
with the largest share counts. Runs are compared word by word, so that none is found that is not there. A run stands
within the prompt, within a completion, or across the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from smaug_eval.contamination.leaks import BenchmarkDocument, pair_texts, words

LONG, SHORT = 13, 8
SHORT_SHARE = 0.7
"""Share of a document's runs of ``SHORT`` words that make it count."""

_UNKNOWN = 0
_TABLE_BITS = 24
_SHIFT = np.uint64(64 - _TABLE_BITS)
_LINES_KEPT = 1 << 16

WordIds = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Overlap:
    """Hold what one document has in common with the pairs.

    Attributes:
        document: The document.
        runs: Its runs of so many words; 0 where it is too short.
        seen: Those of them that stand in a pair.
        pair: Index of the first pair with one of them, from 0; None if there is none.
        words: The first of these runs in that pair.
    """

    document: BenchmarkDocument
    runs: int
    seen: int
    pair: int | None
    words: str

    @property
    def share(self) -> float:
        """Return the share of the runs that stand in a pair; 0 where the document is too short."""
        return self.seen / self.runs if self.runs else 0.0


class OverlapFinder:
    """Find the runs of words of some documents in the pairs that it is given.

    Args:
        documents: What to look for.
    """

    def __init__(self, documents: Sequence[BenchmarkDocument]) -> None:
        self._documents = documents
        vocabulary: dict[str, int] = {}
        texts = [
            [
                np.array([vocabulary.setdefault(word, len(vocabulary) + 1) for word in words(text)], np.uint64)
                for text in document.texts
            ]
            for document in documents
        ]
        self._vocabulary = vocabulary
        self._runs = {length: _Runs(texts, length) for length in (LONG, SHORT)}
        self._line_ids = lru_cache(maxsize=_LINES_KEPT)(self._ids_of_line)  # few-shot examples repeat

    def look(self, index: int, row: Mapping[str, Any]) -> None:
        """Search a pair.

        Args:
            index: Its number; pairs come in ascending order.
            row: ``prompt``, ``chosen``, ``rejected`` as text or as lists of messages.
        """
        for stream in self._streams(*pair_texts(row)):
            for runs in self._runs.values():
                runs.look(index, stream)

    def found(self, length: int) -> list[Overlap]:
        """Return what each document has in common with the pairs so far, in runs of ``LONG`` or ``SHORT`` words."""
        names = {number: word for word, number in self._vocabulary.items()}
        found = []
        for document, (runs, seen, pair, ids) in zip(self._documents, self._runs[length].found(), strict=True):
            found.append(Overlap(document, runs, seen, pair, " ".join(names[int(number)] for number in ids)))
        return found

    def _streams(self, prompt: str, *completions: str) -> Iterator[WordIds]:
        before = self._ids(prompt)
        yield before
        for completion in completions:
            yield np.concatenate([before[len(before) - min(len(before), LONG - 1) :], self._ids(completion)])

    def _ids(self, text: str) -> WordIds:
        return np.concatenate([self._line_ids(line) for line in text.split("\n")])

    def _ids_of_line(self, line: str) -> WordIds:
        return np.array([self._vocabulary.get(word, _UNKNOWN) for word in words(line)], np.uint64)


class _Runs:
    """The runs of one length of all documents, and the first pair in which each was seen.

    A table of hashes distinguishes most windows of a pair from all runs; the others are looked up word by word.
    """

    def __init__(self, documents: Sequence[Sequence[WordIds]], length: int) -> None:
        self._length = length
        multipliers = np.random.default_rng(length).integers(1 << 63, size=length, dtype=np.uint64)
        self._multipliers: WordIds = 2 * multipliers + 1
        self._numbers: dict[bytes, int] = {}
        self._table = np.zeros(1 << _TABLE_BITS, np.bool_)
        self._wordings = [[self._learn(text) for text in texts] for texts in documents]
        self._first: list[int | None] = [None] * len(self._numbers)

    def look(self, index: int, stream: WordIds) -> None:
        if len(stream) < self._length:
            return
        windows = np.lib.stride_tricks.sliding_window_view(stream, self._length)
        for where in np.flatnonzero(self._table[(windows @ self._multipliers) >> _SHIFT]).tolist():
            number = self._numbers.get(windows[where].tobytes())
            if number is not None and self._first[number] is None:
                self._first[number] = index

    def found(self) -> Iterator[tuple[int, int, int | None, WordIds]]:
        """Of each document, in the wording of which most is seen: runs, those seen, first pair, run in that pair."""
        ids = [np.frombuffer(run, np.uint64) for run in self._numbers]
        for wordings in self._wordings:
            best: tuple[int, int, int | None, WordIds] = (0, 0, None, np.zeros(0, np.uint64))
            for numbers in wordings:
                seen = [(first, number) for number in numbers if (first := self._first[number]) is not None]
                if not best[0] or (numbers and len(seen) * best[0] > best[1] * len(numbers)):
                    first, number = min(seen, key=lambda each: each[0], default=(None, None))
                    best = (len(numbers), len(seen), first, best[3] if number is None else ids[number])
            yield best

    def _learn(self, text: WordIds) -> list[int]:
        """Numbers of the runs of a text, in order."""
        if len(text) < self._length:
            return []
        windows = np.lib.stride_tricks.sliding_window_view(text, self._length)
        self._table[(windows @ self._multipliers) >> _SHIFT] = True
        return [self._numbers.setdefault(window.tobytes(), len(self._numbers)) for window in windows]
