"""smaug-eval init: the recipes that it writes are accepted by a dry run, and fit the GPUs that they are for."""

from __future__ import annotations

import itertools
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.planning.commented import CommentedRecipe, Hint, _scalar
from smaug_eval.planning.estimate import plan_recipe
from smaug_eval.planning.machines import gpu_of_device, parse_machine
from smaug_eval.runs.recipe_file import load_recipe
from smaug_eval.runs.recipe_schema import recipe_schema

LOSSES = (["dpop"], ["dpo", "dpop"], ["simpo"], ["dpo + 0.2*sft"], ["SLiC", "orpo", "sigmoid"])
SUITES = (["demo"], [])
GPUS = (None, "T4", "H200x8")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "data" / "my pairs.jsonl"
    file.parent.mkdir()
    rows = [{"prompt": f"Question {n}?", "chosen": f" {n}", "rejected": f" {n + 1}"} for n in range(80)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def dry_run(recipe: Path) -> list[str]:
    """Names of the stages that ``run --dry-run`` prints."""
    return [stage.name for stage, _ in smaug_eval.prepare(recipe, runs=recipe.parent / "runs").states()]


@pytest.mark.parametrize(("losses", "suites"), itertools.product(LOSSES, SUITES))
def test_a_dry_run_accepts_what_is_written(losses: list[str], suites: list[str], rows: Path, tmp_path: Path) -> None:
    schema = Draft202012Validator(recipe_schema())
    for number, gpus in enumerate(GPUS):
        for pairs in (rows, "embedded:demo-facts", *([None] if suites else [])):
            out = tmp_path / "recipes" / f"r{number}.yaml"
            written = smaug_eval.init(
                "embedded:demo-model", pairs, out=out, losses=losses, suites=suites, gpus=gpus, force=True
            )
            stages = dry_run(written)
            assert sum(stage.startswith("train/") for stage in stages) == (0 if pairs is None else len(losses))
            assert {stage.split("/")[2] for stage in stages if stage.startswith("eval/")} == set(suites)
            raw = yaml.safe_load(written.read_text())
            assert schema.is_valid(raw)
            assert (written.parent / "recipe.schema.json").is_file()


@pytest.mark.parametrize("suites", [["open_llm_v1"], ["demo", "open_llm_v1"]], ids=str)
def test_a_dry_run_accepts_the_leaderboards_suite(suites: list[str], shared: Path, tmp_path: Path) -> None:
    where = {"out": tmp_path / "r.yaml", "data_root": shared / "data"}
    written = smaug_eval.init("embedded:demo-model", "embedded:demo-facts", suites=suites, gpus="T4", **where)
    assert {stage.split("/")[2] for stage in dry_run(written) if stage.startswith("eval/")} == set(suites)


def test_the_command_line_writes_it_and_replaces_it_only_when_told(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def smaug(*arguments: str) -> object:
        return CliRunner().invoke(app, arguments, catch_exceptions=True).exception

    given = ["--model", "embedded:demo-model", "--pairs", "data/my pairs.jsonl", "--suite", "demo", "--gpu", "none"]
    assert smaug("init", "mine.yaml", *given) is None
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe.pairs["pairs"].path == str(rows)
    assert recipe.trainings["dpop"].weights == {"beta": 0.3, "lambda": 50.0}
    before = (tmp_path / "mine.yaml").read_bytes()
    assert "mine.yaml exists already" in str(smaug("init", "mine.yaml", *given, "--loss", "dpo"))
    assert (tmp_path / "mine.yaml").read_bytes() == before
    assert smaug("init", "mine.yaml", *given, "--loss", "dpo", "--force") is None
    assert list(load_recipe(tmp_path / "mine.yaml").trainings) == ["dpo"]
    assert "--model" in str(smaug("init", "other.yaml"))  # off a terminal nothing is asked
    assert not (tmp_path / "other.yaml").exists()


def test_a_terminal_is_asked(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "smaug_eval", "init", "asked.yaml", "--suite", "demo"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, b"embedded:demo-model\nembedded:demo-arithmetic\ndpo, dpop\nnone\n")
        shown = b""
        while process.poll() is None or b"next:" not in shown:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    assert b"Model (folder or Hub id)" in shown
    assert b"Suites" not in shown  # it was given
    recipe = load_recipe(tmp_path / "asked.yaml")
    assert list(recipe.trainings) == ["dpo", "dpop"]
    assert recipe.pairs["pairs"].source == "metamath"
    assert recipe.model.dtype == "float32"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"losses": "dpopp"}, "did you mean 'dpop'"),
        ({"suites": "dem"}, "did you mean 'demo'"),
        ({"suites": "lm_eval"}, "suite lm_eval and tasks belong together"),
        ({"tasks": "piqa"}, "suite lm_eval and tasks belong together"),
        ({"gpus": "H2000"}, "no such GPU"),
        ({"pairs": "none.jsonl"}, "there is no none.jsonl"),
        ({"model": "./nowhere"}, "there is no ./nowhere"),
        ({"source": "rws"}, "did you mean 'rows'"),
        ({"pairs": None, "suites": []}, "there is nothing to do"),
        ({"out": "mine.json"}, "a recipe is a YAML file"),
    ],
)
def test_what_no_recipe_can_be_made_of(
    arguments: dict[str, object], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given: dict[str, object] = {"model": "embedded:demo-model", "pairs": "embedded:demo-facts", **arguments}
    with pytest.raises(SmaugError) as caught:
        smaug_eval.init(**given)
    assert expected in str(caught.value)
    assert not list(tmp_path.glob("*.yaml"))


def test_a_weight_whose_default_is_contested_is_to_be_chosen(tmp_path: Path) -> None:
    out = smaug_eval.init("embedded:demo-model", "embedded:demo-facts", losses="dpo + dpop", out=tmp_path / "a.yaml")
    assert "Choose: all terms use this one, and their defaults are 0.1 of dpo, 0.3 of dpop." in out.read_text()


def test_a_foreign_schema_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "recipe.schema.json").write_text("{}")
    with pytest.raises(SmaugError, match=r"recipe\.schema\.json exists already"):
        smaug_eval.init("embedded:demo-model", out=tmp_path / "a.yaml", suites="demo")
    assert (tmp_path / "recipe.schema.json").read_text() == "{}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "gpus", "expected"),
    [
        ("mistralai/Mistral-7B-v0.1", "L4", {"quantize": None, "sharded": False}),
        ("mistralai/Mistral-7B-v0.1", "H100x8", {"lora": None, "sharded": True}),
        ("moreh/MoMo-72B-lora-1.8.7-DPO", "H100x8", {"quantize": None, "sharded": True}),
    ],
)
def test_what_is_chosen_for_gpus_fits_by_the_plan(
    model: str, gpus: str, expected: dict[str, object], tmp_path: Path
) -> None:
    out = smaug_eval.init(model, "embedded:demo-arithmetic", out=tmp_path / "fit.yaml", gpus=gpus)
    recipe = load_recipe(out)
    training = recipe.trainings["dpop"]
    plan = plan_recipe(recipe, [parse_machine(gpus)])
    assert [stage.name for stage in plan.machines[0].stages if not stage.fits] == []
    processes = parse_machine(gpus).count
    assert training.batch_size * training.gradient_accumulation * processes == 32 or training.gradient_accumulation == 1
    if "lora" in expected:
        assert training.lora is None
    else:
        assert training.lora is not None
        assert training.lora.quantize is None
    sharded = training.launch is not None and training.launch.config is not None
    assert sharded is expected["sharded"]
    assert (tmp_path / "accelerate/fsdp2.yaml").is_file() is sharded


