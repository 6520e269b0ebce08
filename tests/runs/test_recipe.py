"""Recipes: what is read, what is refused, and whether the message leads to the mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.common.embedded import find_recipe, recipes_folder
from smaug_eval.common.errors import SmaugError
from smaug_eval.runs.recipe import BASE, Recipe, recipe_as_dict
from smaug_eval.runs.recipe_file import load_recipe, parse_recipe, parse_settings
from smaug_eval.trainers.pairs.config import MixturePairs

RECIPE = """\
model: org/base
pairs:
  made: {source: metamath, path: rows.jsonl}
trainings:
  dpo:
    loss: dpo
  dpop:
    loss: dpop
    beta: 0.1
evaluations:
  demo: {suite: demo, limit: 5}
"""


def write(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def message(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(SmaugError) as caught:
        load_recipe(write(folder, text), overrides)
    return str(caught.value)


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path))
    assert recipe.name == "mine"
    assert recipe.model_names == ["base", "dpo", "dpop"]
    assert recipe.trainings["dpop"].lambda_ == 50
    assert recipe.trainings["dpo"].beta == 0.1
    assert recipe.trainings["dpo"].pairs == "made"
    assert recipe_as_dict(recipe)["trainings"]["dpop"]["lambda"] == 50


def test_relative_paths_belong_to_the_recipes_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    text = RECIPE.replace("org/base", "base") + "data_root: mirror\n"
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.model.path == str(tmp_path / "base")
    assert recipe.data_root == str(tmp_path / "mirror")
    assert recipe.pairs["made"].path == str(tmp_path / "rows.jsonl")
    overridden = load_recipe(write(tmp_path, text), ["data_root=../other"])
    assert overridden.data_root == str(tmp_path / "other")


def test_a_hub_id_stays_one(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path)).model.path == "org/base"


def test_unknown_key_names_path_value_line_and_the_nearest(tmp_path: Path) -> None:
    text = message(tmp_path, RECIPE.replace("    beta: 0.1", "    betta: 0.1"))
    assert "mine.yaml, line 9: trainings.dpop.betta = 0.1: unknown key; did you mean 'beta'?" in text


def test_unknown_key_of_a_pair_set_hides_the_unions_tag(tmp_path: Path) -> None:
    text = message(tmp_path, RECIPE.replace("path: rows.jsonl", "path: rows.jsonl, shotz: [0, 1]"))
    assert "line 3: pairs.made.shotz = [0, 1]: unknown key; did you mean 'shots'?" in text


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("loss: dpop", "loss: dpopp", "trainings.dpop.loss = 'dpopp': unknown; did you mean 'dpop'?"),
        ("source: metamath", "source: metamat", "pairs.made.source = 'metamat': unknown; did you mean 'metamath'?"),
        ("beta: 0.1", "beta: -1", "trainings.dpop.beta = -1: input should be greater than 0"),
        ("limit: 5", "limit: five", "evaluations.demo.limit = 'five'"),
        ("limit: 5", "engine: vlm", "evaluations.demo.engine = 'vlm': unknown; did you mean 'vllm'?"),
        ("limit: 5", "models: [dpoo]", "evaluations.demo.models: no model 'dpoo'; did you mean 'dpo'?"),
        ("    loss: dpo\n", "    loss: dpo\n    lambda: 5\n", "lambda has no meaning for loss dpo"),
        (
            "    loss: dpo\n",
            "    loss: dpo\n    pairs: mad\n",
            "trainings.dpo.pairs = 'mad': no such pair set; did you",
        ),
        ("  dpop:\n", "  base:\n", "this name means the model before training"),
        ("  dpop:\n", "  ../x:\n", "must be letters, digits"),
        ("model: org/base\n", "", "model: this key is required"),
        ("model: org/base", "model: org/base\nmodel: again", "line 2: not valid YAML: the key 'model' is given twice"),
        ("pairs:\n", "pairs: [\n", "not valid YAML"),
        (RECIPE, "- a list\n", "a recipe is a mapping"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, before: str, after: str, expected: str) -> None:
    assert before in RECIPE
    assert expected in message(tmp_path, RECIPE.replace(before, after))


MIXTURE = (
    RECIPE.replace(
        "trainings:\n",
        """\
  arc: {source: arc, holdout: 5}
  mix: {source: mixture, sets: {made: 3, arc: 1.5}, count: 100}
