"""A training as a stage of a run."""

from __future__ import annotations

import json
from pathlib import Path

from smaug_eval.engines.pool import EnginePool
from smaug_eval.runs.jobs import TrainingJob, Workplace
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.spec import TrainingSpec


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
    assert summary["warnings"] == [
        "dpo-short: 1 of 1 training pairs were cut (prompts: 1, completions: 0; max_length is 1024, but the model's "
        "context holds 256 tokens)",
        "dpo-short: 1 of 2 training pairs were left out: 1 identical tokens",
    ]
    assert summary["model"]["source"] == str(folder / "checkpoint")
