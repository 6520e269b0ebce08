"""Select the documents of a task that the contamination check reads, and the text of each.

Source: ``src/run.py`` and ``src/eval.py`` of swj0419's detect-pretrain-code-contamination. A document is its question
and its right answer with a space between: of GSM8K the solution without the final ``####`` line, of TruthfulQA the best
answer. ARC's few rows whose answer is not called A, B, C or D are left out. Rows are shuffled by Python's generator
with seed 0, and the first are taken. From the same rows these are the tool's own examples.

The tool's released code has no HellaSwag or Winogrande; a proposed extension was not at hand. Those two are worded by
us: as the leaderboard shows a solved example.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.suite import Suite

SEED = 0


@dataclass(frozen=True)
class Example:
    """Hold one document.

    Attributes:
        row: Its index in the evaluated split, from 0.
        text: Question and right answer.
    """

    row: int
    text: str


def column_examples(suite: Suite, column: Column, data_root: Path | None, limit: int | None) -> list[Example]:
    """Return the first examples of a column in the tool's order.

    Args:
        suite: The suite of the column.
        column: Whose evaluated split to read; of MMLU all subjects together.
        data_root: Offline mirror; None for the Hub.
        limit: How many; all if None.

    Raises:
        SmaugError: the data are missing, or a row does not fit its form.
    """
    first = column.leaves[0]
    _, rows = suite.column_rows(column, data_root)
    examples = []
    for index, row in enumerate(rows):
        try:
            text = first.form.example(row)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise SmaugError(
                f"{column.task}: row {index} of {first.evaluated} does not fit the form {first.form.name}: {error!r}",
                fix="use rows as the Hub has them",
            ) from error
        if text is not None:
            examples.append(Example(index, text))
    random.Random(SEED).shuffle(examples)
    return examples[:limit]
