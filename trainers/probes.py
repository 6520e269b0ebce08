"""Compare the two completions of a pair in gradients and hidden states, to find pairs that push the chosen one down."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from smaug_eval.prefix.scorer import Scorer
from smaug_eval.trainers.log_probs import pair_layout, pair_log_probs, scoring_batches
from smaug_eval.trainers.tokenization import EncodedPair


@dataclass(frozen=True)
class Ches:
    """Hold the centred hidden embedding similarity of a pair.

    Attributes:
        score: ``<s+, s-> - |s+|^2`` with the sums ``s`` of hidden states.
        normalised: The same with means instead of sums, ``s / |y|``.
    """

    score: float
    normalised: float


def ches(
    scorer: Scorer,
    model: nn.Module,
    pairs: Sequence[EncodedPair],
    *,
    row_tokens: int,
    autocast: torch.dtype | None = None,
    before_batch: Callable[[int, int], None] = lambda done, total: None,
    known: Mapping[int, Ches] | None = None,
    after_batch: Callable[[Mapping[int, Ches]], None] = lambda found: None,
) -> list[Ches]:
    """Compute CHES of pairs: the higher, the more a preference loss is expected to pull the chosen completion down.

    ``CHES = <sum_k h(x, y+ before k), sum_k h(x, y- before k)> - |sum_k h(x, y+ before k)|^2`` over the tokens ``k`` of
    each completion. ``h`` is the hidden state that *predicts* token ``k``, as the output head is given it: from the
    prompt's last token to the completion's last but one. The length-normalised form divides by ``|y+| |y-|`` and
    ``|y+|^2``. Sums are taken in float32.

    Source: Razin et al., arXiv 2410.08847 (ICLR 2025), Definition 2 and the length-normalised variant; the positions as
    in the authors' implementation (princeton-nlp/unintentional-unalignment, ``ches/ches.py``).

    Args:
        scorer: From :func:`smaug_eval.prefix.scorer.scoring`.
        model: The model before training; put into evaluation mode for the time.
        pairs: What to look at.
        row_tokens: Tokens of a forward pass.
        autocast: As in :func:`smaug_eval.trainers.log_probs.pair_log_probs`.
        before_batch: Called before each forward pass with the pairs done and the pairs in all.
        known: Scores of pairs that are known, by their numbers; those are not computed again.
        after_batch: Called after each forward pass with the scores that it gave.
    """
    found: dict[int, Ches] = dict(known or {})
    with _evaluating(model), torch.no_grad():
        for indices in scoring_batches(scorer, pairs, row_tokens):
            if found.keys() >= set(indices):
                continue
            before_batch(len(found), len(pairs))
            layout = pair_layout(scorer, [pairs[index] for index in indices])
            hidden = scorer.hidden_states(model, layout.input, autocast=autocast)
            sides = zip(indices, *layout.split(hidden), strict=True)
            new = {index: _ches(chosen.float(), rejected.float()) for index, chosen, rejected in sides}
            after_batch(new)
            found |= new
    return [found[index] for index in range(len(pairs))]


def gradient_cosines(
    scorer: Scorer, model: nn.Module, pairs: Sequence[EncodedPair], *, autocast: torch.dtype | None = None
) -> list[float | None]:
    """Compute the cosine of the gradients of ``log pi(y_w | x)`` and ``log pi(y_l | x)``, for each pair.

    Near 1, a step that lowers the rejected completion lowers the chosen one with it. Gradients are those of summed
    log-probabilities with respect to all trainable parameters. Of the two only the first is kept whole; the second is
    met parameter by parameter and dropped. Training is not disturbed: gradients that were there and the mode are put
    back, and no random number is drawn.

    Args:
        scorer: From :func:`smaug_eval.prefix.scorer.scoring`.
        model: The model, in one piece on one process.
        pairs: The pairs; one forward and two backward passes each.
        autocast: As in :func:`smaug_eval.trainers.log_probs.pair_log_probs`.

    Returns:
        A number from -1 to 1 for each pair, None where a gradient is 0.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    with _evaluating(model), _gradients_kept(weights), torch.enable_grad():
        return [_gradient_cosine(scorer, model, pair, weights, autocast) for pair in pairs]


def sampled_indices(count: int, size: int, seed: int) -> list[int]:
    """Sample at most ``size`` of ``count`` indices, in order; the same for the same arguments."""
    return sorted(random.Random(f"{seed}:gradient cosine").sample(range(count), min(size, count)))


def _ches(chosen: Tensor, rejected: Tensor) -> Ches:
    one, other = chosen.sum(dim=0), rejected.sum(dim=0)
    mean, other_mean = one / len(chosen), other / len(rejected)
    return Ches(float(one @ other - one @ one), float(mean @ other_mean - mean @ mean))


def _gradient_cosine(
    scorer: Scorer, model: nn.Module, pair: EncodedPair, weights: Sequence[nn.Parameter], autocast: torch.dtype | None
) -> float | None:
    log_probs = pair_log_probs(scorer, model, pair_layout(scorer, [pair]), autocast=autocast)
    chosen, rejected = log_probs.sums()
    kept: dict[Tensor, Tensor] = {}
    square = other_square = product = 0.0

    def keep(weight: Tensor) -> None:
        nonlocal square
        kept[weight] = _taken(weight)
        square += _dot(kept[weight], kept[weight])

    def compare(weight: Tensor) -> None:
        nonlocal other_square, product
        gradient = _taken(weight)
        other_square += _dot(gradient, gradient)
        if weight in kept:
            product += _dot(kept[weight], gradient)

    with _hooked(weights, keep):
        chosen.sum().backward(retain_graph=True)
    with _hooked(weights, compare):
        rejected.sum().backward()
    norms = math.sqrt(square) * math.sqrt(other_square)
    return product / norms if norms and math.isfinite(norms) else None


def _taken(weight: Tensor) -> Any:
    """The gradient that has just arrived, taken out of ``.grad`` so that only one lies there at a time."""
    gradient, weight.grad = weight.grad, None
    return gradient


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one.flatten().float(), other.flatten().float()))


@contextmanager
def _hooked(weights: Sequence[nn.Parameter], hook: Callable[[Tensor], None]) -> Iterator[None]:
    handles = [weight.register_post_accumulate_grad_hook(hook) for weight in weights]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _gradients_kept(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    saved = [weight.grad for weight in weights]
    for weight in weights:
        weight.grad = None
    try:
        yield
    finally:
        for weight, gradient in zip(weights, saved, strict=True):
            weight.grad = gradient


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
