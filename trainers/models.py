"""Loading a base model to train, and preparing it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from smaug_eval.errors import SmaugError
from trainers.config import LoraConfig
from trainers.processes import process_count, weights_are_sharded
from trainers.tokenization import EncodedPair

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    model_path: Path,
    *,
    dtype: str,
    keep_dtype: bool,
    quantize: str | None = None,
    device: torch.device | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer from a local folder.

    A model for a GPU is spread over all of them where this is the only process.

    Args:
        model_path: The folder.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        keep_dtype: Whether to load the weights in ``dtype`` rather than float32.
        quantize: ``nf4`` or ``int8`` to quantise the weights of its linear layers while loading.
        device: Where to; the CPU if None.
        trust_remote_code: Whether Python code that came with it may run.

    Raises:
        SmaugError: the folder has no safetensors weights or no tokenizer, the dtype is unknown, or bitsandbytes
            is needed and not installed.
    """
    if dtype not in DTYPES:
        raise SmaugError(f"no such dtype: {dtype!r}", fix=f"choose one of {', '.join(DTYPES)}")
    if not model_path.is_dir():
        raise SmaugError(f"model folder {model_path} does not exist", fix="correct the path of the base model")
    device_map = _device_map(device, quantize)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            model_path,
            dtype=DTYPES[dtype] if keep_dtype else torch.float32,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            device_map=device_map,
            quantization_config=None if quantize is None else _quantisation(quantize, dtype),
        )
        tokenizer = AutoTokenizer.from_pretrained(
            model_path, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise SmaugError(
            f"{model_path} cannot be loaded: {error}",
            fix="give a folder with config.json, model.safetensors and tokenizer files",
        ) from error
    if quantize is not None:
        _keep_differentiable(model)
        # Norms, embeddings and head in float32; the trainer switches activation checkpointing on where it is wanted.
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    elif device is not None and device_map is None:
        model.to(device)
    # Sampling settings do not matter here, and inconsistent ones would make every save fail. The base model's own file
    # is copied to the checkpoint.
    model.generation_config = GenerationConfig()
    return model, tokenizer


def _device_map(device: torch.device | None, quantize: str | None) -> str | dict[str, Any] | None:
    if device is not None and device.type == "cuda" and torch.cuda.device_count() > 1 and process_count() == 1:
        return "auto"
    return None if quantize is None else {"": device or "cpu"}


def _quantisation(quantize: str, dtype: str) -> BitsAndBytesConfig:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SmaugError(
            f"lora.quantize is {quantize}, but bitsandbytes is not installed", fix="pip install 'smaug-eval[qlora]'"
        )
    if weights_are_sharded():
        raise SmaugError(
            f"lora.quantize is {quantize}, but FSDP and DeepSpeed cannot shard quantised weights here",
            fix="launch it with recipes/accelerate/ddp.yaml, or leave quantize out",
        )
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[dtype],
    )


def _keep_differentiable(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from repacking 4-bit weights for a CPU kernel when a model is first evaluated there.

    That kernel has no gradient, and the weights stay packed: training would go on without the gradients of the base.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def fitting_length(max_length: int, model: PreTrainedModel) -> int:
    """``max_length`` in tokens, or the model's context where that is shorter."""
    context = getattr(model.config, "max_position_embeddings", None)
    return max_length if context is None else min(max_length, context)


def check_ids(pairs: Sequence[EncodedPair], model: PreTrainedModel, model_path: Path) -> None:
    """Refuse a tokenizer that does not belong to the model.

    Raises:
        SmaugError: a token has no row in the model's embedding.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max(int(ids.max()) for pair in pairs for ids in (pair.prompt, pair.chosen, pair.rejected))
    if highest >= rows:
        raise SmaugError(
            f"{model_path}: the tokenizer gives id {highest}, but the model has only {rows} embeddings",
            fix="put the model's own tokenizer into the folder",
        )


def with_adapter(model: PreTrainedModel, lora: LoraConfig, seed: int) -> peft.PeftModel:
    """The model with a fresh LoRA adapter, which adds exactly 0 until it is trained; the base's weights are frozen.

    Raises:
        SmaugError: the model has none of the target modules.
    """
    torch.manual_seed(seed)
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
    )
    try:
        return peft.get_peft_model(model, settings)
    except ValueError as error:
        raise SmaugError(f"lora.target_modules {lora.target_modules}: {error}", fix="use all-linear") from error


@contextmanager
def no_dropout(model: PreTrainedModel) -> Iterator[None]:
    """Switch off every dropout of a model, so that the policy at step 0 equals the reference; restore it afterwards.

    Attention dropout is a number on the module or in the configuration rather than a module, hence the search by name.
    """
    saved: list[tuple[Any, str, float]] = []
    for holder in (model.config, *model.modules()):
        names = ("p",) if isinstance(holder, nn.Dropout) else tuple(n for n in vars(holder) if "drop" in n)
        for name in names:
            value = getattr(holder, name)
            if isinstance(value, float):
                saved.append((holder, name, value))
                setattr(holder, name, 0.0)
    try:
        yield
    finally:
        for holder, name, value in saved:
            setattr(holder, name, value)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' notes and progress bars off the terminal, and restore both afterwards."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def check_finite(weights: Mapping[str, Tensor], step: int) -> None:
    """Look at the weights after the last update, which no loss has seen.

    Raises:
        SmaugError: a weight is not finite.
    """
    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise not_finite("updated model", step)


def not_finite(what: str, step: int) -> SmaugError:
    """The error for a number that overflowed in training."""
    return SmaugError(
        f"the {what} is not a finite number at step {step}",
        fix="lower learning_rate, lambda or beta, or train in float32",
    )
