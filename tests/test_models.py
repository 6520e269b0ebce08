"""Finding a model: what counts as a checkpoint, and what a wrong name is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from smaug_eval.embedded import embedded_path
from smaug_eval.errors import SmaugError
from smaug_eval.models import locate


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    import numpy as np

    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"weight": np.zeros(3, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def refused(name: str | Path, **options: str) -> str:
    with pytest.raises(SmaugError) as caught:
        locate(str(name), **options)
    return str(caught.value)


def test_a_local_checkpoint_is_described(checkpoint: Path) -> None:
    found = locate(str(checkpoint))
    assert found.path == checkpoint
    described = found.describe()
    assert described["architecture"] == "LlamaForCausalLM"
    assert described["weights_bytes"] == (checkpoint / "model.safetensors").stat().st_size


def test_the_hash_follows_weights_and_tokenizer_but_not_notes(checkpoint: Path) -> None:
    before = locate(str(checkpoint)).sha256
    (checkpoint / "README.md").write_text("a note")
    assert locate(str(checkpoint)).sha256 == before
    (checkpoint / "tokenizer.json").write_text('{"changed": true}')
    assert locate(str(checkpoint)).sha256 != before


def test_the_embedded_model_is_found() -> None:
    assert locate("embedded:demo-model").path == embedded_path("demo-model")
    assert "nothing is embedded under the name 'demo'" in refused("embedded:demo")


def test_missing_parts_are_named(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").rename(checkpoint / "kept")
    assert "has no tokenizer" in refused(checkpoint)
    (checkpoint / "kept").rename(checkpoint / "tokenizer.json")
    (checkpoint / "model.safetensors").unlink()
    assert "has no *.safetensors" in refused(checkpoint)
    (checkpoint / "pytorch_model.bin").write_bytes(b"pickle")
    assert "only pickled weights (pytorch_model.bin)" in refused(checkpoint)
    (checkpoint / "config.json").unlink()
    assert "has no config.json" in refused(checkpoint)


def test_a_missing_shard_is_named(checkpoint: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "missing weight files model-00002.safetensors" in refused(checkpoint)


def test_wrong_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such folder" in refused(tmp_path / "nowhere")
    assert "no such folder" in refused("just-a-word")
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refused(tmp_path / "file")


def test_a_revision_of_a_local_folder_is_refused(checkpoint: Path) -> None:
    assert "model.revision is 'main'" in refused(checkpoint, revision="main")


def test_the_hub_offline_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "HF_HUB_OFFLINE is set" in refused("organisation/model")
