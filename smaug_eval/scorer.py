"""Asks a causal language model how likely texts are, several texts behind a shared prefix in one forward pass.

    with scoring(model) as scorer:
        log_probs = scorer.log_probs(model, scorer.layout(groups))

Whether a model can take packed rows is not looked up but tried: its answers for a few random tokens, packed, must be
those of plain forward passes. A model that cannot take them gets ordinary padded rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from smaug_eval.prefix import (
    ATTENTION,
    CannotPack,
    Layout,
    PrefixGroup,
    PrefixTree,
    body_arguments,
    head_answers,
    head_log_probs,
    pack,
    pack_trees,
    pad_rows,
)

# Largest difference of log-probabilities that rounding explains, in nats.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
TOLERANCE_HALF = 0.15


class NoHiddenStates(Exception):
    """A model does not show what its output head is given."""


class Way(str, Enum):
    """How a model is asked."""

    PACKED = "packed"
    """Groups in one row, every shared token computed once; only scored positions go through the head, in chunks."""
    PADDED = "padded"
    """Every text a row of its own, padded to the longest; the head as above."""
    PLAIN = "plain"
    """As padded, with the logits that the model itself computes."""


@dataclass(frozen=True)
class Scorer:
    """A model's way of being asked.

    Attributes:
        way: The fastest way that gives the model's own numbers.
        reason: Why it is not packed; None where it is.
        flex: Whether packed rows use FlexAttention.
    """

    way: Way
    reason: str | None = None
    flex: bool = False

    def layout(self, groups: Sequence[PrefixGroup]) -> Layout:
        """The groups as the input of one forward pass, on the CPU."""
        return pack(groups) if self.way is Way.PACKED else pad_rows(groups)

    def log_probs(self, model: nn.Module, layout: Layout, *, autocast: torch.dtype | None = None) -> Tensor:
        """``log pi(token | everything before it)`` of every scored token, in nats.

        Args:
            model: The model given to :func:`scoring`, or what wraps it; gradients flow unless switched off outside.
            layout: From :meth:`layout`; moved to the model's device.
            autocast: Half-precision type to compute matrix products in, for weights kept in float32.

        Returns:
            Shape ``(scored,)``, float32; ``layout.parts`` splits it.
        """
        log_probs: Tensor = self._ask(model, layout, autocast)
        return log_probs

    def tree_layout(self, trees: Sequence[PrefixTree]) -> Layout:
        """The trees as the input of one forward pass, on the CPU.

        Raises:
            ValueError: the model cannot take packed rows.
        """
        if self.way is not Way.PACKED:
            raise ValueError(f"trees need packed rows: {self.reason}")
        return pack_trees(trees)

    def answers(self, model: nn.Module, layout: Layout) -> tuple[Tensor, Tensor]:
        """As :meth:`log_probs`, without gradients, and whether each scored token is the likeliest one.

        Returns:
            Log-probabilities in nats, shape ``(scored,)``, float32, and as many truth values.
        """
        with torch.no_grad():
            return self._ask(model, layout, None, with_greedy=True)

    def hidden_states(self, model: nn.Module, layout: Layout, *, autocast: torch.dtype | None = None) -> Tensor:
        """What the output head is given to predict every scored token: the last hidden state, after the final norm.

        Args:
            model: As in :meth:`log_probs`.
            layout: As in :meth:`log_probs`.
            autocast: As in :meth:`log_probs`.

        Returns:
            Shape ``(scored, size)``, in the type that the model computes in; ``layout.parts`` splits it.

        Raises:
            NoHiddenStates: the model does not show them.
        """
        hidden: Tensor = self._ask(model, layout, autocast, only_hidden=True)
        return hidden

    def _ask(self, model: nn.Module, layout: Layout, autocast: torch.dtype | None, **options: bool) -> Any:
        device = next(model.parameters()).device
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            return model(scored=layout.on(device, flex=self.flex), **options)

    def describe(self) -> str:
        """One line for the user."""
        if self.way is Way.PACKED:
            kernel = "FlexAttention" if self.flex else "SDPA"
            return f"prefix-shared rows ({kernel}): shared tokens are computed once"
        return f"padded rows, one for each text: {self.reason}"


@contextmanager
def scoring(model: nn.Module, *, share: bool = True, known: Scorer | None = None) -> Iterator[Scorer]:
    """Teach a model to answer ``model(scored=layout)``, and find out how it is best asked.

    Args:
        model: A causal language model of transformers, or a PEFT model around one. Its attention and its ``forward``
            are as before when the context ends.
        share: False to use padded rows even where packed ones are possible.
        known: What was found out about this very model before, to be used again without trying.
    """
    core: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    attention = core.config._attn_implementation
    original = core.forward
    patched = vars(core).get("forward")  # somebody else's, to be put back

    def forward(
        *args: Any, scored: Layout | None = None, only_hidden: bool = False, with_greedy: bool = False, **kwargs: Any
    ) -> Any:
        if scored is None:
            return original(*args, **kwargs)
        if way is Way.PLAIN:
            if with_greedy:
                return _plain_answers(original, scored)
            return _plain_hidden(original, scored) if only_hidden else _plain_log_probs(original, scored)
        # Body and head are looked up at each call: adapters replace modules later on.
        with _only_where_scored(core, scored) as scored:
            hidden = core.get_decoder()(**body_arguments(scored)).last_hidden_state
        hidden = hidden.flatten(0, 1)
        scored = scored if hidden.device == scored.sources.device else scored.on(hidden.device)
        if with_greedy:
            head = core.get_output_embeddings()
            return head_answers(head, hidden, scored.sources, scored.targets, core.config)
        hidden = hidden.index_select(0, scored.sources)
        if only_hidden:
            return hidden
        return head_log_probs(core.get_output_embeddings(), hidden, scored.targets, core.config)

    way = Way.PLAIN
    core.forward = forward
    try:
        if known is not None:
            way = known.way
            if way is Way.PACKED:
                core.set_attn_implementation(ATTENTION)
            yield known
            return
        reasons: list[str] = []
        for way in (Way.PACKED, Way.PADDED, Way.PLAIN):
            reason = _why_not(model, core, original, way, share)
            if reason is None:
                break
            reasons.append(reason)
            core.set_attn_implementation(attention)
        flex = way is Way.PACKED and _on_one_gpu(core) and _why_not_flex(model, core, original) is None
        yield Scorer(way, reasons[0] if reasons else None, flex=flex)
    finally:
        del core.forward
        if patched is not None:
            core.forward = patched
        core.set_attn_implementation(attention)


def _why_not(
    model: nn.Module, core: PreTrainedModel, original: Callable[..., Any], way: Way, share: bool
) -> str | None:
    """Why a model cannot be asked in a way; None if it can, and is then set up for it."""
    if way is Way.PLAIN:
        return None
    if way is Way.PACKED:
        if not share:
            return "sharing is switched off"
        if core._is_stateful or not core._supports_attention_backend:
            return f"{type(core).__name__} cannot take packed rows"
        core.set_attn_implementation(ATTENTION)
    return _fault(model, core, original, Scorer(way))


def _why_not_flex(model: nn.Module, core: PreTrainedModel, original: Callable[..., Any]) -> str | None:
    """Why packed rows cannot use FlexAttention; None if they can. It may lack a compiler on this machine."""
    if not core._supports_flex_attn:
        return f"{type(core).__name__} has no FlexAttention"
    return _fault(model, core, original, Scorer(Way.PACKED, flex=True))


def _fault(model: nn.Module, core: PreTrainedModel, original: Callable[..., Any], scorer: Scorer) -> str | None:
    """What is wrong with a scorer's answers for random tokens; None where they are those of plain forward passes."""
    difference = _difference(model, core, original, scorer)
    if difference is None:
        return f"{type(core).__name__} refuses {scorer.way.value} rows"
    # Of a quantised model norms and embeddings are in float32, whatever it computes in.
    dtype = torch.bfloat16 if getattr(core, "is_quantized", False) else next(core.parameters()).dtype
    if not difference <= TOLERANCE.get(dtype, TOLERANCE_HALF):
        return f"{type(core).__name__} gives other log-probabilities in {scorer.way.value} rows (by {difference:.2g})"
    return None


