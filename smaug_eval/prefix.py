"""One shared prefix, several tails, one forward pass: log-probabilities of texts that begin alike.

A preference pair shares its prompt and the beginning of its completions, the choices of a question share its context.
A :class:`PrefixGroup` holds such texts; :func:`pack` lays groups out in one row,

    prefix 1 | tail 1a | tail 1b | prefix 2 | tail 2a | ...

with position ids that go on from the end of the prefix in every tail, and attention in which a tail sees its prefix and
itself. Nothing is computed twice, nothing is padded, and the last token of a text, which predicts nothing, is left out.
The numbers are those of one plain forward pass for each text.

A :class:`PrefixTree` is the same with any depth: questions behind common shots, answers behind each question. A group
is the tree of two levels, and both are packed alike: a row is the trees' nodes in pre-order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

TokenIds = npt.NDArray[np.int32]

ATTENTION = "smaug_prefix"
"""Name under which the packed attention is known to transformers."""

PADDING_ID = 0  # any id will do: padding stands to the right of everything that is scored
HEAD_LOGITS = 2**24  # logits held at a time, 64 MiB in float32
ANSWER_LOGITS = 2**22  # the same without gradients: few enough to stay near the processor
LEAF_TOKENS = 256  # leaves of a node that attend in one call; more would mostly not see each other


class CannotPack(Exception):
    """A model's attention does what packed rows cannot do."""


@dataclass(frozen=True)
class PrefixGroup:
    """Texts that begin alike.

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
        """Tokens that a packed row computes for the group."""
        return len(self.prefix) + sum(_inputs_of(tail) for tail in self.tails) - (not any(map(len, self.tails)))

    @property
    def unpacked(self) -> list[PrefixGroup]:
        """One group for each text, nothing shared."""
        before, shared = self.prefix[: self.scored_from], self.prefix[self.scored_from :]
        return [PrefixGroup(before, (np.concatenate([shared, tail]),), len(before)) for tail in self.tails]

    @property
    def tree(self) -> PrefixTree:
        """The group as a tree of two levels."""
        leaves = len(self.tails)
        return PrefixTree((self.prefix, *self.tails), (-1, *[0] * leaves), (self.scored_from, *[0] * leaves))


@dataclass(frozen=True)
class PrefixTree:
    """Texts that begin alike, and some of them alike for longer than others.

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
        """Tokens of each node that a packed row computes: all, but for a last one that predicts nothing."""
        followed = {parent for node, parent in zip(self.nodes, self.parents, strict=True) if len(node)}
        return [len(node) if index in followed else max(0, len(node) - 1) for index, node in enumerate(self.nodes)]

    @property
    def packed_length(self) -> int:
        """Tokens that a packed row computes for the tree."""
        return sum(self.fed)


