"""Pair sets as stages of a run: their order, what decides them, and a mixture made from its sets' files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

import smaug_eval
from smaug_eval.errors import SmaugError


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


def test_a_hub_set_is_named_with_its_splits_and_revision(recipe: dict[str, Any], tmp_path: Path) -> None:
    name = "HuggingFaceH4/ultrafeedback_binarized"
    recipe["pairs"]["one"] = {"source": "rows", "path": name, "revision": "v1"}
    (first, *_) = smaug_eval.prepare(recipe, runs=tmp_path).stages
    assert first.inputs["data"] == {
        f"hub:{name} (default, train_prefs)": "v1",
        f"held out: hub:{name} (default, test_prefs)": "v1",
    }


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