def _difference(model: nn.Module, core: PreTrainedModel, original: Callable[..., Any], scorer: Scorer) -> float | None:
    """Largest difference between a scorer and plain forward passes on random tokens; None where it fails."""
    groups = _probe(core.config.get_text_config().vocab_size)
    was_training = core.training
    core.eval()
    device = next(core.parameters()).device
    try:
        with torch.no_grad():
            expected = _plain_log_probs(original, pad_rows(groups).on(device))
            try:
                layout = scorer.layout(groups)
                found = scorer.log_probs(model, layout)
            except (CannotPack, TypeError, ValueError, RuntimeError, AttributeError, KeyError):
                return None
            return float((_texts(groups, layout, found) - expected).abs().max())
    finally:
        core.train(was_training)


def _texts(groups: Sequence[PrefixGroup], layout: Layout, log_probs: Tensor) -> Tensor:
    """Log-probabilities in the order of padded rows, whatever the layout."""
    if not layout.spans:
        return log_probs
    parts = iter(layout.parts(log_probs))
    pieces = []
    for group in groups:
        shared = next(parts)
        for _ in group.tails:
            pieces += [shared, next(parts)]
    return torch.cat(pieces)


def _probe(vocabulary: int) -> list[PrefixGroup]:
    rng = np.random.default_rng(0)

    def ids(count: int) -> Any:
        return rng.integers(0, vocabulary, count, dtype=np.int32)

    return [PrefixGroup(ids(7), (ids(5), ids(3)), 4), PrefixGroup(ids(3), (ids(1), ids(4)), 2)]


