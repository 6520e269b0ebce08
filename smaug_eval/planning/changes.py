"""Find the changes of a training of which each alone makes it fit: fewer pairs at a time, LoRA, more GPUs, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from smaug_eval.planning.memory import MemorySetting, Sharing, training_memory
from smaug_eval.planning.shapes import ModelShape
from smaug_eval.trainers.config import LoraConfig


def changes_that_fit(name: str, shape: ModelShape, setting: MemorySetting, usable: float) -> list[str]:
    """Return the changes of a training of which each alone makes it fit, as a recipe or a user says them.

    Args:
        name: The training's.
        shape: The model that it starts from.
        setting: The training as the recipe has it.
        usable: Bytes of each GPU that may be filled.
    """
    fitting = []
    for words, change in _CHANGES.items():
        if shape.stored is not None and change in (_qlora, _sharded):
            continue  # the base is quantised as it is, and cannot be sharded
        changed = change(setting)
        if changed is not None and training_memory(shape, changed).total <= usable:
            fitting.append(words)
    for gpus in (2, 4, 8, 16, 32, 64):
        if gpus <= setting.gpus or not (setting.sharing.is_sharded or setting.sharing is Sharing.SINGLE):
            continue
        more = replace(setting, processes=gpus if setting.sharing.is_sharded else 1, gpus=gpus)
        if training_memory(shape, more).total <= usable:
            fitting.append(f"{gpus} GPUs")
            break
    return fitting or [f"trainings.{name}: no single change is enough: combine LoRA, shorter rows and more GPUs"]


def _config(setting: MemorySetting, **changes: Any) -> MemorySetting:
    return replace(setting, config=setting.config.model_copy(update=changes))


def _checkpointing(setting: MemorySetting) -> MemorySetting | None:
    return None if setting.config.gradient_checkpointing else _config(setting, gradient_checkpointing=True)


def _one_pair(setting: MemorySetting) -> MemorySetting | None:
    return None if setting.config.batch_size == 1 else _config(setting, batch_size=1)


def _shorter(setting: MemorySetting) -> MemorySetting:
    pair = setting.longest
    half = type(pair)(*(max(1, part // 2) for part in vars(pair).values()))
    changed = _config(setting, row_tokens=max(1, setting.config.row_tokens // 2))
    return replace(changed, longest=half)


def _lora(setting: MemorySetting) -> MemorySetting | None:
    return _config(setting, lora=LoraConfig(), gradient_checkpointing=True) if setting.config.lora is None else None


def _qlora(setting: MemorySetting) -> MemorySetting | None:
    lora = setting.config.lora or LoraConfig()
    if lora.quantize == "nf4":
        return None
    changed = _config(setting, lora=lora.model_copy(update={"quantize": "nf4"}), gradient_checkpointing=True)
    return replace(changed, sharing=Sharing.COPIES, processes=setting.gpus)


def _sharded(setting: MemorySetting) -> MemorySetting | None:
    quantised = setting.config.lora is not None and setting.config.lora.quantize is not None
    if setting.sharing.is_sharded or setting.gpus == 1 or quantised:
        return None
    return replace(setting, sharing=Sharing.FSDP2, processes=setting.gpus)


_CHANGES: Mapping[str, Callable[[MemorySetting], MemorySetting | None]] = {
    "gradient_checkpointing: true": _checkpointing,
    "batch_size: 1 (raise gradient_accumulation to match)": _one_pair,
    "half the max_length and row_tokens": _shorter,
    "launch: accelerate/fsdp2.yaml (weights spread over all GPUs)": _sharded,
    "lora: {r: 16} with gradient_checkpointing": _lora,
    "lora: {quantize: nf4} with gradient_checkpointing, launch: accelerate/ddp.yaml": _qlora,
}