@pytest.mark.parametrize(
    ("device", "gigabytes", "kind"),
    [
        ("NVIDIA A100-SXM4-80GB", 85, "A100-80"),
        ("NVIDIA A100-PCIE-40GB", 42, "A100-40"),
        ("NVIDIA H100 80GB HBM3", 85, "H100-80"),
        ("NVIDIA H100 NVL", 94, "H100-NVL"),
        ("NVIDIA RTX 6000 Ada Generation", 51, "RTX-6000-Ada"),
        ("Tesla V100-SXM2-32GB", 34, "V100-32"),
        ("NVIDIA A10G", 24, "A10"),
        ("NVIDIA GeForce GTX 1080", 8, None),
    ],
)
def test_a_gpu_is_known_by_its_drivers_name(device: str, gigabytes: int, kind: str | None) -> None:
    found = gpu_of_device(device, gigabytes * 1e9)
    assert (None if found is None else found.name) == kind


@given(st.one_of(st.text(), st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.booleans(), st.none()))
def test_a_value_is_read_as_it_was_written(value: object) -> None:
    assert yaml.safe_load(f"key: {_scalar(value)}\n") == {"key": value}
    assert yaml.safe_load(f"{{key: {_scalar(value)}, other: 1}}") == {"key": value, "other": 1}


def test_a_hint_is_a_comment() -> None:
    text = CommentedRecipe().text({"model": {"path": "org/m"}, "data_root": Hint("here")})
    assert yaml.safe_load(text) == {"model": {"path": "org/m"}}
    assert "# data_root: here  # Offline mirror" in text


def test_the_embedded_rows_are_made_into_pairs(tmp_path: Path) -> None:
    assert embedded_path("demo-facts").is_file()
    out = smaug_eval.init("embedded:demo-model", "embedded:demo-facts", out=tmp_path / "a.yaml", suites=[])
    assert load_recipe(out).pairs["pairs"].source == "arc"