def _plain_log_probs(forward: Callable[..., Any], layout: Layout) -> Tensor:
    logits = _plain_logits(forward, layout)
    return -cross_entropy(logits, layout.targets.to(logits.device), reduction="none")


def _plain_answers(forward: Callable[..., Any], layout: Layout) -> tuple[Tensor, Tensor]:
    logits = _plain_logits(forward, layout)
    targets = layout.targets.to(logits.device)
    return -cross_entropy(logits, targets, reduction="none"), logits.argmax(dim=-1) == targets


def _plain_logits(forward: Callable[..., Any], layout: Layout) -> Tensor:
    """The model's own logits of padded rows that predict the scored tokens, shape ``(scored, vocabulary)``, float32.

    Only the columns that are needed are computed, where the model can choose.
    """
    width = layout.input_ids.shape[1]
    rows, positions = layout.sources // width, layout.sources % width
    columns, inverse = positions.unique(return_inverse=True)
    takes_columns = "logits_to_keep" in inspect.signature(forward).parameters
    arguments = {"logits_to_keep": columns} if takes_columns else {}
    logits = forward(input_ids=layout.input_ids, use_cache=False, **arguments).logits
    return logits[rows, inverse if takes_columns else positions].float()


def _plain_hidden(forward: Callable[..., Any], layout: Layout) -> Tensor:
    """The last of the hidden states that the model itself returns, of padded rows."""
    output = forward(input_ids=layout.input_ids, use_cache=False, output_hidden_states=True)
    states = getattr(output, "hidden_states", None)
    if not states:
        raise NoHiddenStates("the model does not return its hidden states")
    return states[-1].flatten(0, 1).index_select(0, layout.sources)


@contextmanager
def _only_where_scored(core: Any, layout: Layout) -> Iterator[Layout]:
    """In the last layer, compute attention and MLP for nothing but the positions that predict a scored token.

    No other position's output is looked at. With gradients all goes its usual way: checkpointing would run the layer
    again after this context has ended.
    """
    mlp = _last_mlp(core)
    if mlp is None or torch.is_grad_enabled() or not layout.spans:
        yield layout
        return
    original, patched = mlp.forward, vars(mlp).get("forward")
    places = layout.sources.unique()

    def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        if hidden.shape[:2] != layout.input_ids.shape:
            return original(hidden, *args, **kwargs)
        chosen = places.to(hidden.device)
        few = original(hidden[:, chosen], *args, **kwargs)
        output = few.new_zeros((*hidden.shape[:2], few.shape[-1]))  # of another type than hidden under autocast
        output[:, chosen] = few
        return output

    mlp.forward = forward
    try:
        yield replace(layout, last_layer=core.config.get_text_config().num_hidden_layers - 1)
    finally:
        del mlp.forward
        if patched is not None:
            mlp.forward = patched


def _last_mlp(core: Any) -> Any:
    """The MLP of the last decoder layer; None where there is none of that name."""
    decoder = core.get_decoder()
    layers = getattr(decoder, "layers", None) or getattr(decoder, "h", None)
    return getattr(layers[-1], "mlp", None) if layers else None


def _on_one_gpu(core: PreTrainedModel) -> bool:
    """Whether all is on one GPU: a block mask stays where it was made."""
    spread = len(set(getattr(core, "hf_device_map", {}).values())) > 1
    return next(core.parameters()).device.type == "cuda" and not spread
