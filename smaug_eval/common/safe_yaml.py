"""Parse YAML from anywhere with the safe loader, and refuse aliases that multiply and deep nesting."""

from __future__ import annotations

from typing import Any

import yaml

from smaug_eval.common.errors import SmaugError

LONGEST = 1 << 16
MOST_VALUES = 20_000
DEEPEST = 64
"""A recipe has some hundred values, five levels deep; what is within these bounds takes a second or two."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key given twice instead of keeping the last, and stops where it gets deep."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise RecursionError  # at once: scanning a deep nest takes time that grows with its square
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key is plain text", key.start_mark)
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} is given twice", key.start_mark)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def parse_yaml(text: str, where: str) -> tuple[Any, yaml.Node | None]:
    """Parse a YAML document: its value, and its tree with the line numbers.

    Args:
        text: The document.
        where: What it is, for messages.

    Raises:
        SmaugError: it is not YAML, gives a key twice, or is larger or deeper than any recipe; the message names the
            line where there is one.
    """
    if len(text) > LONGEST:
        raise SmaugError(f"{where}: longer than {LONGEST:,} characters", fix="split it, or leave data out of it")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, None
            _check_size(node, where)
            return loader.construct_document(node), node
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise SmaugError(f"{where}, line {line}: not valid YAML: {error.problem}", fix="correct that line") from error
    except RecursionError as error:
        raise _too_deep(where) from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        # The last four: a tag or a form of number that the text does not fit, such as a date in month 13.
        raise SmaugError(f"{where}: not valid YAML: {error}", fix="quote values that are meant as text") from error


def _check_size(node: yaml.Node, where: str) -> None:
    """Count values as if every alias were written out; what an alias stands for is counted once and remembered."""
    counted: dict[int, int] = {}

    def count(node: yaml.Node, depth: int, above: frozenset[int]) -> int:
        if id(node) in above:
            raise SmaugError(f"{where}: an alias stands for what it is part of", fix="write it out")
        if depth > DEEPEST:
            raise _too_deep(where)
        if id(node) in counted:
            return counted[id(node)]
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        inner = above | {id(node)}
        total = 1 + sum(count(part, depth + 1, inner) for part in parts)
        if total > MOST_VALUES:
            raise SmaugError(f"{where}: more than {MOST_VALUES:,} values, aliases written out", fix="remove aliases")
        counted[id(node)] = total
        return total

    count(node, 0, frozenset())


def _too_deep(where: str) -> SmaugError:
    return SmaugError(f"{where}: nested deeper than {DEEPEST} levels", fix="flatten it")
