"""Check the keys of a task's YAML before lm-eval takes them: it fails late and without the place, or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.suggest import nearest

FUNCTION = "!function"
_TEXT, _WHOLE, _BOOL, _NOTHING = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "bool", "null"))
_OUTPUTS = ("loglikelihood", "loglikelihood_rolling", "generate_until", "multiple_choice")
_STRUCTURAL = ("include", "class", "task_list", "group")
_TEXTS = (
    *("task", "group", "task_alias", "group_alias", "dataset_path", "dataset_name", "description", "use_prompt"),
    *("training_split", "validation_split", "test_split", "fewshot_split", "gen_prefix"),
    *("target_delimiter", "fewshot_delimiter"),
)
_MAPPINGS = ("dataset_kwargs", "generation_kwargs", "fewshot_config")
_FUNCTIONS = ("process_docs", "process_results", "custom_dataset")
_BOOLS = ("should_decontaminate", "unsafe_code")


def check_keys(path: Path, tree: yaml.Node, known: Collection[str], *, with_code: bool = False) -> None:
    """Make sure that the keys of a file that defines a task or group, or is included by one, are what lm-eval takes.

    Args:
        path: The file, for the message.
        tree: What it says.
        known: Names of tasks, tags and groups, which groups may list.
        with_code: Whether the task runs code of its own, which may take other keys and register other functions.

    Raises:
        SmaugError: a key is unknown or of another type; with file, line and key.
    """
    _Checker(path, known, with_code).definition(tree)


def keys_of(node: yaml.Node | None) -> dict[Any, yaml.Node]:
    """Return the values of a mapping by its keys; empty for other nodes."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return {key.value: value for key, value in pairs if isinstance(key, yaml.ScalarNode)}


class _Checker:
    def __init__(self, path: Path, known: Collection[str], with_code: bool) -> None:
        self._path, self._known, self._with_code = path, known, with_code

    def definition(self, node: yaml.Node) -> None:
        """A file, or an entry of a group's list that says more than a name."""
        keys = keys_of(node)
        if not self._with_code:
            self._refuse_unknown(node)
        for names, is_right, words in (
            (_TEXTS, _is_text, "text"),
            (_MAPPINGS, _is_mapping, "a mapping of keys"),
            (_FUNCTIONS, _is_function, f"{FUNCTION} FILE.NAME"),
            (_BOOLS, _is_bool, "true or false"),
            (("num_fewshot",), lambda value: _at_least(value, 0), "a whole number, 0 or more"),
            (("repeats",), lambda value: _at_least(value, 1), "a whole number above 0"),
            (("output_type",), lambda value: value.value in _OUTPUTS, f"one of {', '.join(_OUTPUTS)}"),
            (("tag",), _is_text_or_texts, "a text or a list of texts"),
        ):
            for name in names:
                if not (name == "task" and isinstance(keys.get(name), yaml.SequenceNode)):
                    self._check(keys, name, is_right, words)
        for metric in self._entries(keys, "metric_list"):
            self._metric(metric)
        for metric in self._entries(keys, "aggregate_metric_list"):
            self._metric(metric)
        for filters in self._entries(keys, "filter_list"):
            self._filters(filters)
        if "group" in keys and "class" not in keys:
            self._members(keys)

    def _members(self, keys: Mapping[Any, yaml.Node]) -> None:
        listed = keys.get("task")
        if listed is None:
            return
        if not isinstance(listed, yaml.SequenceNode) or not listed.value:
            raise self._error(listed, "task", "a list of names")
        for item in listed.value:
            own = keys_of(item)
            if isinstance(item, yaml.MappingNode) and own.keys() & {"task", "group"}:
                self.definition(item)
            elif not isinstance(item, yaml.ScalarNode) or item.tag != _TEXT:
                raise self._error(item, "task", "a list of names, or of mappings with task or group")
            elif item.value not in self._known:
                near = _near(item.value, self._known)
                raise SmaugError(
                    f"{self._place(item)}: there is no task, tag or group {item.value!r}{near}",
                    fix="correct the name, or take it out of the group",
                )

    def _metric(self, node: yaml.Node) -> None:
        from lm_eval.api import metrics  # noqa: F401  fills the table
        from lm_eval.api.registry import aggregation_registry

        keys = keys_of(node)
        if "metric" not in keys:
            raise self._error(node, "metric_list", "a list of entries with metric")
        aggregations = sorted(aggregation_registry)
        self._check(
            keys,
            "aggregation",
            lambda value: self._with_code or _is_function(value) or value.value in aggregations,
            f"one of {', '.join(aggregations)}, or {FUNCTION} FILE.NAME",
        )
        self._check(keys, "weight_by_size", _is_bool, "true or false")

    def _filters(self, node: yaml.Node) -> None:
        from lm_eval import filters  # noqa: F401  fills the table
        from lm_eval.api.registry import filter_registry

        keys = keys_of(node)
        if "name" not in keys:
            raise self._error(node, "filter_list", "a list of entries with name and filter")
        known = sorted(filter_registry)
        for step in self._entries(keys, "filter"):
            own = keys_of(step)
            if "function" not in own:
                raise self._error(step, "filter", "a list of entries with function")
            self._check(
                own,
                "function",
                lambda value: self._with_code or _is_function(value) or value.value in known,
                f"one of {', '.join(known)}, or {FUNCTION} FILE.NAME",
            )
            self._check(own, "regex_pattern", _is_pattern, "a regular expression")
            if own["function"].value == "take_first_k" and not _at_least(own.get("k", step), 1):
                raise self._error(own.get("k", step), "k", "a whole number above 0")

    def _entries(self, keys: Mapping[Any, yaml.Node], name: str) -> list[yaml.Node]:
        """The mappings in the list under a key; none where there is no such key."""
        value = keys.get(name)
        if value is None or value.tag in (_NOTHING, FUNCTION):
            return []
        entries = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for entry in entries:
            if not isinstance(entry, yaml.MappingNode):
                raise self._error(entry, name, "a list of mappings")
        return list(entries)

    def _check(
        self, keys: Mapping[Any, yaml.Node], name: str, is_right: Callable[[yaml.Node], bool], words: str
    ) -> None:
        value = keys.get(name)
        left_out = value is None or (value.tag == _NOTHING and name != "repeats")
        if value is not None and not left_out and value.tag != FUNCTION and not is_right(value):
            raise self._error(value, name, words)

    def _refuse_unknown(self, node: yaml.Node) -> None:
        from lm_eval.config.group import GroupConfig
        from lm_eval.config.task import TaskConfig

        names = {each.name for kind in (TaskConfig, GroupConfig) for each in fields(kind)} | {*_STRUCTURAL}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value not in names and key.value != "<<":
                raise SmaugError(
                    f"{self._place(key)}: lm-eval's tasks have no key {key.value!r}{_near(str(key.value), names)}",
                    fix="correct the key, or take it out",
                )

    def _error(self, node: yaml.Node, name: str, words: str) -> SmaugError:
        kind = ("a list" if node.value else "an empty list") if isinstance(node, yaml.SequenceNode) else "a mapping"
        given = node.value if isinstance(node, yaml.ScalarNode) else kind
        what = f"{self._place(node)}: {name} must be {words}, not {given or 'empty'}"
        return SmaugError(what, fix=f"correct {name} in that file")

    def _place(self, node: yaml.Node) -> str:
        return f"{self._path}, line {node.start_mark.line + 1}"


