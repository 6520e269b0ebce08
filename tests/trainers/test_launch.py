"""Trainings in several processes: on the CPU with gloo, beside the same training in one process."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import smaug_eval
from smaug_eval.common.console import Reporter
from smaug_eval.common.embedded import recipes_folder
from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.runs.recipe_file import load_recipe
from smaug_eval.trainers.checkpoints import newest_checkpoint
from smaug_eval.trainers.config import LaunchConfig, TrainingConfig
from smaug_eval.trainers.launch import (
    process_number,
    refuse_foreign_launch,
    train_in_processes,
)
from smaug_eval.trainers.spec import TrainingSpec, read_spec
from smaug_eval.trainers.train import train
from smaug_eval.trainers.training_log import read_log

Sums = Callable[..., list[dict[str, str]]]
REPOSITORY = Path(__file__).resolve().parents[2]
TWO = LaunchConfig(processes=2)
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}


def never() -> bool:
    return False


@pytest.fixture
def spec(model_path: Path, tmp_path: Path, sums: Sums) -> Callable[..., TrainingSpec]:
    """A training of two processes: 4 pairs each make the 8 of a step."""

    def make(name: str, *, pairs: int = 32, **settings: Any) -> TrainingSpec:
        for part, count, seed in (("train", pairs, 0), ("eval", 6, 1)):
            rows = "".join(json.dumps(row) + "\n" for row in sums(count, seed))
            (tmp_path / f"{part}.jsonl").write_text(rows)
        config = {"loss": "dpo", "steps": 5, "batch_size": 4, "learning_rate": 1e-3, "eval_every": 2, **settings}
        return TrainingSpec(
            config=TrainingConfig.model_validate(config),
            name=name,
            model_path=model_path,
            dtype="float32",
            train_file=tmp_path / "train.jsonl",
            eval_file=tmp_path / "eval.jsonl",
            out_dir=tmp_path / name,
            seed=3,
            model_sha256="base",
        )

    return make


def launch(spec: TrainingSpec, *, should_stop: Callable[[], bool] = never) -> dict[str, Any]:
    return train_in_processes(spec, TWO, should_stop=should_stop, on_progress=lambda done, total, row: None)


def under_torchrun(spec: TrainingSpec, script: list[str], extra: dict[str, str]) -> subprocess.CompletedProcess[str]:
    spec.out_dir.mkdir(parents=True, exist_ok=True)
    file = spec.out_dir.with_suffix(".json")
    file.write_text(spec.model_dump_json(by_alias=True))
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *script, str(file)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **extra},
        capture_output=True,
        text=True,
        check=False,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint" / "model.safetensors")


def write_questions(file: Path, sums: Sums) -> None:
    """Eight questions of three pairs."""
    pairs = [{**row, "rejected": f"{row['rejected']}{more}"} for row in sums(8) for more in ("", "0", "1")]
    file.write_text("".join(json.dumps(row) + "\n" for row in pairs))


def rows(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(folder / "log.jsonl")]


def assert_same_training(one: Path, other: Path, tolerance: float) -> None:
    """The same numbers in the log (but for what only one process measures) and the same weights."""
    assert len(rows(one)) == len(rows(other)) > 5
    for row, expected in zip(rows(one), rows(other), strict=True):
        for name in row.keys() & expected.keys() - {"gradient_cosine"}:
            assert row[name] == pytest.approx(expected[name], abs=tolerance), (name, row["step"])
    expected_weights = weights(other)
    assert weights(one).keys() == expected_weights.keys()
    for name, weight in weights(one).items():
        torch.testing.assert_close(weight, expected_weights[name], atol=tolerance, rtol=0)


@pytest.mark.slow
@pytest.mark.xdist_group("launch")
def test_two_processes_train_like_one(spec: Callable[..., TrainingSpec], tmp_path: Path) -> None:
    """A LoRA training; benchmarks/gpu.py, in small, compares the losses of a full one."""
    lora = {"r": 4}
    summary = launch(spec("two", lora=lora))
    train(spec("one", gradient_accumulation=2, lora=lora), should_stop=never)
    assert_same_training(tmp_path / "two", tmp_path / "one", 1e-5)
    assert summary == json.loads((tmp_path / "two" / "summary.json").read_text())
    assert (summary["processes"], summary["pairs"], summary["steps"]) == (2, 32, 5)
    base = AutoModelForCausalLM.from_pretrained(spec("one").model_path)
    moved = [(weights(tmp_path / "two")[n] - w).abs().max() for n, w in base.named_parameters() if "q_proj" in n]
    assert max(moved) > 1e-3  # equal because both trained
    assert (tmp_path / "two" / "adapter").is_dir()
    assert not (tmp_path / "two" / "resume").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("launch")
@pytest.mark.parametrize(
    "settings",
    [{}, {"lora": {"r": 4}}, {"batching": "question", "batch_size": 6}],
    ids=["full", "lora", "questions"],
)
def test_sharded_weights_train_like_whole_ones(
    spec: Callable[..., TrainingSpec], tmp_path: Path, sums: Sums, settings: dict[str, Any]
) -> None:
    """FSDP2 over two processes; the reference is scored by the sharded model."""
    made = {"two": spec("two", **settings), "one": spec("one", **settings, gradient_accumulation=2)}
    if "batching" in settings:
        write_questions(tmp_path / "train.jsonl", sums)
    script = [str(Path(__file__).with_name("fsdp_on_cpu.py"))]
    done = under_torchrun(made["two"], script, FSDP)
    assert done.returncode == 0, done.stderr[-3000:]
    train(made["one"], should_stop=never)
    assert_same_training(tmp_path / "two", tmp_path / "one", 1e-5)
    AutoModelForCausalLM.from_pretrained(tmp_path / "two" / "checkpoint")


@pytest.mark.slow
@pytest.mark.xdist_group("launch")
def test_two_processes_stop_together_and_go_on_as_if_they_had_not(
    spec: Callable[..., TrainingSpec], tmp_path: Path
) -> None:
    settings = {"steps": 60, "save_every": None, "eval_every": None}
    launch(spec("whole", **settings))
    parts = spec("parts", **settings)
    seen: list[tuple[int, int]] = []
    with pytest.raises(Interrupted, match="training parts stopped after step"):
        train_in_processes(
            parts,
            TWO,
            should_stop=lambda: any(row["step"] >= 2 for row in read_log(tmp_path / "parts" / "log.jsonl")),
            on_progress=lambda done, total, row: seen.append((done, total)),
        )
    assert 2 <= max(row["step"] for row in rows(tmp_path / "parts")) < 60
    assert all(done <= total for done, total in seen)
    assert newest_checkpoint(tmp_path / "parts" / "resume") is not None
    with pytest.raises(SmaugError, match="begun with 2 processes and cannot continue with 1"):
        train(parts, should_stop=never)
    launch(parts)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    one, other = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


@pytest.mark.slow
@pytest.mark.xdist_group("launch")
def test_questions_stay_in_a_process_and_are_drawn_alike_after_a_stop(
    spec: Callable[..., TrainingSpec], tmp_path: Path, sums: Sums
) -> None:
    """Eight questions of three pairs, 2 x 6 a step: two steps an epoch. Stopped later than in the first epoch."""
    settings = {"batching": "question", "batch_size": 6, "steps": 20, "eval_every": None, "save_every": None}
    made = {"two": spec("two", **settings), "one": spec("one", **settings, gradient_accumulation=2)}
    write_questions(tmp_path / "train.jsonl", sums)
    with pytest.raises(Interrupted, match="training two stopped after step"):
        train_in_processes(
            made["two"],
            TWO,
            should_stop=lambda: any(row["step"] >= 3 for row in read_log(tmp_path / "two" / "log.jsonl")),
            on_progress=lambda done, total, row: None,
        )
    assert 3 <= max(row["step"] for row in rows(tmp_path / "two")) < 20
    launch(made["two"])
    notes: list[str] = []
    train(made["one"], should_stop=never, on_note=notes.append)
    assert "batches of questions: 8 of up to 3 pairs, 8 of several" in notes
    assert_same_training(tmp_path / "two", tmp_path / "one", 1e-5)


@pytest.mark.slow
@pytest.mark.xdist_group("launch")
def test_an_error_is_one_message(spec: Callable[..., TrainingSpec], tmp_path: Path) -> None:
    wrong = spec("wrong", max_length=2)
    with pytest.raises(SmaugError, match="no pair is left to train on"):
        launch(wrong)
    printed = (tmp_path / "wrong" / "launch" / "output.log").read_text()
    assert printed.count("no pair is left to train on") == 1


@pytest.mark.slow
@pytest.mark.xdist_group("launch")
def test_a_crash_shows_the_last_lines(spec: Callable[..., TrainingSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "smaug_eval.trainers.launch._command", lambda launch, file: [sys.executable, "-c", "raise OSError('gone')"]
    )
    with pytest.raises(SmaugError, match="OSError: gone") as caught:
        launch(spec("crash"))
    assert "output.log" in str(caught.value.fix)


@pytest.mark.slow
@pytest.mark.xdist_group("launch")
def test_a_signal_stops_one_process_with_a_checkpoint(spec: Callable[..., TrainingSpec], tmp_path: Path) -> None:
    asked = spec("alone", steps=5000, eval_every=None)
    (tmp_path / "alone.json").write_text(asked.model_dump_json(by_alias=True))
    command = [sys.executable, "-m", "smaug_eval.trainers", str(tmp_path / "alone.json")]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 300
        while len(read_log(tmp_path / "alone" / "log.jsonl")) < 3 and time.monotonic() < deadline:
            time.sleep(0.2)
        child.send_signal(signal.SIGTERM)
        _, printed = child.communicate(timeout=300)
    assert child.returncode == 3, printed
    assert "stopped after step" in printed
    assert newest_checkpoint(tmp_path / "alone" / "resume") is not None


@pytest.mark.slow
@pytest.mark.xdist_group("launch")
def test_a_recipe_trains_in_processes_and_counts_pairs_as_often_as_they_are_seen(
    spec: Callable[..., TrainingSpec], tmp_path: Path
) -> None:
    """10 pairs, 2 x 4 a step: accelerate fills the second step up with pairs from the epoch's beginning.

    The mean loss before the first update is ln 2 only if the divisor is the number of pairs that were summed.
    """
    made = spec("unused", pairs=14)
    # The first step's learning rate is 0.
    training = {
        "loss": "dpo",
        "steps": 2,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "warmup_steps": 1,
        "eval_every": None,
    }
    recipe: dict[str, Any] = {
        "name": "group",
        "model": {"path": str(made.model_path), "dtype": "float32"},
        "pairs": {"made": {"source": "rows", "path": str(made.train_file), "holdout": 4}},
        "trainings": {"dpo": {**training, "launch": {"processes": 2}}},
    }
    result = smaug_eval.run(recipe, runs=tmp_path / "runs")
    assert "train/dpo" in result.did
    assert json.loads((result.path / "train/dpo/summary.json").read_text())["processes"] == 2
    train_rows = [row for row in rows(result.path / "train/dpo") if row["split"] == "train"]
    assert [row["epoch"] for row in train_rows] == [0.5, 1.0]
    assert [row["loss"] for row in train_rows] == pytest.approx([0.6931472] * 2, abs=1e-6)
    assert train_rows[1]["grad_norm"] > 0.1
    card = (result.path / "train/dpo/checkpoint/README.md").read_text()
    assert str(tmp_path) not in card
    recipe["trainings"]["dpo"]["launch"] = {"processes": 1}  # half the pairs a step: another training
    states = {stage.name: state.status for stage, state in smaug_eval.prepare(recipe, runs=tmp_path / "runs").states()}
    assert states["train/dpo"] == "changed"


@pytest.mark.slow
@pytest.mark.xdist_group("launch")
def test_a_file_that_asks_for_two_processes_and_starts_one_is_told(
    spec: Callable[..., TrainingSpec], tmp_path: Path, page: Callable[..., Any]
) -> None:
    """What ``accelerate config`` writes for several processes on CPUs, without mpirun."""
    made = spec("unused")
    asked = {"distributed_type": "MULTI_CPU", "num_processes": 2, "num_machines": 1, "use_cpu": True}
    (tmp_path / "cpus.yaml").write_text(yaml.safe_dump({**asked, "mixed_precision": "no"}))
    recipe = {
        "name": "alone",
        "model": {"path": str(made.model_path), "dtype": "float32"},
        "pairs": {"made": {"source": "rows", "path": str(made.train_file), "holdout": 0}},
        "trainings": {
            "dpo": {"loss": "dpo", "steps": 1, "batch_size": 4, "launch": str(tmp_path / "cpus.yaml"), "lora": {"r": 2}}
        },
    }
    printed = io.StringIO()
    reporter = Reporter(Console(file=printed, width=1000))
    result = smaug_eval.run(recipe, runs=tmp_path / "runs", reporter=reporter)
    summary = json.loads((result.path / "train/dpo/summary.json").read_text())
    assert (summary["processes"], summary["processes_asked"]) == (1, 2)
    said = "dpo: launch asks for 2 processes, but 1 trained together: a step took 4 pairs, not 8"
    lines = printed.getvalue().splitlines()
    assert len([line for line in lines if said in line]) == 1  # at the start, and not again at the end
    assert [line for line in lines if line.startswith("LoRA adapts ")]
    shown = page(result.path).text
    assert said in shown
    assert "processes 1 of 2 asked for" in shown


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2", "RANK": "1"}, "one of 2 processes (WORLD_SIZE=2, RANK=1)"),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, "one of 4 processes (OMPI_COMM_WORLD_SIZE=4"),
        ({"PMI_SIZE": "3"}, "one of 3 processes (PMI_SIZE=3)"),
    ],
)
def test_the_command_under_a_launcher_says_how_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "p.jsonl").write_text('{"prompt": "1", "chosen": "2", "rejected": "3"}\n')
    starts: list[Callable[[], object]] = [
        lambda: smaug_eval.train("embedded:demo-model", tmp_path / "p.jsonl", runs=tmp_path / "runs"),
        lambda: smaug_eval.evaluate("embedded:demo-model", suite="demo", runs=tmp_path / "runs"),
        lambda: smaug_eval.diagnose("embedded:demo-model", tmp_path / "p.jsonl"),
    ]
    for start in starts:
        with pytest.raises(SmaugError, match=re.escape(said)) as caught:
            start()
        assert "start it plainly, once: a training takes launch.processes=" in str(caught.value.fix)
    assert not (tmp_path / "runs").exists()  # before any lock


def test_a_launcher_of_one_process_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("PMI_SIZE", "x")
    refuse_foreign_launch()


def test_one_process_needs_no_launcher(spec: Callable[..., TrainingSpec], tmp_path: Path) -> None:
    made = spec("one", steps=1)
    (tmp_path / "one.json").write_text(made.model_dump_json(by_alias=True))
    assert read_spec(tmp_path / "one.json") == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "x"}, "seed"),
        ({"colour": 1}, "colour"),
        ({"config": {"loss": "dpo", "lambda": 5}}, "lambda has no meaning"),
    ],
)
def test_a_wrong_specification_names_the_key(
    spec: Callable[..., TrainingSpec], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    raw = json.loads(spec("one").model_dump_json(by_alias=True))
    (tmp_path / "spec.json").write_text(json.dumps(raw | change))
    with pytest.raises(SmaugError, match=message):
        read_spec(tmp_path / "spec.json")


def test_launch_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = {
        "model": "embedded:demo-model",
        "pairs": {"made": {"source": "metamath", "path": "embedded:demo-arithmetic"}},
        "trainings": {
            "one": {"loss": "dpo", "launch": "group.yaml"},
            "two": {"loss": "dpo", "launch": {"config": "sub/group.yaml", "processes": 4}},
        },
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(recipe))
    read = load_recipe(tmp_path / "study.yaml")
    assert read.trainings["one"].launch == LaunchConfig(config=str(tmp_path / "group.yaml"))
    assert read.trainings["two"].launch == LaunchConfig(config=str(tmp_path / "sub" / "group.yaml"), processes=4)
    with pytest.raises(SmaugError, match=r"trainings\.one\.launch: launch configuration .*group\.yaml: No such file"):
        smaug_eval.prepare(tmp_path / "study.yaml", runs=tmp_path / "runs")
    (tmp_path / "group.yaml").write_text("num_processes: 2\n")
    with pytest.raises(SmaugError, match="has no distributed_type"):
        smaug_eval.prepare(tmp_path / "study.yaml", runs=tmp_path / "runs")
    with pytest.raises(SmaugError, match="give processes, or config"):
        smaug_eval.prepare({**recipe, "name": "n", "trainings": {"one": {"loss": "dpo", "launch": {}}}})


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero3"])
def test_committed_configurations_are_accelerates(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    file = recipes_folder() / "accelerate" / f"{name}.yaml"
    settings = load_config_from_file(str(file))
    assert settings.num_processes == process_number(LaunchConfig(config=str(file))) == 8
    assert settings.mixed_precision == "bf16"
    assert process_number(LaunchConfig(config=str(file), processes=4)) == 4


def test_the_fsdp_configuration_is_version_2(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    environment = launch_environment("fsdp2", launch_command_parser, prepare_multi_gpu_env)
    for key, value in environment.items():
        if key.startswith(("FSDP_", "ACCELERATE_USE_FSDP")):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.cpu_ram_efficient_loading is False
    assert environment["ACCELERATE_USE_FSDP"] == "true"


def test_the_zero_configuration_gathers_what_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("deepspeed", reason="needs smaug-eval[deepspeed]")
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils import DeepSpeedPlugin
    from accelerate.utils.launch import prepare_deepspeed_cmd_env

    environment = launch_environment("zero3", launch_command_parser, lambda args: prepare_deepspeed_cmd_env(args)[1])
    for key, value in environment.items():
        if key.startswith("ACCELERATE_DEEPSPEED"):
            monkeypatch.setenv(key, value)
    plugin = DeepSpeedPlugin()
    assert plugin.zero_stage == 3
    assert plugin.deepspeed_config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True


def launch_environment(name: str, make_parser: Callable[[], Any], prepare: Callable[[Any], Any]) -> dict[str, str]:
    """What ``accelerate launch`` tells its processes under a committed configuration."""
    from accelerate.commands.launch import _validate_launch_command

    file = str(recipes_folder() / "accelerate" / f"{name}.yaml")
    args = make_parser().parse_args(["--config_file", file, "-m", "smaug_eval.trainers", "spec.json"])
    args, _, _ = _validate_launch_command(args)
    return {key: str(value) for key, value in prepare(args).items()}
