"""Compute log-probabilities of the two completions of preference pairs, token by token."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from smaug_eval.engines.trie import Text, common_length, grow, sort_key
from smaug_eval.prefix.layout import Layout, PrefixGroup, PrefixTree
from smaug_eval.prefix.scorer import Scorer, Way
from smaug_eval.trainers.questions import question_numbers
from smaug_eval.trainers.tokenization import EncodedPair

FEWEST_SAVED = 2
"""Tokens whose saving is worth another piece of a row, among the texts of a question."""
SHARED_SHOTS = 64
"""Tokens that prompts of different questions must begin with alike to share them: for fewer, the attention behind them
costs more than they do."""


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


@dataclass(frozen=True)
class PairLayout:
    """Hold pairs laid out as the input of one forward pass, and where each completion stands among its scored tokens.

    Attributes:
        input: The input.
        places: Indices among the scored tokens: of the first pair's chosen completion, of its rejected one, of the
            second pair's chosen one, ... A token that several completions share is named by each of them.
        lengths: How many of them belong to each completion.
    """

    input: Layout
    places: Tensor
    lengths: tuple[int, ...]

    def split(self, values: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Split values of scored tokens, shape ``(scored, ...)``, into each chosen and each rejected completion."""
        parts = values.index_select(0, self.places.to(values.device)).split(self.lengths)
        return parts[::2], parts[1::2]


def pair_layout(scorer: Scorer, pairs: Sequence[EncodedPair]) -> PairLayout:
    """Return the pairs as the input of one forward pass in which what they share is computed once.

    Packed rows hold prefix trees: the pairs of a question share its prompt and, where it is the same, the chosen
    completion. Where the model takes no packed rows, each completion has a row of its own.
    """
    if scorer.way is not Way.PACKED or not scorer.takes(max(pair.length for pair in pairs)):
        return separate_layout(scorer, pairs)
    texts: dict[bytes, Text] = {}
    wanted: list[tuple[bytes, int]] = []  # of each completion its text, and its length
    for pair in pairs:
        for text in _texts(pair):
            key = sort_key(text.ids)
            wanted.append((key, text.scored))
            texts[key] = max(text, texts.get(key, text), key=lambda each: each.scored)
    trees: list[PrefixTree] = []
    places: dict[bytes, npt.NDArray[np.int64]] = {}
    scored = 0
    for keys in _alike(texts):
        forest = grow([texts[key] for key in keys], FEWEST_SAVED)
        places |= {key: scored + found for key, found in zip(keys, forest.places, strict=True)}
        trees += forest.trees
        scored += sum(tree.scored for tree in forest.trees)
    chosen = [places[key][len(places[key]) - length :] for key, length in wanted]
    return PairLayout(scorer.tree_layout(trees), torch.from_numpy(np.concatenate(chosen)), tuple(map(len, chosen)))


def separate_layout(scorer: Scorer, pairs: Sequence[EncodedPair]) -> PairLayout:
    """Return the pairs as the input of one forward pass in which no pair shares anything with another."""
    layout = scorer.layout([_group(pair) for pair in pairs])
    parts = layout.parts(torch.arange(len(layout.targets)))
    if layout.spans:
        triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        parts = tuple(torch.cat([shared, tail]) for shared, *tails in triples for tail in tails)
    return PairLayout(layout, torch.cat(parts), tuple(map(len, parts)))


def pair_log_probs(
    scorer: Scorer, model: nn.Module, layout: PairLayout, *, autocast: torch.dtype | None = None
) -> PairLogProbs:
    """Return the log-probabilities of the pairs of a layout.

    Tokens that completions share are scored once and credited to each of them.

    Args:
        scorer: From :func:`smaug_eval.prefix.scorer.scoring`.
        model: The model; gradients flow unless switched off outside.
        layout: The pairs, from :func:`pair_layout` or :func:`separate_layout`.
        autocast: Half-precision type to compute matrix products in, for weights kept in float32.
    """
    return PairLogProbs(*layout.split(scorer.log_probs(model, layout.input, autocast=autocast)))


