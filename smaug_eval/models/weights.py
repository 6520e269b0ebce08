"""Check that a checkpoint's tensors are those of the model that its configuration describes.

transformers fills what a checkpoint lacks with random numbers, and notes it in a log at most. Here that is an error.
What is compared is what transformers itself finds while it loads: with its own renaming of keys, its conversions (fused
experts) and its tied weights. Before anything is loaded the same is checked with the names, types and shapes in the
headers of the files alone, on torch's meta device.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.configuration import read_config
from smaug_eval.models.headers import Header, headers, refuse_two_copies, tensor
from smaug_eval.models.quantised import Quantisation, quantisation
from smaug_eval.models.quiet import quiet_transformers

_SHOWN = 3
_COMPUTED = re.compile(
    # Buffers of older checkpoints that a model computes from its configuration, and scales of a cache in 8 bits.
    r"(inv_freq|masked_bias|causal_mask|position_ids|attn\.bias|attention\.bias|embed_positions\.weights|cos_cached"
    r"|sin_cached|_extra_state|[qkv]_scale|alibi|slopes)$"
)
_EXPERT = re.compile(r"(?P<experts>.*\bexperts)\.(?P<number>\d+)\.(?P<tensor>.+)")
_MARKS = {
    # What the name of some tensor holds, by method or kind.
    **dict.fromkeys(("nf4", "fp4"), ".quant_state."),
    "int8": ".SCB",
    **dict.fromkeys(("gptq", "awq"), ".qweight"),
    **dict.fromkeys(("fp8", "fbgemm_fp8", "mxfp4"), "_scale"),
}
_NEXT_TOKEN_LAYERS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers", "num_mtp_modules")
"""Keys of a configuration that count layers for multi-token prediction, which follow the model's own."""

log = logging.getLogger(__name__)


