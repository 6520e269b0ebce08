"""Count what a Llama must compute to score some texts, and measure how fast the machine multiplies its matrices."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from smaug_eval.engines.trie import Text, shared_lengths

ROWS = (128, 512, 2048)
"""Tokens of a row, at which the peak is looked for."""


def useful_flops(config: Any, texts: Sequence[Text]) -> float:
    """Count the floating-point operations that scoring texts takes at least: nothing twice, nothing unasked.

    A token that texts share counts once. Of the last layer, keys and values of all tokens count, the rest, and the
    output head, where a scored token is predicted. A product of matrices counts 2 for each multiplication, attention 4
    for each key that a query sees and each of its numbers; all else counts nothing.

    Args:
        config: Of a Llama with as many key heads as heads.
        texts: Sorted by :func:`~smaug_eval.engines.trie.sort_key`, without repetitions.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    key_value, whole = 2 * 2 * hidden**2, 2 * (4 * hidden**2 + 3 * hidden * inner)
    tokens = asked = seen = seen_by_asked = 0
    predicting: set[int] = set()  # places of the present text of which some text asks what follows
    fed = 0  # places of the present text that are computed already
    for text, shared in zip(texts, shared_lengths(texts), strict=True):
        fed, last = min(fed, shared), len(text.ids) - 1
        new = range(fed, last)
        tokens, seen = tokens + len(new), seen + sum(place + 1 for place in new)
        predicting = {place for place in predicting if place < shared}
        places = set(range(last - text.scored, last)) - predicting
        asked, seen_by_asked = asked + len(places), seen_by_asked + sum(place + 1 for place in places)
        predicting |= places
        fed = max(fed, last)
    layers = config.num_hidden_layers - 1
    attention = 4 * hidden * (layers * seen + seen_by_asked)
    products = tokens * (layers * whole + key_value) + asked * (whole - key_value + 2 * hidden * config.vocab_size)
    return float(products + attention)


def clock_of(device: str) -> Callable[[], float]:
    """Return a clock: of the time that the process computes on a CPU, so that other work counts less; else of time."""
    return time.process_time if device == "cpu" else time.perf_counter


def peak_flops(model: PreTrainedModel, device: str) -> float:
    """Measure the floating-point operations a second of a model's own matrix products, without anything between.

    Each layer's matrices, one after the other, with the rows of :data:`ROWS` that give most.
    """
    layers = model.get_decoder().layers
    linears = [module for module in layers.modules() if isinstance(module, nn.Linear)]
    found = []
    for rows in ROWS:
        states = {
            linear.in_features: torch.randn(rows, linear.in_features, device=device, dtype=linear.weight.dtype)
            for linear in linears
        }
        with torch.inference_mode():
            linears[0](states[linears[0].in_features])
            _wait(device)
            start = clock_of(device)()
            for linear in linears:
                linear(states[linear.in_features])
            _wait(device)
        seconds = clock_of(device)() - start
        found.append(2 * rows * sum(linear.weight.numel() for linear in linears) / seconds)
    return max(found)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
