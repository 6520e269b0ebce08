"""The whole way on the embedded model, cut small: what is done, skipped, redone, and continued after a stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.models.checkpoint import locate
from smaug_eval.runs.pipeline import RunResult

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

LIMIT = 3
TRAINING = {"steps": 4, "batch_size": 4, "learning_rate": 1e-4, "eval_every": 2, "max_length": 384}
RECIPE: dict[str, Any] = {
    "name": "small",
    "model": {"path": "embedded:demo-model", "dtype": "float32"},
    "pairs": {
        "made": {
            "source": "metamath",
            "path": "embedded:demo-arithmetic",
            "limit": 24,
            "holdout": 4,
            "shots": [0, 1],
        }
    },
    "trainings": {"dpo": {"loss": "dpo", **TRAINING}, "dpop": {"loss": "dpop", **TRAINING}},
    "evaluations": {"demo": {"suite": "demo", "tasks": ["arithmetic", "facts"], "limit": LIMIT, "engine": "hf"}},
}
EVALUATIONS = [f"eval/{model}/demo/{task}" for model in ("base", "dpo", "dpop") for task in ("facts", "arithmetic")]
STAGES = ["pairs/made", "leaks/made", "train/dpo", "train/dpop", *EVALUATIONS, "report"]


def changed(**trainings: dict[str, Any]) -> dict[str, Any]:
    return {
        **RECIPE,
        "trainings": {name: {**old, **trainings.get(name, {})} for name, old in RECIPE["trainings"].items()},
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def result(runs: Path) -> RunResult:
    return smaug_eval.run(RECIPE, runs=runs)


def weights(run: Path, training: str) -> dict[str, torch.Tensor]:
    return load_file(run / "train" / training / "checkpoint" / "model.safetensors")


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def metrics(run: Path) -> dict[str, dict[str, float]]:
    """Every evaluation's numbers, without the times lm-eval writes beside them."""
    found = {}
    for file in sorted(run.glob("eval/*/*/*/results_*.json")):
        found[file.parent.relative_to(run).as_posix()] = json.loads(file.read_text())["results"]
    return found


def test_every_stage_is_done_in_order(result: RunResult) -> None:
    assert list(result.did) == STAGES
    assert result.report.is_file()


def test_pairs_differ_in_one_place_only(result: RunResult) -> None:
    rows = [json.loads(line) for line in (result.path / "pairs/made/train.jsonl").read_text().splitlines()]
    assert len(rows) == 24
    for row in rows:
        chosen, rejected = row["chosen"].split(), row["rejected"].split()
        assert len(chosen) == len(rejected)
        assert sum(a != b for a, b in zip(chosen, rejected, strict=True)) == 1


def test_trainings_start_at_ln_2_and_leave_a_checkpoint_that_loads(result: RunResult) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for name in ("dpo", "dpop"):
        rows = [json.loads(line) for line in (result.path / "train" / name / "log.jsonl").read_text().splitlines()]
        first = next(row for row in rows if row["split"] == "eval" and row["step"] == 0)
        assert first["loss"] == pytest.approx(0.6931472, abs=1e-4)
        assert {row["step"] for row in rows if row["split"] == "eval"} == {0, 2, 4}
        checkpoint = result.path / "train" / name / "checkpoint"
        AutoModelForCausalLM.from_pretrained(checkpoint)
        assert AutoTokenizer.from_pretrained(checkpoint)("1 + 1")["input_ids"]
        assert not same_weights(
            weights(result.path, name), load_file(locate("embedded:demo-model").path / "model.safetensors")
        )


def test_lm_evals_own_files_are_there(result: RunResult) -> None:
    for stage in EVALUATIONS:
        (results,) = (result.path / stage).glob("results_*.json")
        written = json.loads(results.read_text())
        (task,) = written["results"]
        assert written["n-samples"][task]["effective"] == LIMIT
        (samples,) = (result.path / stage).glob(f"samples_{task}_*.jsonl")
        assert len(samples.read_text().splitlines()) == LIMIT


def test_scores_frame_holds_what_lm_eval_wrote(result: RunResult) -> None:
    frame = smaug_eval.scores([result.path])
    row = frame[(frame["model"] == "dpop") & (frame["column"] == "Facts")].iloc[0]
    entry = metrics(result.path)["eval/dpop/demo/facts"]["demo_facts"]
    assert row["score"] == pytest.approx(100 * entry["acc_norm,none"])
    assert row["stderr"] == pytest.approx(100 * entry["acc_norm_stderr,none"])
    assert row["n"] == LIMIT


