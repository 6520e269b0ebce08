"""Log-probabilities under the reference, the model before training: computed once, kept in memory and on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import nn

from smaug_eval.scorer import Scorer
from trainers.log_probs import pair_layout, pair_log_probs, scoring_batches
from trainers.processes import process_count, process_index
from trainers.tokenization import EncodedPair

Floats = npt.NDArray[np.float32]


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
    """
    was_training = model.training
    model.eval()
    batches = scoring_batches(scorer, pairs, row_tokens)
    processes, rank = process_count(), process_index()
    found: list[tuple[int, Floats, Floats]] = []
    scored = 0
    for turn in range(0, len(batches), processes):
        before_batch(scored, len(pairs))
        scored += sum(len(batch) for batch in batches[turn : turn + processes])
        # Where the batches do not come out even, some process repeats the first: all must do the same number.
        indices = batches[turn + rank if turn + rank < len(batches) else 0]
        layout = pair_layout(scorer, [pairs[index] for index in indices])
        with torch.no_grad():
            tokens = pair_log_probs(scorer, model, layout, autocast=autocast)
        sides = ([row.float().cpu().numpy() for row in side] for side in (tokens.chosen, tokens.rejected))
        found += zip(indices, *sides, strict=True)
    model.train(was_training)
    if processes > 1:
        found = gather_object(found)
    by_index = {index: (chosen, rejected) for index, chosen, rejected in found}
    ordered = [by_index[index] for index in range(len(pairs))]
    return TokenLogProbs(tuple(chosen for chosen, _ in ordered), tuple(rejected for _, rejected in ordered))


def save_reference(reference: TokenLogProbs, path: Path) -> None:
    """Write a reference as safetensors; the file is complete or absent."""
    partial = path.with_name(f".{path.name}.tmp")
    tensors = {}
    for side in ("chosen", "rejected"):
        tokens: tuple[Floats, ...] = getattr(reference, side)
        tensors[side] = np.concatenate(tokens)
        tensors[f"{side}_lengths"] = np.array([len(pair) for pair in tokens], np.int64)
    save_file(tensors, partial)
    partial.replace(path)


def load_reference(path: Path) -> TokenLogProbs | None:
    """Read a saved reference; None where there is none or it is damaged, so that it is computed anew."""
    try:
        tensors = load_file(path)
        sides = []
        for side in ("chosen", "rejected"):
            ends = np.cumsum(tensors[f"{side}_lengths"])
            if ends[-1] != len(tensors[side]):
                return None
            sides.append(tuple(np.split(tensors[side], ends[:-1])))
        return TokenLogProbs(*sides)
    except (OSError, SafetensorError, KeyError, IndexError):
        return None
