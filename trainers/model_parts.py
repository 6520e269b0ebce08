"""Find the parts of a model that adapters treat differently: experts, routers, and towers for images and sound."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import peft
from peft.tuners.lora import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from smaug_eval.trainers.coverage import (
    ADAPTED,
    AUDIO,
    EXPERTS,
    LANGUAGE,
    LEFT_OUT,
    NONE,
    PARTLY,
    ROUTER,
    VISION,
    LoraCoverage,
)

_EXPERT_CLASS = re.compile(r"Experts")  # of Granite and JetMoE, whose experts have other names
_ROUTER_NAMES = ("gate", "router")
_ROUTER_CLASS = re.compile(r"Router|MoeGate|MoEGate|TopKGating")
_VISION = re.compile(r"vision|visual|image|siglip|(?<![a-z])vit(?![a-z])", re.I)
_AUDIO = re.compile(r"audio|speech", re.I)


def towers(model: PreTrainedModel) -> dict[str, str]:
    """Return the outermost modules with weights that no text passes, by name: ``vision`` or ``audio``.

    These are what a model of several inputs has beside its language model and the embeddings and head of that, and
    within it what is called by the name of another input (Phi-4's embeddings of images).
    """
    found: dict[str, str] = {}
    language = _language_modules(model)
    inside = {part for outer in language for part in outer.modules()}
    takes_more = _takes_more_than_text(model)
    for name, module in model.named_modules():
        if not name or any(name.startswith(f"{outer}.") for outer in found):
            continue
        if next(module.parameters(), None) is None or any(part in language for part in module.modules()):
            continue
        kind = _kind_of_tower(name, module)
        if kind is not None or (takes_more and module not in inside):
            found[name] = kind or ""
    known = next((kind for kind in found.values() if kind), VISION)
    return {name: kind or known for name, kind in found.items()}


def without_towers(model: PreTrainedModel) -> str | None:
    """Return a pattern for PEFT's ``exclude_modules`` that means everything in :func:`towers`.

    None where there are none.
    """
    names = sorted(towers(model))
    return rf"({'|'.join(map(re.escape, names))})(\..*)?" if names else None


def measured_coverage(policy: peft.PeftModel) -> LoraCoverage:
    """Return what the adapter of a model adapts; the adapter's own weights are not counted.

    Args:
        policy: The model with its adapter, before anything shards its weights.
    """
    base = policy.get_base_model()
    parts = _parts(base)
    adapted = {id(weight) for weight in _adapted_weights(base)}
    named = [(name, weight) for name, weight in base.named_parameters() if ".lora_" not in name]
    own = {id(weight): weight for _, weight in named}
    matrices = {id(weight) for name, weight in named if _is_matrix(name, weight)}

    def state(part: str) -> str:
        keys = [key for key in matrices if parts[key] == part]
        count = sum(key in adapted for key in keys)
        return NONE if not keys else LEFT_OUT if not count else ADAPTED if count == len(keys) else PARTLY

    settings = policy.active_peft_config
    return LoraCoverage(
        adapted_weights=sum(_size(weight) for key, weight in own.items() if key in adapted),
        all_weights=sum(map(_size, own.values())),
        **{part: state(part) for part in (EXPERTS, ROUTER, VISION, AUDIO)},
        expert_weights=sum(_size(weight) for key, weight in own.items() if parts[key] == EXPERTS),
        fused_experts=_are_fused(base, parts, matrices),
        excluded=tuple(sorted(towers(base))) if settings.exclude_modules else (),
    )


def has_fused_experts(model: PreTrainedModel) -> bool:
    """Return whether a model's experts are parameters of their own rather than linear layers."""
    matrices = {id(weight) for name, weight in model.named_parameters() if _is_matrix(name, weight)}
    return _are_fused(model, _parts(model), matrices)


def _are_fused(model: PreTrainedModel, parts: dict[int, str], matrices: set[int]) -> bool:
    linear = {
        id(weight) for module in model.modules() if isinstance(module, nn.Linear) for weight in module.parameters()
    }
    return any(parts[key] == EXPERTS and key not in linear for key in matrices)


def _language_modules(model: PreTrainedModel) -> set[nn.Module]:
    found = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    return {module for module in found if isinstance(module, nn.Module)}


def _takes_more_than_text(model: PreTrainedModel) -> bool:
    try:
        return model.config.get_text_config(decoder=True) is not model.config
    except ValueError:  # several configurations of text
        return False


def _kind_of_tower(name: str, module: nn.Module) -> str | None:
    words = f"{name.rpartition('.')[2]} {type(module).__name__}"
    return AUDIO if _AUDIO.search(words) else VISION if _VISION.search(words) else None


def _parts(model: PreTrainedModel) -> dict[int, str]:
    """The part that each weight belongs to, by the weight's ``id``."""
    found = {id(weight): LANGUAGE for weight in model.parameters()}
    outer = towers(model)
    for name, module in model.named_modules():
        part = outer.get(name) or _part_of_mixture(name, module)
        if part is not None:
            found |= {id(weight): part for weight in module.parameters()}
    # A router is one beside experts only: "gate" is the name of much.
    has_experts = EXPERTS in found.values()
    return {key: part if has_experts or part != ROUTER else LANGUAGE for key, part in found.items()}


def _part_of_mixture(name: str, module: nn.Module) -> str | None:
    last = name.rpartition(".")[2]
    base = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
    kind = type(base).__name__
    if _ROUTER_CLASS.search(kind) or last in _ROUTER_NAMES:
        return ROUTER
    return EXPERTS if "shared" not in last and ("experts" in last or _EXPERT_CLASS.search(kind)) else None


def _adapted_weights(model: nn.Module) -> Iterator[nn.Parameter]:
    for module in model.modules():
        if isinstance(module, ParamWrapper):
            yield module.get_param()
        elif isinstance(module, BaseTunerLayer):
            yield module.get_base_layer().weight


def _is_matrix(name: str, weight: Any) -> bool:
    """Whether a weight maps vectors to vectors: no norm's, and no bias, of which fused experts have one for each."""
    return len(_shape(weight)) > 1 and not name.endswith("bias")


def _shape(weight: Any) -> tuple[int, ...]:
    """A weight's shape, of a sharded or a 4-bit one that of the whole."""
    for holder, name in ((weight, "ds_shape"), (getattr(weight, "quant_state", None), "shape")):
        if (shape := getattr(holder, name, None)) is not None:
            return tuple(shape)
    return tuple(weight.shape)


def _size(weight: Any) -> int:
    return math.prod(_shape(weight))
