"""A recipe's model may be an adapter: found by its name or beside its base, and part of its stages' keys."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import smaug_eval
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json, write_json
from smaug_eval.mt_bench.stage import answering
from smaug_eval.mt_bench.templates import load_template

DEMO = "embedded:demo-model"


def adapter(folder: Path, **settings: Any) -> Path:
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(embedded_path("demo-model")),
        LoraConfig(task_type="CAUSAL_LM", r=4, **({"target_modules": ["q_proj", "down_proj"]} | settings)),
    )
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder)
    return folder


def recipe(model: Any, **more: Any) -> dict[str, Any]:
    evaluation = {"suite": "demo", "tasks": ["facts"], "limit": 8, "engine": "torch", "device": "cpu"}
    return {"name": "e", "model": model, "evaluations": {"demo": evaluation | more}}


def test_an_adapter_is_scored_beside_its_base(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "mine")
    named = smaug_eval.prepare(recipe({"path": DEMO, "adapter": str(folder)}), runs=tmp_path)
    alone = smaug_eval.prepare(recipe(str(folder)), runs=tmp_path)
    plain = smaug_eval.prepare(recipe(DEMO), runs=tmp_path)
    keys = [
        [stage.key for stage in pipeline.stages if stage.name.startswith("eval")] for pipeline in (named, alone, plain)
    ]
    assert keys[0] == keys[1] != keys[2]
    done = smaug_eval.run(recipe(str(folder)), runs=tmp_path / "runs")
    manifest = read_json(done.path / "manifest.json")
    assert manifest["models"]["base"]["adapter"] == str(folder)
    (results,) = (done.path / "eval" / "base" / "demo" / "facts").glob("results_*.json")
    assert read_json(results)["config"]["model_args"]["peft"] == str(folder)


@pytest.mark.slow
def test_another_tokenizer_in_an_adapters_folder_has_everything_scored_anew(tmp_path: Path) -> None:
    """Its tokens, added tokens or chat template: each of them decides what the model reads."""
    folder, base = adapter(tmp_path / "mine"), embedded_path("demo-model")
    content = recipe({"path": DEMO, "adapter": str(folder)})

    def key() -> str:
        return str(smaug_eval.prepare(content, runs=tmp_path / "runs").stages[0].key)

    found = [key()]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, folder)
    assert key() == found[0]  # the base's own
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    found.append(key())
    (folder / "added_tokens.json").write_text("{}")
    found.append(key())
    tokens = json.loads((folder / "tokenizer.json").read_text())
    smaug_eval.run(content, runs=tmp_path / "runs")
    assert smaug_eval.run(content, runs=tmp_path / "runs").did == ()
    tokens["model"]["merges"] = tokens["model"]["merges"][:-50]
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    found.append(key())
    assert len(set(found)) == len(found)
    again = smaug_eval.run(content, runs=tmp_path / "runs")
    assert again.did == ("eval/base/demo/facts", "report")
    assert len(list((again.path / "journal").glob("*.jsonl"))) == 2  # nor is an answer of the other one taken


def test_what_needs_whole_weights_is_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "mine")
    plan = recipe({"path": DEMO, "adapter": str(folder)})
    plan["pairs"] = {"rows": {"source": "rows", "path": "embedded:demo-facts"}}
    plan["trainings"] = {"dpo": {"loss": "dpo"}}
    with pytest.raises(SmaugError, match="is loaded beside its base, and a full training takes whole weights"):
        smaug_eval.prepare(plan, runs=tmp_path)


def test_a_key_of_old_recipes_is_not_changed_by_the_new_one() -> None:
    from smaug_eval.common.settings import deciding_settings
    from smaug_eval.runs.recipe_entries import ModelSpec

    assert "adapter" not in deciding_settings(ModelSpec(path=DEMO))
    assert json.dumps(deciding_settings(ModelSpec(path=DEMO, adapter="a/b"))).count("a/b") == 1


def test_dialogues_take_the_chat_template_that_an_adapter_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the engines do; its base has none, so that it used to be refused."""
    folder = adapter(tmp_path / "mine")
    for file in embedded_path("demo-model").glob("tokenizer*"):
        shutil.copy(file, folder)
    template = "{% for each in messages %}<{{ each.role }}> {{ each.content }}\n{% endfor %}<assistant>"
    (folder / "chat_template.jinja").write_text(template)
    talk = {"questions": "demo", "limit": 1, "max_new_tokens": 4, "engine": "torch", "device": "cpu"}
    plan = {"name": "talk", "model": str(folder), "mt_bench": {"talk": talk}}
    made: list[Any] = []

    def load(*arguments: Any, **options: Any) -> Any:
        made.append(load_template(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(answering, "load_template", load)
    ready = smaug_eval.prepare(plan, runs=tmp_path / "runs")
    done = smaug_eval.run(plan, runs=tmp_path / "runs")
    assert len(made) >= 2  # the check before the run, and the answers
    assert {each.text(["Who?"], []) for each in made} == {"<user> Who?\n<assistant>"}
    assert len((done.path / "mt-bench/talk/model_answer/base/base.jsonl").read_text().splitlines()) == 1

    (folder / "chat_template.jinja").write_text(f"{template} ")
    again = smaug_eval.prepare(plan, runs=tmp_path / "runs")
    assert ready.stages[0].key != again.stages[0].key  # another template, other answers
    with pytest.raises(SmaugError, match="this model's tokenizer has no chat template"):
        smaug_eval.prepare({**plan, "model": DEMO}, runs=tmp_path)


def test_an_adapter_of_its_own_base_is_not_warned_of(tmp_path: Path) -> None:
    base = tmp_path / "a-base"
    shutil.copytree(embedded_path("demo-model"), base)
    folder = adapter(tmp_path / "mine")
    settings = read_json(folder / "adapter_config.json")
    write_json(folder / "adapter_config.json", {**settings, "base_model_name_or_path": str(base)})
    alone = smaug_eval.prepare(recipe(str(folder)), runs=tmp_path / "runs")
    beside = smaug_eval.prepare(recipe({"path": DEMO, "adapter": str(folder)}), runs=tmp_path / "runs")
    told = "names .*a-base as its base and is put beside embedded:demo-model"
    assert not alone._models.warnings()
    assert re.search(told, "".join(beside._models.warnings()))