def check_weights(source: str, path: Path, *, for_vllm: bool = False, trust_remote_code: bool = False) -> None:
    """Compare names and shapes of a checkpoint's tensors with the model that ``config.json`` describes.

    No weight is read. What transformers has no class for, and quantised weights whose names tell nothing, are left to
    the loading itself.

    Args:
        source: The model, as the user named it.
        path: Its folder.
        for_vllm: Whether vLLM will load it, which ties embedding and head where the configuration sets it.
        trust_remote_code: Whether Python code that came with it may run, which then is what loads it.

    Raises:
        SmaugError: a tensor is missing, has another shape, or would be left out of the model's layers.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    raw = read_config(path)
    stored = quantisation(raw)
    if for_vllm:
        refuse_two_copies(source, path)
    check_stored(source, path, stored, for_vllm=for_vllm)
    found = _as_float(headers(path, for_vllm=for_vllm), stored)
    if found is None:
        return
    if trust_remote_code and "auto_map" in raw:
        return
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, StrictDataclassError):
        return  # code of its own, or a kind that only vLLM knows
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is None:
        return
    kind = _of_several(kind, config)
    if kind.config_class is config.sub_configs.get("text_config"):
        config = config.get_text_config()
    for part in (config, config.get_text_config()):
        vars(part).pop("quantization_config", None)
    state = {name: torch.empty(shape, dtype=dtype, device="meta") for name, (shape, dtype) in found.items()}
    with quiet_transformers():
        try:
            model, info = kind.from_pretrained(
                None,
                config=config,
                state_dict=state,
                device_map="meta",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except Exception as error:  # of a conversion: of parts that are not whole, or that needs the numbers
            refuse_torn_experts(source, found)
            log.info("%s: the tensors are compared while they are loaded: %s", source, error)
            return
    refuse_faulty(source, model, info, causal=stored is None)
    if for_vllm:
        _refuse_untied(source, path, model, found)


def refuse_faulty(source: str, model: nn.Module, info: Mapping[str, Iterable[Any]], *, causal: bool = True) -> None:
    """Refuse a model some of whose weights are not the checkpoint's.

    Args:
        source: The model, as the user named it.
        model: As transformers loaded it.
        info: What transformers found: its ``output_loading_info``.
        causal: Whether it is a causal language model, whose layers use every tensor that they are given.

    Raises:
        SmaugError: a tensor is missing, has another shape, or was left out of the model's layers.
    """
    buffers = {name for name, _ in model.named_buffers()}
    missing = sorted(key for key in info["missing_keys"] if not (key in buffers and _COMPUTED.search(key)))
    other = sorted(info["mismatched_keys"])
    unexpected = sorted(info["unexpected_keys"])
    useless = [key for key in unexpected if _matters(key, model)] if causal else []
    total = sum(1 for _ in model.state_dict())
    missing += [f"the scales of {name}" for name in _without_scales(model)]
    if missing:
        raise SmaugError(
            f"model {source!r}: {len(missing)} of {total} tensors are missing ({_shown(missing)}); they would be "
            "random numbers",
            fix=_fix_of_missing(missing, unexpected),
        )
    if other:
        shapes = [f"{name} is {list(found)}, not {list(expected)}" for name, found, expected in other]
        raise SmaugError(
            f"model {source!r}: {len(other)} of {total} tensors do not have the shape that config.json asks for "
            f"({_shown(shapes)})",
            fix="put the config.json beside the weights that belongs to them",
        )
    if useless:
        raise SmaugError(
            f"model {source!r}: {len(useless)} tensors have no place in the model that config.json describes "
            f"({_shown(useless)}); they would be left out",
            fix="put the config.json beside the weights that belongs to them (layers, biases, architecture)",
        )
    if unexpected:
        log.info("%s: %d tensors are no part of the language model: %s", source, len(unexpected), _shown(unexpected))


def check_stored(source: str, path: Path, stored: Quantisation | None, *, for_vllm: bool = False) -> None:
    """Refuse a configuration that calls plain weights quantised, or says nothing of weights that are integers.

    Args:
        source: The model, as the user named it.
        path: Its folder.
        stored: What its configuration says.
        for_vllm: Whether vLLM will load it.

    Raises:
        SmaugError: no tensor is as the configuration says, or a matrix holds integers without a scale.
    """
    found = headers(path, for_vllm=for_vllm)
    mark = None if stored is None else _MARKS.get(stored.kind or stored.method)
    if stored is not None and mark is not None and not any(mark in name for name in found):
        raise SmaugError(
            f"model {source!r}: config.json says that the weights are {stored.name}, but no tensor is",
            fix="remove quantization_config from its config.json, or fetch the quantised weights",
        )
    whole = [name for name, (shape, dtype) in found.items() if len(shape) > 1 and _is_integer(name, dtype)]
    if stored is None and whole:
        raise SmaugError(
            f"model {source!r}: {len(whole)} matrices hold integers ({_shown(whole)}), and config.json has no "
            "quantization_config that says how they are to be read",
            fix="add the section that belongs to the weights, or give plain weights",
        )


def refuse_torn_experts(source: str, names: Iterable[str]) -> None:
    """Refuse a mixture of experts some of whose experts lack a tensor that others have; transformers joins them.

    Args:
        source: The model, as the user named it.
        names: Of the checkpoint's tensors.

    Raises:
        SmaugError: a tensor is missing.
    """
    names = set(names)
    parts = [match for match in map(_EXPERT.fullmatch, names) if match]
    tensors: dict[str, set[str]] = {}
    for match in parts:
        tensors.setdefault(match["experts"], set()).add(match["tensor"])
    of_each = {f"{match['experts']}.{match['number']}": match["experts"] for match in parts}
    whole = (f"{expert}.{tensor}" for expert, experts in of_each.items() for tensor in tensors[experts])
    if missing := sorted(set(whole) - names):
        raise SmaugError(
            f"model {source!r}: {len(missing)} tensors of experts are missing ({_shown(missing)})",
            fix="fetch the weights again",
        )


def tensor_names(path: Path) -> list[str]:
    """Return the names of all tensors of a checkpoint."""
    return list(headers(path))


def settle_ties(source: str, model: Any) -> None:
    """Make the configuration match the weights: a head of its own where embedding and head differ.

    transformers then does not tie them, whatever the configuration says; a copy saved from it would.
    """
    if not is_tied(model.config):
        return
    apart = set(model.get_expanded_tied_weights_keys(all_submodels=True)) - set(model.all_tied_weights_keys)
    if apart:
        log.warning(
            "%s: config.json ties %s, but the checkpoint has other values for it", source, _shown(sorted(apart))
        )
        untie_config(model.config)


def is_tied(config: Any) -> bool:
    """Check whether a configuration ties embedding and output head."""
    return any(getattr(part, "tie_word_embeddings", False) for part in (config, config.get_text_config(decoder=True)))


def untie_config(config: Any) -> None:
    """Record in a configuration that embedding and output head are two matrices."""
    for part in (config, config.get_text_config(decoder=True)):
        if getattr(part, "tie_word_embeddings", False):
            part.tie_word_embeddings = False


def _as_float(found: dict[str, Header], stored: Quantisation | None) -> dict[str, Header] | None:
    """The tensors as if they had not been quantised; None where their names and shapes do not tell."""
    if stored is None:
        return found
    if stored.method == "fp8":
        return {name: header for name, header in found.items() if not re.search(r"_scale(_inv)?$", name)}
    if stored.method not in ("gptq", "awq") or not stored.bits:
        return None
    packed = 32 // stored.bits
    plain: dict[str, Header] = {}
    for name, (shape, dtype) in found.items():
        stem, _, kind = name.rpartition(".")
        if kind == "qweight" and len(shape) == 2:
            inputs, outputs = shape
            inputs, outputs = (inputs * packed, outputs) if stored.method == "gptq" else (inputs, outputs * packed)
            plain[f"{stem}.weight"] = ([outputs, inputs], torch.float16)
        elif kind == "bias" or f"{stem}.qweight" not in found:  # else scales, zeros and the order of groups
            plain[name] = (shape, dtype)
    return plain


def _is_integer(name: str, dtype: torch.dtype) -> bool:
    return name.endswith(".weight") and not dtype.is_floating_point and dtype is not torch.bool


def _of_several(kind: Any, config: Any) -> Any:
    """The class that the configuration names, where a type has several."""
    if not isinstance(kind, tuple | list):
        return kind
    named = {each.__name__: each for each in kind if each is not None}
    wanted = next((name for name in getattr(config, "architectures", None) or () if name in named), None)
    return named[wanted] if wanted else next(iter(named.values()))


def _matters(key: str, model: nn.Module) -> bool:
    """Whether a tensor that found no place lies inside the model's layers, its norms or its head.

    Towers for images or sound, layers for multi-token prediction and value heads stand beside them: the language model
    is whole without them.
    """
    if _COMPUTED.search(key):
        return False
    part, path = model, key.split(".")[:-1]
    inside: list[nn.Module] = []
    for name in path:
        if (below := part._modules.get(name)) is None:
            break
        part = below
        inside.append(part)
    if not inside:
        return False
    beyond = path[len(inside)] if len(inside) < len(path) else None
    if isinstance(part, nn.ModuleList) and beyond is not None and beyond.isdigit():
        return int(beyond) >= len(part) + _layers_beyond(model)
    within_layers = any(isinstance(module, nn.ModuleList) for module in inside)
    return within_layers or (beyond is None and not part._modules)  # a bias of the head, of a norm


def _without_scales(model: nn.Module) -> list[str]:
    """Matrices of bitsandbytes' kind whose numbers came without what they are to be multiplied by."""
    needed = {"Linear4bit": "quant_state", "Linear8bitLt": "SCB"}
    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if (attribute := needed.get(type(module).__name__)) is not None
        and getattr(module.weight, attribute, None) is None
    ]


