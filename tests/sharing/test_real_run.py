"""A real run: a LoRA training with a W&B project, scored, sent to W&B, published, and used from the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, snapshot_download

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.runs.recipe_file import parse_recipe
from tests.hub.fixtures import HubHere

RECIPE: dict[str, Any] = {
    "name": "shared",
    "model": {"path": "embedded:demo-model", "dtype": "float32"},
    "pairs": {"pairs": {"source": "metamath", "path": "embedded:demo-arithmetic", "limit": 16, "holdout": 4}},
    "trainings": {
        "dpop": {
            "loss": "dpop",
            "steps": 2,
            "batch_size": 2,
            "max_length": 256,
            "eval_every": None,
            "gradient_cosine_pairs": 0,
            "lora": {"r": 4},
            "learning_rate": 1e-3,
            "wandb_project": "preferences",
        }
    },
    "evaluations": {"demo": {"suite": "demo", "tasks": ["facts"], "limit": 12, "engine": "torch"}},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The run, with W&B in its offline mode."""
    pytest.importorskip("wandb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        yield smaug_eval.run(parse_recipe(RECIPE), runs=tmp_path_factory.mktemp("runs")).path


def wandb_records(folder: Path) -> list[Any]:
    """The records of all offline runs of a training, with their files: W&B's messages in LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for message in _log_messages(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            found.append((file, record))
    return found


def _log_messages(data: bytes) -> Iterator[bytes]:
    """Messages in blocks of 32 KiB; a part has checksum, length and kind (1 whole, 2 first, 3 middle, 4 last)."""
    block, place, parts = 1 << 15, 7, b""  # after the file's own head
    while place + 7 <= len(data):
        if block - place % block < 7:
            place += block - place % block
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        part = data[place + 7 : place + 7 + length]
        place += 7 + length
        parts = part if kind in (1, 2) else parts + part
        if kind in (1, 4):
            yield parts


@pytest.mark.slow
def test_scores_and_report_are_in_the_trainings_own_wandb_run(finished: Path) -> None:
    training = finished / "train/dpop"
    records = wandb_records(training)
    runs = {record.run.run_id for _, record in records if record.HasField("run")}
    assert len(runs) == 1  # two offline folders, one run
    assert len({file for file, _ in records}) == 2
    summary = {}
    for _, record in records:
        for item in record.summary.update if record.HasField("summary") else ():
            summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    scored = smaug_eval.scores(finished)
    (own,) = scored[(scored["model"] == "dpop") & (scored["column"] == "Facts")]["score"]
    assert summary["eval/demo/Facts"] == pytest.approx(own)
    assert "against base" in summary["eval/demo/Facts/sentence"]
    (report,) = training.glob("wandb/offline-run-*/files/report.html")
    assert "Facts" in report.read_text()
    assert str(finished) not in report.read_text()
    assert smaug_eval.prepare(parse_recipe(RECIPE), runs=finished.parent).states()[-1][1].status == "done"
    assert all(
        state.status == "done" for _, state in smaug_eval.prepare(parse_recipe(RECIPE), runs=finished.parent).states()
    )


@pytest.mark.slow
def test_a_trained_adapter_and_its_merge_are_published_and_load(
    finished: Path, hub_here: HubHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from smaug_eval.common.embedded import embedded_path

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub_here.token(hub_here.hub.add_user("ann"))
    base = embedded_path("embedded:demo-model")
    with pytest.raises(SmaugError, match="by a folder of this machine"):
        smaug_eval.publish(finished, "dpop", "ann/adapter", weights="adapter")
    smaug_eval.publish(finished, "dpop", "ann/adapter", weights="adapter", base_model="ann/base")
    smaug_eval.publish(finished, "dpop", "ann/merged", weights="merged")
    texts = AutoTokenizer.from_pretrained(snapshot_download("ann/merged"))("2 + 3 =", return_tensors="pt")["input_ids"]
    merged = AutoModelForCausalLM.from_pretrained(snapshot_download("ann/merged"), dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(plain, snapshot_download("ann/adapter"))
    with torch.no_grad():
        torch.testing.assert_close(merged(texts).logits, adapted(texts).logits, atol=1e-4, rtol=1e-3)
    card = ModelCard.load("ann/merged")
    scored = smaug_eval.scores(finished)
    (own,) = scored[(scored["model"] == "dpop") & (scored["column"] == "Facts")]["score"]
    values = {each.dataset_name: each.metric_value for each in card.data.eval_results}
    assert values["Facts (10-shot)"] == pytest.approx(own)
    assert ModelCard.load("ann/adapter").data.library_name == "peft"


def test_results_that_cannot_be_sent_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smaug_eval.reports import build_report
    from smaug_eval.sharing.wandb_results import log_results
    from tests.sharing.shared_run import write_run

    run = write_run(tmp_path / "animals")
    build_report([run], run / "report.html")
    told: list[str] = []

    def refuse(project: str, folder: Path) -> Any:
        raise SmaugError(f"wandb_project {project!r}: no network")

    monkeypatch.setattr("smaug_eval.sharing.wandb_results.wandb_run", refuse)
    assert log_results(run, {"dpop": "preferences"}, warn=told.append) == []
    assert told == [
        "dpop: its results were not sent to W&B project 'preferences': wandb_project 'preferences': no network"
    ]
    assert log_results(run, {}, warn=told.append) == []
