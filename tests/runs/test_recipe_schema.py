"""The recipe's JSON Schema: it says what the loader accepts, and an independent validator reads it."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from smaug_eval.common.embedded import recipes_folder
from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.registry import ENGINES
from smaug_eval.leaderboard.registry import suite_names
from smaug_eval.runs.recipe import Recipe
from smaug_eval.runs.recipe_entries import EvaluationConfig, ModelSpec
from smaug_eval.runs.recipe_file import load_recipe, parse_recipe
from smaug_eval.runs.recipe_schema import SCHEMA_FILE, SCHEMA_LINE, recipe_schema, schema_text
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.losses import LOSSES, OTHER_NAMES
from smaug_eval.trainers.pairs.config import SOURCES
from tests.test_plugin import PLUGIN, installed

COMMITTED = sorted(recipes_folder().glob("*.yaml"))
RECIPE: dict[str, Any] = {
    "name": "mine",
    "model": "org/base",
    "pairs": {"made": {"source": "metamath", "path": "rows.jsonl"}},
    "trainings": {"dpo": {"loss": "dpo"}},
    "evaluations": {"demo": {"suite": "demo", "limit": 5}},
}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = recipe_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The recipe with a value at a dotted path."""
    recipe = copy.deepcopy(RECIPE)
    *parents, last = path.split(".")
    place = recipe
    for part in parents:
        place = place.setdefault(part, {})
    place[last] = value
    return recipe


def is_loaded(recipe: dict[str, Any]) -> bool:
    try:
        parse_recipe(copy.deepcopy(recipe))
    except SmaugError:
        return False
    return True


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.stem)
def test_committed_recipes_name_the_schema_and_fit_it(file: Path, validator: Draft202012Validator) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.splitlines()[0] == SCHEMA_LINE == "# yaml-language-server: $schema=recipe.schema.json"
    assert list(validator.iter_errors(yaml.safe_load(text))) == []
    load_recipe(file)


def test_the_committed_schema_is_that_of_the_declarations() -> None:
    assert (recipes_folder() / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text(), (
        "a recipe's keys have changed: smaug-eval schema --out recipes/recipe.schema.json"
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seeed", 1),
        ("trainings.dpo.betta", 0.1),
        ("trainings.dpo.lora", {"rank": 8}),
        ("pairs.made.shotz", [0, 1]),
        ("evaluations.demo.sampling", {"top_k": 5}),
        ("mt_bench.m.judge", {"model": "gpt-4", "temprature": 0}),
        ("model", {"path": "a", "dtyp": "float32"}),
        ("report.titel", "x"),
        ("trainings.dpo.batch_size", "many"),
        ("trainings.dpo.batch_size", 0),
        ("trainings.dpo.batch_size", 1.5),
        ("trainings.dpo.beta", -1),
        ("trainings.dpo.beta", [0.1]),
        ("trainings.dpo.lora", 16),
        ("trainings.dpo.betas", [0.9]),
        ("trainings.dpo.share_prefix", "perhaps"),
        ("trainings", ["dpo"]),
        ("model", 7),
        ("seed", -1),
        ("seed", None),
        ("pairs.made.shots", [0]),
        ("trainings.dpo.loss", "dpopp"),
        ("trainings.dpo.loss", "dpo + 0.2*sftt"),
        ("trainings.dpo.loss", {"dpo": 1, "sftt": 1}),
        ("trainings.dpo.loss", {"dpo": -1}),
        ("trainings.dpo.loss", {}),
        ("trainings.dpo", {"beta": 0.1}),
        ("trainings.dpo.optimizer", "sgd"),
        ("pairs.made.source", "metamat"),
        ("pairs.made", {"path": "rows.jsonl"}),
        ("pairs.made", {"source": "mixture", "sets": {"made": 0}}),
        ("pairs.made.falsify", "some"),
        ("evaluations.demo.engine", "vlm"),
        ("evaluations.demo.limit", 0),
        ("evaluations.demo.limit", "five"),
        ("evaluations.../x", {"suite": "demo"}),
        ("name", "no folder/name"),
        ("model", {"dtype": "float32"}),
        ("model", {"path": "a", "dtype": "float8"}),
        ("mt_bench.m.judge", "gpt"),
        ("study", {"seeds": [1], "arms": {"dpo": {"loss": "dpo", "sets": ["made"], "seed": 4}}}),
        ("study", {"seeds": [1], "training": {"pairs": "made"}, "arms": {"dpo": {"loss": "dpo", "sets": ["made"]}}}),
        ("study", {"seeds": [], "arms": {}}),
    ],
)
def test_both_refuse(path: str, value: Any, validator: Draft202012Validator) -> None:
    assert is_loaded(RECIPE)
    assert validator.is_valid(RECIPE)
    if path.startswith("evaluations.."):
        recipe = copy.deepcopy(RECIPE)
        recipe["evaluations"]["../x"] = value
    else:
        recipe = changed(path, value)
    assert not is_loaded(recipe)
    assert not validator.is_valid(recipe)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model", {"base": "org/base", "adapter": "org/adapter"}),
        ("model", {"adapter": "org/adapter", "dtype": "bfloat16"}),
        ("models", {"other": "org/other", "third": {"path": "org/third"}}),
        ("trainings.dpo.loss", "DPO"),
        ("trainings.dpo.loss", "sigmoid"),
        ("trainings.dpo.loss", "dpo + 0.2*sft"),
        ("trainings.dpo.loss", "LD-DPO"),
        ("trainings.dpo.loss", {"dpo": 1, "sft": 0.2}),
        ("trainings.dpo.launch", {"processes": 2}),
        ("trainings.dpo.launch", "accelerate/fsdp2.yaml"),
        ("trainings.dpo.betas", [0.9, 0.95]),
        ("trainings.dpo.lora", {}),
        ("trainings.dpo.eval_every", None),
        ("pairs.made.falsify", "all"),
        ("evaluations.demo.suite", "Open_LLM_v1"),
        ("evaluations.demo.limit", 0.1),
        ("evaluations.demo", {"suite": "lm_eval", "tasks": ["piqa"], "gen_kwargs": "temperature=0.7"}),
        ("evaluations.demo", {"suite": "lm_eval", "tasks": ["piqa"], "gen_kwargs": {"temperature": 0.7}}),
        ("mt_bench.m", {"questions": "demo", "judge": "demo"}),
        ("mt_bench.m", {"reference_categories": "math,coding"}),
        (
            "study",
            {
                "seeds": [1],
                "training": {"steps": 2},
                "arms": {
                    "dpo": {"loss": "dpo", "sets": ["low", "high"]},
                    "dpop": {"loss": "dpop", "sets": ["low", "high"]},
                },
            },
        ),
    ],
)
def test_both_accept(path: str, value: Any, validator: Draft202012Validator) -> None:
    recipe = changed(path, value)
    if path == "study":
        rows = {"source": "metamath", "path": "rows.jsonl"}
        recipe |= {"pairs": {"low": rows, "high": rows}, "trainings": {}}
    assert is_loaded(recipe)
    assert [error.message for error in validator.iter_errors(recipe)] == []