def _layers_beyond(model: nn.Module) -> int:
    config: Any = model.config
    config = config.get_text_config()
    return max(int(getattr(config, name, None) or 0) for name in _NEXT_TOKEN_LAYERS)


def _refuse_untied(source: str, path: Path, model: Any, found: Mapping[str, Any]) -> None:
    """vLLM ties what the configuration ties, and leaves out the head that a checkpoint has of its own."""
    for pair in model.all_tied_weights_keys.items():
        if not all(name in found for name in pair):
            continue
        one, other = (tensor(path, name, for_vllm=True) for name in pair)
        if one.shape != other.shape or not torch.equal(one, other):
            raise SmaugError(
                f"model {source!r}: config.json ties {pair[0]} to {pair[1]}, but the checkpoint has other values for "
                "it, which vLLM would leave out",
                fix="set tie_word_embeddings to false in its config.json, or use engine: torch",
            )


def _fix_of_missing(missing: Sequence[str], unexpected: Sequence[str]) -> str:
    if any(".base_layer." in key for key in unexpected):
        return "it was saved with an adapter inside: save it after PEFT's merge_and_unload"
    if any(key.endswith((".qweight", ".weight_packed", ".scales")) for key in unexpected):
        return "its weights are quantised, and config.json has no quantization_config: add it, or give plain weights"
    for key in missing:
        for other in unexpected:
            if other.endswith(f".{key}"):
                return f"the names begin with {other.removesuffix(key)!r}: save the model again without that prefix"
            if key.endswith(f".{other}"):
                return f"the names lack {key.removesuffix(other)!r} at their beginning: save the model again with it"
    if unexpected:
        return f"config.json describes another architecture: the checkpoint has {_shown(unexpected)} instead"
    return "fetch the weights again; where they are whole, config.json is another model's"


def _shown(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f", and {more} more" if more > 0 else "")
