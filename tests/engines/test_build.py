"""Devices that are not there: refused before anything runs, not taken for another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.build import build_engine, check_device, check_engine_args
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.models.checkpoint import locate

MISSING = f"cuda:{torch.cuda.device_count()}"
RECIPE: dict[str, Any] = {
    "name": "devices",
    "model": "embedded:demo-model",
    "evaluations": {"demo": {"suite": "demo", "tasks": ["facts"], "limit": 1, "engine": "torch"}},
    "mt_bench": {"talk": {"questions": "demo", "chat_template": "plain", "engine": "torch"}},
}


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_device_that_is_there_is_taken(device: str | None) -> None:
    check_device(device)


@pytest.mark.parametrize(
    ("device", "message"),
    [("gpu9", "device 'gpu9': torch knows none"), (MISSING, f"'{MISSING}': torch sees"), ("", "device ''")],
)
def test_another_device_is_refused(device: str, message: str) -> None:
    with pytest.raises(SmaugError, match=message):
        check_device(device)


def test_an_engine_does_not_take_another_device() -> None:
    model = locate("embedded:demo-model").path
    with pytest.raises(SmaugError, match="gpu9"):
        build_engine(EngineSpec("torch", model, dtype="auto", batch_size=1, device="gpu9", engine_args={}))


@pytest.mark.parametrize(("section", "name"), [("evaluations", "demo"), ("mt_bench", "talk")])
def test_a_recipe_s_device_is_looked_for_before_anything_runs(tmp_path: Path, section: str, name: str) -> None:
    recipe = {**RECIPE, section: {name: {**RECIPE[section][name], "device": MISSING}}}
    with pytest.raises(SmaugError, match=f"{section}.{name}.device '{MISSING}'"):
        smaug_eval.run(recipe, runs=tmp_path)
    assert not list(tmp_path.rglob("stage.json"))


def test_what_an_engine_must_not_be_told_is_refused_before_anything_runs(tmp_path: Path) -> None:
    entry = {**RECIPE["evaluations"]["demo"], "engine_args": {"dtype": "float16"}}
    with pytest.raises(SmaugError, match=r"evaluations\.demo\.engine_args\.dtype is set by smaug-eval"):
        smaug_eval.run({**RECIPE, "evaluations": {"demo": entry}}, runs=tmp_path)
    assert not list(tmp_path.rglob("stage.json"))


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("pretrained", "model.path"),
        ("add_bos_token", "add_bos_token is a key of the evaluation"),
        ("dtype", "set model.dtype"),
        ("batch_size", "set batch_size of the evaluation"),
        ("peft", "model.adapter"),
        ("lora_local_path", "model.adapter"),
        ("delta", "give the whole model"),
        ("gguf_file", "safetensors"),
    ],
)
def test_what_to_do_instead_of_an_argument_that_is_settled(key: str, instead: str) -> None:
    with pytest.raises(SmaugError, match=rf"engine_args\.{key} is set by smaug-eval") as caught:
        check_engine_args({key: True})
    assert instead in str(caught.value.fix)


def test_a_contamination_check_looks_for_its_device_first(tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match="gpu9"):
        smaug_eval.check_contamination(
            "embedded:demo-model",
            reference="embedded:demo-model",
            suite="demo",
            tasks=["facts"],
            device="gpu9",
            runs=tmp_path,
        )
