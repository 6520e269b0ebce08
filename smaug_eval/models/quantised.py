"""Describe checkpoints whose weights are stored quantised, and check what can be done with them here."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from smaug_eval.common.errors import SmaugError

BITSANDBYTES = "bitsandbytes"
SECTIONS = ("quantization_config", "compression_config")
"""Keys of a configuration that say how weights are stored."""
_NAMES = {
    BITSANDBYTES: "bitsandbytes",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "fp8": "FP8",
    "fbgemm_fp8": "FBGEMM FP8",
    "mxfp4": "MXFP4",
    "gguf": "GGUF",
    "hqq": "HQQ",
    "aqlm": "AQLM",
    "bitnet": "BitNet",
}
_BITS = {"fp8": 8, "fbgemm_fp8": 8, "mxfp4": 4, "nvfp4": 4, "mxfp8": 8}


class Use(str, Enum):
    """List what a model can be loaded for."""

    TRAINING = "a full training"
    ADAPTER = "a LoRA training"
    DIAGNOSIS = "diagnose with gradients"
    SCORING = "diagnose"
    MERGE = "merge"
    TORCH = "engine torch"
    HF = "engine hf"
    VLLM = "engine vllm"
    LM_EVAL_VLLM = "engine lm-eval-vllm"
    API = "engine api"

    @property
    def is_vllm(self) -> bool:
        """Return whether vLLM loads the model, which knows kinds of its own."""
        return self in (Use.VLLM, Use.LM_EVAL_VLLM)


@dataclass(frozen=True)
class Quantisation:
    """Describe how the weights of a checkpoint are stored, as its configuration states it.

    Attributes:
        method: ``quant_method`` of transformers, such as ``gptq``; ``unknown`` where it is not stated.
        bits: Bits of a weight; None where they are not stated.
        kind: ``nf4``, ``fp4`` or ``int8`` of bitsandbytes; None for other methods.
        settings: The section of the configuration.
    """

    method: str
    bits: int | None
    kind: str | None
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return the method's name: ``4-bit GPTQ``, ``4-bit bitsandbytes (nf4)``."""
        bits = "" if self.bits is None else f"{self.bits}-bit "
        kind = "" if self.kind is None else f" ({self.kind})"
        return f"{bits}{_NAMES.get(self.method, self.method)}{kind}"


def quantisation(config: Mapping[str, Any]) -> Quantisation | None:
    """Return how the weights are stored that a ``config.json`` describes; None for plain numbers."""
    text = config.get("text_config")
    sections = [part.get(key) for part in (config, text) if isinstance(part, Mapping) for key in SECTIONS]
    settings = next((section for section in sections if isinstance(section, Mapping) and section), None)
    if settings is None:
        return None
    four, eight = (bool(settings.get(key)) for key in ("load_in_4bit", "load_in_8bit"))
    method = BITSANDBYTES if four or eight else str(settings.get("quant_method") or "unknown").lower()
    if method == BITSANDBYTES:
        kind = str(settings.get("bnb_4bit_quant_type", "fp4")) if four else "int8"
        return Quantisation(method, 4 if four else 8, kind, settings)
    bits = settings.get("bits", settings.get("w_bit", _BITS.get(method)))
    return Quantisation(method, bits if isinstance(bits, int) else None, None, settings)


def check_quantisation(source: str, config: Mapping[str, Any], uses: Collection[Use]) -> Quantisation | None:
    """Make sure that weights as they are stored can be used. Nothing is loaded for that.

    Args:
        source: The model, as the user named it.
        config: Its ``config.json``.
        uses: What it is to be used for.

    Returns:
        How the weights are stored; None for plain numbers.

    Raises:
        SmaugError: one of the uses needs plain weights, or a library that is not installed. vLLM reads quantised
            weights by itself, and is left to say what it cannot.
    """
    found = quantisation(config)
    if found is None:
        return None
    for use in uses:
        refuse_kind(source, found, use)
        if use.is_vllm:
            continue
        what = f"model {source!r} holds {found.name} weights"
        if found.method == BITSANDBYTES:
            require_bitsandbytes(what)
        if (why := _why_not(found)) is not None:
            raise SmaugError(
                f"{what}, which {use.value} cannot load here: {why}",
                fix="install what it asks for, set engine: vllm where vLLM knows the kind, or give the model that it "
                "was quantised from",
            )
    return found


def refuse_kind(source: str, found: Quantisation, use: Use) -> None:
    """Refuse a use that such weights do not allow on any machine.

    Raises:
        SmaugError: it is one.
    """
    what, original = f"model {source!r} holds {found.name} weights", "give the model that it was quantised from"
    bitsandbytes = found.method == BITSANDBYTES
    if use is Use.TRAINING:
        adapter = "train a LoRA adapter (lora: {r: 16}), or " if bitsandbytes else ""
        raise SmaugError(f"{what}, which {use.value} cannot change", fix=adapter + original)
    if use is Use.DIAGNOSIS and bitsandbytes:
        raise SmaugError(
            f"{what}, which have no gradients to compare", fix=f"leave them out (--gradient-pairs 0), or {original}"
        )
    if use in (Use.ADAPTER, Use.MERGE, Use.DIAGNOSIS, Use.SCORING) and not bitsandbytes:
        raise SmaugError(f"{what}; {use.value} takes plain ones, or those of bitsandbytes", fix=original)


def _why_not(found: Quantisation) -> str | None:
    """Why transformers cannot load such weights on this machine; None where it can."""
    from transformers.quantizers import AutoHfQuantizer

    try:
        quantizer = AutoHfQuantizer.from_config(dict(found.settings), pre_quantized=True)
        quantizer.validate_environment(device_map=None, weights_only=True)
    except Exception as error:  # each method checks in its own way, in code of other libraries
        return " ".join(str(error).split(" - supported")[0].split())[:200]
    return None


def require_bitsandbytes(what: str) -> None:
    """Make sure that bitsandbytes is installed.

    Args:
        what: What needs it, as the first half of a sentence.

    Raises:
        SmaugError: it is not.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SmaugError(f"{what}, and bitsandbytes is not installed", fix="pip install 'smaug-eval[qlora]'")
