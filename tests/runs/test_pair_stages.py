"""Pair sets as stages of a run: their order, what decides them, and a mixture made from its sets' files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.runs.directory import stage_key
from tests.hub.contents import pushed
from tests.hub.fixtures import HubHere
from tests.hub.repositories import Content


def rows(path: Path, name: str, count: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"prompt": f"{name} {n}?", "chosen": " yes", "rejected": " no"} for n in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    return {
        "name": "mixed",
        "model": {"path": "embedded:demo-model", "dtype": "float32"},
        "pairs": {
            "mix": {"source": "mixture", "sets": {"one": 2, "two": 1}, "count": 12, "holdout": 3},
            "one": {"source": "rows", "path": rows(tmp_path / "a" / "same.jsonl", "a", 30), "holdout": 4},
            "two": {"source": "rows", "path": rows(tmp_path / "b" / "same.jsonl", "b", 30), "holdout": 4},
        },
        "trainings": {"dpo": {"loss": "dpo", "pairs": "mix", "steps": 1, "batch_size": 4}},
    }


def keys(recipe: dict[str, Any], runs: Path) -> dict[str, str]:
    return {stage.name: stage.key for stage in smaug_eval.prepare(recipe, runs=runs).stages}


def test_a_mixture_comes_after_its_sets_and_changes_with_them(recipe: dict[str, Any], tmp_path: Path) -> None:
    stages = smaug_eval.prepare(recipe, runs=tmp_path).stages
    assert [stage.name for stage in stages][:3] == ["pairs/one", "pairs/two", "pairs/mix"]
    assert stages[2].needs == ("pairs/one", "pairs/two")
    before = keys(recipe, tmp_path)
    recipe["pairs"]["one"]["seed"] = 1
    after = keys(recipe, tmp_path)
    assert {name for name in before if before[name] != after[name]} == {
        "pairs/one",
        "pairs/mix",
        "train/dpo",
        "report",
    }


def test_files_of_one_name_are_told_apart(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["pairs"]["one"]["eval_path"] = recipe["pairs"]["two"]["path"]
    (first, *_) = smaug_eval.prepare(recipe, runs=tmp_path).stages
    assert set(first.inputs["data"]) == {"same.jsonl", "held out: same.jsonl"}
    assert len(set(first.inputs["data"].values())) == 2


HUB_SET = "HuggingFaceH4/ultrafeedback_binarized"


def preferences(letter: str) -> dict[str, Content]:
    """A set as ``HUB_SET`` is laid out."""

    def row(n: int) -> dict[str, Any]:
        ask = {"role": "user", "content": f"{letter} {n}?"}
        says = {side: [ask, {"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
        return {"prompt": ask["content"], **says, "score_chosen": 9.0, "score_rejected": 1.0}

    return pushed({"default": {split: [row(n) for n in range(12)] for split in ("train_prefs", "test_prefs")}})


def on_the_hub(recipe: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The recipe with pairs of ``HUB_SET`` alone, and nothing done with them."""
    pairs = {"one": {"source": "rows", "path": HUB_SET, "holdout": 2, **settings}}
    return {**recipe, "pairs": pairs, "trainings": {}}


def test_a_hub_set_is_named_with_its_splits_and_commit(
    recipe: dict[str, Any], hub_here: HubHere, tmp_path: Path
) -> None:
    repository = hub_here.hub.add_dataset(HUB_SET, preferences("a"))
    repository.tag("v1")
    commit = repository.branches["main"]
    hub_here.hub.commit(HUB_SET, preferences("b"))
    for revision in ("v1", commit):
        (first, *_) = smaug_eval.prepare(on_the_hub(recipe, revision=revision), runs=tmp_path).stages
        assert first.inputs["data"] == {
            f"hub:{HUB_SET} (default, train_prefs)": commit,
            f"held out: hub:{HUB_SET} (default, test_prefs)": commit,
        }
        assert first.inputs["pairs"]["revision"] == revision


def test_a_commit_that_a_recipe_names_keeps_the_key_it_had(
    recipe: dict[str, Any], hub_here: HubHere, tmp_path: Path
) -> None:
    """A run directory of an earlier version stays done: the key is over the same inputs as then."""
    commit = hub_here.hub.add_dataset(HUB_SET, preferences("a")).branches["main"]
    (first, *_) = smaug_eval.prepare(on_the_hub(recipe, revision=commit), runs=tmp_path).stages
    settings = {
        "source": "rows",
        "seed": 42,
        "holdout": 2,
        "config": None,
        "split": None,
        "revision": commit,
        "eval_split": None,
        "limit": None,
        "format": "auto",
        "drop_equal": True,
        "drop_empty": True,
    }
    data = {
        f"hub:{HUB_SET} (default, train_prefs)": commit,
        f"held out: hub:{HUB_SET} (default, test_prefs)": commit,
    }
    assert first.key == stage_key({"pairs": settings, "data": data}, [])


