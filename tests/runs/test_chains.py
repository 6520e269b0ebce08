"""Trainings that start from each other: SFT, then DPO-Positive, then evaluations, in one recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.contamination import leaks
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.models.checkpoint import locate
from smaug_eval.runs.lineage import ancestors, parents
from smaug_eval.runs.recipe_file import load_recipe, parse_recipe

TRAINING = {"steps": 3, "batch_size": 4, "learning_rate": 1e-3, "eval_every": None, "max_length": 384}
LORA = {"r": 2, "alpha": 4, "target_modules": ["q_proj", "v_proj"]}
RECIPE: dict[str, Any] = {
    "name": "chain",
    "model": {"path": "embedded:demo-model", "dtype": "float32"},
    "pairs": {
        "made": {"source": "metamath", "path": "embedded:demo-arithmetic", "limit": 16, "holdout": 4, "shots": [0, 0]}
    },
    "trainings": {
        "dpop": {"loss": "dpop", "start": "sft", **TRAINING},  # before the training that it starts from
        "sft": {"loss": "sft", **TRAINING},
        "far": {"loss": "dpo", "start": "sft", "reference": "base", **TRAINING},
    },
    "evaluations": {
        "demo": {"suite": "demo", "tasks": ["facts"], "limit": 2, "engine": "torch", "models": ["dpop", "sft"]}
    },
}


def rows(run: Path, training: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "train" / training / "log.jsonl").read_text().splitlines()]


def row_at(run: Path, training: str, split: str, step: int) -> dict[str, Any]:
    return next(row for row in rows(run, training) if row["split"] == split and row["step"] == step)


@pytest.mark.slow
def test_sft_then_dpop_then_evaluation(tmp_path: Path) -> None:
    result = smaug_eval.run(RECIPE, runs=tmp_path)
    run = result.path
    order = [stage for stage in result.did if stage.startswith("train/")]
    assert order == ["train/sft", "train/dpop", "train/far"]
    assert {"eval/sft/demo/facts", "eval/dpop/demo/facts"} < set(result.did)
    ended, begun = row_at(run, "sft", "eval", 3), row_at(run, "dpop", "eval", 0)
    assert begun["logps/chosen"] == pytest.approx(ended["logps/chosen"], abs=1e-4)
    assert begun["log_ratios/chosen"] == 0.0
    assert begun["loss"] == pytest.approx(0.6931472, abs=1e-6)
    # Held against the base, the second training begins where the first has led.
    assert row_at(run, "far", "eval", 0)["log_ratios/chosen"] == pytest.approx(ended["log_ratios/chosen"], abs=1e-4)
    summary = json.loads((run / "train/dpop/summary.json").read_text())
    assert summary["model_sha256"] == locate(str(run / "train/sft/checkpoint")).sha256
    assert summary["base"].endswith("after training sft")
    again = smaug_eval.run(RECIPE, runs=tmp_path)
    assert again.did == ()
    # Another start makes what follows from it new, and nothing else.
    changed = {**RECIPE, "trainings": {**RECIPE["trainings"], "far": {**RECIPE["trainings"]["far"], "start": "base"}}}
    states = {stage.name: state.status for stage, state in smaug_eval.prepare(changed, runs=tmp_path).states()}
    assert states["train/far"] != "done"
    assert states["train/dpop"] == states["train/sft"] == "done"


@pytest.mark.slow
def test_an_adapter_of_another_training_is_trained_further(tmp_path: Path) -> None:
    trainings = {
        "sft": {"loss": "sft", "lora": LORA, **TRAINING},
        "dpop": {"loss": "dpop", "lora": LORA, "start": "sft/adapter", **TRAINING},
    }
    result = smaug_eval.run({**RECIPE, "trainings": trainings, "evaluations": {}}, runs=tmp_path)
    ended, begun = row_at(result.path, "sft", "eval", 3), row_at(result.path, "dpop", "eval", 0)
    assert begun["logps/chosen"] == pytest.approx(ended["logps/chosen"], abs=1e-4)
    assert begun["log_ratios/chosen"] == 0.0
    adapter = result.path / "train/dpop/adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "embedded:demo-model"
    # And from outside the run, by its folder.
    out = smaug_eval.train(
        "embedded:demo-model",
        result.path / "pairs/made/train.jsonl",
        loss="dpo",
        start=str(adapter),
        lora=LORA,
        runs=tmp_path,
        pair_settings={"holdout": 4},
        **{**TRAINING, "steps": 1},
    )
    moved = load_file(out.path / "train/dpo/adapter/adapter_model.safetensors")
    before = load_file(adapter / "adapter_model.safetensors")
    assert moved.keys() == before.keys()
    assert max(float((moved[name] - before[name]).abs().max()) for name in moved) < 0.01  # one step away


def with_trainings(**changes: dict[str, Any]) -> dict[str, Any]:
    return {**RECIPE, "trainings": {name: {"loss": "dpo", **keys} for name, keys in changes.items()}, "evaluations": {}}


@pytest.mark.parametrize(
    ("trainings", "match"),
    [
        ({"a": {"start": "b"}, "b": {"start": "a"}}, "waits for itself: a <- b <- a"),
        ({"a": {"start": "a"}}, "waits for itself: a <- a"),
        ({"a": {}, "b": {"start": "aa"}}, "no such training; did you mean 'a'"),
        ({"a": {}, "b": {"start": "a/adapter"}}, "has no lora, so no adapter"),
        ({"a": {"reference": "b"}, "b": {"start": "a"}}, "waits for itself"),
    ],
)
def test_wrong_starts_are_named(trainings: dict[str, dict[str, Any]], match: str) -> None:
    with pytest.raises(SmaugError, match=match):
        parse_recipe(with_trainings(**trainings))


def test_parents_and_ancestors() -> None:
    trainings = parse_recipe(
        with_trainings(a={}, b={"start": "a"}, c={"start": "b", "reference": "a"}, d={"start": "./c"})
    ).trainings
    assert parents("c", trainings) == ["b", "a"]
    assert ancestors("c", trainings) == ["b", "a"]
    assert ancestors("d", trainings) == []


def test_a_start_that_is_a_path_is_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "sft").mkdir()
    recipe = with_trainings(sft={}, one={"start": "sft"}, two={"start": "./sft"})
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump(recipe))
    trainings = load_recipe(file).trainings
    assert trainings["one"].start == "sft"
    assert trainings["two"].start == str(tmp_path / "sft")


def test_an_adapter_of_another_base_and_a_full_training_from_an_adapter_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"")
    settings = {"peft_type": "LORA", "base_model_name_or_path": "org/other"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    recipe = with_trainings(a={"start": str(folder), "lora": {}})
    with pytest.raises(SmaugError, match="was trained from org/other") as refused:
        smaug_eval.prepare(recipe, runs=tmp_path)
    assert "set model.path to org/other" in str(refused.value)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(SmaugError, match="is an adapter, and the training is of all weights"):
        smaug_eval.prepare(with_trainings(a={"start": str(folder)}), runs=tmp_path)


def leaky(tmp_path: Path, file: str) -> dict[str, Any]:
    """A chain of which one pair set holds documents that the end of the chain is scored on."""
    suite = find_suite("demo")
    (column,) = suite.select(["arithmetic"])
    documents = leaks.column_documents(suite, column, None)
    texts = [document.texts[0] for document in documents[:2]]
    clean = [f"What is {number} plus {number}, if I may ask?" for number in range(12)]
    sets = {}
    for name in ("early", "late"):
        prompts = [*clean, *(texts if name == file else [])]
        path = tmp_path / f"{name}.jsonl"
        rows = [{"prompt": f"{prompt}\n{name}", "chosen": " yes", "rejected": " no"} for prompt in prompts]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sets[name] = {"source": "rows", "path": str(path), "holdout": 0}
    return {
        "name": "leaky",
        "model": RECIPE["model"],
        "pairs": sets,
        "trainings": {
            "first": {"loss": "sft", "pairs": "early", **TRAINING},
            "middle": {"loss": "sft", "pairs": "late", "start": "first", **TRAINING},
            "last": {"loss": "dpop", "pairs": "late", "start": "middle", **TRAINING},
            "beside": {"loss": "dpop", "pairs": "early", **TRAINING},
        },
        "evaluations": {"demo": {"suite": "demo", "tasks": ["arithmetic"], "engine": "torch", "models": ["last"]}},
    }


@pytest.mark.parametrize("file", ["early", "late"])
def test_documents_in_the_pairs_of_an_earlier_training_are_found(tmp_path: Path, file: str) -> None:
    """The model that is scored was trained on them two trainings before."""
    recipe = leaky(tmp_path, file)
    with pytest.raises(SmaugError, match=r"2 training pairs contain test documents of arithmetic"):
        smaug_eval.run(recipe, runs=tmp_path / "runs")


def test_pairs_that_no_scored_model_was_trained_on_are_not_searched(tmp_path: Path) -> None:
    recipe = leaky(tmp_path, "none")

    def searched(**evaluation: Any) -> set[str]:
        changed = {**recipe, "evaluations": {"demo": {**recipe["evaluations"]["demo"], **evaluation}}}
        stages = [stage.name for stage, _ in smaug_eval.prepare(changed, runs=tmp_path / "runs").states()]
        return {name for name in stages if name.startswith("leaks/")}

    assert searched() == {"leaks/early", "leaks/late"}
    assert searched(models=["first"]) == {"leaks/early"}
    assert searched(models=["base"]) == set()
    alone = {**recipe["trainings"]["middle"], "start": "base"}
    recipe["trainings"] = {**recipe["trainings"], "middle": alone}
    assert searched() == {"leaks/late"}


def test_a_filter_by_ches_is_a_trainings_and_not_its_pairs(tmp_path: Path) -> None:
    """It makes the trainings on the set new, not the set; in a mixture's part it would do nothing."""

    def keys(**changes: Any) -> dict[str, str]:
        pairs = {"made": {**RECIPE["pairs"]["made"], **changes}}
        found = smaug_eval.prepare({**RECIPE, "pairs": pairs}, runs=tmp_path).states()
        return {stage.name: stage.key for stage, _ in found}

    plain, filtered = keys(), keys(ches={"keep": 0.25})
    assert plain["pairs/made"] == filtered["pairs/made"]
    assert plain["train/sft"] != filtered["train/sft"]
    part = {**RECIPE["pairs"]["made"], "ches": {"keep": 0.25}}
    mixed = {"made": part, "mix": {"source": "mixture", "sets": {"made": 1}, "holdout": 2}}
    trainings = {"dpo": {"loss": "dpo", "pairs": "mix", **TRAINING}}
    with pytest.raises(SmaugError, match=r"pairs\.made\.ches has no effect in the mixture mix"):
        smaug_eval.prepare({**RECIPE, "pairs": mixed, "trainings": trainings, "evaluations": {}}, runs=tmp_path)


