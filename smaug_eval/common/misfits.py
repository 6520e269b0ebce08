"""Say where plain data do not fit a schema: the line, the key, the value, and the key that was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from smaug_eval.common.schema_keys import child_of, field_names, models_of, tag_of
from smaug_eval.common.suggest import nearest

MOST_SHOWN = 8
_FORM = re.compile(r"(?:literal|list|tuple|set|dict)\[.*\]|constrained-\w+|str|int|float|bool|none")

Lines = Mapping[tuple[str, ...], int | str]
"""Line number, or other place, of each key path."""


def misfits(error: ValidationError, schema: type[BaseModel], where: str, lines: Lines) -> str:
    """Word what a validation found, a line for each misfit, up to ``MOST_SHOWN``.

    Args:
        error: What pydantic raised.
        schema: The class that the data were checked against.
        where: Name of the file.
        lines: Line number of each key path.
    """
    found = _joined(_explain(detail, schema, where, lines) for detail in error.errors(include_url=False))
    shown = found[:MOST_SHOWN]
    if len(found) > len(shown):
        shown.append(f"... and {len(found) - len(shown)} more")
    return "\n".join(shown)


def key_lines(node: yaml.Node | None, prefix: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield the path of each key below a node, with the number of its line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*prefix, str(key.value))
            yield path, key.start_mark.line + 1
            yield from key_lines(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            path = (*prefix, str(index))
            yield path, value.start_mark.line + 1
            yield from key_lines(value, path)


def _joined(texts: Iterable[str]) -> list[str]:
    """Say once what does not fit, where each form that a value may have refuses it."""
    found: dict[str, list[str]] = {}
    for text in texts:
        head, separator, reason = text.rpartition(": ")
        shared = f"{head}{separator}" if " = " in head else text
        found.setdefault(shared, []).append(reason if shared != text else "")
    return [head + "; or ".join(filter(None, dict.fromkeys(reasons))) for head, reasons in found.items()]


def _explain(detail: ErrorDetails, schema: type[BaseModel], where: str, lines: Lines) -> str:
    keys, fields, tags = _walk(detail["loc"], schema)
    place = next((lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in lines), None)
    prefix = f"{where}, line {place}: " if isinstance(place, int) else f"{place}: " if place else f"{where}: "
    key = ".".join(keys)
    kind, value = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        return f"{prefix}{key} = {_short(value)}: unknown key{nearest(keys[-1], fields)}"
    if kind == "missing":
        return f"{prefix}{key}: this key is required"
    if kind == "union_tag_not_found":
        return f"{prefix}{key}.source: this key is required{nearest('', tags)}"
    if kind == "union_tag_invalid":
        found = str(detail.get("ctx", {}).get("tag", ""))
        return f"{prefix}{key}.source = {found!r}: unknown{nearest(found, tags)}"
    context = detail.get("ctx", {})
    if kind in ("enum", "literal_error") and isinstance(value, str):
        options = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        return f"{prefix}{key} = {value!r}: unknown{nearest(value, options)}"
    message = str(context["error"]) if kind == "value_error" and "error" in context else detail["msg"]
    if kind == "value_error":
        return f"{prefix}{key}: {message}" if key and key not in message else f"{prefix}{message}"
    return f"{prefix}{key} = {_short(value)}: {message[0].lower()}{message[1:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _walk(location: tuple[int | str, ...], schema: type[BaseModel]) -> tuple[tuple[str, ...], list[str], list[str]]:
    """The key path a user would write for an error location, the keys valid at its last level, and the union's tags."""
    keys: list[str] = []
    here: Any = schema
    parent: Any = schema
    for step in location:
        options = models_of(here)
        if keys and not options and isinstance(step, str) and _FORM.fullmatch(step):
            continue  # pydantic's name of one of the forms that a plain value may have
        tagged = {tag_of(model): model for model in options if tag_of(model)}
        if len(options) > 1 and step in tagged:
            here = tagged[str(step)]
            continue
        parent = here
        keys.append(str(step))
        here = child_of(here, str(step))
    return tuple(keys), field_names(parent), [tag for model in models_of(here) if (tag := tag_of(model))]