def test_a_push_to_the_branch_is_noticed_and_recorded(
    recipe: dict[str, Any], hub_here: HubHere, tmp_path: Path
) -> None:
    recipe = on_the_hub(recipe)
    first = hub_here.hub.add_dataset(HUB_SET, preferences("a")).branches["main"]
    result = smaug_eval.run(recipe, runs=tmp_path)

    def recorded() -> tuple[Any, ...]:
        manifest = json.loads((result.path / "manifest.json").read_text())
        stats = json.loads((result.path / "pairs/one/stats.json").read_text())
        (data,) = set(manifest["data"]["pairs/one"].values())
        return data, manifest["data_revisions"], stats["revision"]

    def states() -> dict[str, Any]:
        return {stage.name: state for stage, state in smaug_eval.prepare(recipe, runs=tmp_path).states()}

    assert recorded() == (first, {HUB_SET: first}, first)
    assert {state.status for state in states().values()} == {"done"}
    second = hub_here.hub.commit(HUB_SET, preferences("b"))
    moved = states()["pairs/one"]
    assert moved.status == "changed"
    assert f"{first[:12]}... -> {second[:12]}..." in moved.reason
    smaug_eval.run(recipe, runs=tmp_path)
    assert recorded() == (second, {HUB_SET: second}, second)
    assert "b 1?" in (result.path / "pairs/one/train.jsonl").read_text()


def test_what_is_built_is_what_was_found_when_the_run_was_prepared(
    recipe: dict[str, Any], hub_here: HubHere, tmp_path: Path
) -> None:
    hub_here.hub.add_dataset(HUB_SET, preferences("a"))
    prepared = smaug_eval.prepare(on_the_hub(recipe), runs=tmp_path)
    hub_here.hub.commit(HUB_SET, preferences("b"))
    result = prepared.run()
    assert "a 1?" in (result.path / "pairs/one/train.jsonl").read_text()


def test_offline_the_cached_ref_decides_then_the_run_itself(
    recipe: dict[str, Any], hub_here: HubHere, tmp_path: Path
) -> None:
    recipe = on_the_hub(recipe)
    first = hub_here.hub.add_dataset(HUB_SET, preferences("a")).branches["main"]
    smaug_eval.run(recipe, runs=tmp_path)
    hub_here.hub.commit(HUB_SET, preferences("b"))
    hub_here.offline()
    assert {state.status for _, state in smaug_eval.prepare(recipe, runs=tmp_path).states()} == {"done"}
    hub_here.empty()
    prepared = smaug_eval.prepare(recipe, runs=tmp_path)
    assert set(prepared.stages[0].inputs["data"].values()) == {first}
    assert {state.status for _, state in prepared.states()} == {"done"}
    with pytest.raises(SmaugError, match=r"pairs.one.path: data set .* not in the local Hub cache"):
        smaug_eval.prepare(recipe, runs=tmp_path / "others")


def test_a_mirror_without_the_known_sets_split_is_named_before_work_starts(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "mirror" / "abacusai" / "ARC_DPO_FewShot" / "default"
    folder.mkdir(parents=True)
    row = {"prompt": "p", "chosen": "c", "rejected": "r"}
    pyarrow.parquet.write_table(pa.Table.from_pylist([row]), folder / "train.parquet")
    recipe["data_root"] = str(tmp_path / "mirror")
    recipe["pairs"]["one"] = {"source": "rows", "path": "abacusai/ARC_DPO_FewShot"}
    with pytest.raises(SmaugError, match=r"pairs.one.path: .*has no split 'eval'.*: train"):
        smaug_eval.prepare(recipe, runs=tmp_path)
    recipe["pairs"]["one"]["eval_split"] = "train"
    assert smaug_eval.prepare(recipe, runs=tmp_path).stages[0].name == "pairs/one"


@pytest.mark.slow
def test_a_training_on_a_mixture(recipe: dict[str, Any], tmp_path: Path) -> None:
    evaluation = {"suite": "demo", "tasks": ["facts"], "limit": 2, "engine": "hf", "models": ["base"]}
    recipe["evaluations"] = {"demo": evaluation}
    result = smaug_eval.run(recipe, runs=tmp_path / "runs")
    assert result.did[:3] == ("pairs/one", "pairs/two", "pairs/mix")
    assert "train/dpo" in result.did
    stats = json.loads((result.path / "pairs/mix/stats.json").read_text())
    assert (stats["train"], stats["eval"], stats["parts"]) == (12, 3, {"one": 8, "two": 4})
    summary = json.loads((result.path / "train/dpo/summary.json").read_text())
    assert (summary["pairs"], summary["eval_pairs"]) == (12, 3)
    assert smaug_eval.run(recipe, runs=tmp_path / "runs").did == ()
