"""Refuse checkpoints that bring Python code of their own, unless ``model.trust_remote_code`` allows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json
from smaug_eval.common.text import texts_in

SWITCH = "trust_remote_code"
CODE_PATTERN = "*.py"
_FILES = ("config.json", "tokenizer_config.json")


def check_own_code(source: str, folder: Path, *, trusted: bool) -> None:
    """Refuse a checkpoint whose code would be needed and is not trusted, or is somewhere else.

    Code that came with a checkpoint which transformers knows by itself is left alone: it is not run.

    Args:
        source: The model, as the user named it.
        folder: The checkpoint.
        trusted: Whether the user allowed this model's code.

    Raises:
        SmaugError: it needs code and is not trusted, or names code of another repository, which no revision pins.
    """
    for file in _FILES:
        mapped = _auto_map(folder / file)
        if not mapped:
            continue
        if not trusted:
            if not _is_known(folder / file):
                raise code_refused(source, f"{file} names {', '.join(sorted(set(texts_in(mapped))))}")
        elif elsewhere := next((name for name in texts_in(mapped) if "--" in name), None):
            raise SmaugError(
                f"model {source!r}: {file} names code of another repository ({elsewhere}), which no revision pins",
                fix="copy that code into the folder, and remove the part before '--' from auto_map",
            )


def code_refused(source: str, why: str) -> SmaugError:
    """Return the error for a model that does not load without its own code."""
    return SmaugError(
        f"model {source!r} brings Python code of its own, which is not run ({why})",
        fix=f"read that code; if you trust it, set model.{SWITCH}: true in the recipe, or give "
        "--trust-remote-code to train, eval or mt-bench all",
    )


def trust_warning(source: str) -> str:
    """Return the warning about a model whose code was allowed to run, for the reader of its numbers."""
    return f"model {source} may run Python code of its own: the recipe sets model.{SWITCH}"


def refuse_smuggled_code(value: Any, place: str = "engine_args") -> None:
    """Refuse the switch anywhere inside the arguments of an engine, however it is written.

    Raises:
        SmaugError: it is there.
    """
    if isinstance(value, Mapping):
        for key, part in value.items():
            refuse_smuggled_code(str(key), place)
            refuse_smuggled_code(part, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for part in value:
            refuse_smuggled_code(part, place)
    elif isinstance(value, str) and SWITCH in value.lower().replace("-", "_"):
        raise SmaugError(f"{place} sets {SWITCH}", fix=f"use model.{SWITCH} of the recipe, or leave it out")


def _auto_map(file: Path) -> Any:
    content = read_json(file) if file.is_file() else None
    return content.get("auto_map") if isinstance(content, Mapping) else None


def _is_known(file: Path) -> bool:
    """Whether transformers has a class of its own for what a file describes."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    content = read_json(file)
    if file.name == "config.json":
        return content.get("model_type") in CONFIG_MAPPING_NAMES
    name = content.get("tokenizer_class")
    return isinstance(name, str) and tokenizer_class_from_name(name) is not None
