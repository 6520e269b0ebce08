"""Log-probabilities under the reference, the model before training: computed once, kept in memory and on disk."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save
from torch import nn

from smaug_eval.engines.journal import Journal
from smaug_eval.files import open_atomically
from smaug_eval.scorer import Scorer
from trainers.log_probs import pair_layout, pair_log_probs, scoring_batches
from trainers.processes import process_count, process_index
from trainers.tokenization import EncodedPair

Floats = npt.NDArray[np.float32]
DIGEST = "sha256"
"""Of the numbers, in the metadata of their file."""


@dataclass(frozen=True)
class TokenLogProbs:
    """What a model thinks of the completions of a list of pairs, token by token, in nats.

    Attributes:
        chosen: Of each pair the log-probabilities of the chosen completion's tokens, shape ``(|y_w|,)``.
        rejected: Of each pair those of the rejected one, shape ``(|y_l|,)``.
    """

    chosen: tuple[Floats, ...]
    rejected: tuple[Floats, ...]

    @cached_property
    def sums(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """``log pi(y_w | x)`` and ``log pi(y_l | x)`` of every pair, each of shape ``(pairs,)``."""
        chosen, rejected = ([tokens.sum(dtype=np.float64) for tokens in side] for side in (self.chosen, self.rejected))
        return np.array(chosen), np.array(rejected)


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
    journal: Journal | None = None,
) -> TokenLogProbs:
    """Score every pair with ``model`` as it is, in evaluation mode and without gradients.

    Of several processes each scores its share, and all get the whole.

    Args:
        scorer: From :func:`smaug_eval.scorer.scoring`.
        model: The model.
        pairs: What to score.
        row_tokens: Tokens of a forward pass.
        autocast: As in :func:`trainers.log_probs.pair_log_probs`.
        before_batch: Called before each forward pass with the pairs scored and the pairs in all; raises to stop.
        journal: Keeps every finished batch, and what is in it is not computed again; None keeps nothing.
    """
    was_training = model.training
    model.eval()
    processes, rank = process_count(), process_index()
    found = {} if journal is None else _recalled(journal, len(pairs))
    # Who reads last may find more: all must leave out the same.
    known = {index for share in gather_object([list(found)]) for index in share} if processes > 1 else set(found)
    batches = [batch for batch in scoring_batches(scorer, pairs, row_tokens) if not known.issuperset(batch)]
    scored = len(known)
    for turn in range(0, len(batches), processes):
        before_batch(scored, len(pairs))
        scored += sum(len(batch) for batch in batches[turn : turn + processes])
        # Where the batches do not come out even, some process repeats the first: all must do the same number.
        indices = batches[turn + rank if turn + rank < len(batches) else 0]
        layout = pair_layout(scorer, [pairs[index] for index in indices])
        with torch.no_grad():
            tokens = pair_log_probs(scorer, model, layout, autocast=autocast)
        sides = ([row.float().cpu().numpy() for row in side] for side in (tokens.chosen, tokens.rejected))
        new = dict(zip(indices, zip(*sides, strict=True), strict=True))
        if journal is not None:
            journal.add({str(index): [_as_text(tokens) for tokens in both] for index, both in new.items()})
        found |= new
    model.train(was_training)
    if processes > 1:
        found = dict(gather_object(list(found.items())))
    ordered = [found[index] for index in range(len(pairs))]
    return TokenLogProbs(tuple(chosen for chosen, _ in ordered), tuple(rejected for _, rejected in ordered))


def save_reference(reference: TokenLogProbs, path: Path) -> None:
    """Write a reference as safetensors with a digest of its numbers; the file is complete or absent."""
    tensors = {}
    for side in ("chosen", "rejected"):
        tokens: tuple[Floats, ...] = getattr(reference, side)
        tensors[side] = np.concatenate(tokens)
        tensors[f"{side}_lengths"] = np.array([len(pair) for pair in tokens], np.int64)
    with open_atomically(path) as file:
        file.write(save(tensors, {DIGEST: _digest(tensors)}))


def load_reference(path: Path) -> TokenLogProbs | None:
    """Read a saved reference; None where there is none or it is damaged, so that it is computed anew."""
    try:
        tensors = load_file(path)
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get(DIGEST) != _digest(tensors):
                return None
        sides = []
        for side in ("chosen", "rejected"):
            ends = np.cumsum(tensors[f"{side}_lengths"])
            if ends[-1] != len(tensors[side]):
                return None
            sides.append(tuple(np.split(tensors[side], ends[:-1])))
        return TokenLogProbs(*sides)
    except (OSError, SafetensorError, KeyError, IndexError):
        return None


def _recalled(journal: Journal, pairs: int) -> dict[int, tuple[Floats, Floats]]:
    """What an earlier call found of so many pairs."""
    return {
        index: (_from_text(journal[key][0]), _from_text(journal[key][1]))
        for index, key in ((index, str(index)) for index in range(pairs))
        if key in journal
    }


def _as_text(tokens: Floats) -> str:
    return base64.b64encode(tokens.astype("<f4").tobytes()).decode("ascii")


def _from_text(text: str) -> Floats:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)


def _digest(tensors: Mapping[str, npt.NDArray[np.generic]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()