def test_a_recipe_without_a_name_or_with_models_alone_fits(validator: Draft202012Validator) -> None:
    assert validator.is_valid({key: value for key, value in RECIPE.items() if key != "name"})  # named by its file
    assert validator.is_valid({"models": {"a": "org/a"}})
    assert not validator.is_valid({"seed": 1})


def test_every_key_has_its_description_and_default() -> None:
    definitions = recipe_schema()["$defs"]
    for model in (TrainingConfig, EvaluationConfig, ModelSpec):
        properties = definitions[model.__name__]["properties"]
        for name, field in model.model_fields.items():
            own = properties[field.alias or name]
            assert own["description"] == field.description
            if not field.is_required() and field.default_factory is None:
                plain = field.default
                assert own["default"] == (list(plain) if isinstance(plain, tuple) else plain), name
    assert definitions["TrainingConfig"]["properties"]["lambda"]["anyOf"][0] == {"type": "number", "minimum": 0.0}
    assert '"added"' not in schema_text()


def test_names_are_those_of_the_tables() -> None:
    definitions = recipe_schema()["$defs"]
    losses = [each["const"] for each in definitions["TrainingConfig"]["properties"]["loss"]["anyOf"] if "const" in each]
    assert losses == list(LOSSES)
    evaluation = definitions["EvaluationConfig"]["properties"]
    assert evaluation["engine"]["enum"] == ["auto", *ENGINES]
    assert evaluation["suite"]["anyOf"][0]["enum"] == suite_names()
    mapping = recipe_schema()["properties"]["pairs"]["additionalProperties"]["discriminator"]["mapping"]
    assert set(mapping) == {*SOURCES, "mixture"}


@pytest.mark.parametrize("name", [*LOSSES, *OTHER_NAMES])
def test_every_loss_fits(name: str, validator: Draft202012Validator) -> None:
    whole = [changed("trainings.dpo.loss", name), changed("trainings.dpo.loss", {name: 2, "sft": 0.5})]
    alone = name in LOSSES and LOSSES[name].unpaired  # it reads other rows than those of the other term
    for recipe in whole[:1] if alone else whole:
        assert validator.is_valid(recipe)
        kept = {**recipe, "trainings": {"dpo": {**recipe["trainings"]["dpo"], "beta": None}}}
        assert is_loaded(kept) or "loss" not in kept["trainings"]["dpo"]


def test_no_key_is_left_out() -> None:
    """Every model within a recipe has a definition, with as many keys as the model has fields."""
    definitions = recipe_schema()["$defs"]
    for model in _within(Recipe):
        known = {field.alias or name for name, field in model.model_fields.items()}
        extra = {"ModelSpec": {"base"}}.get(model.__name__, set())
        gone = {"Arm": {"pairs", "seed"}}.get(model.__name__, set())
        shown = recipe_schema() if model is Recipe else definitions[model.__name__]
        assert set(shown["properties"]) == (known | extra) - gone


def _within(model: type[BaseModel]) -> set[type[BaseModel]]:
    from smaug_eval.common.schema_keys import child_of, models_of

    found = {model}
    for field in model.model_fields.values():
        kind = child_of(field.annotation, "") if str(field.annotation).startswith("dict[") else field.annotation
        for child in models_of(kind):
            found |= _within(child)
    return found


def test_plug_ins_are_part_of_the_printed_schema(tmp_path: Path) -> None:
    env = installed(tmp_path / "site", (PLUGIN / "entry_points.txt").read_text())
    printed = subprocess.run(
        [sys.executable, "-m", "smaug_eval", "schema"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    checked = Draft202012Validator(json.loads(printed))
    recipe = copy.deepcopy(RECIPE)
    recipe["pairs"] = {"things": {"source": "colours", "path": "things.jsonl"}}
    recipe["trainings"] = {"squared": {"loss": "squared_lead", "lead": 3}}
    recipe["evaluations"] = {"things": {"suite": "colours", "engine": "shortest"}}
    assert checked.is_valid(recipe)
    assert not Draft202012Validator(recipe_schema()).is_valid(recipe)
