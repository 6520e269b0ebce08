"""Score texts with a causal language model, several texts behind a shared prefix in one forward pass.

    with scoring(model) as scorer:
        log_probs = scorer.log_probs(model, scorer.layout(groups))

Whether a model can take packed rows is not looked up but tried: its answers for a few random texts, packed, must be
those of its own forward passes over one text at a time. A model that cannot take them gets ordinary padded rows, which
are tried the same way, and one that cannot take those either scores one text at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from smaug_eval.prefix.attention import ATTENTION, attentions_of, body_arguments, put_back
from smaug_eval.prefix.head import head_answers, head_log_probs
from smaug_eval.prefix.last_layer import LastLayer, last_layer_of, mlp_at
from smaug_eval.prefix.layout import Layout, PrefixGroup, PrefixTree, pack, pack_trees, pad_rows, single_rows
from smaug_eval.prefix.lengths import context_length
from smaug_eval.prefix.plain import NoHiddenStates, plain_answers, plain_hidden, plain_log_probs
from smaug_eval.prefix.probe import Ask, Probe, ProbeVerdict

__all__ = ["NoHiddenStates", "Scorer", "Way", "scoring"]


class Way(str, Enum):
    """Describe how texts are batched for a forward pass."""

    PACKED = "packed"
    """Groups in one row, every shared token computed once; only scored positions go through the head, in chunks."""
    PADDED = "padded"
    """Every text a row of its own, padded to the longest; the head as above."""
    PLAIN = "plain"
    """As padded, with the logits that the model itself computes."""
    SINGLE = "single"
    """Every text alone and without padding, with the logits that the model itself computes: the plainest way."""


@dataclass(frozen=True)
class Scorer:
    """Score texts with a model, in the batches that suit it.

    Attributes:
        way: The fastest way that gives the model's own numbers.
        reason: Why it is not packed, or, one text at a time, why it is not padded either; None where it is packed.
        flex: Whether packed rows use FlexAttention.
        narrow: Whether packed rows without gradients leave out, in the last layer, what no scored token needs.
        limit: Tokens of the longest text that is scored in this way; None for any. Where a longer one is among the
            texts of a layout, each of them is scored alone.
        because: What makes the limit: the name of a length in the model's configuration.
    """

    way: Way
    reason: str | None = None
    flex: bool = False
    narrow: bool = False
    limit: int | None = None
    because: str | None = None

    def takes(self, longest: int) -> bool:
        """Check whether texts of up to ``longest`` tokens are scored together; one at a time otherwise."""
        return self.way is not Way.SINGLE and (self.limit is None or longest <= self.limit)

    def layout(self, groups: Sequence[PrefixGroup]) -> Layout:
        """Lay out groups as the input of the model, on the CPU."""
        if not self.takes(max(group.longest for group in groups)):
            return single_rows(groups)
        return pack(groups) if self.way is Way.PACKED else pad_rows(groups)

    def log_probs(self, model: nn.Module, layout: Layout, *, autocast: torch.dtype | None = None) -> Tensor:
        """Compute ``log pi(token | everything before it)`` of every scored token, in nats.

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
        """Lay out trees as the input of one forward pass, on the CPU.

        Raises:
            ValueError: the model cannot take packed rows.
        """
        if self.way is not Way.PACKED:
            raise ValueError(f"trees need packed rows: {self.reason}")
        return pack_trees(trees)

    def answers(self, model: nn.Module, layout: Layout) -> tuple[Tensor, Tensor]:
        """Compute :meth:`log_probs` without gradients, and whether each scored token is the likeliest one.

        Returns:
            Log-probabilities in nats, shape ``(scored,)``, float32, and as many truth values.
        """
        with torch.no_grad():
            return self._ask(model, layout, None, with_greedy=True)

    def hidden_states(self, model: nn.Module, layout: Layout, *, autocast: torch.dtype | None = None) -> Tensor:
        """Return the inputs of the output head that predict the scored tokens.

        They are the last hidden state, after the final norm.

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
            return model(scored=layout.on(device, flex=self.flex), narrow=self.narrow, **options)

    def describe(self) -> str:
        """Describe the scoring in one line for the user."""
        if self.way is Way.SINGLE:
            return f"one text at a time: {self.reason}"
        kernel = "FlexAttention" if self.flex else "SDPA"
        packed = f"prefix-shared rows ({kernel}): shared tokens are computed once"
        line = packed if self.way is Way.PACKED else f"padded rows, one for each text: {self.reason}"
        return (
            line if self.limit is None else f"{line}; one text at a time beyond {self.limit:,} tokens ({self.because})"
        )


@contextmanager
def scoring(model: nn.Module, *, share: bool = True, known: Scorer | None = None) -> Iterator[Scorer]:
    """Make a model answer ``model(scored=layout)``, and choose how its texts are batched.

    Args:
        model: A causal language model of transformers, or a PEFT model around one. Its attention and its ``forward``
            are as before when the context ends.
        share: False to use padded rows even where packed ones are possible.
        known: What was found out about this very model before, to be used again without trying.

    Raises:
        SmaugError: the model is not causal, or cannot say how likely a text is.
    """
    core: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    attentions, context = attentions_of(core), context_length(core.config)
    original = core.forward
    patched = vars(core).get("forward")  # somebody else's, to be put back

    def forward(
        *args: Any,
        scored: Layout | None = None,
        narrow: bool = False,
        only_hidden: bool = False,
        with_greedy: bool = False,
        **kwargs: Any,
    ) -> Any:
        if scored is None:
            return original(*args, **kwargs)
        if scored.row_lengths and context is not None:  # a last token, which predicts nothing, may have no place in it
            lengths = (length - (length == context + 1) for length in scored.row_lengths)
            scored = replace(scored, row_lengths=tuple(lengths))
        if way is Way.PLAIN or scored.row_lengths:
            plainly = plain_answers if with_greedy else plain_hidden if only_hidden else plain_log_probs
            return plainly(original, scored)
        # Body and head are looked up at each call: adapters replace modules later on.
        with _only_where_scored(core, scored) if narrow else nullcontext(scored) as scored:
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

    way = Way.SINGLE
    core.forward = forward
    try:
        if known is not None:
            way = known.way
            if way is Way.PACKED:
                core.set_attn_implementation(ATTENTION)
            yield known
            return
        probe = Probe(core, original)
        probe.check_causal()
        reasons: list[str] = []
        verdict = ProbeVerdict()
        for way in (Way.PACKED, Way.PADDED, Way.PLAIN):
            verdict = _verdict(model, core, probe, way, share)
            if verdict.reason is None:
                break
            reasons.append(verdict.reason)
            put_back(attentions)
        else:
            way, verdict = Way.SINGLE, ProbeVerdict()
        flex = way is Way.PACKED and _on_one_gpu(core) and _can_flex(model, core, probe)
        narrow = way is Way.PACKED and _can_be_narrow(model, core, probe, flex)
        # Why no rows of several texts at all is what the padded ones' trial says.
        reason = reasons[1 if way is Way.SINGLE else 0] if reasons else None
        yield Scorer(way, reason, flex, narrow, limit=verdict.limit, because=verdict.because)
    finally:
        del core.forward
        if patched is not None:
            core.forward = patched
        put_back(attentions)


def _verdict(model: nn.Module, core: PreTrainedModel, probe: Probe, way: Way, share: bool) -> ProbeVerdict:
    """Whether a model can be asked in a way; if it can, it is then set up for it."""
    if way is Way.PACKED:
        if not share:
            return ProbeVerdict("sharing is switched off")
        if core._is_stateful or not core._supports_attention_backend:
            return ProbeVerdict(f"{type(core).__name__} cannot take packed rows")
        core.set_attn_implementation(ATTENTION)
    # Only packed rows need an attention that is not the model's own, with which single texts are then asked too.
    alone = _asking(model, Scorer(Way.SINGLE)) if way is Way.PACKED else None
    return probe.examine(_asking(model, Scorer(way)), way.value, alone=alone)


def _can_flex(model: nn.Module, core: PreTrainedModel, probe: Probe) -> bool:
    """Whether packed rows can use FlexAttention. It may lack a compiler on this machine."""
    return bool(core._supports_flex_attn) and probe.agrees(_asking(model, Scorer(Way.PACKED, flex=True)))


def _can_be_narrow(model: nn.Module, core: PreTrainedModel, probe: Probe, flex: bool) -> bool:
    """Whether the last layer may leave out what no scored token needs; not where layers share modules."""
    if last_layer_of(core) is None:
        return False
    return probe.agrees_at_ends(_asking(model, Scorer(Way.PACKED, flex=flex, narrow=True)))


def _asking(model: nn.Module, scorer: Scorer) -> Ask:
    def ask(groups: Sequence[PrefixGroup]) -> tuple[Layout, Tensor]:
        layout = scorer.layout(groups)
        return layout, scorer.log_probs(model, layout)

    return ask


@contextmanager
def _only_where_scored(core: PreTrainedModel, layout: Layout) -> Iterator[Layout]:
    """In the last layer, compute attention and MLP for nothing but the positions that predict a scored token.

    No other position's output is looked at. With gradients all goes its usual way: checkpointing would run the layer
    again after this context has ended.
    """
    layer = last_layer_of(core)
    if layer is None or torch.is_grad_enabled() or not layout.spans:
        yield layout
        return
    last = LastLayer(layer)
    with mlp_at(layer, last, layout.sources.unique(), tuple(layout.input_ids.shape)):
        yield replace(layout, last_layer=last)


def _on_one_gpu(core: PreTrainedModel) -> bool:
    """Whether all is on one GPU: a block mask stays where it was made."""
    spread = len(set(getattr(core, "hf_device_map", {}).values())) > 1
    return next(core.parameters()).device.type == "cuda" and not spread
