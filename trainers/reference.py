"""Log-probabilities under the reference, the model before training: computed once, kept in memory and on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import nn

from trainers.log_probs import pair_batch, token_log_probs
from trainers.tokenization import EncodedPair, batches_by_length

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ReferenceLogProbs:
    """What the reference thinks of a list of pairs, in nats.

    Attributes:
        chosen: Summed log-probability of each chosen completion, shape ``(pairs,)``.
        rejected: The same of the rejected ones.
        chosen_tokens: Log-probability of each token, all chosen completions one after the other.
        rejected_tokens: The same of the rejected ones.
    """

    chosen: Floats
    rejected: Floats
    chosen_tokens: Floats
    rejected_tokens: Floats


def reference_key(*, model_sha256: str, pairs_sha256: str, precision: str) -> str:
    """Name of a reference in the cache: it changes with the weights, the data, the tokenisation or the precision."""
    return hashlib.sha256("\n".join((model_sha256, pairs_sha256, precision)).encode()).hexdigest()


def reference_log_probs(
    model: nn.Module,
    pairs: Sequence[EncodedPair],
    *,
    batch_size: int,
    device: torch.device,
    autocast: torch.dtype | None,
    before_batch: Callable[[int, int], None] = lambda done, total: None,
) -> ReferenceLogProbs:
    """Score every pair with ``model`` as it is, in evaluation mode and without gradients.

    Args:
        model: The reference, on ``device``.
        pairs: What to score.
        batch_size: Pairs per forward pass.
        device: Where the model is.
        autocast: As in :func:`trainers.log_probs.token_log_probs`.
        before_batch: Called before each forward pass with the pairs scored and the pairs in all; raises to stop.
    """
    chosen, rejected = np.zeros(len(pairs), np.float32), np.zeros(len(pairs), np.float32)
    chosen_tokens: list[Floats] = [np.empty(0, np.float32)] * len(pairs)
    rejected_tokens: list[Floats] = [np.empty(0, np.float32)] * len(pairs)
    was_training = model.training
    model.eval()
    scored = 0
    for indices in batches_by_length(pairs, batch_size):
        before_batch(scored, len(pairs))
        scored += len(indices)
        batch = pair_batch([pairs[index] for index in indices]).to(device)
        with torch.no_grad():
            tokens = token_log_probs(model, batch, autocast=autocast).cpu()
        sums, targets = tokens.sum(dim=1).numpy(), batch.completion_mask[:, 1:].cpu()
        for row, index in enumerate(indices):
            partner = row + len(indices)
            chosen[index], rejected[index] = sums[row], sums[partner]
            chosen_tokens[index] = tokens[row][targets[row]].numpy()
            rejected_tokens[index] = tokens[partner][targets[partner]].numpy()
    model.train(was_training)
    return ReferenceLogProbs(chosen, rejected, np.concatenate(chosen_tokens), np.concatenate(rejected_tokens))


def save_reference(reference: ReferenceLogProbs, path: Path) -> None:
    """Write a reference as safetensors; the file is complete or absent."""
    partial = path.with_name(f".{path.name}.tmp")
    save_file(dict(vars(reference)), partial)
    partial.replace(path)


def load_reference(path: Path) -> ReferenceLogProbs | None:
    """Read a saved reference; None where there is none or it is damaged, so that it is computed anew."""
    try:
        return ReferenceLogProbs(**load_file(path))
    except (OSError, SafetensorError, TypeError):
        return None
