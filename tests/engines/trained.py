"""A training of two steps, whose checkpoint engines load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smaug_eval.common.embedded import embedded_path
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.spec import TrainingSpec
from smaug_eval.trainers.train import train


def train_two_steps(folder: Path, **settings: Any) -> Path:
    """Train the embedded model on eight pairs; returns the folder of the checkpoint, and of the adapter if any."""
    rows = [{"prompt": f"{n} + 1 =", "chosen": f" {n + 1}", "rejected": f" {n + 2}"} for n in range(8)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"loss": "dpo", "steps": 2, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 0, **settings}
    spec = TrainingSpec(
        config=TrainingConfig.model_validate(config),
        name="two-steps",
        model_path=embedded_path("demo-model"),
        dtype="float32",
        train_file=folder / "train.jsonl",
        out_dir=folder / "out",
        seed=0,
        model_sha256="demo",
    )
    train(spec, should_stop=lambda: False)
    return folder / "out"