@dataclass(frozen=True)
class Span:
    """A piece of a packed row: a node of a tree and, behind it, leaves that follow it.

    Attributes:
        prefix: Tokens of the node; 0 where a node's leaves go on in a further span.
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
        """Tokens of the longest text."""
        return self.before + self.prefix + max(self.tails, default=0)


class SpanMasks(NamedTuple):
    """Which keys a span's queries see, shape ``(queries, keys)``.

    Attributes:
        node: The node's, over ``[ancestors | node]``; None where that is plain causal attention.
        tails: The leaves', over ``[ancestors | node | leaves]``; None where there are none.
    """

    node: Tensor | None
    tails: Tensor | None


@dataclass(frozen=True)
class Layout:
    """Groups laid out as the input of one forward pass, and where the answer stands in its output.

    Attributes:
        input_ids: Shape ``(rows, length)``.
        position_ids: Shape ``(1, length)`` for a packed row; None for plain rows, where positions count from 0.
        sources: Flat indices into ``rows * length`` of the positions that predict the scored tokens, shape
            ``(scored,)``: of each group the prefix tokens from ``scored_from`` on, then its tails; of each tree
            those of its nodes in order.
        targets: Ids of the scored tokens, shape ``(scored,)``.
        lengths: How many scored tokens belong to each part: the prefix and every tail of the first group, ...
        spans: The pieces of a packed row in order; empty for plain rows.
        block_mask: FlexAttention's mask of a packed row, where that kernel is used.
        last_layer: Index of the decoder's last layer, if its attention may leave out what no scored token needs.
    """

    input_ids: Tensor
    position_ids: Tensor | None
    sources: Tensor
    targets: Tensor
    lengths: tuple[int, ...]
    spans: tuple[Span, ...] = ()
    block_mask: Any = None
    last_layer: int | None = None
    _masks: dict[tuple[int, int | None], list[SpanMasks]] = field(default_factory=dict, repr=False, compare=False)

    def on(self, device: torch.device | str, *, flex: bool = False) -> Layout:
        """The same layout on a device, with a block mask if ``flex``.

        Not called ``to``: accelerate would call that for every layer of a model spread over several devices.
        """
        position_ids = None if self.position_ids is None else self.position_ids.to(device)
        moved = (self.input_ids.to(device), position_ids, self.sources.to(device), self.targets.to(device))
        return Layout(
            *moved, self.lengths, self.spans, _block_mask(self.spans, device) if flex and self.spans else None
        )

    @property
    def computed(self) -> int:
        """Tokens that the forward pass computes, padding included."""
        return self.input_ids.numel()

    def parts(self, log_probs: Tensor) -> tuple[Tensor, ...]:
        """Split log-probabilities of shape ``(scored,)`` into those of each prefix and tail, in order."""
        return log_probs.split(self.lengths)

    def span_masks(self, layer_window: int | None, device: torch.device) -> list[SpanMasks]:
        """The masks of each span; computed once for all layers."""
        key = (hash(device), layer_window)
        if key not in self._masks:
            self._masks[key] = [_span_masks(span, layer_window, device) for span in self.spans]
        return self._masks[key]

    def needed_queries(self) -> list[Tensor]:
        """Of each span the positions of its node, counted within it, that predict a scored token."""
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
    texts = [(single.prefix, single.tails[0]) for group in groups for single in group.unpacked]
    width = max(len(prefix) + _inputs_of(tail) for prefix, tail in texts)
    input_ids = torch.full((len(texts), width), PADDING_ID, dtype=torch.long)
    sources, targets = [], []
    for row, (prefix, tail) in enumerate(texts):
        whole = np.concatenate([prefix, tail[: _inputs_of(tail)]])
        input_ids[row, : len(whole)] = torch.from_numpy(whole)
        first = row * width + len(prefix) - 1
        sources.append(np.arange(first, first + len(tail)))
        targets.append(tail)
    lengths = tuple(len(tail) for _, tail in texts)
    return Layout(input_ids, None, _long(sources), _long(targets), lengths)


def row_budgets(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Split items into rows of at most ``budget`` tokens each, in order; an item longer than that has its own row.

    Args:
        lengths: Tokens of each item.
        budget: Most tokens of a row.

    Returns:
        The indices of each row's items.
    """
    rows: list[list[int]] = []
    filled = 0
    for index, length in enumerate(lengths):
        if not rows or filled + length > budget:
            rows.append([])
            filled = 0
        rows[-1].append(index)
        filled += length
    return rows


