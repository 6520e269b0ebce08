"""Describe in JSON Schema what a validator accepts beyond the type of its field: names in other spellings, short forms.

The keys of a recipe are declared once, as fields with types, bounds, defaults and descriptions; pydantic makes the
schema of them. Where a validator takes more than the field's type says, or less, it says so with these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

JsonSchema = dict[str, Any]


def spelled(name: str, *, dashes: bool = False) -> str:
    """Return a regular expression for a name in upper or lower case.

    Args:
        name: The name.
        dashes: Whether its parts may have ``-`` between them as well as ``_``.
    """
    return "".join(_letter(sign, dashes) for sign in name)


def _letter(sign: str, dashes: bool) -> str:
    if sign.isalpha():
        return f"[{sign.lower()}{sign.upper()}]"
    if sign == "_" and dashes:
        return "[-_]"
    return sign if sign.isalnum() or sign == "_" else f"[{sign}]"


def offering(names: Callable[[], Iterable[str]]) -> Callable[[JsonSchema], None]:
    """Return a ``json_schema_extra`` by which a text field offers names, and takes them in any case.

    Args:
        names: Returns them when the schema is made, so that a table that is slow to import is read then only.
    """

    def extend(schema: JsonSchema) -> None:
        known = list(names())
        schema.pop("type", None)
        schema["anyOf"] = [{"enum": known}, {"type": "string", "pattern": f"^(?:{'|'.join(map(spelled, known))})$"}]

    return extend


class SchemaOf:
    """Mark a field to have the JSON Schema of another model: ``Annotated[dict[str, Any], SchemaOf(Model)]``."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        """Return the other model's schema in the place of the field's own."""
        return handler(self._model.__pydantic_core_schema__)


def without_keys(schema: Mapping[str, Any], left_out: Iterable[str], required: Iterable[str] = ()) -> JsonSchema:
    """Return the schema of an object without some of its properties, and with other required ones."""
    gone, needed = set(left_out), list(required)
    kept = {name: part for name, part in schema["properties"].items() if name not in gone}
    rest = {key: value for key, value in schema.items() if key not in ("properties", "required")}
    return {**rest, "properties": kept, **({"required": needed} if needed else {})}
