"""Read the arguments of the Python functions, and name the argument in errors about it."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from smaug_eval.common.errors import SmaugError

PathLike = str | os.PathLike[str]
Result = TypeVar("Result")

_ARGUMENTS = {
    "judge-model": "model",
    "judge-base-url": "base_url",
    "judge-key-env": "key_env",
    "mt-bench-dir": "questions",
    "runs-dir": "runs",
    "format": "format_",
    "gpu": "gpus",
    "task": "tasks",
    "ray": "cluster",
}
"""Options of the command line that are arguments of another name."""
_OPTIONS = (
    "allow-missing", "against", "answers", "archive", "base", "baseline", "chat-template", "data-root", "dtype",
    "base-model", "force", "license", "pairs", "relationship", "repo", "source", "to", "weights",
    "judge", "limit", "loss", "max-length", "model-id", "name", "out", "reference-categories", "references", "suite",
    "thinking", "title", "tokenizer", "trust-remote-code", "turns", "view",
)  # fmt: skip
_SETTING = re.compile(r"--set(?:-judge|-pairs)? (?=[\w'])")
_OPTION = re.compile(rf"(?<![\w-])--({'|'.join(sorted((*_ARGUMENTS, *_OPTIONS), key=len, reverse=True))})(?![\w-])")

_REMEDIES = (
    ("save_pretrained", "save it with save_pretrained(folder), and give the folder"),
    ("to_json", "write it with to_json(file, orient='records', lines=True), and give the file"),
    ("to_parquet", "write it with to_parquet(file), and give the file"),
)


def path_text(value: object, argument: str) -> str:
    """Return a path, a Hub id or a name as text.

    Raises:
        SmaugError: it is an object in memory, or nothing.
    """
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if isinstance(text, str) and text:
            return text
    return _refuse(value, argument, "a path or a name")


def path_list(values: object, argument: str) -> list[Path]:
    """Return the paths of an argument that takes one or several.

    Raises:
        SmaugError: one of them is an object in memory, or nothing.
    """
    if isinstance(values, str | os.PathLike):
        return [Path(path_text(values, argument))]
    if isinstance(values, Mapping) or not isinstance(values, Iterable) or hasattr(values, "to_json"):
        _refuse(values, argument, "a path or a list of paths")
    return [Path(path_text(value, argument)) for value in values]


def name_list(values: object, argument: str) -> list[str]:
    """Return the names of an argument that takes one or several; none for None.

    Raises:
        SmaugError: one of them is no text.
    """
    if values is None:
        return []
    if isinstance(values, str):
        return [values]
    if isinstance(values, Mapping) or not isinstance(values, Iterable):
        _refuse(values, argument, "a name or a list of names")
    return [value if isinstance(value, str) else _refuse(value, argument, "a name") for value in values]


def rows_in_memory(values: object) -> list[dict[str, Any]] | None:
    """Return the rows given as a list of dictionaries or as a data frame; None where the argument holds paths."""
    if hasattr(values, "to_dict") and hasattr(values, "columns"):
        rows = values.to_dict(orient="records")
    elif isinstance(values, Mapping):
        rows = [values]
    else:
        rows = values
    if not isinstance(rows, list | tuple) or not rows or not all(isinstance(row, Mapping) for row in rows):
        return None
    return [_without_gaps(row) for row in rows]


def of_arguments(text: str) -> str:
    """Return a message with the arguments of the Python functions in the place of the command line's options."""
    return _OPTION.sub(lambda found: _ARGUMENTS.get(found[1], found[1].replace("-", "_")), _SETTING.sub("", text))


def speaking_of_arguments(function: Callable[..., Result]) -> Callable[..., Result]:
    """Make a function whose errors name arguments; the command line, which calls the original, names options."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Result:
        try:
            return function(*args, **kwargs)
        except SmaugError as error:
            error.message = of_arguments(error.message)
            error.fix = None if error.fix is None else of_arguments(error.fix)
            error.args = (error.message,)
            raise

    return called


def _without_gaps(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row with plain values, without the not-a-numbers that a data frame has where a row has no such key."""
    plain = {str(key): value.tolist() if hasattr(value, "tolist") else value for key, value in row.items()}
    return {key: value for key, value in plain.items() if not (isinstance(value, float) and math.isnan(value))}


def _refuse(value: object, argument: str, wanted: str) -> NoReturn:
    is_nothing = value is None or (isinstance(value, str) and not value)
    kind = "nothing" if is_nothing else f"a {type(value).__name__}"
    fix = next((remedy for method, remedy in _REMEDIES if hasattr(value, method)), "")
    if not fix and isinstance(value, list | tuple | Mapping):
        fix = "write the rows to a file (JSON Lines), and give the file"
    raise SmaugError(f"{argument}: {wanted} is wanted, not {kind}", fix=fix or "give the path of a file or folder")
