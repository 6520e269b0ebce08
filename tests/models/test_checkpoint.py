"""Finding a model: what counts as a checkpoint, and what a wrong name is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save, save_file

from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.models.checkpoint import Checkpoint, bos_warning, locate
from tests.hub.fixtures import HubHere


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


def test_an_adapter_is_to_be_merged(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "adapter_model.safetensors")
    (checkpoint / "adapter_config.json").write_text("{}")
    text = refused(checkpoint)  # some adapters have a config.json beside them, most have not
    (checkpoint / "config.json").unlink()
    assert refused(checkpoint) == text
    assert "is a PEFT adapter of a base that it does not name, not a model" in text
    assert f"smaug-eval merge {checkpoint} --out {checkpoint}-merged --base BASE" in text


def test_an_adapter_beside_whole_weights_is_refused(checkpoint: Path) -> None:
    (checkpoint / "adapter_config.json").write_text("{}")
    assert "holds an adapter (adapter_config.json) beside whole weights" in refused(checkpoint)


def test_a_file_of_llama_cpp_is_named(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    for given in (checkpoint, checkpoint / "model-Q4_K_M.gguf"):
        assert "GGUF files (model-Q4_K_M.gguf), quantised for llama.cpp, which are not loaded here" in refused(given)


@pytest.mark.parametrize(
    ("kind", "warned"), [("gemma", True), ("gemma2", True), ("gemma3_text", True), ("llama", False)]
)
def test_a_model_that_needs_a_bos_token_is_warned_of(checkpoint: Path, kind: str, warned: bool) -> None:
    (checkpoint / "config.json").write_text(json.dumps({"model_type": kind}))
    assert ("lower by tens of points" in bos_warning(locate(str(checkpoint)))) is warned


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


NAME = "org/model"


def weights(value: float) -> dict[str, str | bytes]:
    """A whole checkpoint with one weight."""
    import numpy as np

    return {
        "config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}),
        "tokenizer.json": "{}",
        "model.safetensors": save({"weight": np.full(300, value, dtype=np.float32)}),
        "README.md": "not part of it",
    }


def value(found: Checkpoint) -> float:
    return float(load_file(found.path / "model.safetensors")["weight"][0])


def test_a_model_of_the_hub_is_its_commit(hub_here: HubHere) -> None:
    repository = hub_here.hub.add_model(NAME, weights(1))
    repository.tag("v1")
    first, second = repository.branches["main"], hub_here.hub.commit(NAME, weights(2))
    asked = {"v1": 1.0, first: 1.0, first[:8]: 1.0, "main": 2.0, None: 2.0, second: 2.0}
    for _ in range(2):  # online, then offline
        for revision, wanted in asked.items():
            found = locate(NAME, revision=revision)
            assert (value(found), found.revision) == (wanted, {1.0: first, 2.0: second}[wanted])
        hub_here.offline()
    assert not (found.path / "README.md").exists()


def test_offline_another_commit_is_not_taken(hub_here: HubHere) -> None:
    repository = hub_here.hub.add_model(NAME, weights(1))
    first, second = repository.branches["main"], hub_here.hub.commit(NAME, weights(2))
    locate(NAME)
    hub_here.offline()
    assert f"commit {first} is not in the local Hub cache (which has {second})" in refused(NAME, revision=first)
    assert "which commit v1 is, is not in the local Hub cache" in refused(NAME, revision="v1")


def test_where_the_hub_does_not_answer_the_last_commit_of_a_branch_is_taken_and_said(
    hub_here: HubHere, caplog: pytest.LogCaptureFixture
) -> None:
    repository = hub_here.hub.add_model(NAME, weights(1))
    first = repository.branches["main"]
    locate(NAME)
    assert caplog.text == ""
    hub_here.hub.commit(NAME, weights(2))
    hub_here.hub.plan_fault("GET /api/models", "status", times=None, code=503)
    assert locate(NAME).revision == first
    fallback = f"continuing with the commit that main had when it last did: {first}"
    assert f"the Hub does not answer (HTTP 503); {fallback}" in caplog.text


@pytest.mark.parametrize("code", [429, 500])
def test_a_hub_out_of_order_is_said(hub_here: HubHere, code: int) -> None:
    hub_here.hub.add_model(NAME, weights(1))
    hub_here.hub.plan_fault("GET /api/models", "status", times=None, code=code)
    assert f"HTTP {code}" in refused(NAME)
    hub_here.hub.clear_faults()
    hub_here.hub.plan_fault("GET .*/files/", "status", times=None, code=code)
    message = refused(NAME)
    assert f"HTTP {code}" in message
    assert "Signature" not in message


def test_who_may_not_read_a_model_is_told_so(hub_here: HubHere) -> None:
    hub = hub_here.hub
    ann, bob = hub.add_user("ann"), hub.add_user("bob")
    repository = hub.add_model(NAME, weights(1), gated=True, readers={"ann"})
    assert "is gated on the Hub" in refused(NAME)
    hub_here.token(bob)
    assert "is gated on the Hub" in refused(NAME)
    repository.gated, repository.private = False, True
    assert "no such model on the Hub" in refused(NAME)
    assert "no such model on the Hub" in refused("org/none")
    hub_here.token(ann)
    assert value(locate(NAME)) == 1.0
    assert "has no revision 'v9'" in refused(NAME, revision="v9")


@pytest.mark.parametrize("times", [1, None])
def test_weights_that_were_damaged_on_their_way_are_fetched_again_or_refused(
    hub_here: HubHere, times: int | None
) -> None:
    hub_here.hub.add_model(NAME, weights(1))
    fault = hub_here.hub.plan_fault("GET .*/files/", "corrupt", times=times)
    if times is None:
        assert "model.safetensors does not have the content that the Hub names it by" in refused(NAME)
        hub_here.hub.clear_faults()
    found = locate(NAME)
    assert fault.hits
    assert set(load_file(found.path / "model.safetensors")["weight"]) == {1.0}
