"""A training as a stage of a run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smaug_eval.engines.pool import EnginePool
from smaug_eval.runs import jobs
from smaug_eval.runs.jobs import TrainingJob, Workplace
from smaug_eval.trainers.config import LaunchConfig, TrainingConfig
from smaug_eval.trainers.spec import TrainingSpec


class Voice:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None: ...

    def update(self, done: int, total: int, note: str = "") -> None: ...


def test_warnings_bear_the_trainings_name(tmp_path: Path, model_path: Path) -> None:
    row = {"prompt": "x" * 300, "chosen": " 4", "rejected": " 5"}
    pairs = tmp_path / "long.jsonl"
    pairs.write_text(json.dumps(row) + "\n" + json.dumps(row | {"chosen": " 5"}) + "\n")
    config = TrainingConfig(loss="dpo", steps=1, batch_size=2, learning_rate=1e-4, eval_every=None)
    folder = tmp_path / "dpo-short"
    spec = TrainingSpec(
        config=config,
        name="dpo-short",
        model_path=model_path,
        dtype="float32",
        train_file=pairs,
        out_dir=folder,
        seed=1,
        model_sha256="0" * 64,
    )
    summary = TrainingJob(spec, None).perform(folder, Workplace(EnginePool(), Voice(), lambda: False))
    assert summary["warnings"] == [
        "dpo-short: 1 of 1 training pairs were cut (prompts: 1, completions: 0; max_length is 1024, but the model's "
        "context holds 256 tokens)",
        "dpo-short: 1 of 2 training pairs were left out: 1 identical tokens",
    ]
    assert summary["model"]["source"] == str(folder / "checkpoint")


def test_a_far_rate_is_noted_once_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model_path: Path) -> None:
    def trained(spec: TrainingSpec, launch: LaunchConfig, **told: Any) -> dict[str, Any]:
        told["on_note"](spec.config.rate_note)
        told["on_note"]("keeps the weights of step 1")
        return {"warnings": []}

    monkeypatch.setattr(jobs, "train_in_processes", trained)
    monkeypatch.setattr(jobs, "locate", lambda *_, **__: SimpleNamespace(describe=dict))
    voice = Voice()
    place = Workplace(EnginePool(), voice, lambda: False)
    for loss, rate in (("dpo", 1e-4), ("dpop", 1e-4), ("dpop", 1e-3)):
        config = TrainingConfig(loss=loss, steps=1, learning_rate=rate)
        spec = TrainingSpec(
            config=config,
            name=loss,
            model_path=model_path,
            dtype="float32",
            train_file=tmp_path / "pairs.jsonl",
            out_dir=tmp_path / loss,
            seed=1,
            model_sha256="0" * 64,
        )
        TrainingJob(spec, LaunchConfig(processes=1)).perform(tmp_path / loss, place)
    first, kept, again, other, last = voice.said
    assert "learning_rate 0.0001 is 100 times" in first
    assert "learning_rate 0.001 is 1,000 times" in other
    assert {kept, again, last} == {"keeps the weights of step 1"}
    another = Workplace(EnginePool(), voice, lambda: False)
    TrainingJob(spec, LaunchConfig(processes=1)).perform(tmp_path / loss, another)
    assert voice.said[-2] == other
