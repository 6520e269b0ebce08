"""Give the task YAMLs what they call: a suite's documents as an lm-eval data set."""

from __future__ import annotations

from pathlib import Path

import datasets

from smaug_eval.common.hub import data_root_from_environment
from smaug_eval.leaderboard.suite import Suite

SPLIT, SHOTS = "test", "shots"


def document_set(suite: Suite, task_name: str, data_root: str | Path | None = None) -> dict[str, datasets.Dataset]:
    """Build the documents of a leaf task, in protocol order, as the only split of a data set.

    Args:
        suite: The suite the task belongs to.
        task_name: The task's name in lm-eval.
        data_root: An offline mirror; where None, ``SMAUG_DATA_ROOT`` names it or the Hub is read.

    Raises:
        SmaugError: the task is unknown, or its data are missing or do not fit.
    """
    root = data_root_from_environment() if data_root is None else Path(data_root)
    return {SPLIT: datasets.Dataset.from_list(suite.documents(task_name, root))}


def conversation_set(suite: Suite, task_name: str, data_root: str | Path | None = None) -> dict[str, datasets.Dataset]:
    """Return the documents of a leaf task and its shots apart from each other, for lm-eval to put together.

    lm-eval can then put them into a model's chat template, in one message or in several.

    Args:
        suite: As of :func:`document_set`, like the others.
        task_name: As there; a task that does not draw its shots.
        data_root: As there.

    Returns:
        ``test``, each with the text before the shots as ``description``; and ``shots``, where there are any.

    Raises:
        SmaugError: as there.
    """
    root = data_root_from_environment() if data_root is None else Path(data_root)
    spec = suite.task(task_name)
    shots = [spec.form.document(row, "") for row in suite.rows(spec, root)[0][: spec.num_fewshot]]
    found = {SPLIT: suite.documents(task_name, root), **({SHOTS: shots} if shots else {})}
    return {
        split: datasets.Dataset.from_list(
            [
                {"description": spec.header, **{key: value for key, value in each.items() if key != "ctx"}}
                for each in own
            ]
        )
        for split, own in found.items()
    }
