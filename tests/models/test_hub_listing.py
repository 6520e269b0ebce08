"""Models on the Hub that cannot be used, told from their listing; adapters; ``plan`` and ``doctor`` against a Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from smaug_eval.checkup import examine
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.models.checkpoint import check_uses, locate, locate_adapter
from smaug_eval.models.quantised import Use
from smaug_eval.planning.shapes import model_shape
from smaug_eval.runs.recipe_file import parse_recipe
from tests.hub.fixtures import HubHere
from tests.hub.repositories import Content

CONFIG = (embedded_path("embedded:demo-model") / "config.json").read_text()
TOKENIZER = "{}"
WEIGHTS = save({"weight": np.ones(3, dtype=np.float32)})
ADAPTER: dict[str, Content] = {
    "adapter_config.json": json.dumps({"base_model_name_or_path": "org/base", "revision": "v1", "peft_type": "LORA"}),
    "adapter_model.safetensors": WEIGHTS,
}
BASE: dict[str, Content] = {"config.json": CONFIG, "tokenizer.json": TOKENIZER, "model.safetensors": WEIGHTS}
NO_BASE = json.dumps({"base_model_name_or_path": "/home/ann/models/base"})


def refused(call: Any) -> str:
    with pytest.raises(SmaugError) as caught:
        call()
    return str(caught.value)


UNUSABLE: dict[str, tuple[dict[str, Content], str]] = {
    "pickled": (
        {"config.json": CONFIG, "pytorch_model.bin": WEIGHTS},
        "hf download org/pickled --local-dir pickled && python -m smaug_eval.models.to_safetensors pickled",
    ),
    "gguf": ({"model-Q4_K_M.gguf": WEIGHTS}, "quantised for llama.cpp"),
    "fp16": (
        {"config.json": CONFIG, "model.fp16.safetensors": WEIGHTS, "tokenizer.json": TOKENIZER},
        "its weights are in model.fp16.safetensors, which transformers does not read",
    ),
    "bare": ({"config.json": CONFIG, "model.safetensors": WEIGHTS}, "has no tokenizer"),
    "below": ({"a/config.json": CONFIG, "a/model.safetensors": WEIGHTS}, "has no config.json, but some below a"),
    "half": (
        BASE
        | {
            "a.safetensors": WEIGHTS,
            "model.safetensors.index.json": json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}),
        },
        "missing weight files b.safetensors: its upload is not complete",
    ),
    "adapter": (
        {"adapter_config.json": NO_BASE, "adapter_model.safetensors": WEIGHTS},
        "merge it first: smaug-eval merge org/adapter --out adapter-merged",
    ),
    "pickled-adapter": (
        {**ADAPTER, "adapter_model.bin": WEIGHTS},
        "its weights are pickled (adapter_model.bin)",
    ),
}
del UNUSABLE["half"][0]["model.safetensors"]
del UNUSABLE["pickled-adapter"][0]["adapter_model.safetensors"]


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_is_told_before_weights_are_fetched(hub_here: HubHere, name: str) -> None:
    files, words = UNUSABLE[name]
    hub_here.hub.add_model(f"org/{name}", files)
    if name == "pickled-adapter":
        told = refused(lambda: locate_adapter(f"org/{name}"))
    else:
        told = refused(lambda: locate(f"org/{name}", uses=[Use.TORCH]))
    assert words in told
    assert not hub_here.hub.requests("GET /files")


@pytest.mark.parametrize("name", ["pickled", "gguf", "fp16"])
def test_a_check_before_the_data_sees_it_too(hub_here: HubHere, name: str) -> None:
    hub_here.hub.add_model(f"org/{name}", UNUSABLE[name][0])
    assert UNUSABLE[name][1] in refused(lambda: check_uses(f"org/{name}", [Use.SCORING]))


def test_one_set_of_weights_is_fetched_and_hashed(hub_here: HubHere) -> None:
    beside = [
        "consolidated.safetensors",
        "original/model.safetensors",
        "onnx/model.onnx",
        "checkpoint-9/model.safetensors",
    ]
    beside += ["model.fp16.safetensors", "pytorch_model.bin", "original/tokenizer.json"]
    hub_here.hub.add_model("org/base", BASE)
    hub_here.hub.add_model("org/fat", BASE | dict.fromkeys(beside, save({"other": np.zeros(9)})))
    plain, fat = locate("org/base"), locate("org/fat")
    assert {path.name for path in fat.path.rglob("*") if path.is_file()} == set(BASE)
    assert fat.sha256 == plain.sha256
    assert fat.describe()["weights_bytes"] == len(WEIGHTS)
    (fat.path / "consolidated.safetensors").write_bytes(WEIGHTS)  # as an earlier version fetched it
    hub_here.new_process()
    assert locate("org/fat").sha256 == plain.sha256


def test_an_adapter_stands_beside_the_base_that_it_names(hub_here: HubHere) -> None:
    base = hub_here.hub.add_model("org/base", BASE)
    base.tag("v1")
    hub_here.hub.commit("org/base", {"config.json": "{}"})
    adapter = hub_here.hub.add_model("org/adapter", ADAPTER)
    found = locate("org/adapter@main", uses=[Use.TORCH])
    assert found.path.name == base.tags["v1"]
    assert found.adapter is not None
    assert found.adapter.name == found.revision == adapter.branches["main"]
    assert (found.source, found.adapter.parts[-3]) == ("org/adapter", "models--org--adapter")
    told = refused(lambda: locate("org/adapter", uses=[Use.TRAINING]))
    assert "is a PEFT adapter of org/base, not a model" in told
    base.private = True
    hub_here.empty()
    told = refused(lambda: locate("org/adapter", uses=[Use.TORCH]))
    assert "its base cannot be used: model 'org/base'" in told


def write(folder: Path, files: dict[str, Content]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_an_adapter_of_this_machine_stands_beside_its_base_too(hub_here: HubHere, tmp_path: Path) -> None:
    base = hub_here.hub.add_model("org/base", BASE)
    base.tag("v1")
    folder = write(tmp_path / "adapter", ADAPTER)
    found = locate(str(folder), uses=[Use.TORCH, Use.VLLM])
    assert (found.path.name, found.adapter, found.source) == (base.tags["v1"], folder, str(folder))
    assert found.revision is found.hub_id is None
    assert found.sha256 == locate("org/base").with_adapter(folder).sha256 != locate("org/base").sha256
    local = write(tmp_path / "base", BASE)  # the folder that PEFT wrote, and a revision that has no meaning there
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(local), "revision": "v1", "peft_type": "LORA"})
    )
    assert locate(str(folder), uses=[Use.HF]).path == local
    for uses in ([], [Use.TRAINING], [Use.TORCH, Use.ADAPTER]):
        told = refused(lambda uses=uses: locate(str(folder), uses=uses))  # type: ignore[misc]
        assert f"is a PEFT adapter of {local}, not a model" in told
    (folder / "adapter_config.json").write_text(NO_BASE)
    assert "merge it first: smaug-eval merge" in refused(lambda: locate(str(folder), uses=[Use.TORCH]))


def test_an_adapter_of_an_adapter_is_refused(hub_here: HubHere, tmp_path: Path) -> None:
    """Only one of the two would be used, or of one that names itself none."""
    hub_here.hub.add_model("org/base", BASE).tag("v1")
    hub_here.hub.add_model("org/adapter", ADAPTER)
    of_another = json.dumps({"base_model_name_or_path": "org/adapter", "peft_type": "LORA"})
    hub_here.hub.add_model("org/second", ADAPTER | {"adapter_config.json": of_another})
    of_itself = json.dumps({"base_model_name_or_path": "org/itself", "peft_type": "LORA"})
    hub_here.hub.add_model("org/itself", ADAPTER | {"adapter_config.json": of_itself})
    folder = write(tmp_path / "third", ADAPTER | {"adapter_config.json": of_another})
    for name in ("org/second", str(folder)):
        told = refused(lambda name=name: locate(name, uses=[Use.TORCH]))  # type: ignore[misc]
        assert "its base cannot be used: model 'org/adapter' is a PEFT adapter of org/base, not a model" in told
        assert "merge it first: smaug-eval merge org/adapter" in told
    assert "is a PEFT adapter of org/itself" in refused(lambda: locate("org/itself", uses=[Use.TORCH]))


def test_a_name_may_hold_a_revision(hub_here: HubHere, tmp_path: Path) -> None:
    repository = hub_here.hub.add_model("org/base", BASE)
    first = repository.branches["main"]
    hub_here.hub.commit("org/base", {"README.md": "newer"})
    assert locate(f"org/base@{first}").revision == first
    assert locate("org/base@main").revision != first
    assert (locate(f"org/base@{first[:9]}").source, locate("org/base").hub_id) == ("org/base", "org/base")
    assert "names one revision, and 'v2' is given, too" in refused(lambda: locate("org/base@v1", revision="v2"))
    spec = parse_recipe({"name": "r", "model": "org/base@v1"}).model
    assert (spec.path, spec.revision) == ("org/base", "v1")
    (tmp_path / "org").mkdir()
    folder = write(tmp_path / "with@sign", BASE)
    assert locate(str(folder)).revision is None


def test_plan_says_why_there_is_no_configuration(hub_here: HubHere) -> None:
    hub = hub_here.hub
    good, gated = hub.add_model("org/base", BASE), hub.add_model("org/gated", BASE, gated=True)
    assert gated.commits
    hub.add_model("org/adapter", ADAPTER)
    assert "accept its licence" in refused(lambda: model_shape("org/gated"))
    assert "has no revision 'v9'" in refused(lambda: model_shape("org/base", "v9"))
    assert "'org/base' has no revision 'v1'" in refused(lambda: model_shape("org/adapter"))  # the base that it names
    assert "no such model on the Hub" in refused(lambda: model_shape("org/none"))
    for kind, code, words in (("status", 500, "HTTP 500"), ("portal", 0, "sign in to the network")):
        hub.plan_fault("GET /api/models", kind, times=None, code=code)  # type: ignore[arg-type]
        assert words in refused(lambda: model_shape("org/base"))
        hub.clear_faults()
    hub_here.offline()
    assert "HF_HUB_OFFLINE is set" in refused(lambda: model_shape("org/base"))
    hub_here.offline(False)
    hub.plan_fault("config.json", "reset", times=1)
    shape = model_shape(f"org/base@{good.branches['main'][:8]}")
    assert shape.note == "config.json of org/base on the Hub"
    assert not hub.requests("GET /files")


def findings(here: HubHere) -> str:
    here.new_process()
    return "\n".join(f"{found.topic}: {found.status}, {found.detail}; {found.fix}" for found in examine(here.home))


def test_doctor_asks_the_hub(hub_here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_here.home.mkdir()
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    token, url = hub_here.hub.add_user("ann"), hub_here.hub.url
    assert f"Hub: ok, {url} reachable, no proxy" in findings(hub_here)
    assert "Hub token: ok, none; gated and private repositories need HF_TOKEN" in findings(hub_here)
    hub_here.token(token)
    found = findings(hub_here)
    assert "Hub token: ok, valid, of user ann" in found
    assert f"Hub cache: {'ok' if 'Hub cache: ok' in found else 'limited'}, {hub_here.cache}, " in found
    assert "GiB free" in found
    assert "Xet: ok, hf_xet" in found
    assert token not in found
    hub_here.token("hf_" + "1" * 34)
    assert "Hub token: missing, refused: HTTP 401" in findings(hub_here)
    hub_here.hub.plan_fault("GET /api", "portal", times=None)
    assert "sign in to the network" in findings(hub_here)
    hub_here.hub.close()
    assert f"Hub: limited, {url} not reachable (ConnectError)" in findings(hub_here)
    monkeypatch.setenv("HTTP_PROXY", "http://ann:secret@127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "elsewhere")
    assert "through the proxy http://127.0.0.1:1" in (found := findings(hub_here))
    assert "secret" not in found
