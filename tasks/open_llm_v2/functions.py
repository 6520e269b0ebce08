"""Define the functions that the YAML files of this folder name."""

from __future__ import annotations

from datasets import Dataset

from smaug_eval.leaderboard.benchmarks.ifeval import instruction_accuracy
from smaug_eval.leaderboard.benchmarks.ifeval import metrics as ifeval_metrics
from smaug_eval.leaderboard.benchmarks.math_hard import metrics as math_metrics
from smaug_eval.leaderboard.harness import conversation_set
from smaug_eval.leaderboard.v2 import SUITE

__all__ = ["documents", "ifeval_metrics", "instruction_accuracy", "math_metrics"]


def documents(task_name: str, data_root: str | None = None, **_metadata: object) -> dict[str, Dataset]:
    """Return lm-eval's ``custom_dataset``: the documents of a task in order, and its shots.

    ``data_root`` comes from lm-eval's metadata, which holds the model's arguments too; those are ignored.
    """
    return conversation_set(SUITE, task_name, data_root)
