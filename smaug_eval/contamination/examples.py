"""Which documents of a task the contamination check looks at, and the text of each.

Source: ``src/run.py`` and ``src/eval.py`` of swj0419's detect-pretrain-code-contamination. A document is its question
and its right answer with a space between: of GSM8K the solution without the final ``####`` line, of TruthfulQA the best
answer. ARC's few rows whose answer is not called A, B, C or D are left out. Rows are shuffled by Python's generator
with seed 0, and the first are taken. From the same rows these are the tool's own examples.

The tool's released code has no HellaSwag or Winogrande; a proposed extension was not at hand. Those two are worded by
us: as the leaderboard shows a solved example.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard import forms
from smaug_eval.leaderboard.forms import Row
from smaug_eval.leaderboard.suite import Column, Suite

SEED = 0


@dataclass(frozen=True)
class Example:
    """One document.

    Attributes:
        row: Its index in the evaluated split, from 0.
        text: Question and right answer.
    """

    row: int
    text: str


def column_examples(suite: Suite, column: Column, data_root: Path | None, limit: int | None) -> list[Example]:
    """The first examples of a column in the tool's order.

    Args:
        suite: The suite of the column.
        column: Whose evaluated split to read; of MMLU all subjects together.
        data_root: Offline mirror; None for the Hub.
        limit: How many; all if None.

    Raises:
        SmaugError: the data are missing, or a row does not fit its form.
    """
    first = column.leaves[0]  # all leaves of a column share their splits
    rows = suite.read(first.evaluated, first.form.columns, data_root)
    examples = []
    for index, row in enumerate(rows):
        try:
            text = _TEXTS[first.form.name](row)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise SmaugError(
                f"{column.task}: row {index} of {first.evaluated} does not fit the form {first.form.name}: {error!r}",
                fix="use rows as the Hub has them",
            ) from error
        if text is not None:
            examples.append(Example(index, text))
    random.Random(SEED).shuffle(examples)
    return examples[:limit]


def _arc(row: Row) -> str | None:
    if row["answerKey"] not in forms.LETTERS:
        return None
    return f"{row['question']} {row['choices']['text'][forms.LETTERS.index(row['answerKey'])]}"


def _mmlu(row: Row) -> str:
    return f"{row['question']} {row['choices'][row['answer']]}"


def _truthfulqa(row: Row) -> str:
    choices = row["mc1_targets"]
    return f"{row['question']} {choices['choices'][list(choices['labels']).index(1)]}"


def _gsm8k(row: Row) -> str:
    return f"{row['question']} {row['answer'].split('####')[0].strip()}"


_TEXTS: dict[str, Callable[[Row], str | None]] = {
    forms.ARC.name: _arc,
    forms.HELLASWAG.name: forms.hellaswag_shot,
    forms.MMLU.name: _mmlu,
    forms.TRUTHFULQA.name: _truthfulqa,
    forms.WINOGRANDE.name: forms.winogrande_shot,
    forms.GSM8K.name: _gsm8k,
}
"""The text of a row, by the form it is shown in; None where the row is left out."""
