"""Compute log-probabilities at the scored places, in chunks, so that logits never fill the memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

HEAD_LOGITS = 2**24  # logits held at a time, 64 MiB in float32


ANSWER_LOGITS = 2**22  # the same without gradients: few enough to stay near the processor


def head_log_probs(head: nn.Module, hidden: Tensor, targets: Tensor, config: Any) -> Tensor:
    """Compute ``log softmax(head(hidden))`` at the targets, in chunks, so that logits never fill the memory.

    Args:
        head: The output head.
        hidden: Last hidden states, shape ``(scored, size)``.
        targets: Ids, shape ``(scored,)``.
        config: The model's configuration, for its scale or soft cap of logits.

    Returns:
        Log-probabilities in nats, shape ``(scored,)``, float32. Chunks beyond the first are computed again in the
        backward pass.
    """
    rows = max(1, HEAD_LOGITS // config.get_text_config().vocab_size)
    if len(targets) <= rows:
        return _head_chunk(head, config, hidden, targets)
    chunks = zip(hidden.split(rows), targets.split(rows), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([_head_chunk(head, config, *chunk) for chunk in chunks])
    return torch.cat([checkpoint(_head_chunk, head, config, *chunk, use_reentrant=False) for chunk in chunks])


def head_answers(
    head: nn.Module, hidden: Tensor, sources: Tensor, targets: Tensor, config: Any
) -> tuple[Tensor, Tensor]:
    """Compute :func:`head_log_probs` without gradients, and whether each target is the likeliest token.

    A position that predicts several targets, as the last one of a question with several answers, goes through the head
    once.

    Args:
        head: The output head.
        hidden: Last hidden states of a whole layout, shape ``(rows * length, size)``.
        sources: Indices into ``hidden`` of the states that predict the targets, shape ``(scored,)``.
        targets: Ids, shape ``(scored,)``.
        config: The model's configuration.

    Returns:
        Log-probabilities in nats, shape ``(scored,)``, float32, and as many truth values.
    """
    distinct, rows = sources.unique(return_inverse=True)
    log_probs = torch.empty(len(targets), device=hidden.device)
    greedy = torch.empty(len(targets), device=hidden.device, dtype=torch.bool)
    step = max(1, ANSWER_LOGITS // config.get_text_config().vocab_size)
    for first in range(0, len(distinct), step):
        states = hidden.index_select(0, distinct[first : first + step])
        logits = _adjusted(head(states), config.get_text_config()).float().to(hidden.device)
        here = ((rows >= first) & (rows < first + step)).nonzero().squeeze(1)
        row, target = rows[here] - first, targets[here]
        found, most = logits[row, target], logits.amax(dim=-1)
        greedy[here] = found == most[row]
        # Of equally likely tokens the first counts, as for argmax, which is slow enough to be asked last.
        top = greedy[here].nonzero().squeeze(1)
        greedy[here[top]] = logits[row[top]].argmax(dim=-1) == target[top]
        total = logits.sub_(most[:, None]).exp_().sum(dim=-1)
        log_probs[here] = found - (most + total.log())[row]
    return log_probs, greedy


def _head_chunk(head: nn.Module, config: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = _adjusted(head(hidden), config.get_text_config()).float()
    return -cross_entropy(logits, targets.to(logits.device), reduction="none")


def _adjusted(logits: Tensor, config: Any) -> Tensor:
    """What some families do to logits after the head: Cohere and Granite scale them, Gemma caps them."""
    if (scale := getattr(config, "logit_scale", None)) is not None:
        logits = logits * scale
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / divisor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = cap * torch.tanh(logits / cap)
    return logits
