"""Write a recipe as YAML in which a comment says what each key does, in the words of its declaration."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from smaug_eval.common.schema_keys import child_of, models_of, tag_of
from smaug_eval.runs.recipe import Recipe

WIDTH = 118
_PLAIN = re.compile(r"[A-Za-z_./~][\w./@:+-]*[\w./]|[A-Za-z]", re.ASCII)


@dataclass(frozen=True)
class Hint:
    """Mark a key that is left out, and shown as a comment with an example.

    Attributes:
        example: Its value there.
    """

    example: Any


@dataclass
class CommentedRecipe:
    """Write the keys of a recipe with comments; what a key means is said where it comes first.

    Attributes:
        notes: Comments in the place of a declaration's own, by dotted path.
    """

    notes: Mapping[str, str] = field(default_factory=dict)
    _said: set[tuple[str, str]] = field(default_factory=set)

    def text(self, recipe: Mapping[str, Any]) -> str:
        """Return the YAML of a recipe, which may hold a :class:`Hint` in the place of a value."""
        return "\n".join(self._block(recipe, Recipe, (), 0)) + "\n"

    def _block(self, part: Mapping[str, Any], kind: Any, path: tuple[str, ...], indent: int) -> Iterator[str]:
        for key, value in part.items():
            if indent == 0 and isinstance(value, Mapping):
                yield ""
            yield from self._entry(key, value, kind, (*path, key), indent)

    def _entry(self, key: str, value: Any, kind: Any, path: tuple[str, ...], indent: int) -> Iterator[str]:
        space, child = "  " * indent, _chosen(child_of(kind, key), value)
        comment = self._comment(key, kind, path)
        if isinstance(value, Mapping) and value and (models_of(child) or models_of(child_of(child, ""))):
            yield from _above(comment, space)
            yield f"{space}{_scalar(key)}:"
            yield from self._block(value, child, path, indent + 1)
            return
        hidden, shown = ("# ", value.example) if isinstance(value, Hint) else ("", value)
        line = f"{space}{hidden}{_scalar(key)}: {_flow(shown)}"
        if comment and len(line) + len(comment) + 4 <= WIDTH:
            yield f"{line}  # {comment}"
        else:
            yield from _above(comment, space)
            yield line

    def _comment(self, key: str, kind: Any, path: tuple[str, ...]) -> str:
        for model in models_of(kind):
            for name, declared in model.model_fields.items():
                if key in (name, declared.alias):
                    note = self.notes.get(".".join(path))
                    if note is None and (model.__name__, key) in self._said:
                        return ""
                    self._said.add((model.__name__, key))
                    return note if note is not None else (declared.description or "")
        return ""


def _chosen(kind: Any, value: Any) -> Any:
    """Of a union the model that ``source`` names; every other type as it is."""
    source = value.get("source") if isinstance(value, Mapping) else None
    return next((model for model in models_of(kind) if source is not None and tag_of(model) == source), kind)


def _above(comment: str, space: str) -> Iterator[str]:
    if comment:
        yield from textwrap.wrap(
            comment, WIDTH, initial_indent=f"{space}# ", subsequent_indent=f"{space}# ", break_long_words=False
        )


def _scalar(value: Any) -> str:
    """A value as YAML, which PyYAML and readers of YAML 1.2 take for the same."""
    if isinstance(value, float) and "e" in repr(value) and "." not in repr(value):
        mantissa, _, exponent = repr(value).partition("e")
        return f"{mantissa}.0e{exponent}"
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and yaml.safe_load(value) == value:
            return value
        return str(yaml.safe_dump(value, default_style='"', width=10**6)).removesuffix("\n")
    return json.dumps(value)


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)
