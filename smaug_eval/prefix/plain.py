"""Score plain rows with a model's own forward pass: a padded batch, or each row by itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from smaug_eval.prefix.layout import Layout

Forward = Callable[..., Any]
"""A model's own ``forward``, as it was before :func:`smaug_eval.prefix.scorer.scoring`."""


class NoHiddenStates(Exception):
    """Report that a model does not show the input of its output head."""


def plain_log_probs(forward: Forward, layout: Layout) -> Tensor:
    """Return the log-probabilities of the scored tokens from the model's own logits.

    The shape is ``(scored,)``, the type float32.
    """
    return torch.cat([_log_probs(forward, part) for part in _parts(layout)])


def plain_answers(forward: Forward, layout: Layout) -> tuple[Tensor, Tensor]:
    """Return :func:`plain_log_probs`, and whether each scored token is the likeliest one."""
    log_probs, greedy = zip(*(_answers(forward, part) for part in _parts(layout)), strict=True)
    return torch.cat(log_probs), torch.cat(greedy)


def plain_hidden(forward: Forward, layout: Layout) -> Tensor:
    """Return the last of the hidden states that the model itself returns, where they predict scored tokens.

    Raises:
        NoHiddenStates: it returns none.
    """
    return torch.cat([_hidden(forward, part) for part in _parts(layout)])


def _parts(layout: Layout) -> Iterable[Layout]:
    return list(layout.alone()) or [layout]


def _log_probs(forward: Forward, layout: Layout) -> Tensor:
    logits = _logits(forward, layout)
    return -cross_entropy(logits, layout.targets.to(logits.device), reduction="none")


def _answers(forward: Forward, layout: Layout) -> tuple[Tensor, Tensor]:
    logits = _logits(forward, layout)
    targets = layout.targets.to(logits.device)
    return -cross_entropy(logits, targets, reduction="none"), logits.argmax(dim=-1) == targets


def _logits(forward: Forward, layout: Layout) -> Tensor:
    """The model's own logits that predict the scored tokens, shape ``(scored, vocabulary)``, float32.

    Only the columns that are needed are computed, where the model can choose.
    """
    width = layout.input_ids.shape[1]
    rows, positions = layout.sources // width, layout.sources % width
    columns, inverse = positions.unique(return_inverse=True)
    takes_columns = "logits_to_keep" in inspect.signature(forward).parameters
    arguments = {"logits_to_keep": columns} if takes_columns else {}
    logits = forward(input_ids=layout.input_ids, use_cache=False, **arguments).logits
    return logits[rows, inverse if takes_columns else positions].float()


def _hidden(forward: Forward, layout: Layout) -> Tensor:
    output = forward(input_ids=layout.input_ids, use_cache=False, output_hidden_states=True)
    states = getattr(output, "hidden_states", None)
    if not states:
        raise NoHiddenStates("the model does not return its hidden states")
    return states[-1].flatten(0, 1).index_select(0, layout.sources)