def pair_rows(scorer: Scorer, pairs: Iterable[EncodedPair], row_tokens: int) -> list[list[int]]:
    """Cut pairs into rows of about ``row_tokens`` tokens each, in order, and return the numbers of each row's pairs.

    What pairs of a row share counts once. A question whose pairs stand together is not cut, unless it is longer than a
    row; nor is a pair.

    Args:
        scorer: How texts are batched and scored.
        pairs: The pairs.
        row_tokens: Most tokens of a row, but for padding and for single tokens that are not worth sharing.
    """
    rows: list[list[int]] = []
    row = _RowTokens(scorer)
    for _, question in itertools.groupby(enumerate(pairs), key=lambda each: each[1].prompt.tobytes()):
        members = list(question)
        if rows and row.add(pair for _, pair in members) <= row_tokens:
            rows[-1] += [number for number, _ in members]
            continue
        rows.append([])
        row = _RowTokens(scorer)
        for number, pair in members:
            if row.add([pair]) > row_tokens and rows[-1]:
                rows.append([])
                row = _RowTokens(scorer)
                row.add([pair])
            rows[-1].append(number)
    return rows


def scoring_batches(scorer: Scorer, pairs: Sequence[EncodedPair], row_tokens: int) -> list[list[int]]:
    """Return the numbers of pairs in batches of about ``row_tokens`` tokens, longest first.

    In packed rows the pairs of a question stand together. Other rows are sorted by length, so that little is padding.
    The same pairs always give the same batches: a model scored twice over them sees the same shapes and rounds alike.
    """
    lengths = np.array([pair.length for pair in pairs], np.int64)
    alone = np.arange(len(pairs))
    questions, answers = question_numbers(pairs) if scorer.way is Way.PACKED else (alone, alone)
    longest = np.zeros(len(pairs), np.int64)
    np.maximum.at(longest, questions, lengths)
    order = [int(number) for number in np.lexsort((answers, questions, -longest[questions]))]
    return [[order[place] for place in row] for row in pair_rows(scorer, (pairs[n] for n in order), row_tokens)]


class _RowTokens:
    """Counts the tokens that one forward pass computes for some pairs, padding aside."""

    def __init__(self, scorer: Scorer) -> None:
        self._packed = scorer.way is Way.PACKED
        self._tokens = 0
        self._keys: list[bytes] = []
        self._texts: list[Text] = []

    def add(self, pairs: Iterable[EncodedPair]) -> int:
        """Add pairs; returns the tokens of all."""
        for text in (text for pair in pairs for text in _texts(pair)):
            self._tokens += len(text.ids) - 1  # the last one predicts nothing
            if self._packed:
                key = sort_key(text.ids)
                place = bisect.bisect(self._keys, key)
                beside = self._texts[max(0, place - 1) : place + 1]
                self._tokens -= min(len(text.ids) - 1, max((_shared(text, other) for other in beside), default=0))
                self._keys.insert(place, key)
                self._texts.insert(place, text)
        return self._tokens


def _texts(pair: EncodedPair) -> list[Text]:
    return [Text(np.concatenate([pair.prompt, side]), len(side)) for side in (pair.chosen, pair.rejected)]


def _shared(one: Text, other: Text) -> int:
    """Tokens that two texts begin with alike; 0 where these are fewer than a prompt and not worth sharing."""
    shared = common_length(one.ids, other.ids)
    least = min(SHARED_SHOTS, *(len(text.ids) - text.scored for text in (one, other)))
    return shared if shared >= least else 0


def _alike(texts: Mapping[bytes, Text]) -> list[list[bytes]]:
    """The sorted keys of texts, those together that share a beginning with the text before."""
    found: list[list[bytes]] = []
    for key in sorted(texts):
        if not found or not _shared(texts[found[-1][-1]], texts[key]):
            found.append([])
        found[-1].append(key)
    return found


def _group(pair: EncodedPair) -> PrefixGroup:
    """Prompt and common beginning of the completions, then what is left of each."""
    common = pair.common
    prefix = np.concatenate([pair.prompt, pair.chosen[:common]])
    return PrefixGroup(prefix, (pair.chosen[common:], pair.rejected[common:]), scored_from=len(pair.prompt))
