"""Compute log-probabilities of the two completions of preference pairs, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from smaug_eval.prefix.layout import Layout, PrefixGroup, row_budgets
from smaug_eval.prefix.scorer import Scorer, Way
from smaug_eval.trainers.tokenization import EncodedPair


@dataclass(frozen=True)
class PairLogProbs:
    """Hold ``log pi(token | everything before it)`` of the completions of some pairs, in nats.

    Attributes:
        chosen: Of each pair the tokens of the chosen completion, shape ``(|y_w|,)``.
        rejected: Of each pair the tokens of the rejected one, shape ``(|y_l|,)``.
    """

    chosen: tuple[Tensor, ...]
    rejected: tuple[Tensor, ...]

    def sums(self) -> tuple[Tensor, Tensor]:
        """Return ``log pi(y_w | x)`` and ``log pi(y_l | x)``, each of shape ``(pairs,)``.

        Summed in float64: log-ratios are small differences of sums of hundreds of tokens.
        """
        chosen, rejected = ([tokens.double().sum() for tokens in side] for side in (self.chosen, self.rejected))
        return torch.stack(chosen), torch.stack(rejected)

    def heads(self) -> tuple[Tensor, Tensor]:
        """Return the sums over the first ``min(|y_w|, |y_l|)`` tokens of each completion, as :meth:`sums`."""
        pairs = list(zip(self.chosen, self.rejected, strict=True))
        chosen = torch.stack([first[: len(second)].double().sum() for first, second in pairs])
        return chosen, torch.stack([second[: len(first)].double().sum() for first, second in pairs])


def pair_group(pair: EncodedPair) -> PrefixGroup:
    """Return a pair as texts that begin alike.

    Prompt and common beginning of the completions, then what is left of each.
    """
    common = pair.common
    prefix = np.concatenate([pair.prompt, pair.chosen[:common]])
    return PrefixGroup(prefix, (pair.chosen[common:], pair.rejected[common:]), scored_from=len(pair.prompt))


def pair_layout(scorer: Scorer, pairs: Sequence[EncodedPair]) -> Layout:
    """Return the pairs as the input of one forward pass."""
    return scorer.layout([pair_group(pair) for pair in pairs])


def pair_log_probs(
    scorer: Scorer, model: nn.Module, layout: Layout, *, autocast: torch.dtype | None = None
) -> PairLogProbs:
    """Return the log-probabilities of the pairs of a layout made by :func:`pair_layout`.

    Tokens that both completions share are scored once and credited to both.

    Args:
        scorer: From :func:`smaug_eval.prefix.scorer.scoring`.
        model: The model; gradients flow unless switched off outside.
        layout: The pairs.
        autocast: Half-precision type to compute matrix products in, for weights kept in float32.
    """
    return PairLogProbs(*split_pairs(layout, scorer.log_probs(model, layout, autocast=autocast)))


def split_pairs(layout: Layout, values: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Split values of scored tokens, shape ``(scored, ...)``, into each chosen and each rejected completion."""
    parts = layout.parts(values)
    if not layout.spans:
        return parts[::2], parts[1::2]
    triples = list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))
    chosen = tuple(torch.cat([shared, tail]) for shared, tail, _ in triples)
    return chosen, tuple(torch.cat([shared, tail]) for shared, _, tail in triples)


def computed_tokens(scorer: Scorer, pair: EncodedPair) -> int:
    """Return the tokens that one forward pass computes for a pair, padding aside."""
    if scorer.way is Way.PACKED:
        return pair_group(pair).packed_length
    return 2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) - 2


def scoring_batches(scorer: Scorer, pairs: Sequence[EncodedPair], row_tokens: int) -> list[list[int]]:
    """Return the indices of pairs in batches of about ``row_tokens`` tokens, longest first, so that little is padding.

    The same pairs always give the same batches: a model scored twice over them sees the same shapes and rounds alike.
    """
    order = sorted(range(len(pairs)), key=lambda index: (-pairs[index].length, index))
    lengths = [computed_tokens(scorer, pairs[index]) for index in order]
    return [[order[place] for place in row] for row in row_budgets(lengths, row_tokens)]
