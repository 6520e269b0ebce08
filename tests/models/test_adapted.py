"""An adapter is a model: found by its own name or beside a base, here or on the Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.models.adapted import base_warning, locate_model
from smaug_eval.models.checkpoint import locate
from smaug_eval.models.quantised import Use


def make_adapter(folder: Path, **settings: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4} | settings))
    save_file({"a": torch.ones(1)}, folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_stands_beside_the_base_that_it_names(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(embedded_path("demo-model"), base)
    adapter = make_adapter(tmp_path / "mine", base_model_name_or_path=str(base))
    found = locate_model(str(adapter), uses=[Use.TORCH])
    assert (found.source, found.path, found.adapter) == (str(adapter), base.resolve(), adapter.resolve())
    assert found.sha256 != locate(str(base)).sha256
    assert found == locate_model(str(adapter)) == locate(str(adapter), uses=[Use.TORCH])
    assert found.tokenizer == base.resolve()
    beside = locate_model(str(base), adapter=str(adapter), uses=[Use.VLLM])
    assert (beside.sha256, beside.source) == (found.sha256, str(base))
    assert beside.describe()["adapter"] == str(adapter.resolve())
    assert base_warning(beside) == base_warning(found) == ""


def test_another_base_than_the_named_one_is_told(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "mine", base_model_name_or_path="mistralai/Mistral-7B-v0.1")
    found = locate_model("embedded:demo-model", adapter=str(adapter))
    assert "names mistralai/Mistral-7B-v0.1 as its base and is put beside embedded:demo-model" in base_warning(found)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    nameless = make_adapter(tmp_path / "nameless")
    with pytest.raises(SmaugError, match="is a PEFT adapter of a base that it does not name") as told:
        locate_model(str(nameless))
    assert f"model: {{path: BASE, adapter: {nameless}}}" in str(told.value.fix)
    lost = make_adapter(tmp_path / "lost", base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(SmaugError, match=f"is a PEFT adapter of {tmp_path / 'gone'}") as told:
        locate_model(str(lost))
    assert f"model: {{path: BASE, adapter: {lost}}}" in str(told.value.fix)
    second = make_adapter(tmp_path / "second", base_model_name_or_path=str(nameless))
    with pytest.raises(SmaugError, match=r"its base cannot be used: model .* is a PEFT adapter of a base"):
        locate_model(str(second))
    with pytest.raises(SmaugError, match="is a PEFT adapter"):
        locate_model(str(second), adapter=str(nameless))
    with pytest.raises(SmaugError, match="is loaded beside its base, and a full training takes whole weights"):
        locate_model("embedded:demo-model", adapter=str(nameless), uses=[Use.TORCH, Use.TRAINING])
    with pytest.raises(SmaugError, match="is a PEFT adapter"):
        locate_model(str(nameless), uses=[Use.TRAINING])
    with pytest.raises(SmaugError, match="no such folder"):
        locate_model("embedded:demo-model", adapter=str(tmp_path / "none"))


def test_an_adapters_own_chat_template_is_the_models(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "mine", base_model_name_or_path="embedded:demo-model")
    for file in embedded_path("demo-model").glob("tokenizer*"):
        shutil.copy(file, adapter)
    assert locate_model(str(adapter)).tokenizer == embedded_path("demo-model")
    (adapter / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert locate_model(str(adapter)).tokenizer == adapter.resolve()