def test_the_manifest_says_where_the_numbers_come_from(result: RunResult) -> None:
    manifest = json.loads((result.path / "manifest.json").read_text())
    assert manifest["models"]["base"]["sha256"] == locate("embedded:demo-model").sha256
    assert manifest["models"]["dpop"]["sha256"] == locate(str(result.path / "train/dpop/checkpoint")).sha256
    assert manifest["packages"]["torch"] == torch.__version__
    assert manifest["seeds"] == {"recipe": 42, "pairs": {"made": 42}, "trainings": {"dpo": 42, "dpop": 42}}
    assert manifest["recipe"]["trainings"]["dpop"]["lambda"] == 50
    assert [stage["name"] for stage in manifest["stages"]] == STAGES
    assert {stage["status"] for stage in manifest["stages"]} == {"done"}
    assert manifest["hardware"]["cores"] == os.cpu_count()


def test_the_report_names_models_and_scores(result: RunResult) -> None:
    page = result.report.read_text()
    frame = smaug_eval.scores([result.path])
    average = frame[(frame["model"] == "base") & (frame["metric"] == "mean")].iloc[0]
    assert f"{average['score']:.1f}" in page
    for text in ("dpo", "dpop", "Facts", "Arithmetic"):
        assert text in page


def test_a_second_run_does_nothing(result: RunResult, runs: Path) -> None:
    again = smaug_eval.run(RECIPE, runs=runs)
    assert again.did == ()
    assert list(again.skipped) == STAGES


def test_a_missing_result_is_made_again_and_nothing_else(result: RunResult, runs: Path) -> None:
    before = metrics(result.path)
    next((result.path / "eval/dpo/demo/facts").glob("results_*.json")).unlink()
    again = smaug_eval.run(RECIPE, runs=runs)
    assert again.did == ("eval/dpo/demo/facts",)
    assert metrics(result.path) == before


def test_a_changed_training_redoes_what_depends_on_it(result: RunResult, runs: Path) -> None:
    recipe = changed(dpop={"beta": 0.1})
    states = {stage.name: state for stage, state in smaug_eval.prepare(recipe, runs=runs).states()}
    redo = [name for name in STAGES if name == "report" or "/dpop" in name]
    assert [name for name, state in states.items() if state.status == "changed"] == redo
    assert states["train/dpop"].reason == "training.beta 0.3 -> 0.1"
    before = weights(result.path, "dpop")
    again = smaug_eval.run(recipe, runs=runs)
    assert list(again.did) == redo
    (kept,) = (result.path / "superseded").glob("train__dpop-*")
    assert same_weights(load_file(kept / "checkpoint/model.safetensors"), before)
    assert not same_weights(weights(result.path, "dpop"), before)


def test_what_is_missing_is_said_before_work_starts(tmp_path: Path) -> None:
    wrong = {**RECIPE, "evaluations": {"v1": {"suite": "open_llm_v1", "tasks": ["gsm8k"]}}, "data_root": str(tmp_path)}
    with pytest.raises(SmaugError, match="does not hold openai/gsm8k"):
        smaug_eval.run(wrong, runs=tmp_path)
    assert not (tmp_path / "small").exists()


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    recipe = {**RECIPE, "name": "stopped", "trainings": {"dpop": {**RECIPE["trainings"]["dpop"], "steps": 12}}}
    recipe["evaluations"] = {"demo": {**RECIPE["evaluations"]["demo"], "tasks": ["facts"]}}
    (tmp_path / "stopped.yaml").write_text(yaml.safe_dump(recipe))
    return [sys.executable, "-m", "smaug_eval", "run", str(tmp_path / "stopped.yaml"), "--runs-dir"]


def start_and_stop(command: list[str], run: Path) -> subprocess.CompletedProcess[str]:
    """Start a run and press Ctrl-C once the third training step is logged."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    log = run / "train/dpop/log.jsonl"
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if log.is_file() and '"step": 3' in log.read_text():
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.02)
    out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_a_stopped_training_continues_to_the_same_result(command: list[str], tmp_path: Path, runs: Path) -> None:
    """After Ctrl-C; SIGTERM is in test_faults.py, SIGKILL in benchmarks/chaos.py."""
    stopped = start_and_stop([*command, str(tmp_path)], tmp_path / "stopped")
    assert not (tmp_path / "stopped/train/dpop/checkpoint/model.safetensors").is_file()
    assert stopped.returncode == 3, stopped.stderr
    assert "continue with: smaug-eval run" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    smaug_eval.run(tmp_path / "stopped.yaml", runs=tmp_path)
    smaug_eval.run(tmp_path / "stopped.yaml", runs=runs)
    assert same_weights(weights(tmp_path / "stopped", "dpop"), weights(runs / "stopped", "dpop"))
    assert metrics(tmp_path / "stopped") == metrics(runs / "stopped")
    log = (tmp_path / "stopped/train/dpop/log.jsonl").read_text()
    steps = [row["step"] for row in map(json.loads, log.splitlines()) if row["split"] == "train"]
    assert steps == list(range(1, 13))
