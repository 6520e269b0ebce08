"""PEFT adapters on disk: reading one safely, and merging it into its base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTuner
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from smaug_eval.errors import SmaugError
from smaug_eval.files import read_json
from smaug_eval.to_safetensors import conversion_command

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PICKLED_FILE = "adapter_model.bin"
_SHOWN = 3


def adapter_settings(folder: Path) -> dict[str, Any]:
    """What ``adapter_config.json`` says.

    Raises:
        SmaugError: the folder is no adapter, or its weights are not safetensors.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise SmaugError(f"{folder} has no {CONFIG_FILE}", fix="give the folder of a PEFT adapter")
    if not (folder / WEIGHTS_FILE).is_file():
        if not (folder / PICKLED_FILE).is_file():
            raise SmaugError(f"{folder} has no {WEIGHTS_FILE}", fix="fetch the adapter again")
        raise SmaugError(
            f"{folder}: the adapter's weights are pickled ({PICKLED_FILE}); they can run code and are refused",
            fix=f"convert them, which runs none: {conversion_command(folder)}",
        )
    settings = read_json(folder / CONFIG_FILE)
    if not isinstance(settings, dict):
        raise SmaugError(f"{folder / CONFIG_FILE} is no JSON object", fix="fetch the adapter again")
    return settings


def merged(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The base with an adapter added to its weights, which keep their type; ``base`` is changed.

    Raises:
        SmaugError: the adapter was made for another model, is of a kind that has no weights to add, or holds numbers
            that are not finite.
    """
    weights = _weights(folder)
    try:
        model = peft.PeftModel(base, peft.PeftConfig.from_pretrained(folder))
        loaded = peft.set_peft_model_state_dict(model, weights)
    except (ValueError, RuntimeError, TypeError, KeyError) as error:
        raise _does_not_fit(folder, str(error)) from error
    if not isinstance(model.base_model, BaseTuner) or not hasattr(model.base_model, "merge_and_unload"):
        kind = model.active_peft_config.peft_type.value
        raise SmaugError(f"{folder}: a {kind} adapter has no weights to merge", fix="load it with PEFT as it is")
    lacking = [name for name in loaded.missing_keys if model.base_model.prefix in name]
    strange = list(loaded.unexpected_keys)
    if lacking or strange:
        what = "it has no weights for" if lacking else "the base has no place for"
        raise _does_not_fit(folder, f"{what} {', '.join((lacking or strange)[:_SHOWN])}")
    try:
        return model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise SmaugError(f"{folder} cannot be merged: {error}", fix="train the adapter again") from error


def _weights(folder: Path) -> dict[str, Tensor]:
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise SmaugError(f"{folder / WEIGHTS_FILE} cannot be read: {error}", fix="fetch the adapter again") from error
    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise SmaugError(f"{folder / WEIGHTS_FILE} holds numbers that are not finite", fix="train the adapter again")
    return weights


def _does_not_fit(folder: Path, why: str) -> SmaugError:
    first = " ".join(why.split())
    return SmaugError(
        f"the adapter {folder} does not fit the base model: {first[:300]}",
        fix="give the base it was trained on (base_model_name_or_path in its adapter_config.json)",
    )
