"""Measure whether an adapter changes what its model computes, before anything is scored with it.

Several tools load an adapter, say nothing, and score the base: names of modules that match nothing, a kind of adapter
that needs PEFT's own forward pass, a LoRA request that is dropped. All of these end in the base's own numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.adapter_files import adapter_settings

TOKENS = 32
_STEP = 7919  # a prime: ids from all over the vocabulary
_MOST_NAMED = 16


def probe_tokens(vocabulary: int, adapter: Path) -> list[int]:
    """Return the ids of the tokens that an adapter is tried on.

    Tokens that the adapter itself names, because it trained their embeddings or begins to act at them, are among them.

    Args:
        vocabulary: Rows of the model's embedding.
        adapter: Folder of the adapter.
    """
    settings = adapter_settings(adapter)
    named: list[int] = []
    for key in ("alora_invocation_tokens", "trainable_token_indices"):
        value = settings.get(key)
        parts = value.values() if isinstance(value, Mapping) else [value]
        named += [token for part in parts if isinstance(part, list) for token in part[:_MOST_NAMED]]
    spread = [(number * _STEP + 1) % vocabulary for number in range(TOKENS)]
    return [token for token in named if isinstance(token, int) and 0 <= token < vocabulary] + spread


def probed_log_probs(model: Any, ids: Sequence[int]) -> list[float]:
    """Return the log-probability in nats that a loaded transformers model gives each token after the first.

    Args:
        model: The model; an encoder with a decoder is given the same tokens on both sides.
        ids: The tokens.
    """
    import torch

    tokens = torch.tensor([list(ids)], device=model.get_input_embeddings().weight.device)
    both = {"decoder_input_ids": tokens} if getattr(model.config, "is_encoder_decoder", False) else {}
    with torch.no_grad():
        logits = model(input_ids=tokens, **both).logits[0, :-1].float()
    targets = tokens[0, 1:, None].to(logits.device)
    return [float(value) for value in torch.log_softmax(logits, -1).gather(1, targets)[:, 0]]


def check_effect(
    adapter: Path, before: Sequence[float], after: Sequence[float], *, dtype: str, tolerance: float = 0.0
) -> float:
    """Make sure that an adapter changes the log-probabilities of some tokens.

    Args:
        adapter: Folder of the adapter.
        before: Log-probabilities by the base alone, in nats.
        after: Of the same tokens with the adapter.
        dtype: Precision of the model, for the message.
        tolerance: Differences up to this many nats are what another order of sums makes of the same numbers.

    Returns:
        The largest difference in nats.

    Raises:
        SmaugError: there is no difference, or the adapter makes numbers that are not finite.
    """
    if not all(map(math.isfinite, after)) and all(map(math.isfinite, before)):
        raise SmaugError(
            f"the adapter {adapter} gives log-probabilities that are not finite in {dtype}",
            fix="set model.dtype to bfloat16 or float32, or train the adapter again",
        )
    largest = max((abs(one - other) for one, other in zip(before, after, strict=True)), default=0.0)
    if not largest > tolerance:
        raise SmaugError(
            f"the adapter {adapter} has no effect: the log-probabilities of {len(after)} tokens are those of its base "
            f"(in {dtype}, to {tolerance or 0:g} nats), so every score would be the base's",
            fix="check that it was trained and on this base: before the first step LoRA's matrices B are all zero. "
            "Where smaug-eval merge changes the weights, evaluate what that writes",
        )
    return largest