@pytest.mark.slow
def test_kto_on_unpaired_rows_and_pairs_filtered_by_ches_to_the_report(tmp_path: Path) -> None:
    """From a file of unpaired rows to the page, and a training on a quarter of another set's pairs beside it."""
    file = tmp_path / "unpaired.jsonl"
    file.write_text(
        "".join(
            json.dumps({"prompt": f"{a} + 2 =", "completion": f" {a + 2 + a % 2}", "label": not a % 2}) + "\n"
            for a in range(24)
        )
    )
    recipe = {
        **RECIPE,
        "pairs": {
            "marked": {"source": "rows", "path": str(file), "holdout": 6},
            "made": {**RECIPE["pairs"]["made"], "ches": {"keep": 0.25}},
        },
        "trainings": {
            "kto": {"loss": "kto", "pairs": "marked", **TRAINING, "eval_every": 2},
            "few": {"loss": "dpo", "pairs": "made", **TRAINING},
        },
        "evaluations": {},
    }
    result = smaug_eval.run(recipe, runs=tmp_path / "runs")
    stats = json.loads((result.path / "pairs/marked/stats.json").read_text())
    assert (stats["train"], stats["eval"], stats["formats"]) == (18, 6, {"unpaired": 24})
    assert stats["notes"] == ["unpaired rows: 12 completions are desirable and 12 undesirable"]
    assert stats["characters"]["edit_distance"] is None
    built = json.loads((result.path / "pairs/marked/train.jsonl").read_text().splitlines()[0])
    assert built.keys() == {"prompt", "completion", "label"}
    assert row_at(result.path, "kto", "eval", 0)["loss"] == pytest.approx(0.5, abs=1e-6)
    assert "kl" in row_at(result.path, "kto", "eval", 2)
    few = json.loads((result.path / "train/few/summary.json").read_text())
    assert (few["pairs"], few["dropped"]) == (4, {"high_ches": 12})
    page = (result.path / "report.html").read_text()
    assert page.count("kto") > 5
    assert "kto moved the desirable held-out completions by" in page
    assert "kto: trained on single completions with labels" in page
    lines = (result.path / "train/kto/held_out.jsonl").read_text().splitlines()
    assert len(lines) == 6
    manifest = json.loads((result.path / "manifest.json").read_text())
    said = "4 of 16 training pairs are kept: those with the lowest length-normalised CHES"
    assert any(said in str(warning) for warning in manifest["warnings"])
    assert said in page
