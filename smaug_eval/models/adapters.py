"""Read PEFT adapters safely, attach them to their base, and merge them into it."""

from __future__ import annotations

from pathlib import Path

import peft
import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.adapter_files import WEIGHTS_FILE
from smaug_eval.models.weights import untie_config

_SHOWN = 3


def attach(base: PreTrainedModel, folder: Path, *, trainable: bool = False) -> peft.PeftModel:
    """Attach an adapter to its base, which is changed.

    Its weights are frozen unless it is to be trainable; those of the base always are.

    Embedding and output head that share one matrix get one each where the adapter changes either, as PEFT adds its
    part to the one module alone.

    Raises:
        SmaugError: the adapter was made for another model, is of a kind that changes no module, or holds numbers that
            are not finite.
    """
    weights = _weights(folder)
    try:
        settings = peft.PeftConfig.from_pretrained(folder)
        settings.inference_mode = not trainable
        model = peft.PeftModel(base, settings)
        loaded = peft.set_peft_model_state_dict(model, weights)
    except KeyError as error:  # PEFT looks up by name what it saved of whole modules
        raise _does_not_fit(folder, f"it has no weights for {error.args[0]}") from error
    except (ValueError, RuntimeError, TypeError) as error:
        raise _does_not_fit(folder, str(error)) from error
    if not isinstance(model.base_model, BaseTuner) or not hasattr(model.base_model, "merge_and_unload"):
        kind = model.active_peft_config.peft_type.value
        raise SmaugError(f"{folder}: a {kind} adapter has no weights to merge", fix="load it with PEFT as it is")
    lacking = [name for name in loaded.missing_keys if model.base_model.prefix in name] + _biases(model, weights)
    strange = list(loaded.unexpected_keys)
    if lacking or strange:
        what = "it has no weights for" if lacking else "the base has no place for"
        raise _does_not_fit(folder, f"{what} {', '.join((lacking or strange)[:_SHOWN])}")
    untie(base)
    return model


def merge(model: peft.PeftModel, folder: Path) -> PreTrainedModel:
    """Merge an adapter into its base, whose weights keep their type; ``model`` is used up.

    Raises:
        SmaugError: the sums are not finite.
    """
    try:
        merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise SmaugError(f"{folder} cannot be merged: {error}", fix="train the adapter again") from error
    return merged


def untie(base: PreTrainedModel) -> list[str]:
    """Untie every weight of which an adapter changes one side; return their names.

    Merged into a shared matrix, what was trained for the head would change the embedding as well, or be lost when the
    checkpoint is loaded.
    """
    pairs = dict(base.all_tied_weights_keys)
    apart = [target for target, source in pairs.items() if any(_is_adapted(base, name) for name in (target, source))]
    for target in apart:
        module, name = _holder(base, target)
        weight = getattr(module, name)
        setattr(module, name, nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad))
        base.all_tied_weights_keys.pop(target)
    if apart:
        untie_config(base.config)
    return apart


def _is_adapted(base: nn.Module, weight: str) -> bool:
    """Whether an adapter has taken the place of the module that holds a weight."""
    return isinstance(base.get_submodule(weight.rpartition(".")[0]), BaseTunerLayer | AuxiliaryTrainingWrapper)


def _holder(base: nn.Module, weight: str) -> tuple[nn.Module, str]:
    """The module that holds a weight itself, inside whatever an adapter has put around it."""
    path, _, name = weight.rpartition(".")
    module = base.get_submodule(path)
    while True:
        if isinstance(module, AuxiliaryTrainingWrapper):
            module = module.original_module
        elif isinstance(module, BaseTunerLayer):
            module = module.get_base_layer()
        else:
            return module, name


def _biases(model: peft.PeftModel, weights: dict[str, Tensor]) -> list[str]:
    """Biases of the base that an adapter trained, and that its file lacks: PEFT keeps the base's without a word."""
    if getattr(model.active_peft_config, "bias", "none") == "none":
        return []
    wanted = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    own = f".{model.base_model.prefix}"
    return [name for name in wanted if name.endswith("bias") and own not in name and name not in weights]


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
