"""A finished run to share: a baseline and a trained model with samples, and a checkpoint of two files of weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.run_writer import RunWriter

REVISION = "0123456789abcdef0123456789abcdef01234567"
CARD = """\
---
library_name: transformers
base_model: org/base
pipeline_tag: text-generation
tags: [dpop, preference-optimization, smaug-eval]
---
# dpop

A model trained on preference pairs with smaug-eval.
"""
SHOTS = {"dataset_path": "org/animals", "dataset_name": "main", "test_split": "test", "num_fewshot": 3}
VALUES = {"base": [1, 0] * 20, "dpop": [1, 1, 1, 0] * 10}
"""Of 40 documents 50% and 75%; on 10 of them dpop is right and base is wrong."""


def write_run(folder: Path, recipe: Mapping[str, Any] | None = None) -> Path:
    """Write it; its manifest and its checkpoint name folders of this machine."""
    run = RunWriter(folder)
    for model, values in VALUES.items():
        mean = sum(values) / len(values)
        samples = RunWriter.samples([float(each) for each in values], "acc")
        run.evaluation(model, {"animals": mean}, metric="acc", n=40, samples=samples, model_name=f"{folder}/{model}")
        (file,) = (folder / "eval" / model / "main" / "animals").glob("results_*.json")
        document = json.loads(file.read_text())
        document |= {"data_revisions": {"org/animals": REVISION}, "configs": {"animals": SHOTS}}
        document |= {"n-shot": {"animals": 3}, "higher_is_better": {"animals": {"acc": True}}}
        file.write_text(json.dumps(document))
    run.training("dpop", {"train": [(1, 0.0, 0.0), (2, 0.1, -0.1)]}, {"steps": 2, "loss": "dpop"})
    trained = folder / "train" / "dpop"
    checkpoint = trained / "checkpoint"
    checkpoint.mkdir()
    for number in (1, 2):
        values = torch.arange(400_000, dtype=torch.float32) + number
        save_file({f"weight{number}": values}, checkpoint / f"model-0000{number}-of-00002.safetensors")
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "llama", "_name_or_path": f"{folder}/base"}))
    (checkpoint / "README.md").write_text(CARD)
    (trained / "finished.json").write_text("{}")
    models = {
        "base": {"source": "org/base@main", "path": f"{folder}/base", "revision": REVISION},
        "dpop": {"source": str(checkpoint), "path": str(checkpoint), "sha256": "ab" * 32, "dtype": "float32"},
    }
    default = {
        "pairs": {"p": {"source": "rows", "path": "org/pairs"}, "q": {"source": "rows", "path": f"{folder}/q.jsonl"}},
        "trainings": {"dpop": {"loss": "dpop", "pairs": "p"}},
        "report": {"baseline": "base"},
    }
    run.manifest(models=models, recipe=recipe or default, command=f"smaug-eval run --runs-dir {folder.parent}")
    return folder
