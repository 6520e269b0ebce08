"""Rename columns: as a pair set maps them, and as some published sets have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.checks import shortened

_COMPLETIONS = {"chosen": "chosen_response", "rejected": "rejected_response"}
"""Argilla's names: distilabel-math-preference-dpo, ultrafeedback-binarized-preferences, and others."""
_PROMPTS = ("instruction", "input", "question")
"""What those sets and distilabel-intel-orca-dpo-pairs call the prompt; one of them, not two."""


def mapped(where: str, row: Any, columns: Mapping[str, str]) -> Any:
    """Return a row with its columns renamed as a pair set says.

    Args:
        where: File and row, for messages.
        row: The row.
        columns: By the name here, the name in the row.

    Raises:
        SmaugError: the row lacks one of them.
    """
    if not columns or not isinstance(row, dict):
        return row
    missing = [f"{name} ({own})" for own, name in columns.items() if name not in row]
    if missing:
        raise SmaugError(
            f"{where}: no column {', '.join(missing)} (it has {shortened(', '.join(map(repr, row))) or 'none'})",
            fix="correct columns in the pair set",
        )
    taken = set(columns.values()) | set(columns)
    return {own: row[name] for own, name in columns.items()} | {
        name: value for name, value in row.items() if name not in taken
    }


def known(row: Any) -> Any:
    """Return a row with the columns of some published sets under their usual names; any other row as it is.

    A row whose completions are texts, and that has no ``prompt``, has it under one other name; where it has a
    ``system`` prompt, too, that is Orca's ``question``.
    """
    if not isinstance(row, dict):
        return row
    renamed = {own: name for own, name in _COMPLETIONS.items() if own not in row and isinstance(row.get(name), str)}
    if len(renamed) not in (0, len(_COMPLETIONS)):
        return row
    completion = row.get(renamed.get("chosen", "chosen"))
    prompts = [name for name in _PROMPTS if isinstance(row.get(name), str) and row[name].strip()]
    if isinstance(completion, str) and "prompt" not in row and len(prompts) == 1:
        own = "question" if "system" in row else "prompt"
        if prompts[0] != own:
            renamed[own] = prompts[0]
    return mapped("", row, renamed)
