"""Load a base model to train, and prepare it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.configuration import read_config
from smaug_eval.models.loading import LOADING_ERRORS, load_pretrained
from smaug_eval.models.quantised import Quantisation, Use, quantisation, require_bitsandbytes
from smaug_eval.prefix.attention import honour_soft_caps
from smaug_eval.trainers.processes import process_count, weights_are_sharded
from smaug_eval.trainers.tokenization import EncodedPair

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    model_path: Path,
    *,
    dtype: str,
    keep_dtype: bool,
    use: Use = Use.ADAPTER,
    quantize: str | None = None,
    device: torch.device | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer from a local folder.

    A model for a GPU is spread over all of them where this is the only process. Weights that are stored quantised stay
    so; for a merge they are dequantised.

    Args:
        model_path: The folder.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        keep_dtype: Whether to load the weights in ``dtype`` rather than float32.
        use: What for.
        quantize: ``nf4`` or ``int8`` to quantise the weights of its linear layers while loading.
        device: Where to; the CPU if None.
        trust_remote_code: Whether Python code that came with it may run.

    Raises:
        SmaugError: the folder has no safetensors weights or no tokenizer, some of its weights are missing, the dtype is
            unknown, its weights are stored in a way that the use cannot take, or bitsandbytes is needed and not
            installed.
    """
    if dtype not in DTYPES:
        raise SmaugError(f"no such dtype: {dtype!r}", fix=f"choose one of {', '.join(DTYPES)}")
    if not model_path.is_dir():
        raise SmaugError(f"model folder {model_path} does not exist", fix="correct the path of the base model")
    if quantize is not None:
        _check_quantising(quantize)
    stored = quantisation(read_config(model_path))
    if stored is not None:
        _check_stored(model_path, stored, quantize)
    quantised = quantize is not None or stored is not None
    device_map = _device_map(device, quantised)
    model = load_pretrained(
        model_path,
        use,
        dtype=DTYPES[dtype] if keep_dtype else torch.float32,
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
        local_files_only=True,
        device_map=device_map,
        quantization_config=None if quantize is None or stored is not None else _quantisation(quantize, dtype),
    )
    honour_soft_caps(model)
    tokenizer = load_tokenizer(model_path, trust_remote_code)
    if stored is not None and use is Use.MERGE:
        model = model.dequantize(torch.float32)
        # Loaded again, as the quantised one remembers how it was loaded and would be saved that way.
        model = standalone(model.config, model.state_dict(), torch.float32, like=model)
    elif quantised and use is Use.ADAPTER:
        _keep_differentiable(model)
        # Norms, embeddings and head in float32; the trainer switches activation checkpointing on where it is wanted.
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    elif device is not None and device_map is None:
        model.to(device)
    # Sampling settings do not matter here, and inconsistent ones would make every save fail. The base model's own file
    # is copied to the checkpoint.
    model.generation_config = GenerationConfig()
    return model, tokenizer


def load_tokenizer(folder: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a local folder.

    Raises:
        SmaugError: the folder has none.
    """
    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except LOADING_ERRORS as error:
        why = " ".join(str(error).split())[:400]
        raise SmaugError(
            f"{folder}: the tokenizer cannot be loaded: {why}",
            fix="give a folder with config.json, model.safetensors and tokenizer files",
        ) from error
    return found


def _check_stored(folder: Path, stored: Quantisation, quantize: str | None) -> None:
    """Refuse to quantise again what is quantised, and to shard it."""
    if quantize is not None and quantize != stored.kind:
        raise SmaugError(
            f"lora.quantize is {quantize}, but {folder} holds {stored.name} weights already", fix="leave quantize out"
        )
    if weights_are_sharded():
        raise SmaugError(
            f"{folder} holds {stored.name} weights, which FSDP and DeepSpeed cannot shard here",
            fix="launch it with recipes/accelerate/ddp.yaml, or give the model that it was quantised from",
        )


def _device_map(device: torch.device | None, quantised: bool) -> str | dict[str, Any] | None:
    if device is not None and device.type == "cuda" and torch.cuda.device_count() > 1 and process_count() == 1:
        return "auto"
    return {"": device or "cpu"} if quantised else None


def _check_quantising(quantize: str) -> None:
    require_bitsandbytes(f"lora.quantize is {quantize}")
    if weights_are_sharded():
        raise SmaugError(
            f"lora.quantize is {quantize}, but FSDP and DeepSpeed cannot shard quantised weights here",
            fix="launch it with recipes/accelerate/ddp.yaml, or leave quantize out",
        )


def _quantisation(quantize: str, dtype: str) -> BitsAndBytesConfig:
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

    That kernel has no gradient, and the weights stay packed: training would continue without the gradients of the base.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def standalone(
    config: PreTrainedConfig, weights: Mapping[str, Tensor], dtype: torch.dtype, *, like: nn.Module | None = None
) -> PreTrainedModel:
    """Return a model of its own with copies of some weights on the CPU.

    Args:
        config: Its configuration.
        weights: Its weights by name.
        dtype: Their type in it.
        like: The model whose computed buffers it takes as well, to be asked something; without, it can only be saved.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    cast = {name: value.to("cpu", dtype if value.is_floating_point() else None) for name, value in weights.items()}
    model.load_state_dict(cast, assign=True, strict=False)
    model.tie_weights()
    if like is not None:
        for name, _ in model.named_non_persistent_buffers():
            path, _, own = name.rpartition(".")
            model.get_submodule(path)._buffers[own] = like.get_buffer(name).to("cpu")
    if missing := [name for name, weight in model.named_parameters() if weight.is_meta]:
        raise RuntimeError(f"weights were not gathered: {', '.join(missing)}")
    # The base model's own settings are copied; inconsistent ones would make the save fail.
    model.generation_config = GenerationConfig()
    return model


def fitting_length(max_length: int, model: PreTrainedModel) -> int:
    """Return ``max_length`` in tokens, or the model's context where that is shorter."""
    context = getattr(model.config, "max_position_embeddings", None)
    return max_length if context is None else min(max_length, context)


def check_ids(pairs: Iterable[EncodedPair], model: PreTrainedModel, name: Path | str) -> None:
    """Refuse a tokenizer that does not belong to the model.

    Args:
        pairs: At least one pair.
        model: The model.
        name: Of the model.

    Raises:
        SmaugError: a token has no row in the model's embedding.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max(int(ids.max()) for pair in pairs for ids in (pair.prompt, pair.chosen, pair.rejected))
    if highest >= rows:
        raise SmaugError(
            f"{name}: the tokenizer gives id {highest}, but the model has only {rows} embeddings",
            fix="put the model's own tokenizer into the folder",
        )


@contextmanager
def no_dropout(model: PreTrainedModel) -> Iterator[None]:
    """Switch off every dropout of a model, so that the policy at step 0 equals the reference; restore it afterwards.

    Attention dropout is a number on the module or in the configuration rather than a module, hence the search by name.
    Of noise that is no dropout :func:`smaug_eval.trainers.randomness.without_noise` takes care.
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


def check_finite(weights: Mapping[str, Tensor], step: int) -> None:
    """Check that the weights are finite after the last update, which no loss has seen.

    Raises:
        SmaugError: a weight is not finite.
    """
    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise not_finite("updated model", step)


def not_finite(what: str, step: int) -> SmaugError:
    """Return the error for a number that overflowed in training."""
    return SmaugError(
        f"the {what} is not a finite number at step {step}",
        fix="lower learning_rate, lambda or beta, or train in float32",
    )
