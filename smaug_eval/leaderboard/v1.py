"""Define the six benchmarks as the Open LLM Leaderboard v1 ran them.

Source: the leaderboard's About page, and lm-evaluation-harness at commit b281b0921b63; row counts as on the Hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smaug_eval.common.embedded import TASKS_FOLDER
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub import read_split
from smaug_eval.leaderboard.benchmarks import OPEN_LLM_V1, arc, gsm8k, hellaswag, mmlu, truthfulqa, winogrande
from smaug_eval.leaderboard.forms import Document, Row
from smaug_eval.leaderboard.protocol import DataSplit
from smaug_eval.leaderboard.suite import Suite

if TYPE_CHECKING:
    from datasets import Dataset

NAME = "open_llm_v1"

ARC, HELLASWAG, MMLU = arc.TASK, hellaswag.TASK, mmlu.TASKS
TRUTHFULQA, WINOGRANDE, GSM8K = truthfulqa.TASK, winogrande.TASK, gsm8k.TASK

TASKS = {spec.name: spec for benchmark in OPEN_LLM_V1 for spec in benchmark.tasks}


def read_rows(split: DataSplit, columns: tuple[str, ...], data_root: Path | None) -> Sequence[Row]:
    """Read the rows of a split: from the mirror at ``data_root``, else from the Hub at the split's commit.

    Raises:
        SmaugError: the split is not there or lacks one of ``columns``.
    """
    revision = split.pinned or split.revision
    data = read_split(split.hub_id, split.config, split.name, data_root=data_root, revision=revision)
    return rows_of(data, split, columns)


def rows_of(data: Dataset, split: DataSplit, columns: tuple[str, ...]) -> Sequence[Row]:
    """Return some columns of a split that was read, as rows.

    Raises:
        SmaugError: it lacks one of ``columns``.
    """
    missing = [column for column in columns if column not in data.column_names]
    if missing:
        raise SmaugError(
            f"{split} has no column {', '.join(missing)}; it has {', '.join(data.column_names)}",
            fix="use the Hub's own column names",
        )
    rows: list[Row] = data.select_columns(list(columns)).to_list()
    return rows


SUITE = Suite(
    name=NAME,
    columns=tuple(benchmark.column for benchmark in OPEN_LLM_V1),
    folder=TASKS_FOLDER / NAME,
    read=read_rows,
)


def load_documents(task_name: str, data_root: Path | None = None) -> list[Document]:
    """Load the documents of one task of ``TASKS`` in protocol order.

    Raises:
        SmaugError: the task is unknown, or its data are missing or do not fit.
    """
    return SUITE.documents(task_name, data_root)
