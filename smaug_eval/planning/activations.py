"""Measure the memory of a training step's forward and backward pass on tensors that have a shape but no data.

The very code that trains is run on models of two and of three layers, and every storage that an operation makes is
followed from its birth to its end. What a layer adds is the same for each, so that the sum over all layers is exact.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from smaug_eval.planning.shapes import ModelShape
from smaug_eval.prefix.attention import ATTENTION
from smaug_eval.prefix.layout import Layout, PrefixGroup, pack, pad_rows
from smaug_eval.prefix.scorer import Scorer, Way, scoring
from smaug_eval.trainers.config import LoraConfig

_TRACED_LAYERS = 2
_MASKLESS = "smaug_maskless"
"""Plain causal attention. transformers makes a mask for tensors without data, which it leaves out for real ones."""

AttentionInterface.register(_MASKLESS, sdpa_attention_forward)
AttentionMaskInterface.register(_MASKLESS, lambda *args, **kwargs: None)


@dataclass(frozen=True)
class PairLengths:
    """Hold the lengths of a pair in tokens.

    Attributes:
        prompt: Of the prompt.
        common: Of the beginning that both completions share.
        chosen: Of the rest of the chosen completion.
        rejected: Of the rest of the rejected one.
        together: Pairs of a question that are computed together: all but the rejected completion once among them.
    """

    prompt: int
    common: int
    chosen: int
    rejected: int
    together: int = 1

    @property
    def shared_tokens(self) -> float:
        """Return the tokens that a packed row computes for a pair; a text's last token predicts nothing."""
        return (self.prompt + self.common + max(0, self.chosen - 1)) / self.together + max(0, self.rejected - 1)

    @property
    def padded_tokens(self) -> int:
        """Return the tokens that two padded rows compute."""
        return 2 * (self.prompt + self.common + max(self.chosen, self.rejected) - 1)

    def scored_tokens(self, share: bool) -> float:
        """Return the tokens that go through the output head; those shared count once where the prefix is shared."""
        if not share:
            return 2 * self.common + self.chosen + self.rejected
        return (self.common + self.chosen) / self.together + self.rejected


@dataclass(frozen=True)
class Step:
    """Describe one forward and backward pass.

    Attributes:
        pair: Lengths of each pair.
        pairs: How many there are.
        share: Whether prefixes are shared.
        flex: Whether FlexAttention computes packed rows, as on GPUs: it keeps nothing for each of a row's pieces.
        dtype: Type of the weights.
        autocast: Half-precision type to compute in, for weights in float32.
        lora: Rank and target modules of an adapter; None where all weights are trained.
        checkpointing: Whether activations are computed again in the backward pass.
    """

    pair: PairLengths
    pairs: int
    share: bool
    flex: bool
    dtype: str
    autocast: str | None = None
    lora: tuple[int, str | tuple[str, ...]] | None = None
    checkpointing: bool = False


@dataclass(frozen=True)
class Activations:
    """Hold the bytes of a forward and backward pass beside weights, gradients and optimiser states.

    Attributes:
        kept: What the forward pass keeps for the backward pass.
        peak: The most that is held at a time; the gradients of one layer before they are added up are in it.
    """

    kept: float
    peak: float


@lru_cache(maxsize=256)
def activations(shape: ModelShape, step: Step) -> Activations:
    """Return the memory of a step of a model, all layers on one device.

    Args:
        shape: The model.
        step: What goes through it.
    """
    if shape.layers <= _TRACED_LAYERS:
        return _most(_traced(shape, step, shape.layers))
    few, more = (_traced(shape, step, layers) for layers in (_TRACED_LAYERS, _TRACED_LAYERS + 1))
    further = shape.layers - _TRACED_LAYERS
    return _most(few + further * (more - few))


def _most(traced: npt.NDArray[np.float64]) -> Activations:
    return Activations(kept=float(traced[0]), peak=float(traced.max()))


def _traced(shape: ModelShape, step: Step, layers: int) -> npt.NDArray[np.float64]:
    """Bytes kept after the forward pass, and the most held in the forward and in the backward pass, shape ``(3,)``."""
    model = _shallow(shape, step, layers)
    with FakeTensorMode(allow_non_fake_inputs=True):
        known = _with_storage(model)
        way = Way.PACKED if step.share and not step.flex else Way.PADDED
        with scoring(model, known=Scorer(way)) as scorer, _Held(known) as held:
            dtype = None if step.autocast is None else getattr(torch, step.autocast)
            log_probs = scorer.log_probs(model, _layout(step), autocast=dtype)
            kept, forward = held.now, held.most
            held.most = held.now
            log_probs.sum().backward()
    return np.array([kept, forward, held.most], np.float64)


def _shallow(shape: ModelShape, step: Step, layers: int) -> nn.Module:
    """The model with few layers, ready to be trained, on the meta device."""
    from transformers import AutoModelForCausalLM

    from smaug_eval.trainers.adapters import with_adapter

    config = copy.deepcopy(shape.config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, step.dtype), trust_remote_code=False)
        if step.lora is not None:
            r, targets = step.lora
            modules = targets if isinstance(targets, str) else list(targets)
            model = with_adapter(model, LoraConfig(r=r, target_modules=modules), seed=0)
    packed = step.share and not step.flex
    model.set_attn_implementation(ATTENTION if packed else _MASKLESS)
    if step.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    return model


def _with_storage(model: nn.Module) -> list[Tensor]:
    """Give weights and buffers on the meta device a (fake) storage, and weights to train a gradient; returns all."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
                    if isinstance(tensor, nn.Parameter):
                        empty = nn.Parameter(empty, requires_grad=tensor.requires_grad)
                    made[id(tensor)] = empty
                own[name] = made[id(tensor)]  # type: ignore[assignment]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    return [*made.values(), *(weight.grad for weight in weights if weight.grad is not None)]


def _layout(step: Step) -> Layout:
    """The pairs as input; with FlexAttention as one plain row of as many tokens, which keeps as much."""
    pair = step.pair

    def ids(count: int) -> Any:
        return np.zeros(count, np.int32)

    together = pair.together if step.share else 1
    tails = (ids(pair.chosen), *[ids(pair.rejected)] * together)
    groups = [PrefixGroup(ids(pair.prompt + pair.common), tails, max(1, pair.prompt))] * ceil(step.pairs / together)
    if not step.share:
        return pad_rows(groups)
    packed = pack(groups)
    if not step.flex:
        return packed
    return Layout(packed.input_ids, None, packed.sources, packed.targets, packed.lengths)


class _Held(TorchDispatchMode):
    """Bytes of the storages that operations made and that still live."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = 0
        self.most = 0
        self._seen: dict[int, Any] = {id(storage): storage for storage in (t.untyped_storage() for t in known)}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._seen:
            return
        self.now += size
        self.most = max(self.most, self.now)

        def gone() -> None:
            self.now -= size
            del self._seen[key]

        self._seen[key] = weakref.finalize(storage, gone)
