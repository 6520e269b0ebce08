"""Lay out texts that share a prefix as the input of one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from smaug_eval.prefix.last_layer import LastLayer

TokenIds = npt.NDArray[np.int32]


PADDING_ID = 0  # any id will do: padding stands to the right of everything that is scored


LEAF_TOKENS = 256  # leaves of a node that attend in one call; more would mostly not see each other


@dataclass(frozen=True)
class PrefixGroup:
    """Hold texts that begin alike.

    Attributes:
        prefix: Their common beginning, at least one token.
        tails: What follows it in each text; may be empty.
        scored_from: Index of the first prefix token to score, at least 1; ``len(prefix)`` scores tails only.
    """

    prefix: TokenIds
    tails: tuple[TokenIds, ...]
    scored_from: int

    @property
    def packed_length(self) -> int:
        """Return the tokens that a packed row computes for the group."""
        return len(self.prefix) + sum(_inputs_of(tail) for tail in self.tails) - (not any(map(len, self.tails)))

    @property
    def longest(self) -> int:
        """Return the tokens of the longest text."""
        return len(self.prefix) + max(map(len, self.tails), default=0)

    @property
    def unpacked(self) -> list[PrefixGroup]:
        """Return one group for each text, nothing shared."""
        before, shared = self.prefix[: self.scored_from], self.prefix[self.scored_from :]
        return [PrefixGroup(before, (np.concatenate([shared, tail]),), len(before)) for tail in self.tails]

    @property
    def tree(self) -> PrefixTree:
        """Return the group as a tree of two levels."""
        leaves = len(self.tails)
        return PrefixTree((self.prefix, *self.tails), (-1, *[0] * leaves), (self.scored_from, *[0] * leaves))


@dataclass(frozen=True)
class PrefixTree:
    """Hold texts that begin alike, some of them alike for longer than others.

    Attributes:
        nodes: Tokens of each node, in pre-order, a node's leaves before its other children. Only leaves may be empty.
        parents: Index of each node's parent; -1 for the first, the root.
        scored_from: Index of the first token to score within each node; at least 1 for the root, whose first token
            nothing predicts.
    """

    nodes: tuple[TokenIds, ...]
    parents: tuple[int, ...]
    scored_from: tuple[int, ...]

    @property
    def fed(self) -> list[int]:
        """Return the tokens of each node that a packed row computes: all but a last one that predicts nothing."""
        followed = {parent for node, parent in zip(self.nodes, self.parents, strict=True) if len(node)}
        return [len(node) if index in followed else max(0, len(node) - 1) for index, node in enumerate(self.nodes)]

    @property
    def packed_length(self) -> int:
        """Return the tokens that a packed row computes for the tree."""
        return sum(self.fed)

    @property
    def scored(self) -> int:
        """Return the scored tokens of all nodes."""
        return sum(len(node) - first for node, first in zip(self.nodes, self.scored_from, strict=True))


@dataclass(frozen=True)
class Span:
    """Describe a piece of a packed row: a node of a tree and, behind it, leaves that follow it.

    Attributes:
        prefix: Tokens of the node; 0 where a node's leaves continue in a further span.
        tails: Tokens of each leaf.
        ancestors: Indices of the spans whose nodes stand above, from the root down.
        before: Tokens of those nodes together.
    """

    prefix: int
    tails: tuple[int, ...]
    ancestors: tuple[int, ...] = ()
    before: int = 0

    @property
    def longest(self) -> int:
        """Return the tokens of the longest text."""
        return self.before + self.prefix + max(self.tails, default=0)


class SpanMasks(NamedTuple):
    """Hold which keys a span's queries see, shape ``(queries, keys)``.

    Attributes:
        node: The node's, over ``[ancestors | node]``; None where that is plain causal attention.
        tails: The leaves', over ``[ancestors | node | leaves]``; None where there are none.
    """

    node: Tensor | None
    tails: Tensor | None


@dataclass(frozen=True)
class Layout:
    """Hold groups laid out as the input of one forward pass, and where the answer stands in its output.

    Attributes:
        input_ids: Shape ``(rows, length)``.
        position_ids: Shape ``(1, length)`` for a packed row; None for plain rows, where positions count from 0.
        sources: Flat indices into ``rows * length`` of the positions that predict the scored tokens, shape
            ``(scored,)``: of each group the prefix tokens from ``scored_from`` on, then its tails; of each tree
            those of its nodes in order.
        targets: Ids of the scored tokens, shape ``(scored,)``.
        lengths: How many scored tokens belong to each part: the prefix and every tail of the first group, ...
        spans: The pieces of a packed row in order; empty for plain rows.
        row_lengths: Tokens of each row that goes through the model alone; empty where the rows go together.
        block_mask: FlexAttention's mask of a packed row, where that kernel is used.
        last_layer: The decoder's last layer, if its attention may leave out what no scored token needs.
    """

    input_ids: Tensor
    position_ids: Tensor | None
    sources: Tensor
    targets: Tensor
    lengths: tuple[int, ...]
    spans: tuple[Span, ...] = ()
    row_lengths: tuple[int, ...] = ()
    block_mask: Any = None
    last_layer: LastLayer | None = None
    _masks: dict[tuple[int, int | None], list[SpanMasks]] = field(default_factory=dict, repr=False, compare=False)

    def on(self, device: torch.device | str, *, flex: bool = False) -> Layout:
        """Return the same layout on a device, with a block mask if ``flex``.

        Not called ``to``: accelerate would call that for every layer of a model spread over several devices.
        """
        position_ids = None if self.position_ids is None else self.position_ids.to(device)
        moved = (self.input_ids.to(device), position_ids, self.sources.to(device), self.targets.to(device))
        mask = _block_mask(self.spans, device) if flex and self.spans else None
        return Layout(*moved, self.lengths, self.spans, self.row_lengths, mask)

    @property
    def computed(self) -> int:
        """Return the tokens that the forward pass computes, padding included."""
        return sum(self.row_lengths) or self.input_ids.numel()

    def alone(self) -> Iterator[Layout]:
        """Yield each row by itself and without padding, in order; those in which nothing is scored are left out."""
        width = self.input_ids.shape[1]
        for row, length in enumerate(self.row_lengths):
            here = (self.sources >= row * width) & (self.sources < (row + 1) * width)
            count = int(here.sum())
            if count:
                sources, targets = self.sources[here] - row * width, self.targets[here]
                yield Layout(self.input_ids[row : row + 1, :length], None, sources, targets, (count,))

    def parts(self, log_probs: Tensor) -> tuple[Tensor, ...]:
        """Split log-probabilities of shape ``(scored,)`` into those of each prefix and tail, in order."""
        return log_probs.split(self.lengths)

    def span_masks(self, layer_window: int | None, device: torch.device) -> list[SpanMasks]:
        """Return the masks of each span; computed once for all layers."""
        key = (hash(device), layer_window)
        if key not in self._masks:
            self._masks[key] = [_span_masks(span, layer_window, device) for span in self.spans]
        return self._masks[key]

    def needed_queries(self) -> list[Tensor]:
        """Return for each span the positions of its node, counted within it, that predict a scored token."""
        starts, start = [], 0
        for span in self.spans:
            starts.append(start)
            start += span.prefix + sum(span.tails)
        sources = self.sources.unique()
        return [
            sources[(sources >= start) & (sources < start + span.prefix)] - start
            for start, span in zip(starts, self.spans, strict=True)
        ]


def pack(groups: Sequence[PrefixGroup]) -> Layout:
    """Lay out groups one after the other in a single row."""
    return pack_trees([group.tree for group in groups])


def pack_trees(trees: Sequence[PrefixTree]) -> Layout:
    """Lay out trees one after the other in a single row; ``lengths`` has a part for every node."""
    ids: list[TokenIds] = []
    positions: list[npt.NDArray[np.int64]] = []
    sources: list[npt.NDArray[np.int64]] = []
    targets: list[TokenIds] = []
    spans: list[Span] = []
    start = 0
    for tree in trees:
        offsets: list[int] = []  # of each node in the row
        depths: list[int] = []  # of its first token in its texts
        for node, parent, scored_from, fed in zip(tree.nodes, tree.parents, tree.scored_from, tree.fed, strict=True):
            depths.append(0 if parent < 0 else depths[parent] + len(tree.nodes[parent]))
            offsets.append(start)
            ids.append(node[:fed])
            positions.append(np.arange(depths[-1], depths[-1] + fed))
            # A node's first token is predicted by its parent's last one; the root's is not scored.
            before = -1 if parent < 0 else offsets[parent] + len(tree.nodes[parent]) - 1
            predictors = np.concatenate([[before], np.arange(start, start + len(node) - 1)])[: len(node)]
            sources.append(predictors[scored_from:])
            targets.append(node[scored_from:])
            start += fed
        spans += _spans(tree, depths, len(spans))
    return Layout(
        input_ids=_long(ids)[None],
        position_ids=_long(positions)[None],
        sources=_long(sources),
        targets=_long(targets),
        lengths=tuple(map(len, targets)),
        spans=tuple(spans),
    )


def _spans(tree: PrefixTree, depths: Sequence[int], first: int) -> list[Span]:
    """The pieces of one tree; ``first`` is the index that the first of them has in the row."""
    spans: list[Span] = []
    fed, inner = tree.fed, {parent for parent in tree.parents if parent >= 0}
    paths: dict[int, tuple[int, ...]] = {-1: ()}  # the spans of a node and of all above it
    for node, parent in enumerate(tree.parents):
        if node in inner or parent < 0:
            paths[node] = (*paths[parent], first + len(spans))
            spans.append(Span(fed[node], (), paths[parent], depths[node]))
            continue
        last = spans[-1]
        if sum(last.tails) and sum(last.tails) + fed[node] > LEAF_TOKENS:
            spans.append(Span(0, (fed[node],), paths[parent], depths[node]))
        else:
            spans[-1] = Span(last.prefix, (*last.tails, fed[node]), last.ancestors, last.before)
    return spans


def pad_rows(groups: Sequence[PrefixGroup]) -> Layout:
    """Lay out every text of every group as a row of its own, padded on the right: the ordinary batch.

    Tokens that the texts of a group share are computed, and scored, once for each text; ``lengths`` has a part for the
    scored prefix tokens and the tail of each text.
    """
    return _rows(groups, whole=False)


def single_rows(groups: Sequence[PrefixGroup]) -> Layout:
    """Lay out every text as :func:`pad_rows` does, but one to a forward pass, whole and without padding."""
    return _rows(groups, whole=True)


def _rows(groups: Sequence[PrefixGroup], *, whole: bool) -> Layout:
    """Texts as rows; ``whole`` with the last token of each, which predicts nothing, and to go through alone."""
    texts = [(single.prefix, single.tails[0]) for group in groups for single in group.unpacked]
    fed = [len(prefix) + (len(tail) if whole else _inputs_of(tail)) for prefix, tail in texts]
    width = max(fed)
    input_ids = torch.full((len(texts), width), PADDING_ID, dtype=torch.long)
    sources, targets = [], []
    for row, ((prefix, tail), count) in enumerate(zip(texts, fed, strict=True)):
        input_ids[row, :count] = torch.from_numpy(np.concatenate([prefix, tail])[:count])
        first = row * width + len(prefix) - 1
        sources.append(np.arange(first, first + len(tail)))
        targets.append(tail)
    lengths = tuple(len(tail) for _, tail in texts)
    row_lengths = tuple(fed) if whole else ()
    return Layout(input_ids, None, _long(sources), _long(targets), lengths, row_lengths=row_lengths)


def _inputs_of(tail: TokenIds) -> int:
    """Tokens of a tail that are fed to the model: all but the last, which predicts nothing."""
    return max(0, len(tail) - 1)


def _long(arrays: Sequence[npt.NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.concatenate([np.asarray(array, np.int64) for array in arrays]))


def _tail_mask(span: Span, window: int | None, device: torch.device) -> Tensor | None:
    """Which keys ``[prefix | tails]`` the queries ``[tails]`` see, shape ``(queries, keys)``; None without queries."""
    if not sum(span.tails):
        return None
    blocks = [torch.ones((size, size), dtype=torch.bool, device=device).tril() for size in span.tails]
    own = torch.block_diag(*blocks)
    seen = torch.cat([own.new_ones((len(own), span.prefix)), own], dim=1)
    if window is None:
        return seen
    offsets = torch.cat([torch.arange(size, device=device) for size in span.tails]) + span.prefix
    keys = torch.cat([torch.arange(span.prefix, device=device), offsets])
    return seen & (offsets[:, None] - keys[None, :] < window)


def _span_masks(span: Span, window: int | None, device: torch.device) -> SpanMasks:
    above = Span(span.before, (span.prefix,))
    plain = not span.prefix or (window is None and not span.before)
    node = None if plain else _tail_mask(above, window, device)
    return SpanMasks(node, _tail_mask(Span(span.before + span.prefix, span.tails), window, device))


def _block_mask(spans: Sequence[Span], device: torch.device | str) -> Any:
    """FlexAttention's mask: a token is seen by all that follow it in the part of the row that its node's subtree takes.

    In pre-order a subtree is one interval.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    ends: list[int] = []  # of each part of the row, where its subtree ends
    sizes: list[int] = []
    nodes: list[int] = []  # of each span, its node's place in ends
    length = 0
    for span in spans:
        nodes.append(len(ends))
        for size in (span.prefix, *span.tails):
            length += size
            sizes.append(size)
            ends.append(length)
        for ancestor in (*span.ancestors, len(nodes) - 1):
            ends[nodes[ancestor]] = length
    until = torch.tensor(ends, device=device).repeat_interleave(torch.tensor(sizes, device=device))

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (query < until[key])

    return create_block_mask(sees, B=None, H=None, Q_LEN=length, KV_LEN=length, device=device)
