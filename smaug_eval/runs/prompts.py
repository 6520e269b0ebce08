"""Look at tokenizers before a run: whether they have the chat template that is used, and what begins a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.checkpoint import bos_warning
from smaug_eval.models.remote_code import SWITCH
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.recipe_entries import EvaluationConfig


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
            given = models.given.get(model) or models.base
            folder = _served_tokenizer(name, evaluation) if given.is_served else models.tokenizer_of(model)
            if folder is None:
                continue  # its server writes the chats
            problem = _template_problem(_tokenizer(folder, models.is_trusted(model)), asked)
            if problem is not None:
                raise SmaugError(
                    f"evaluations.{name}.apply_chat_template: the tokenizer of {given.source} {problem}",
                    fix="leave it out for a base model, or put a chat_template.jinja beside the tokenizer",
                )


def _served_tokenizer(name: str, evaluation: EvaluationConfig) -> Path | None:
    """The folder of the tokenizer that writes a served model's chats here; None where that is done elsewhere."""
    told = evaluation.engine_args
    if told.get("chat"):
        return None
    if not told.get("tokenizer"):
        raise SmaugError(
            f"evaluations.{name}.apply_chat_template: nothing says who writes the chats of a served model",
            fix="set engine_args.chat: true for the server, or engine_args.tokenizer for that tokenizer's template",
        )
    folder = Path(str(told["tokenizer"]))
    return folder if folder.is_dir() else None  # one on the Hub is fetched when the model is asked


def _template_problem(tokenizer: Any, asked: bool | str) -> str | None:
    """Why a chat cannot be written; None where it can."""
    templates = tokenizer.chat_template
    named = isinstance(templates, Mapping)
    if not templates:
        return "has no such chat template: it has none"
    if isinstance(asked, str) and not (named and asked in templates):
        there = f"there is {', '.join(templates)}" if named else "its only one has no name; set true"
        return f"has no such chat template: {there}"
    chat, name = [{"role": "user", "content": "What is it?"}], asked if isinstance(asked, str) else None
    try:
        tokenizer.apply_chat_template(chat, chat_template=name, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # templates of many authors
        return f"has a chat template that fails: {type(error).__name__}: {str(error).partition('. ')[0]}"
    return None


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
    if (models.given.get(model) or models.base).is_served:
        return False  # here none is put before a prompt
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
