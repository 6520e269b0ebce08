"""Compute log-probabilities under the reference, the model before training: once, kept in memory and on disk."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open
from torch import nn

from smaug_eval.common.files import open_atomically
from smaug_eval.engines.journal import StreamedJournal
from smaug_eval.prefix.scorer import Scorer
from smaug_eval.trainers.log_probs import pair_layout, pair_log_probs, scoring_batches
from smaug_eval.trainers.processes import process_count, process_index
from smaug_eval.trainers.ragged import Floats, Ragged, empty_rows
from smaug_eval.trainers.tokenization import EncodedPair

DIGEST = "sha256"
"""Of the numbers, in the metadata of their file."""
_PIECE, _EXCHANGED = 1 << 20, 1000
"""Numbers that are written or read at once, and pairs that processes exchange at once."""


@dataclass(frozen=True)
class TokenLogProbs:
    """Hold a model's log-probabilities of the completions of a list of pairs, token by token, in nats.

    Attributes:
        chosen: Of each pair the log-probabilities of the chosen completion's tokens, shape ``(|y_w|,)``.
        rejected: Of each pair those of the rejected one, shape ``(|y_l|,)``.
    """

    chosen: Sequence[Floats]
    rejected: Sequence[Floats]

    @cached_property
    def sums(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return ``log pi(y_w | x)`` and ``log pi(y_l | x)`` of every pair, each of shape ``(pairs,)``."""
        chosen, rejected = ([tokens.sum(dtype=np.float64) for tokens in side] for side in (self.chosen, self.rejected))
        return np.array(chosen), np.array(rejected)

    @cached_property
    def heads(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the sums over the first ``min(|y_w|, |y_l|)`` tokens of each completion, as :attr:`sums`."""
        both = np.array(
            [
                (first[: len(second)].sum(dtype=np.float64), second[: len(first)].sum(dtype=np.float64))
                for first, second in zip(self.chosen, self.rejected, strict=True)
            ]
        ).reshape(-1, 2)
        return both[:, 0], both[:, 1]


def reference_key(*, model_sha256: str, pairs_sha256: str, precision: str) -> str:
    """Name of a reference in the cache: it changes with the weights, the data, the tokenisation or the precision."""
    return hashlib.sha256("\n".join((model_sha256, pairs_sha256, precision)).encode()).hexdigest()


def score_pairs(
    scorer: Scorer,
    model: nn.Module,
    pairs: Sequence[EncodedPair],
    *,
    row_tokens: int,
    autocast: torch.dtype | None,
    before_batch: Callable[[int, int], None] = lambda done, total: None,
    journal: StreamedJournal | None = None,
    alone: bool = False,
    folder: Path | None = None,
) -> TokenLogProbs:
    """Score every pair with ``model`` as it is, in evaluation mode and without gradients.

    Of several processes each scores its share, and all get the whole.

    Args:
        scorer: From :func:`smaug_eval.prefix.scorer.scoring`.
        model: The model.
        pairs: What to score.
        row_tokens: Tokens of a forward pass.
        autocast: As in :func:`smaug_eval.trainers.log_probs.pair_log_probs`.
        before_batch: Called before each forward pass with the pairs scored and the pairs in all; raises to stop.
        journal: Keeps every finished batch, and what is in it is not computed again; None keeps nothing.
        alone: Whether this process scores all of them, and the others none.
        folder: Where the numbers go, in a file that is mapped into memory; None to keep them in memory.
    """
    was_training = model.training
    model.eval()
    processes, rank = (1, 0) if alone else (process_count(), process_index())
    found = _Found(pairs, folder)
    for key, both in () if journal is None else journal.stored():
        found.put(int(key), (_from_text(both[0]), _from_text(both[1])))
    # Who reads last may find more: all must leave out the same.
    known = {index for share in gather_object([found.indices()]) for index in share} if processes > 1 else found.done
    batches = [batch for batch in scoring_batches(scorer, pairs, row_tokens) if not known.issuperset(batch)]
    scored, new = len(known), set(found.done)
    for turn in range(0, len(batches), processes):
        before_batch(scored, len(pairs))
        scored += sum(len(batch) for batch in batches[turn : turn + processes])
        # Where the batches do not come out even, some process repeats the first: all must do the same number.
        indices = batches[turn + rank if turn + rank < len(batches) else 0]
        layout = pair_layout(scorer, [pairs[index] for index in indices])
        with torch.no_grad():
            tokens = pair_log_probs(scorer, model, layout, autocast=autocast)
        sides = ([row.float().cpu().numpy() for row in side] for side in (tokens.chosen, tokens.rejected))
        rows = dict(zip(indices, zip(*sides, strict=True), strict=True))
        if journal is not None:
            journal.add({str(index): [_as_text(tokens) for tokens in both] for index, both in rows.items()})
        for index, both in rows.items():
            found.put(index, both)
        new |= set(indices)
    model.train(was_training)
    if processes > 1:
        found.exchange(sorted(new))
    return TokenLogProbs(*found.sides)


class _Found:
    """What is known of some pairs, and of which."""

    def __init__(self, pairs: Sequence[EncodedPair], folder: Path | None) -> None:
        lengths = np.array([(len(pair.chosen), len(pair.rejected)) for pair in pairs], np.int64).reshape(-1, 2)
        self.sides = (empty_rows(lengths[:, 0], folder), empty_rows(lengths[:, 1], folder))
        self.done: set[int] = set()

    def put(self, index: int, both: tuple[Floats, Floats]) -> None:
        """Take the numbers of a pair; those of no pair here, or of another length, are left."""
        if not 0 <= index < len(self.sides[0]):
            return
        rows = [side[index] for side in self.sides]
        if all(len(row) == len(numbers) for row, numbers in zip(rows, both, strict=True)):
            for row, numbers in zip(rows, both, strict=True):
                row[:] = numbers
            self.done.add(index)

    def indices(self) -> list[int]:
        """The pairs that are known."""
        return sorted(self.done)

    def exchange(self, own: Sequence[int]) -> None:
        """Take what the other processes have found, and give them what this one has, in pieces."""
        for start in range(0, max(map(len, gather_object([list(own)])), default=0), _EXCHANGED):
            piece = [
                (index, *(np.array(side[index]) for side in self.sides)) for index in own[start : start + _EXCHANGED]
            ]
            for index, chosen, rejected in gather_object(piece):
                self.put(index, (chosen, rejected))


def save_reference(reference: TokenLogProbs, path: Path) -> None:
    """Write a reference as safetensors with a digest of its numbers; the file is complete or absent."""
    tensors: dict[str, npt.NDArray[Any]] = {}
    for name in ("chosen", "rejected"):
        side: Sequence[Floats] = getattr(reference, name)
        rows = side if isinstance(side, Ragged) else Ragged(np.concatenate(side), np.array([len(row) for row in side]))
        tensors |= {name: rows.values, f"{name}_lengths": rows.lengths}
    header: dict[str, Any] = {"__metadata__": {DIGEST: _digest(tensors)}}
    end = 0
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    for name in order:
        start, end = end, end + tensors[name].nbytes
        kind = "F32" if tensors[name].dtype == np.float32 else "I64"
        header[name] = {"dtype": kind, "shape": [len(tensors[name])], "data_offsets": [start, end]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open_atomically(path) as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in order:
            for piece in _pieces(tensors[name]):
                file.write(piece.data)


def load_reference(path: Path) -> TokenLogProbs | None:
    """Read a saved reference, mapped into memory.

    None where there is none or it is damaged, so that it is computed again.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            known, lengths = (file.metadata() or {}).get(DIGEST), {}
            for name in ("chosen", "rejected"):
                lengths[name] = file.get_tensor(f"{name}_lengths")
        sides = {name: _mapped(path, name) for name in ("chosen", "rejected")}
        tensors = {**sides, **{f"{name}_lengths": found for name, found in lengths.items()}}
        if known != _digest(tensors):
            return None
        return TokenLogProbs(*(Ragged(sides[name], lengths[name]) for name in ("chosen", "rejected")))
    except (OSError, SafetensorError, KeyError, IndexError, ValueError, TypeError):
        return None


def _mapped(path: Path, name: str) -> Floats:
    """A tensor of float32 in a safetensors file that was opened before, mapped into memory."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        found = json.loads(file.read(size))[name]
    start, end = found["data_offsets"]
    if found["dtype"] != "F32" or start == end:
        raise ValueError(f"{name} holds no numbers")
    return np.memmap(path, "<f4", "r", offset=8 + size + start, shape=((end - start) // 4,))


def _as_text(tokens: Floats) -> str:
    return base64.b64encode(tokens.astype("<f4").tobytes()).decode("ascii")


def _from_text(text: str) -> Floats:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)


def _digest(tensors: Mapping[str, npt.NDArray[np.generic]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        for piece in _pieces(tensors[name]):
            digest.update(piece.data)
    return digest.hexdigest()


def _pieces(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """An array in pieces of little memory."""
    for start in range(0, len(values), _PIECE):
        yield np.ascontiguousarray(values[start : start + _PIECE])
