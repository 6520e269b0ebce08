"""A training as a stage of a run."""

from __future__ import annotations

import json
from pathlib import Path

from smaug_eval.evaluation import EnginePool
from smaug_eval.jobs import TrainingJob, Workplace
from trainers.config import TrainingConfig
from trainers.launch import TrainingSpec


class Voice:
    def say(self, text: str) -> None: ...

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
    assert summary["warnings"] == ["dpo-short: pairs cut to the model's context of 256 tokens: 1 (max_length is 1024)"]
    assert summary["model"]["source"] == str(folder / "checkpoint")