def body_arguments(layout: Layout) -> dict[str, Any]:
    """Keyword arguments for the decoder of a model whose attention is :data:`ATTENTION`."""
    if layout.position_ids is None:
        # No mask: padding is on the right, out of sight of a causal model's tokens, and plain causal attention is the
        # faster kernel.
        return {"input_ids": layout.input_ids, "use_cache": False}
    return {
        "input_ids": layout.input_ids,
        "position_ids": layout.position_ids,
        # Four dimensions tell transformers that the mask is made already; the attention below reads the layout.
        "attention_mask": layout.input_ids.new_ones((1, 1, 1, 1), dtype=torch.bool),
        "use_cache": False,
        "prefix_layout": layout,
    }


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    prefix_layout: Layout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of a packed row, in the signature of transformers' attention functions.

    Every node attends to its ancestors and causally to itself, and the leaves of a span to all above them and
    themselves, each with one call of the ordinary kernel, so that little work goes into what does not see each other.
    Without a layout this is transformers' ``sdpa``, but for soft caps, which that leaves out.

    Args:
        module: The attention layer.
        query: Shape ``(1, heads, length, head_size)``.
        key: Shape ``(1, key_heads, length, head_size)``.
        value: As ``key``.
        attention_mask: Ignored where there is a layout.
        prefix_layout: The layout of the row.
        scaling: Factor of the dot products.
        dropout: Dropout on the attention weights.
        sliding_window: Most tokens that the layer looks back, itself included; None for all.
        softcap: The layer's soft cap of the scores, or None.
        **kwargs: What transformers passes to every attention function.

    Returns:
        The output, shape ``(1, length, heads, head_size)``, and None.

    Raises:
        CannotPack: the layer has attention sinks or a position bias.
    """
    if prefix_layout is None and softcap is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if kwargs.get("s_aux") is not None or kwargs.get("position_bias") is not None:
        raise CannotPack("attention sinks and position biases cannot be packed")
    groups = query.shape[1] // key.shape[1]
    attend = functools.partial(_attend, scaling=scaling, dropout=dropout, softcap=softcap)
    if prefix_layout is None:
        whole = attend(query, repeat_kv(key, groups), repeat_kv(value, groups), attention_mask)
        return whole.transpose(1, 2), None
    longest = max(span.longest for span in prefix_layout.spans)
    window = None if sliding_window is None or sliding_window >= longest else sliding_window
    if prefix_layout.block_mask is not None and window is None:
        return flex_attention_forward(
            module, query, key, value, prefix_layout.block_mask, scaling=scaling, softcap=softcap
        )
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    # One split and one concatenation: slices would each fill a gradient of the whole row.
    sizes = [size for span in prefix_layout.spans for size in (span.prefix, sum(span.tails))]
    queries, keys, values = (tensor.split(sizes, dim=2) for tensor in (query, key, value))
    outputs: list[Tensor] = []
    masks = prefix_layout.span_masks(window, query.device)
    is_last = prefix_layout.last_layer is not None and getattr(module, "layer_idx", None) == prefix_layout.last_layer
    needed = prefix_layout.needed_queries() if is_last else None
    for index, (span, mask) in enumerate(zip(prefix_layout.spans, masks, strict=True)):
        # Nodes stand at even places, the leaves behind each at the odd one that follows.
        seen = [2 * ancestor for ancestor in span.ancestors]
        if span.prefix:
            seen.append(2 * index)
            inputs = queries[2 * index], _joined(keys, seen), _joined(values, seen), mask.node
            outputs.append(attend(*inputs) if needed is None else _attend_few(attend, needed[index], *inputs))
        if mask.tails is not None:
            seen.append(2 * index + 1)
            outputs.append(attend(queries[2 * index + 1], _joined(keys, seen), _joined(values, seen), mask.tails))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _attend_few(
    attend: Callable[..., Tensor], places: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    """Attention of some of a node's positions; zero elsewhere."""
    places = places.to(query.device)
    seen = torch.arange(key.shape[2], device=query.device) <= places[:, None] if mask is None else mask[places]
    few = attend(query[:, :, places], key, value, seen) if len(places) else value[:, :, :0]
    output = few.new_zeros((*query.shape[:3], value.shape[-1]))
    output[:, :, places] = few
    return output


def _joined(parts: Sequence[Tensor], places: Sequence[int]) -> Tensor:
    return parts[places[0]] if len(places) == 1 else torch.cat([parts[place] for place in places], dim=2)


AttentionInterface.register(ATTENTION, packed_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    scaling: float | None,
    dropout: float,
    softcap: float | None,
) -> Tensor:
    if softcap is None:
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
        )
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if mask is None:
        mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=query.device).tril()
    scores = (softcap * torch.tanh(scores / softcap)).masked_fill(~mask, float("-inf"))
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.dropout(weights, dropout, train=dropout > 0) @ value


def head_log_probs(head: nn.Module, hidden: Tensor, targets: Tensor, config: Any) -> Tensor:
    """``log softmax(head(hidden))`` at the targets, in chunks, so that logits never fill the memory.

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
    """As :func:`head_log_probs`, without gradients, and whether each target is the likeliest token.

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