def _near(name: str, names: Collection[str]) -> str:
    """A name like this one; nothing where none is, as there are thousands."""
    found = nearest(name, names)
    return found if "did you mean" in found else ""


def _is_text(node: yaml.Node) -> bool:
    return node.tag == _TEXT


def _is_text_or_texts(node: yaml.Node) -> bool:
    return _is_text(node) or (isinstance(node, yaml.SequenceNode) and all(map(_is_text, node.value)))


def _is_mapping(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode)


def _is_function(node: yaml.Node) -> bool:
    return node.tag == FUNCTION


def _is_bool(node: yaml.Node) -> bool:
    return node.tag == _BOOL


def _is_whole(node: yaml.Node) -> bool:
    return node.tag == _WHOLE


def _at_least(node: yaml.Node, least: int) -> bool:
    number = str(node.value)
    return _is_whole(node) and not number.startswith("-") and (least == 0 or number.strip("+0_") != "")


def _is_pattern(node: yaml.Node) -> bool:
    try:
        re.compile(str(node.value))
    except re.error:
        return False
    return True


def check_generation(task: str, settings: Mapping[str, Any]) -> None:
    """Make sure that a generation can be asked with its settings, whoever gave them.

    Args:
        task: Its name, for the message.
        settings: ``generation_kwargs`` as they hold, those of the evaluation included.

    Raises:
        SmaugError: one has a value that no model can be asked with.
    """
    names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
    rules: list[tuple[str, Callable[[Any], bool], str]] = [
        *((name, lambda value: _number(value, whole=True) and value > 0, "a whole number above 0") for name in names),
        ("temperature", lambda value: _number(value) and value >= 0, "a number, 0 or more"),
        ("top_p", lambda value: _number(value) and 0 < value <= 1, "a number above 0, 1 at most"),
        ("top_k", lambda value: _number(value, whole=True), "a whole number"),
        ("seed", lambda value: _number(value, whole=True) and 0 <= value < 2**63, "a whole number, 0 or more"),
        ("do_sample", lambda value: isinstance(value, bool), "true or false"),
        ("until", _are_texts, "a text or a list of texts"),
    ]
    for name, is_right, words in rules:
        value = settings.get(name)
        if value is not None and not is_right(value):
            raise SmaugError(
                f"task {task!r}: generation_kwargs.{name} must be {words}, not {value!r}",
                fix=f"correct {name} in gen_kwargs of the evaluation or in the task's YAML",
            )


def _number(value: Any, *, whole: bool = False) -> bool:
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool)


def _are_texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))
