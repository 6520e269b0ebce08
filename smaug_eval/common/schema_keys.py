"""Look up the types and keys of a schema's parts by their path, as its declarations have them."""

from __future__ import annotations

import typing
from types import UnionType
from typing import Annotated, Any

from pydantic import BaseModel


def models_of(kind: Any) -> list[type[BaseModel]]:
    """Return the models that a type is made of, those of a union one by one; none for a plain type."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return models_of(typing.get_args(kind)[0])
    if origin in (typing.Union, UnionType):
        return [model for option in typing.get_args(kind) for model in models_of(option)]
    return [kind] if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def tag_of(model: type[BaseModel]) -> str | None:
    """Return the ``source`` that tells a model of a union from the others; None where it has none."""
    field = model.model_fields.get("source")
    values = typing.get_args(field.annotation) if field else ()
    return values[0] if values else None


def child_of(kind: Any, step: str) -> Any:
    """Return the type of a key or entry within a type; None where there is no such key."""
    if typing.get_origin(kind) in (dict, list):
        return typing.get_args(kind)[-1]
    for model in models_of(kind):
        for name, field in model.model_fields.items():
            if step in (name, field.alias):
                return field.annotation
    return None


def field_names(kind: Any) -> list[str]:
    """Return the keys of a type, under the names that YAML uses."""
    return [field.alias or name for model in models_of(kind) for name, field in model.model_fields.items()]
