"""Write the JSON Schema of a recipe, from the declarations of its keys, so that editors complete and check recipes."""

from __future__ import annotations

import json
from typing import Any

from smaug_eval.common.settings import without_marks
from smaug_eval.runs.recipe import Recipe

SCHEMA_FILE = "recipe.schema.json"
"""Its name beside recipes."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_TITLE = "smaug-eval recipe"
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}"
"""First line of a recipe that names it, as language servers for YAML read it."""


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a recipe in a YAML file.

    It has the keys, types, bounds, defaults and descriptions that the recipe's own check goes by, and the names in the
    tables of losses, pair sources, engines and suites, those of installed plug-ins included. What it cannot say is
    left to that check: how keys fit together, and names of models and pair sets.
    """
    schema: dict[str, Any] = without_marks(Recipe.model_json_schema())
    schema["required"] = [key for key in schema["required"] if key != "name"]  # a file without one is named by its own
    about = {"$schema": DIALECT, "title": SCHEMA_TITLE}
    return {**about, **{key: value for key, value in schema.items() if key not in about and value != []}}


def schema_text() -> str:
    """Return the schema as the text of ``recipe.schema.json``."""
    return json.dumps(recipe_schema(), indent=1, ensure_ascii=False) + "\n"
