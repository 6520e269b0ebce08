"""Select the keys of a recipe that decide a result, so that keys added later do not change what is done already."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo


class Strict(BaseModel):
    """Refuse unknown keys in a part of a recipe: a misspelt setting must not pass silently."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_no_truth_values(cls, values: Any) -> Any:
        """Refuse true and false for a number, which would be 1 and 0."""
        for name, field in cls.model_fields.items() if isinstance(values, Mapping) else ():
            key = next((each for each in (field.alias, name) if each in values), None)
            if key is None or not isinstance(values[key], bool):
                continue
            kinds = _plain_types(field.annotation)
            if kinds & {int, float} and not kinds & {bool, Any, object}:
                raise ValueError(f"{key} is {str(values[key]).lower()}: give a number")
        return values


def _plain_types(annotation: Any) -> set[Any]:
    """The types that an annotation is made of, without what limits them; those within a list or a mapping left out."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain_types(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return {kind for part in get_args(annotation) for kind in _plain_types(part)}
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    return {annotation if origin is None else origin}


_MARK = "added"
ADDED: dict[str, Any] = {_MARK: True}
"""Marks a key that came after runs had been recorded without it: ``Field(0, json_schema_extra=ADDED)``.

While such a key holds its default it is no part of :func:`deciding_settings`, so that finished stages stay finished.
"""


def deciding_settings(config: BaseModel, without: Collection[str] = ()) -> dict[str, Any]:
    """Dump the settings that decide a stage's result, under the names YAML uses.

    Keys marked with ``ADDED`` are left out while they hold their default, in nested models, too.

    Args:
        config: A part of a recipe.
        without: Names of fields of ``config`` itself that decide nothing.
    """
    dumped = config.model_dump(mode="json", by_alias=True, exclude=set(without))
    return _pruned(config, dumped)


def added_settings(config: BaseModel, without: Collection[str] = ()) -> dict[str, Any]:
    """Dump only the keys marked with ``ADDED`` that do not hold their default.

    For stages whose inputs name each key: these join them.

    Args:
        config: A part of a recipe.
        without: Names of fields that decide nothing.
    """
    names = {_key(name, field) for name, field in type(config).model_fields.items() if _is_added(field)}
    return {key: value for key, value in deciding_settings(config, without).items() if key in names}


def _pruned(value: Any, dumped: Any) -> Any:
    """``dumped`` without the added keys of ``value`` that hold their defaults."""
    if isinstance(value, BaseModel):
        kept = dict(dumped)
        for name, field in type(value).model_fields.items():
            key = _key(name, field)
            if key not in kept:
                continue
            own = getattr(value, name)
            if _is_added(field) and own == field.get_default(call_default_factory=True):
                del kept[key]
            else:
                kept[key] = _pruned(own, kept[key])
        return kept
    if isinstance(value, Mapping) and isinstance(dumped, dict):
        return {key: _pruned(value[key], own) if key in value else own for key, own in dumped.items()}
    if isinstance(value, list | tuple) and isinstance(dumped, list):
        return [_pruned(part, own) for part, own in zip(value, dumped, strict=True)]
    return dumped


def _key(name: str, field: FieldInfo) -> str:
    return field.serialization_alias or field.alias or name


def _is_added(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, Mapping) and bool(extra.get(_MARK))


def without_marks(schema: Any) -> Any:
    """Return a JSON Schema without the mark that ``ADDED`` leaves in it."""
    if isinstance(schema, list):
        return [without_marks(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: without_marks(part) for key, part in schema.items() if not (key == _MARK and part is True)}
