"""Define the functions that the YAML files of this folder name."""

from __future__ import annotations

from datasets import Dataset

from smaug_eval.leaderboard.benchmarks.gsm8k import metrics as gsm8k_metrics
from smaug_eval.leaderboard.benchmarks.truthfulqa import metrics as truthfulqa_metrics
from smaug_eval.leaderboard.harness import document_set
from smaug_eval.leaderboard.v1 import SUITE

__all__ = ["documents", "gsm8k_metrics", "truthfulqa_metrics"]


def documents(task_name: str, data_root: str | None = None, **_metadata: object) -> dict[str, Dataset]:
    """Return lm-eval's ``custom_dataset``: the documents of a task in protocol order.

    ``data_root`` comes from lm-eval's metadata, which holds the model's arguments too; those are ignored.
    """
    return document_set(SUITE, task_name, data_root)