trainings:
""",
    )
    .replace("loss: dpo\n", "loss: dpo\n    pairs: mix\n")
    .replace("loss: dpop\n", "loss: dpop\n    pairs: mix\n")
)


def test_a_mixture_draws_from_the_recipes_sets(tmp_path: Path) -> None:
    mixture = load_recipe(write(tmp_path, MIXTURE)).pairs["mix"]
    assert isinstance(mixture, MixturePairs)
    assert (mixture.sets, mixture.count) == ({"made": 3.0, "arc": 1.5}, 100)


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ("{mde: 1}", "pairs.mix.sets: no pair set 'mde'; did you mean 'made'?"),
        ("{made: 1, mix: 1}", "pairs.mix.sets: 'mix' is this mixture itself; there is made, arc"),
        ("{made: 1, other: 1}", "'other' is a mixture too: name the sets it draws from; there is made, arc"),
        ("{made: 0}", "pairs.mix.sets.made = 0: input should be greater than 0"),
        ("{}", "pairs.mix.sets = {}: dictionary should have at least 1 item"),
    ],
)
def test_what_a_mixture_cannot_draw_from(tmp_path: Path, sets: str, expected: str) -> None:
    text = MIXTURE.replace("{made: 3, arc: 1.5}", sets)
    text = text.replace("trainings:\n", "  other: {source: mixture, sets: {arc: 1}}\ntrainings:\n")
    assert expected in message(tmp_path, text)


def test_every_mistake_is_listed_but_only_a_screenful(tmp_path: Path) -> None:
    wrong = "".join(f"wrong{number}: 1\n" for number in range(12))
    text = message(tmp_path, RECIPE + wrong)
    assert text.count("unknown key") == 8
    assert "... and 4 more" in text


def test_overrides_reach_deep_keys_and_are_yaml(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path),
        [
            "trainings.dpop.beta=1.0",
            "trainings.dpo.lora.r=4",
            "model.dtype=bfloat16",
            "evaluations.demo.tasks=[a, b]",
        ],
    )
    assert recipe.trainings["dpop"].beta == 1.0
    assert recipe.trainings["dpo"].lora is not None
    assert recipe.trainings["dpo"].lora.r == 4
    assert (recipe.model.path, recipe.model.dtype) == ("org/base", "bfloat16")
    assert recipe.evaluations["demo"].tasks == ["a", "b"]


def test_a_wrong_override_is_named_as_the_user_typed_it(tmp_path: Path) -> None:
    assert "--set trainings.dpop.bta=1: trainings.dpop.bta = 1: unknown key" in message(
        tmp_path, RECIPE, "trainings.dpop.bta=1"
    )
    assert "not of the form key=value" in message(tmp_path, RECIPE, "trainings.dpop.beta")
    assert "name is not a mapping" in message(tmp_path, RECIPE + "name: x\n", "name.deeper=1")


def test_settings_nest() -> None:
    assert parse_settings(["beta=0.1", "lora.r=8", "lora.alpha=16"]) == {"beta": 0.1, "lora": {"r": 8, "alpha": 16}}


def test_missing_recipe_lists_the_committed_ones() -> None:
    with pytest.raises(SmaugError, match="demo"):
        find_recipe("no-such-recipe")


@pytest.mark.parametrize("path", sorted(recipes_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_committed_recipes_are_valid(path: Path) -> None:
    assert load_recipe(path).name == path.stem


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
recipe_keys = st.sampled_from([*Recipe.model_fields, "modle", "loss"])


@given(st.dictionaries(recipe_keys, json_values, max_size=6))
def test_any_data_is_read_or_refused_with_our_own_error(raw: dict[str, object]) -> None:
    try:
        parse_recipe({"model": "org/base", "name": "x", **raw})
    except SmaugError as error:
        assert error.message


def test_the_baseline_is_a_model_that_is_scored() -> None:
    raw: dict[str, Any] = {
        "name": "mine",
        "model": "embedded:demo-model",
        "pairs": {"rows": {"source": "rows", "path": "pairs.jsonl"}},
        "trainings": {"dpo": {"loss": "dpo"}, "dpop": {"loss": "dpop"}},
        "evaluations": {"demo": {"suite": "demo", "models": ["dpop"]}},
    }
    settled = parse_recipe(raw)
    assert settled.report.baseline == "dpop"
    assert parse_recipe(recipe_as_dict(settled)) == settled
    assert parse_recipe({**raw, "evaluations": {}}).report.baseline == BASE
    with pytest.raises(SmaugError, match=r"report.baseline = 'dpo': no evaluation is for this model"):
        parse_recipe({**raw, "report": {"baseline": "dpo"}})


@pytest.mark.parametrize("key", ["learning_rate", "beta", "max_grad_norm", "weight_decay"])
@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_numbers_without_end_are_refused(tmp_path: Path, key: str, value: str) -> None:
    said = message(tmp_path, RECIPE, f"trainings.dpo.{key}={value}")
    assert f"--set trainings.dpo.{key}={value}" in said
    assert "should be a finite number" in said or "should be greater than" in said


def test_the_largest_seed_is_that_of_every_generator(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path), [f"seed={2**32 - 1}"]).seed == 4_294_967_295
    for key in ("seed", "trainings.dpo.seed"):
        assert "should be less than 4294967296" in message(tmp_path, RECIPE, f"{key}={2**32}")


def test_an_empty_list_of_tasks_means_all_of_them(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path), ["evaluations.demo.tasks=[]"]).evaluations["demo"].tasks is None
