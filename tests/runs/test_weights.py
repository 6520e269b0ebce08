"""A run whose base cannot be used stops before it begins; one whose merge lost much evaluates the adapter."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import smaug_eval
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json, write_json
from smaug_eval.engines.build import build_engine
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.models.checkpoint import Checkpoint
from smaug_eval.mt_bench.config import MtBenchConfig
from smaug_eval.runs.jobs import AnswersJob, EvaluationJob
from smaug_eval.runs.pipeline import Pipeline, RunResult
from smaug_eval.runs.recipe_file import parse_recipe

ROWS = [{"prompt": f"{n} + 1 =", "chosen": f" {n + 1}", "rejected": f" {n + 2}"} for n in range(16)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    shutil.copytree(embedded_path("demo-model"), folder)
    return folder


def recipe(base: Path | str, folder: Path, **more: Any) -> dict[str, Any]:
    pairs = folder / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    training = {"loss": "dpo", "steps": 2, "batch_size": 4, "learning_rate": 5e-6, "warmup_steps": 0}
    return {
        "name": "weights",
        "model": {"path": str(base), "dtype": "bfloat16"},
        "pairs": {"rows": {"source": "rows", "path": str(pairs), "holdout": 4}},
        "trainings": {"lora": training | {"lora": {"r": 4}, "eval_every": None, "gradient_cosine_pairs": 0}},
        "evaluations": {"demo": {"suite": "demo", "tasks": ["facts"], "limit": 2, "engine": "torch"}},
        "mt_bench": {"talk": {"questions": "demo", "chat_template": "plain", "max_new_tokens": 4, "engine": "torch"}},
    } | more


def test_missing_weights_stop_a_run_before_it_begins(base: Path, tmp_path: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layers.1.mlp" not in name}
    save_file(kept, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(SmaugError, match=r"3 of \d+ tensors are missing"):
        smaug_eval.run(recipe(base, tmp_path), runs=tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("stage.json"))


@pytest.mark.parametrize(
    ("lora", "message"),
    [(None, "which a full training cannot change"), ({"r": 4}, "a LoRA training takes plain ones")],
)
def test_a_quantised_base_stops_a_run_before_its_data_are_looked_for(
    base: Path, tmp_path: Path, lora: dict[str, int] | None, message: str
) -> None:
    settings = read_json(base / "config.json")
    write_json(base / "config.json", settings | {"quantization_config": {"quant_method": "gptq", "bits": 4}})
    plan = recipe(base, tmp_path, evaluations={}, mt_bench={})
    plan["pairs"]["rows"] |= {"path": str(tmp_path / "not-there.jsonl")}
    plan["trainings"]["lora"]["lora"] = lora
    with pytest.raises(SmaugError, match=rf"holds 4-bit GPTQ weights.*{message}"):
        smaug_eval.prepare(plan, runs=tmp_path / "runs")


@pytest.mark.parametrize("engine", ["torch", "hf"])
def test_a_quantised_base_stops_an_evaluation_that_cannot_load_it(base: Path, tmp_path: Path, engine: str) -> None:
    settings = read_json(base / "config.json")
    write_json(base / "config.json", settings | {"quantization_config": {"quant_method": "none-known", "bits": 4}})
    evaluation = {"suite": "demo", "tasks": ["facts"], "engine": engine}
    with pytest.raises(SmaugError, match=f"none-known weights, which engine {engine} cannot load here"):
        smaug_eval.prepare({"name": "e", "model": str(base), "evaluations": {"demo": evaluation}}, runs=tmp_path)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("unmerged")
    return smaug_eval.run(recipe("embedded:demo-model", folder), runs=folder / "runs")


def stage(run: RunResult, name: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(run.path / name / "stage.json")["summary"]
    return found


@pytest.mark.slow
def test_where_rounding_took_much_the_adapter_is_evaluated(done: RunResult) -> None:
    training = stage(done, "train/lora")
    assert training["evaluated"] == "adapter"
    assert training["rounding"]["lost"] > 0.1
    warning = f"lora: {training['rounding']['text']}; evaluations use the adapter beside its base"
    assert warning in read_json(done.path / "manifest.json")["warnings"]
    adapter = done.path / "train" / "lora" / "adapter"
    assert stage(done, "eval/lora/demo/facts")["adapter"] == str(adapter)
    assert "adapter" not in stage(done, "eval/base/demo/facts")
    (results,) = (done.path / "eval" / "lora" / "demo" / "facts").glob("results_*.json")
    assert read_json(results)["config"]["model_args"]["peft"] == str(adapter)
    # Oracle: base and adapter by transformers and PEFT; the merged checkpoint gives other numbers.
    (samples,) = (done.path / "eval" / "lora" / "demo" / "facts").glob("samples_*.jsonl")
    row = json.loads(samples.read_text().splitlines()[0])
    context, continuation = (row["arguments"]["gen_args_0"][f"arg_{n}"] for n in (0, 1))
    recorded = float(row["resps"][0][0][0])
    demo = embedded_path("demo-model")
    engine: Any = build_engine(EngineSpec("hf", demo, dtype="bfloat16", batch_size=1, device="cpu", engine_args={}))
    plain = AutoModelForCausalLM.from_pretrained(demo, dtype=torch.bfloat16)
    engine._model = PeftModel.from_pretrained(plain, adapter).eval()
    request = Instance("loglikelihood", {}, (context, continuation), 0)
    assert engine.loglikelihood([request], disable_tqdm=True)[0][0] == pytest.approx(recorded, abs=0.1)


@pytest.mark.slow
def test_the_answers_are_those_of_the_adapter(done: RunResult) -> None:
    answers = done.path / "mt-bench" / "talk" / "model_answer" / "lora"
    settings = read_json(next(file for file in answers.glob("*.json") if "settings" in file.name))
    base = read_json(done.path / "manifest.json")["models"]["base"]["sha256"]
    checkpoint = stage(done, "train/lora")["model"]["sha256"]
    assert settings["model_sha256"] not in (base, checkpoint)


@pytest.mark.slow
def test_a_run_that_was_finished_before_stays_finished(done: RunResult, tmp_path: Path) -> None:
    """Records of before know nothing of adapters, and no stage's key depends on them."""
    plan = parse_recipe(recipe("embedded:demo-model", done.path.parent.parent))
    for file in done.path.rglob("stage*.json"):
        record = read_json(file)
        for name in ("stored", "rounding", "evaluated", "adapter"):
            record.get("summary", {}).pop(name, None)
        file.write_text(json.dumps(record))
    from smaug_eval.common.console import Reporter, make_console

    pipeline = Pipeline(plan, done.path.parent, Reporter(make_console(), quiet=True))
    assert {state.status for _, state in pipeline.states()} == {"done"}


