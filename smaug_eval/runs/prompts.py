"""Look at tokenizers before a run: whether they have the chat template that is used, and what begins a prompt."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.checkpoint import bos_warning
from smaug_eval.models.remote_code import SWITCH
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.recipe import EvaluationConfig


def prompt_warnings(models: RunModels) -> list[str]:
    """Return what to say of the token that begins every prompt.

    The leaderboards' prompts have no BOS token. With suite ``lm_eval`` the tokenizer's own habit decides, as in
    lm-eval's ``hf``, and the two suites' scores of one model may differ by that.

    Raises:
        SmaugError: a tokenizer cannot be loaded.
    """
    told: list[str] = []
    for name, evaluation in models.recipe.evaluations.items():
        for model in models.recipe.asked_of(name):
            given = models.given.get(model) or models.base  # whose tokenizer a trained model keeps
            begins = _begins_with_bos(models, model, evaluation)
            if not begins and (warning := bos_warning(given)):
                told.append(warning)
            elif begins:
                told.append(
                    f"evaluations.{name}: every prompt of {given.source} begins with a BOS token"
                    f"{_why(evaluation)}; the leaderboards' suites put none, and scores with and without do not compare"
                )
    return list(dict.fromkeys(told))


def check_chat_templates(models: RunModels) -> None:
    """Make sure that every model of an evaluation with ``apply_chat_template`` has that template.

    Raises:
        SmaugError: a tokenizer has none, none of the name, or cannot be loaded.
    """
    for name, evaluation in models.recipe.evaluations.items():
        asked = evaluation.apply_chat_template
        for model in models.recipe.asked_of(name) if asked else ():
            folder, source = models.tokenizer_of(model), (models.given.get(model) or models.base).source
            tokenizer = _tokenizer(folder, models.is_trusted(model))
            try:
                if tokenizer.get_chat_template(asked if isinstance(asked, str) else None):
                    continue
                reason = "it is empty"
            except (ValueError, KeyError) as error:
                reason = str(error).split(". ", 1)[0]
            raise SmaugError(
                f"evaluations.{name}.apply_chat_template: the tokenizer of {source} has no such chat template: "
                f"{reason}",
                fix="leave it out for a base model, or put a chat_template.jinja beside the tokenizer",
            )


def _why(evaluation: EvaluationConfig) -> str:
    return (
        " (add_bos_token)"
        if evaluation.add_bos_token
        else ", as its tokenizer does by itself and lm-eval's hf leaves it"
    )


def _begins_with_bos(models: RunModels, model: str, evaluation: EvaluationConfig) -> bool:
    wanted = evaluation.begins_with_bos
    if wanted is not None:
        return wanted
    tokenizer = _tokenizer(models.tokenizer_of(model), models.is_trusted(model))
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][:1] == [bos]


@lru_cache(maxsize=16)
def _tokenizer(folder: Path, trusted: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, **{SWITCH: trusted})
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise SmaugError(
            f"the tokenizer in {folder} cannot be loaded: {error}", fix="fetch the model again, or name another"
        ) from error
