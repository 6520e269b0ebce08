"""Define the functions that the YAML files of this folder name."""

from __future__ import annotations

from datasets import Dataset

from smaug_eval.leaderboard.demo import demo_suite
from smaug_eval.leaderboard.harness import document_set


def documents(task_name: str, **_metadata: object) -> dict[str, Dataset]:
    """Return lm-eval's ``custom_dataset``: the documents of a task in protocol order, from the packaged data."""
    return document_set(demo_suite(), task_name)
