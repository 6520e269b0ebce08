"""Log-probabilities of completions: the one place where a model is asked how likely a text is."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainers.tokenization import EncodedPair

PADDING_ID = 0  # any id will do: padding stands to the right of everything that is scored, and is masked


@dataclass(frozen=True)
class PairBatch:
    """Sequences of ``n`` pairs: rows ``0..n-1`` are prompt + chosen, rows ``n..2n-1`` prompt + rejected.

    Attributes:
        input_ids: Right-padded ids, shape ``(2n, length)``.
        completion_mask: True on the tokens of completions, shape ``(2n, length)``.
    """

    input_ids: Tensor
    completion_mask: Tensor

    def to(self, device: torch.device) -> PairBatch:
        """The same batch on another device."""
        return PairBatch(self.input_ids.to(device), self.completion_mask.to(device))


def pair_batch(pairs: Sequence[EncodedPair]) -> PairBatch:
    """Lay out pairs as one right-padded batch."""
    rows = [(pair.prompt, pair.chosen) for pair in pairs] + [(pair.prompt, pair.rejected) for pair in pairs]
    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    input_ids = torch.full((len(rows), length), PADDING_ID, dtype=torch.long)
    completion_mask = torch.zeros((len(rows), length), dtype=torch.bool)
    for row, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        input_ids[row, : len(prompt)] = torch.from_numpy(prompt)
        input_ids[row, len(prompt) : end] = torch.from_numpy(completion)
        completion_mask[row, len(prompt) : end] = True
    return PairBatch(input_ids, completion_mask)


def token_log_probs(model: nn.Module, batch: PairBatch, *, autocast: torch.dtype | None = None) -> Tensor:
    """``log pi(token | everything before it)`` of every completion token, in nats.

    Logits are asked for only where a completion token is predicted, and normalised in float32. The model gets no
    padding mask: padding is on the right, out of sight of a causal model's tokens, and plain causal attention is
    the faster kernel.

    Args:
        model: A causal language model; gradients flow unless switched off outside.
        batch: Sequences on the model's device.
        autocast: Half-precision type to compute matrix products in, for weights kept in float32.

    Returns:
        Shape ``(2n, length - 1)``, float32: column ``t`` belongs to token ``t + 1``, and is 0 where that token is not
        part of a completion.
    """
    targets = batch.completion_mask[:, 1:]
    columns = targets.any(dim=0).nonzero().squeeze(1)
    arguments = {"logits_to_keep": columns} if _takes_logits_to_keep(model) else {}
    with torch.autocast(batch.input_ids.device.type, dtype=autocast, enabled=autocast is not None):
        logits = model(input_ids=batch.input_ids, use_cache=False, **arguments).logits
    if not arguments:
        logits = logits[:, columns]
    scored = targets[:, columns]
    ids = batch.input_ids[:, 1:][:, columns]
    log_probs = -cross_entropy(logits[scored].float(), ids[scored].to(logits.device), reduction="none")
    result = torch.zeros(targets.shape, dtype=torch.float32, device=log_probs.device)
    return result.masked_scatter(targets.to(log_probs.device), log_probs)


def _takes_logits_to_keep(model: nn.Module) -> bool:
    core = model.get_base_model() if isinstance(model, PeftModel) else model
    return "logits_to_keep" in inspect.signature(type(core).forward).parameters
