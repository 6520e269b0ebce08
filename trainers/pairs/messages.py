"""Read messages of untrusted rows, with every key that a chat template may read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.config import RESERVED_SETTINGS
from smaug_eval.trainers.pairs.checks import FIX_ROW, checked_json, checked_text, kind_of, shortened
from smaug_eval.trainers.pairs.pair import MESSAGE_KEYS, SAID_KEYS, TEMPLATE_COLUMNS, Message

ROLES = ("system", "developer", "user", "assistant", "tool")
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
"""What a trainer of text cannot show to the model; a row that has one is refused, as an empty one is not."""

ROLE_NAMES = {"human": "user", "gpt": "assistant", "observation": "tool"}
"""Roles of ShareGPT and ours."""

_LISTS = ("tool_calls", "tool_responses")
_PARSED = (*_LISTS, "function_call")
Messages = tuple[Message, ...]


def decoded(row: Mapping[str, Any], columns: Sequence[str]) -> Mapping[str, Any]:
    """Decode a row's lists of messages where they are stored as JSON text, as exports to CSV store them."""
    found = {column: _messages_in_text(row[column]) for column in columns if isinstance(row.get(column), str)}
    found = {column: messages for column, messages in found.items() if messages is not None}
    return {**row, **found} if found else row


def read_messages(where: str, column: str, value: Any) -> Messages:
    """Read a list of messages, or a single one.

    Raises:
        SmaugError: it is something else, or one of them is no message.
    """
    value = [value] if isinstance(value, dict) else value
    if not isinstance(value, list):
        raise SmaugError(f"{where}: {column} is {kind_of(value)}, not a list of messages", fix=FIX_ROW)
    return tuple(_message(where, f"{column}[{index}]", item) for index, item in enumerate(value))


def template_data(where: str, row: Mapping[str, Any]) -> str:
    """Return the tools, documents and template settings of a row, as a JSON object; empty where it has none.

    Raises:
        SmaugError: one of them is of another kind, or a setting is not for a row to decide.
    """
    values = {column: _parsed(row.get(column)) for column in TEMPLATE_COLUMNS}
    found = {column: value for column, value in values.items() if value}
    for column in ("tools", "documents"):
        if not _is_list_of_objects(found.get(column, [])):
            raise SmaugError(f"{where}: {column} is {kind_of(found[column])}, not a list of objects", fix=FIX_ROW)
    settings = found.get("chat_template_kwargs", {})
    if not isinstance(settings, dict):
        raise SmaugError(f"{where}: chat_template_kwargs is {kind_of(settings)}, not an object", fix=FIX_ROW)
    if settings:
        found["chat_template_kwargs"] = {name: value for name, value in settings.items() if value is not None}
    reserved = next((name for name in settings if name in RESERVED_SETTINGS), None)
    if reserved is not None:
        raise SmaugError(
            f"{where}: chat_template_kwargs sets {reserved}, which is not for a row to decide",
            fix="keep what the chat template itself reads, such as enable_thinking or date_string",
        )
    return checked_json(where, "/".join(found), found) if found else ""


def refuse_media(where: str, columns: Mapping[str, Any]) -> None:
    """Refuse a row or a message with pictures or sound.

    Raises:
        SmaugError: it has some.
    """
    name = next((name for name in MEDIA if columns.get(name)), None)
    if name is not None:
        raise SmaugError(
            f"{where}: {name} cannot be shown to the model: trainings read text only",
            fix=f"remove the row; or remove {name}, if the answers do not depend on it",
        )


def _in_our_words(where: str, place: str, item: Any) -> Any:
    """A message under our names of keys and roles, its content in one piece."""
    if not isinstance(item, dict):
        return item
    if "role" not in item and "from" in item:
        item = {_KEYS.get(key, key): value for key, value in item.items()}
    role, content = item.get("role"), item.get("content")
    if isinstance(role, str) and role in ROLE_NAMES:
        item = {**item, "role": ROLE_NAMES[role]}
    if isinstance(content, list) and content:
        item = {**item, "content": _joined_parts(where, f"{place}.content", content)}
    return item


_KEYS = {"from": "role", "value": "content"}


def _joined_parts(where: str, place: str, parts: list[Any]) -> Any:
    """The text of a content that is a list of parts; the list itself where a part is of no known kind."""
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        name = kind.removesuffix("_url").removeprefix("input_") if isinstance(kind, str) else None
        if name in MEDIA:
            refuse_media(f"{where}: {place}", {name: True})
        if kind != "text" or not isinstance(part.get("text"), str):
            return parts
    return "".join(part["text"] for part in parts)


def _message(where: str, place: str, item: Any) -> Message:
    item = _in_our_words(where, place, item)
    speaks = isinstance(item, dict) and any(item.get(key) for key in SAID_KEYS)
    if not isinstance(item, dict) or "role" not in item or not ("content" in item or speaks):
        what = "without role and content" if isinstance(item, dict) else "and no message"
        raise SmaugError(f"{where}: {place} is {kind_of(item)} {what}", fix='write {"role": ..., "content": ...}')
    role = item["role"]
    if role not in ROLES:
        raise SmaugError(f"{where}: {place} has the role {shortened(repr(role))}", fix=f"use {', '.join(ROLES)}")
    refuse_media(f"{where}: {place}", item)
    content = item.get("content")
    if content is not None or not speaks:
        content = checked_text(where, f"{place}.content", content)
    further = {key: _parsed(item[key]) if key in _PARSED else item[key] for key in MESSAGE_KEYS if item.get(key)}
    for key in _LISTS:
        if not _is_list_of_objects(further.get(key, [])):
            raise SmaugError(f"{where}: {place}.{key} is {kind_of(further[key])}, not a list of objects", fix=FIX_ROW)
    return Message(
        role,
        content,
        checked_json(where, f"{place}.{'/'.join(further)}", further) if further else "",
        _labels(item),
    )


def _labels(item: Mapping[str, Any]) -> str:
    """The keys of a message that are known to no template, as a JSON object; what cannot be written so is left out."""
    found = {}
    for key, value in item.items():
        if key in ("role", "content", *MESSAGE_KEYS) or value is None or key in MEDIA:
            continue
        try:
            checked_json("", str(key), {str(key): value})
        except SmaugError:
            continue
        found[str(key)] = value
    return checked_json("", "labels", found) if found else ""


def _messages_in_text(text: str) -> Any:
    """The messages that a text is the JSON of, in a list or a single one; None where it is any other text."""
    value = _parsed(text) if text.lstrip()[:1] in ("[", "{") else None
    messages = value if isinstance(value, list) else [value]
    return value if messages and all(map(_is_message, messages)) else None


def _is_message(value: Any) -> bool:
    """Whether it is meant as a message, in whatever way its keys are called."""
    if not isinstance(value, dict):
        return False
    role = value.get("role", value.get("from"))
    return isinstance(role, str) and any(key in value for key in ("content", "value", *SAID_KEYS))


def _parsed(value: Any) -> Any:
    """A value, read as JSON where it is the text of a list or an object."""
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return found if isinstance(found, list | dict) else value
    return value


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
