"""What the task YAMLs call: a suite's documents as an lm-eval data set."""

from __future__ import annotations

from pathlib import Path

import datasets

from smaug_eval.data import data_root_from_environment
from smaug_eval.leaderboard.suite import Suite

SPLIT = "test"


def document_set(suite: Suite, task_name: str, data_root: str | Path | None = None) -> dict[str, datasets.Dataset]:
    """The documents of a leaf task, in protocol order, as the only split of a data set.

    Args:
        suite: The suite the task belongs to.
        task_name: The task's name in lm-eval.
        data_root: An offline mirror; where None, ``SMAUG_DATA_ROOT`` names it or the Hub is read.

    Raises:
        SmaugError: the task is unknown, or its data are missing or do not fit.
    """
    root = data_root_from_environment() if data_root is None else Path(data_root)
    return {SPLIT: datasets.Dataset.from_list(suite.documents(task_name, root))}
