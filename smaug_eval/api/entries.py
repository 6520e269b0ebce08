"""Turn the arguments of the functions into parts of a recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smaug_eval.common.arguments import PathLike, name_list, path_text
from smaug_eval.common.embedded import find_recipe
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import distinct_names, given_path, is_there, with_revision
from smaug_eval.runs.mt_bench import answer_mt_bench as answer_mt_bench
from smaug_eval.runs.mt_bench import judge_mt_bench as judge_mt_bench
from smaug_eval.runs.mt_bench import score_mt_bench as score_mt_bench
from smaug_eval.runs.recipe import Recipe
from smaug_eval.runs.recipe_file import load_recipe, parse_recipe

if TYPE_CHECKING:
    pass


def checked_recipe(recipe: PathLike | Mapping[str, Any] | Recipe, overrides: str | Sequence[str]) -> Recipe:
    """Return a recipe that was given as such, as its content or as a file; ``overrides`` are for a file alone."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return parse_recipe(recipe)
    return load_recipe(find_recipe(path_text(recipe, "recipe")), name_list(overrides, "overrides"))


def full_name(model: PathLike, revision: str | None) -> str:
    """Return a model's name, with its revision on the Hub where there is one."""
    name, revision = with_revision(path_text(model, "model"), revision)
    return name if revision is None else f"{name}@{revision}"


def model_entry(model: PathLike, revision: str | None, **settings: Any) -> dict[str, Any]:
    """Return a recipe's entry for a model."""
    name, revision = with_revision(path_text(model, "model"), revision)
    return {"path": name, **({} if revision is None else {"revision": revision}), **settings}


def first_model(model: PathLike | Sequence[PathLike]) -> PathLike:
    """Return the one model, or the first of several."""
    if not isinstance(model, list | tuple):
        return path_text(model, "model")
    if not model:
        raise SmaugError("there is no model to score", fix="name one or several")
    return path_text(model[0], "model")


def model_entries(
    model: PathLike | Sequence[PathLike], baseline: str | None, revision: str | None, **how: Any
) -> dict[str, Any]:
    """Return the part of a recipe that names its models: the base of one, several by their own names."""
    first = first_model(model)
    given = [path_text(each, "model") for each in (model if isinstance(model, list | tuple) else [first])]
    if len(given) == 1:
        if baseline is not None and baseline != given[0]:
            raise SmaugError(f"baseline {baseline!r}: one model is given, and it is the baseline", fix="leave it out")
        return {"model": model_entry(given[0], revision, **how)}
    if revision is not None:
        raise SmaugError("one revision for several models", fix="name each as NAME@REVISION")
    if repeated := [each for each in dict.fromkeys(given) if given.count(each) > 1]:
        raise SmaugError(f"model {repeated[0]} is given twice", fix="name each model once")
    names = distinct_names(given)
    own = dict(zip(names, given, strict=True))
    wanted = names[0] if baseline is None else next((name for name in names if baseline in (name, own[name])), None)
    if wanted is None:
        raise SmaugError(f"baseline {baseline!r} is none of the models", fix=f"there is {', '.join(names)}")
    return {"models": {name: {"path": path, **how} for name, path in own.items()}, "report": {"baseline": wanted}}


def is_results(path: PathLike) -> bool:
    """Return whether a path holds results rather than a model."""
    place = given_path(path_text(path, "against"))
    is_model = any((place / name).is_file() for name in ("config.json", "adapter_config.json"))
    return is_there(place) and not is_model


def run_name(verb: str, model: PathLike, what: str) -> str:
    """Return a name for a run of which none was given."""
    name, _ = with_revision(path_text(model, "model"))
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name.rstrip("/").rpartition("/")[2]).strip("-.") or "model"
    return f"{verb}-{stem}-{what}"[:64]


def text_or_none(path: PathLike | None) -> str | None:
    """Return a path as text, or None where there is none."""
    return None if path is None else path_text(path, "path")
