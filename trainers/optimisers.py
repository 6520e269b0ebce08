"""Turn the settings of optimiser and schedule into transformers' arguments."""

from __future__ import annotations

import math
from typing import Any

from smaug_eval.models.quantised import require_bitsandbytes
from smaug_eval.trainers.config import TrainingConfig

OPTIMISERS = {
    "adafactor": "adafactor",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw": "paged_adamw_32bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
}
"""Our names and those of transformers' ``TrainingArguments.optim``; its default stays for AdamW."""
_OF_BITSANDBYTES = ("adamw_8bit", "paged_adamw", "paged_adamw_8bit")


def check_libraries(config: TrainingConfig) -> None:
    """Make sure that the library of an optimiser, or of a base in few bits, is there.

    Raises:
        SmaugError: it is not.
    """
    if config.optimizer in _OF_BITSANDBYTES:
        require_bitsandbytes(f"optimizer is {config.optimizer}")
    if config.lora is not None and config.lora.quantize is not None:
        require_bitsandbytes(f"lora.quantize is {config.lora.quantize}")


def optimiser_arguments(config: TrainingConfig) -> dict[str, Any]:
    """Return the arguments of ``TrainingArguments`` for the optimiser and the schedule."""
    schedules = {"constant": "constant_with_warmup", "wsd": "warmup_stable_decay"}
    name: str = schedules.get(config.lr_scheduler, config.lr_scheduler)
    found: dict[str, Any] = {"adam_beta1": config.betas[0], "adam_beta2": config.betas[1]}
    if config.optimizer in OPTIMISERS:
        found["optim"] = OPTIMISERS[config.optimizer]
    if name == "cosine" and config.min_learning_rate_ratio:
        name, found["lr_scheduler_kwargs"] = "cosine_with_min_lr", {"min_lr_rate": config.min_learning_rate_ratio}
    return {**found, "lr_scheduler_type": name}


def schedule_arguments(config: TrainingConfig, steps: int) -> dict[str, Any] | None:
    """Return what a schedule takes that depends on the number of steps; None for nothing.

    Args:
        config: The settings.
        steps: Optimiser steps in all.
    """
    if config.lr_scheduler != "wsd":
        return None
    return {"num_decay_steps": math.ceil(config.decay_ratio * steps), "min_lr_ratio": config.min_learning_rate_ratio}
