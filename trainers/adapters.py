"""Put an adapter on the model that is trained: a fresh one, or one that was trained before."""

from __future__ import annotations

import re
from pathlib import Path

import peft
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.suggest import nearest
from smaug_eval.models.adapter_files import adapter_settings
from smaug_eval.models.adapters import attach
from smaug_eval.trainers.config import LoraConfig
from smaug_eval.trainers.model_parts import has_fused_experts, without_towers


def with_adapter(
    model: PreTrainedModel, lora: LoraConfig, seed: int, tokenizer: PreTrainedTokenizerBase | None = None
) -> peft.PeftModel:
    """Return the model with a fresh LoRA adapter, which adds exactly 0 until it is trained.

    The base's weights are frozen.

    ``all-linear`` leaves out towers for images and sound, which no text passes and vLLM's loader of adapters refuses.

    Args:
        model: The base.
        lora: The adapter's settings.
        seed: Of its first weights.
        tokenizer: Knows the tokens that ``trainable_tokens`` names.

    Raises:
        SmaugError: the model has none of the target modules or parameters, or there is no such token.
    """
    torch.manual_seed(seed)
    further = {"target_parameters": lora.target_parameters, "modules_to_save": lora.modules_to_save}
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        exclude_modules=_excluded(model, lora),
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        trainable_token_indices=_token_ids(lora, tokenizer),
        **{name: value for name, value in further.items() if value is not None},
    )
    check_adapter(model, lora, tokenizer)
    try:
        return peft.get_peft_model(model, settings)
    except ValueError as error:
        fix = "set lora.dropout to 0" if "dropout" in str(error) else "use all-linear"
        raise SmaugError(f"lora.target_modules {lora.target_modules}: {error}", fix=fix) from error


def _excluded(model: PreTrainedModel, lora: LoraConfig) -> str | None:
    """A pattern of the modules that are left out: towers, and what is named; PEFT matches it against whole names."""
    towers = without_towers(model) if lora.target_modules == "all-linear" else None
    named = "|".join(map(re.escape, lora.exclude_modules or ()))
    patterns = [*([] if towers is None else [towers]), *([rf"(.*\.)?({named})"] if named else [])]
    return "|".join(patterns) or None


def _token_ids(lora: LoraConfig, tokenizer: PreTrainedTokenizerBase | None) -> list[int] | None:
    if lora.trainable_tokens is None:
        return None
    found = []
    for token in lora.trainable_tokens:
        number = token
        if isinstance(token, str):
            known = {} if tokenizer is None else tokenizer.get_vocab()
            if token not in known:
                raise SmaugError(
                    f"lora.trainable_tokens: the tokenizer has no token {token!r}", fix="give a token of its vocabulary"
                )
            number = known[token]
        found.append(int(number))
    return sorted(set(found))


def check_adapter(model: PreTrainedModel, lora: LoraConfig, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
    """Refuse names of modules, parameters and tokens that a model has none of: PEFT passes over some without a word.

    With fused experts any target module is taken: PEFT translates the names that the layers of single experts had.

    Args:
        model: The base.
        lora: The adapter's settings.
        tokenizer: Knows the tokens that ``trainable_tokens`` names.

    Raises:
        SmaugError: there is no such module, parameter or token.
    """
    _token_ids(lora, tokenizer)
    modules = [name for name, _ in model.named_modules()]
    parameters = [name for name, _ in model.named_parameters()]
    any_target = isinstance(lora.target_modules, str) or has_fused_experts(model)
    for key, names, known in (
        ("target_modules", () if any_target else lora.target_modules, modules),
        ("exclude_modules", lora.exclude_modules, modules),
        ("modules_to_save", lora.modules_to_save, modules),
        ("target_parameters", lora.target_parameters, parameters),
    ):
        for name in names or ():
            if not any(each == name or each.endswith(f".{name}") for each in known):
                lasts = {each.rpartition(".")[2] for each in known}
                likely = nearest(name, sorted(last for last in lasts if last and not last.isdigit()))
                raise SmaugError(f"lora.{key}: the model has no {name!r}{likely}", fix="correct or remove the name")
    rows = model.get_input_embeddings().weight.shape[0]
    for token in lora.trainable_tokens or ():
        if isinstance(token, int) and token >= rows:
            raise SmaugError(f"lora.trainable_tokens: the model has no token {token}", fix=f"give ids below {rows}")


_NAMES = {"r": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "target_modules": "target_modules"}
_NAMES |= {"rslora": "use_rslora", "dora": "use_dora", "modules_to_save": "modules_to_save"}
_NAMES |= {"target_parameters": "target_parameters"}
"""Our keys and PEFT's."""


def further_adapter(model: PreTrainedModel, folder: Path, lora: LoraConfig) -> peft.PeftModel:
    """Return the model with an adapter that was trained before and is trained further.

    Its settings are its own.

    Args:
        model: The base of the adapter.
        folder: The adapter's.
        lora: The training's settings; those that are not the defaults must be the adapter's.

    Raises:
        SmaugError: it is no LoRA adapter, was made for another model, or has other settings.
    """
    found = adapter_settings(folder)
    if found.get("peft_type") != "LORA":
        raise SmaugError(f"{folder} is a {found.get('peft_type')} adapter", fix="start from a LoRA adapter")
    for key, name in _NAMES.items():
        wanted, own = getattr(lora, key), found.get(name)
        if wanted == LoraConfig.model_fields[key].default or _plain(wanted) == _plain(own):
            continue
        raise SmaugError(
            f"lora.{key} is {wanted}, but the adapter {folder}, which is trained further, has {own}",
            fix=f"leave lora.{key} out, or start from the checkpoint that the adapter was merged into",
        )
    return attach(model, folder, trainable=True)


def described(policy: peft.PeftModel, folder: Path) -> str:
    """Return a sentence on an adapter that is trained further."""
    settings = policy.active_peft_config
    return f"continues with the adapter {folder}: r {settings.r}, alpha {settings.lora_alpha:g}"


def _plain(value: object) -> object:
    return sorted(map(str, value)) if isinstance(value, list | set | tuple) else value
