"""Check untrusted row values: every fault names the file and the row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from smaug_eval.common.errors import SmaugError

_SHOWN = 120
FIX_ROW = "correct or remove the row"


def kind_of(value: Any) -> str:
    """Return the name of a JSON or parquet value's kind."""
    if value is None:
        return "null"
    if isinstance(value, float) and value != value:
        return "NaN"
    return {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}.get(
        type(value), f"a {type(value).__name__}"
    )


def shortened(text: str) -> str:
    """Return ``text``, cut where it would fill the screen."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def checked_object(where: str, row: Any, columns: Sequence[str]) -> Mapping[str, Any]:
    """Return a row that is an object and has the columns.

    Raises:
        SmaugError: it is something else, or a column is missing.
    """
    if not isinstance(row, dict):
        raise SmaugError(f"{where}: expected a JSON object, found {kind_of(row)}", fix="write one object per line")
    missing = [column for column in columns if column not in row]
    if missing:
        raise SmaugError(
            f"{where}: no column {', '.join(missing)} (it has {shortened(', '.join(map(repr, row))) or 'none'})",
            fix=f"give every row the columns {', '.join(columns)}; where they have other names, set columns in "
            f"the pair set, such as columns: {{{missing[0]}: NAME}}",
        )
    return row


def checked_text(where: str, column: str, value: Any) -> str:
    """Return a value that is text and can be written as UTF-8.

    Raises:
        SmaugError: it is not.
    """
    if not isinstance(value, str):
        raise SmaugError(f"{where}: {column} is {kind_of(value)}, not text", fix=FIX_ROW)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SmaugError(
            f"{where}: {column} holds half of a surrogate pair at character {error.start + 1}",
            fix="correct the escape or remove the row",
        ) from error
    return value


def checked_texts(where: str, column: str, value: Any) -> list[str]:
    """Return a value that is a list of texts.

    Raises:
        SmaugError: it is not.
    """
    if not isinstance(value, list):
        raise SmaugError(f"{where}: {column} is {kind_of(value)}, not a list of texts", fix=FIX_ROW)
    return [checked_text(where, f"{column}[{index}]", item) for index, item in enumerate(value)]


def checked_json(where: str, column: str, value: Any) -> str:
    """Return a value as JSON text, its keys in their order.

    Raises:
        SmaugError: JSON has no form for it, or it holds a text that cannot be written as UTF-8.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SmaugError(f"{where}: {column} cannot be written as JSON: {error}", fix=FIX_ROW) from error
    return checked_text(where, column, text)
