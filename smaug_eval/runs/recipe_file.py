"""Read a recipe from a YAML file and --set, anchor its paths, check it, and report faults by line."""

from __future__ import annotations

import os
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from smaug_eval.common.embedded import PREFIX
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.misfits import key_lines, misfits
from smaug_eval.common.names import given_path, is_there
from smaug_eval.common.redaction import keep_settings_secret
from smaug_eval.common.safe_yaml import parse_yaml
from smaug_eval.mt_bench.config import DEMO, MT_BENCH
from smaug_eval.runs.recipe import Recipe
from smaug_eval.trainers.chat_templates import TEMPLATES
from smaug_eval.trainers.pairs.files import FILE_SUFFIXES
from smaug_eval.trainers.study_names import BASE as BASE


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply ``key=value`` overrides.

    Args:
        path: The YAML file.
        overrides: Dotted keys with YAML values, such as ``trainings.dpop.beta=0.1``.

    Raises:
        SmaugError: the file or an override is malformed; the message names line, key and value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SmaugError(f"{path} is not UTF-8 text", fix="save it as UTF-8") from error
    except OSError as error:
        raise SmaugError(f"{path} cannot be read: {error.strerror or error}") from error
    raw, lines = _parse_yaml(text, path)
    raw.setdefault("name", path.stem)
    raw = _anchored(raw, path.resolve().parent)
    for override in overrides:
        key, value = _parse_override(override)
        _assign(raw, key, value, override)
        lines[key] = f"--set {override}"
    return parse_recipe(raw, where=str(path), lines=lines)


def parse_recipe(
    raw: Mapping[str, Any], *, where: str = "recipe", lines: Mapping[tuple[str, ...], int | str] | None = None
) -> Recipe:
    """Check plain data against the recipe's schema.

    Args:
        raw: What the YAML held.
        where: Name of the source, for messages.
        lines: Line number (or other place) of each key path, for messages.

    Raises:
        SmaugError: something does not fit; every misfit is listed.
    """
    keep_settings_secret(raw)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise SmaugError(
            misfits(error, Recipe, where, lines or {}),
            fix="docs/reference/recipe.md explains every key; correct the recipe and try again",
        ) from None


def parse_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Parse ``key=value`` settings, with dotted keys and YAML values, as nested plain data.

    Raises:
        SmaugError: one is malformed.
    """
    settings: dict[str, Any] = {}
    for override in overrides:
        key, value = _parse_override(override)
        _assign(settings, key, value, override)
    return settings


def _parse_yaml(text: str, path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int | str]]:
    raw, node = parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        raise SmaugError(f"{path}: a recipe is a mapping of keys (model, pairs, ...)", fix="see recipes/demo.yaml")
    return raw, dict(key_lines(node, ()))


def _parse_override(override: str) -> tuple[tuple[str, ...], Any]:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise SmaugError(f"--set {override!r}: not of the form key=value", fix="for example --set model.dtype=bfloat16")
    value, _ = parse_yaml(text, f"--set {override!r}")
    path = tuple(part.strip() for part in key.split("."))
    return path, _anchored(_nested(path, value), Path.cwd(), path)


def _nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    return typing.cast("dict[str, Any]", value)


def _assign(raw: dict[str, Any], path: tuple[str, ...], value: Any, override: str) -> None:
    place: Any = raw
    for depth, part in enumerate(path[:-1]):
        if isinstance(place, list) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, dict):
            child = place.get(part)
            if path[: depth + 1] in (("model",), ("models", part)) and isinstance(child, str):
                child = {"path": child}
            if child is None:
                child = {}
            place[part] = child
            place = child
        else:
            raise SmaugError(
                f"--set {override}: {'.'.join(path[: depth + 1])} is not a mapping", fix="check the key's path"
            )
    if isinstance(place, list) and path[-1].isdigit() and int(path[-1]) < len(place):
        place[int(path[-1])] = value
    elif isinstance(place, dict):
        place[path[-1]] = value
    else:
        raise SmaugError(f"--set {override}: {'.'.join(path[:-1])} is not a mapping", fix="check the key's path")


def _anchored(raw: dict[str, Any], folder: Path, pick: Sequence[str] = ()) -> Any:
    """Make the path values of ``raw`` absolute where they mean files, and return the part at ``pick``."""

    def anchor(holder: Any, key: str, *, always: bool = False) -> None:
        value = holder.get(key) if isinstance(holder, dict) else None
        if not isinstance(value, str) or not value or value.startswith(PREFIX):
            return
        path = folder / given_path(value)
        if always or value.startswith((".", "~")) or value.endswith(FILE_SUFFIXES) or is_there(path):
            holder[key] = os.path.normpath(path)

    models: Any = raw.get("models")
    for name in models if isinstance(models, dict) else ():
        anchor(models, name)
    for given in (raw.get("model"), *_values(models)):
        for key in ("path", "base", "adapter"):
            anchor(given, key)
    anchor(raw, "model")
    anchor(raw, "data_root", always=True)
    pairs = raw.get("pairs")
    for pair_set in pairs.values() if isinstance(pairs, dict) else ():
        anchor(pair_set, "path")
        anchor(pair_set, "eval_path")
    study: Any = raw.get("study") or {}
    parts = (study.get("arms"), {"": study.get("training")}) if isinstance(study, dict) else ()
    trainings = raw.get("trainings")
    for training in (part for group in (trainings, *parts) for part in _values(group)):
        for key in ("start", "reference"):
            value = training.get(key) if isinstance(training, dict) else None
            if isinstance(value, str) and "/" in value and value.partition("/")[0] not in (trainings or ()):
                anchor(training, key)
        if isinstance(training, dict) and training.get("chat_template") not in TEMPLATES:
            anchor(training, "chat_template", always=True)
        anchor(training, "launch", always=True)
        anchor(training.get("launch") if isinstance(training, dict) else None, "config", always=True)
    names = {BASE, *(name for group in (trainings, models) if isinstance(group, dict) for name in group)}
    for evaluation in _values(raw.get("evaluations")):
        anchor(evaluation, "include_path", always=True)
        if isinstance(evaluation, dict) and evaluation.get("against") not in names:
            anchor(evaluation, "against")
    mt_bench = raw.get("mt_bench")
    for dialogues in mt_bench.values() if isinstance(mt_bench, dict) else ():
        if isinstance(dialogues, dict) and dialogues.get("questions") not in (MT_BENCH, DEMO):
            anchor(dialogues, "questions", always=True)
    part: Any = raw
    for key in pick:
        part = part[key]
    return part


def _values(raw: Any) -> Iterable[Any]:
    return raw.values() if isinstance(raw, dict) else ()
