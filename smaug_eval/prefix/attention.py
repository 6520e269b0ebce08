"""Compute the attention of a packed row: a text sees its own prefix and itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from smaug_eval.prefix.layout import Layout
from smaug_eval.prefix.lengths import configurations

ATTENTION = "smaug_prefix"
"""Name under which the packed attention is known to transformers."""


class CannotPack(Exception):
    """Report that a model's attention does what packed rows cannot do."""


Attentions = list[tuple[PreTrainedConfig, str | None]]
"""The configurations of a model's parts, each with the attention that its part uses."""


def attentions_of(model: PreTrainedModel) -> Attentions:
    """Return the configurations of a model's parts, each with the attention that its part uses."""
    return [(config, config._attn_implementation) for config in configurations(model)]


def put_back(attentions: Attentions) -> None:
    """Restore the attention of every part of a model, as :func:`attentions_of` found it.

    ``set_attn_implementation`` knows one for all parts only, and leaves out parts that cannot choose.
    """
    for config, attention in attentions:
        config._attn_implementation_internal = attention


def honour_soft_caps(model: PreTrainedModel) -> None:
    """Make a model cap the scores of its attention as its configuration states (Gemma 2).

    transformers' ``sdpa``, which is what such a model is loaded with before 5.21, silently leaves the cap out; its
    ``eager`` attention does not.
    """
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
    if capped and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")


def body_arguments(layout: Layout) -> dict[str, Any]:
    """Return the keyword arguments for the decoder of a model whose attention is :data:`ATTENTION`."""
    if layout.position_ids is None:
        # No mask: padding is on the right, out of sight of a causal model's tokens, and plain causal attention is the
        # faster kernel.
        return {"input_ids": layout.input_ids, "use_cache": False}
    return {
        "input_ids": layout.input_ids,
        "position_ids": layout.position_ids,
        # Four dimensions show transformers that the mask is made already; the attention below reads the layout.
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
    """Compute the attention of a packed row, in the signature of transformers' attention functions.

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
        RunsTwice: it is of the last layer, which leaves positions out, and has run before.
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
        return whole.transpose(1, 2).contiguous(), None
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
    is_last = prefix_layout.last_layer is not None and prefix_layout.last_layer.runs(module)
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
    # Contiguous, as transformers' own functions give it: some models take a view of it.
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


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
