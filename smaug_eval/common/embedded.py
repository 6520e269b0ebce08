"""Find what ships inside the package: the demo's model, its data, and the recipes, as ``embedded:<name>``."""

from __future__ import annotations

from pathlib import Path

from smaug_eval.common.errors import SmaugError

PREFIX = "embedded:"
_PACKAGE = Path(__file__).resolve().parents[1]
TASKS_FOLDER = (_PACKAGE / "tasks").resolve()

_EMBEDDED = {
    "demo-model": _PACKAGE / "demo" / "model",
    "demo-facts": TASKS_FOLDER / "demo" / "data" / "demo_facts" / "train.jsonl",
    "demo-arithmetic": TASKS_FOLDER / "demo" / "data" / "demo_arithmetic" / "train.jsonl",
}


def embedded_path(name: str) -> Path:
    """Return the file or folder behind ``embedded:<name>``.

    Raises:
        SmaugError: nothing of that name is embedded.
    """
    key = name.removeprefix(PREFIX)
    if key not in _EMBEDDED:
        raise SmaugError(f"nothing is embedded under the name {key!r}", fix=f"use one of {', '.join(_EMBEDDED)}")
    return _EMBEDDED[key]


def recipes_folder() -> Path:
    """Return the folder of the committed recipes: beside the package in a checkout, inside it in an installed wheel."""
    packaged = _PACKAGE / "recipes"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "recipes"


def find_recipe(name: str) -> Path:
    """Find a recipe file by its path, or by the bare name of a committed one (``demo`` for recipes/demo.yaml).

    Raises:
        SmaugError: there is no such file and no such committed recipe.
    """
    path = Path(name)
    if path.is_file():
        return path
    committed = recipes_folder() / f"{name}.yaml"
    if path.name == name and committed.is_file():
        return committed
    known = ", ".join(sorted(p.stem for p in recipes_folder().glob("*.yaml")))
    raise SmaugError(f"no recipe {name!r}: no such file", fix=f"give the path of a YAML file, or one of: {known}")
