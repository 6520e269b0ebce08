"""One shared prefix, several tails, one forward pass: log-probabilities of texts that begin alike.

A preference pair shares its prompt and the beginning of its completions, the choices of a question share its context.
A :class:`PrefixGroup` holds such texts; :func:`pack` lays groups out in one row,

    prefix 1 | tail 1a | tail 1b | prefix 2 | tail 2a | ...

with position ids that go on from the end of the prefix in every tail, and attention in which a tail sees its prefix and
itself. Nothing is computed twice, nothing is padded, and the last token of a text, which predicts nothing, is left out.
The numbers are those of one plain forward pass for each text.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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


@dataclass(frozen=True)
class Span:
    """Where a group lies in a packed row: a prefix of ``prefix`` tokens and tails of ``tails`` tokens each."""

    prefix: int
    tails: tuple[int, ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return self.prefix + max(self.tails)


@dataclass(frozen=True)
class Layout:
    """Groups laid out as the input of one forward pass, and where the answer stands in its output.

    Attributes:
        input_ids: Shape ``(rows, length)``.
        position_ids: Shape ``(1, length)`` for a packed row; None for plain rows, where positions count from 0.
        sources: Flat indices into ``rows * length`` of the positions that predict the scored tokens, shape
            ``(scored,)``: of each group the prefix tokens from ``scored_from`` on, then its tails.
        targets: Ids of the scored tokens, shape ``(scored,)``.
        lengths: How many scored tokens belong to each part: the prefix and every tail of the first group, ...
        spans: The groups of a packed row in order; empty for plain rows.
        block_mask: FlexAttention's mask of a packed row, where that kernel is used.
    """

    input_ids: Tensor
    position_ids: Tensor | None
    sources: Tensor
    targets: Tensor
    lengths: tuple[int, ...]
    spans: tuple[Span, ...] = ()
    block_mask: Any = None
    _masks: dict[tuple[int, int | None], list[Tensor | None]] = field(default_factory=dict, repr=False, compare=False)

    def to(self, device: torch.device | str, *, flex: bool = False) -> Layout:
        """The same layout on another device, with a block mask if ``flex``."""
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

    def prefix_masks(self, layer_window: int | None, device: torch.device) -> list[Tensor | None]:
        """For each span the mask of its tails' queries over all its keys; computed once for all layers."""
        key = (hash(device), layer_window)
        if key not in self._masks:
            self._masks[key] = [_tail_mask(span, layer_window, device) for span in self.spans]
        return self._masks[key]


def pack(groups: Sequence[PrefixGroup]) -> Layout:
    """Lay out groups one after the other in a single row."""
    ids: list[TokenIds] = []
    positions: list[npt.NDArray[np.int64]] = []
    sources: list[npt.NDArray[np.int64]] = []
    targets: list[TokenIds] = []
    lengths: list[int] = []
    spans: list[Span] = []
    start = 0
    for group in groups:
        inputs = [tail[: _inputs_of(tail)] for tail in group.tails]
        # Where no tail follows, the prefix's last token predicts nothing either.
        prefix = group.prefix if any(map(len, group.tails)) else group.prefix[:-1]
        size = len(group.prefix)
        ids += [prefix, *inputs]
        positions += [np.arange(len(prefix)), *(np.arange(size, size + len(tail)) for tail in inputs)]
        sources.append(np.arange(start + group.scored_from - 1, start + size - 1))
        targets += [group.prefix[group.scored_from :], *group.tails]
        lengths += [size - group.scored_from, *map(len, group.tails)]
        end = start + len(prefix)
        for tail, fed in zip(group.tails, inputs, strict=True):
            # The first token of a tail is predicted by the prefix's last one.
            sources.append(np.concatenate([[start + size - 1], np.arange(end, end + len(fed))])[: len(tail)])
            end += len(fed)
        spans.append(Span(len(prefix), tuple(map(len, inputs))))
        start = end
    return Layout(
        input_ids=_long(ids)[None],
        position_ids=_long(positions)[None],
        sources=_long(sources),
        targets=_long(targets),
        lengths=tuple(lengths),
        spans=tuple(spans),
    )


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

    Every prefix attends causally to itself, and the tails of a span to their prefix and themselves, each with one call
    of the ordinary kernel, so that no work goes into what does not see each other. Without a layout this is
    transformers' ``sdpa``, but for soft caps, which that leaves out.

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
        NotImplementedError: the layer has attention sinks or a position bias.
    """
    if prefix_layout is None and softcap is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if kwargs.get("s_aux") is not None or kwargs.get("position_bias") is not None:
        raise NotImplementedError("attention sinks and position biases cannot be packed")
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
    parts = zip(*(tensor.split(sizes, dim=2) for tensor in (query, key, value)), strict=True)
    outputs: list[Tensor] = []
    for mask in prefix_layout.prefix_masks(window, query.device):
        (prefix_query, prefix_key, prefix_value), (tail_query, tail_key, tail_value) = next(parts), next(parts)
        prefix_mask = None if window is None else _window_mask(prefix_query.shape[2], window, query.device)
        outputs.append(attend(prefix_query, prefix_key, prefix_value, prefix_mask))
        if mask is not None:
            keys, values = torch.cat([prefix_key, tail_key], dim=2), torch.cat([prefix_value, tail_value], dim=2)
            outputs.append(attend(tail_query, keys, values, mask))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


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


def _window_mask(size: int, window: int, device: torch.device) -> Tensor:
    ones = torch.ones((size, size), dtype=torch.bool, device=device)
    return ones.tril() & ones.triu(1 - window)


def _block_mask(spans: Sequence[Span], device: torch.device | str) -> Any:
    """FlexAttention's mask: same group, not later, and in the prefix or the same tail."""
    from torch.nn.attention.flex_attention import create_block_mask

    group: list[int] = []
    branch: list[int] = []
    for number, span in enumerate(spans):
        for part, size in enumerate((span.prefix, *span.tails)):
            group += [number] * size
            branch += [part] * size
    length = len(group)
    groups, branches = torch.tensor(group, device=device), torch.tensor(branch, device=device)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same_branch = (branches[key] == 0) | (branches[key] == branches[query])
        return (query >= key) & (groups[query] == groups[key]) & same_branch

    return create_block_mask(sees, B=None, H=None, Q_LEN=length, KV_LEN=length, device=device)
