"""What an adapter and the model cards call the base: as the user did, never by a place in a cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from peft import PeftConfig

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.models.checkpoint import locate
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.saving import model_card

Run = Callable[..., TrainingResult]
Sums = Callable[..., list[dict[str, str]]]
COMMIT = "a" * 40
SMALL = {"steps": 1, "batch_size": 2, "gradient_cosine_pairs": 0, "lora": {"r": 2}}


@pytest.fixture
def hub(model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the Hub that holds ``acme/tiny``."""
    cache = tmp_path / "cache"
    snapshot = cache / "models--acme--tiny" / "snapshots" / COMMIT
    shutil.copytree(model_path, snapshot)
    (cache / "models--acme--tiny" / "refs").mkdir()
    (cache / "models--acme--tiny" / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


@pytest.fixture
def pairs(tmp_path: Path, sums: Sums) -> Path:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in sums(4)))
    return file


@pytest.mark.slow
def test_an_adapter_of_a_model_of_the_hub_names_it_and_its_commit(hub: Path, pairs: Path, tmp_path: Path) -> None:
    holdout = {"holdout": 0}
    result = smaug_eval.train("acme/tiny", pairs, loss="dpo", runs=tmp_path, pair_settings=holdout, **SMALL)
    folder = result.path / "train/dpo"
    settings = PeftConfig.from_pretrained(folder / "adapter")
    assert (settings.base_model_name_or_path, settings.revision) == ("acme/tiny", COMMIT)
    for name in ("adapter", "checkpoint"):
        assert ModelCard.load(folder / name / "README.md").data.base_model == "acme/tiny"
    for file in [*(folder / "adapter").rglob("*"), *(folder / "checkpoint").rglob("*")]:
        assert str(tmp_path).encode() not in file.read_bytes(), file

    merged = smaug_eval.merge(folder / "adapter", tmp_path / "merged")  # finds the base by its name and commit
    assert ModelCard.load(merged / "README.md").data.base_model == "acme/tiny"
    (folder / "adapter/adapter_config.json").write_text(
        (folder / "adapter/adapter_config.json").read_text().replace(COMMIT, "b" * 40)
    )
    with pytest.raises(SmaugError, match="the base that the adapter names cannot be used") as caught:
        smaug_eval.merge(folder / "adapter", tmp_path / "other")
    assert str(caught.value.fix).startswith("name it with base")


@pytest.mark.slow
def test_an_adapter_of_a_linked_folder_names_the_link(
    model_path: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine").symlink_to(model_path)
    result = smaug_eval.train("models/mine", pairs, loss="dpo", runs="runs", pair_settings={"holdout": 0}, **SMALL)
    settings = json.loads((result.path / "train/dpo/adapter/adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("models/mine", None)
    card = ModelCard.load(result.path / "train/dpo/checkpoint/README.md")
    assert card.data.base_model is None  # on the Hub the name would be another model's
    assert "| base model | mine, SHA-256" in card.text
    smaug_eval.merge(result.path / "train/dpo/adapter", tmp_path / "merged")
    said = _refused(str(result.path / "train/dpo/adapter"))
    assert "is a PEFT adapter of models/mine, not a model" in said
    assert f"smaug-eval merge {result.path}/train/dpo/adapter --out {result.path}/train/dpo/adapter-merged" in said
    assert f"or give {result.path}/train/dpo/checkpoint, which holds it merged" in said


def test_a_training_by_itself_names_the_folder_it_read(run: Run, tmp_path: Path, model_path: Path) -> None:
    run(config={"steps": 1, "lora": {"r": 2}})
    settings = json.loads((tmp_path / "run/adapter/adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == (str(model_path), None)


def test_a_card_without_a_base_on_the_hub_has_no_key_for_it() -> None:
    assert "base_model" not in model_card("x", "y", {})
    assert ModelCard(model_card("x", "y", {}, base_model="org/7")).data.base_model == "org/7"


def _refused(name: str) -> str:
    with pytest.raises(SmaugError) as caught:
        locate(name)
    return str(caught.value)


@pytest.mark.parametrize("weights", ["adapter_model.safetensors", "adapter_model.bin", None])
@pytest.mark.parametrize(
    ("settings", "base", "more"),
    [
        ('{"base_model_name_or_path": "org/base"}', "org/base", ""),
        ('{"base_model_name_or_path": null}', "a base that it does not name", " --base BASE"),
        ("{", "a base that it does not name", " --base BASE"),
    ],
)
def test_an_adapter_given_as_a_model_is_called_one(
    tmp_path: Path, weights: str | None, settings: str, base: str, more: str
) -> None:
    folder = tmp_path / "an adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(settings)
    for name in (weights, "tokenizer.json", "training_args.bin"):
        if name:
            (folder / name).write_bytes(b"")
    said = _refused(str(folder))
    assert f"is a PEFT adapter of {base}, not a model" in said
    assert f"merge it first: smaug-eval merge '{folder}' --out '{folder}-merged'{more}" in said


def test_an_adapter_on_the_hub_is_called_one(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = hub / "models--acme--adapter"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (snapshot / "adapter_config.json").write_text('{"base_model_name_or_path": "acme/tiny"}')
    (snapshot / "adapter_model.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    said = _refused("acme/adapter")
    assert "model 'acme/adapter' is a PEFT adapter of acme/tiny, not a model" in said
    assert "merge it first: smaug-eval merge acme/adapter --out adapter-merged" in said


def test_a_model_beside_an_adapter_is_not_taken_for_either(model_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    shutil.copytree(model_path, folder)
    (folder / "adapter_config.json").write_text("{}")
    assert "holds an adapter (adapter_config.json) beside whole weights" in _refused(str(folder))