def test_an_engine_that_takes_no_adapter_evaluates_the_merge_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "lora"
    (folder / "adapter").mkdir(parents=True)
    (folder / "checkpoint").mkdir()
    settings = {"peft_type": "LORA", "r": 4, "target_modules": ["lm_head"]}
    write_json(folder / "adapter" / "adapter_config.json", settings)
    save_file({"a": torch.ones(1)}, folder / "adapter" / "adapter_model.safetensors")
    write_json(folder / "summary.json", {"evaluated": "adapter", "rounding": {"text": "rounding took 62%"}})
    job = EvaluationJob(
        suite="demo",
        task="demo_facts",
        limit=1,
        data_root=None,
        engine=EngineSpec("vllm", folder / "checkpoint", batch_size=1),
        journal=tmp_path / "journal",
        base=embedded_path("demo-model"),
    )
    told = ["lora: engine vllm cannot put this adapter beside its base and evaluates the merge: rounding took 62%"]
    assert job._weights() == (job.engine, told)
    torch_job = replace(job, engine=replace(job.engine, engine="torch"))
    beside = EngineSpec("torch", embedded_path("demo-model"), batch_size=1, adapter=folder / "adapter")
    assert torch_job._weights() == (beside, [])
    write_json(folder / "summary.json", {"evaluated": "checkpoint"})
    assert torch_job._weights() == (torch_job.engine, [])
    assert AnswersJob.__dataclass_fields__["base"].default is None


def test_an_adapter_beside_a_model_is_another_model_in_memory(tmp_path: Path) -> None:
    folder = embedded_path("demo-model")
    plain = Checkpoint("embedded:demo-model", folder, None, "ab")
    job = AnswersJob(
        MtBenchConfig(questions="demo"),
        seed=1,
        dtype="float32",
        name="base",
        checkpoint=plain,
        trust_remote_code=False,
    )
    assert job.model == f"dialogues auto {folder} float32 None []"  # as it was
    adapted = replace(job, checkpoint=replace(plain, adapter=tmp_path))
    assert adapted.model == f"{job.model} {tmp_path}"
