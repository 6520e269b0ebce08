"""Define lm-eval 0.4.13's own tasks with the leaderboard's shots as a suite to run beside the leaderboard's.

Everything but the data's place is lm-eval's: its draw of shots, its prompts, its filters, its document-weighted MMLU.
Its tasks name no revision, so they are given the commit that ``main`` of each data set has when a run is prepared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from smaug_eval.common.hub import mirror_file
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.benchmarks import OPEN_LLM_V1
from smaug_eval.leaderboard.forms import Row
from smaug_eval.leaderboard.lm_eval_data import mirrored_splits
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.suite import Suite

NAME = "lm_eval_0413"


def own_split(split: DataSplit, spec: TaskSpec) -> DataSplit:
    """Return the split that lm-eval's own task reads: main's rows, and of a subject a configuration of its own."""
    return replace(split, config=spec.subject or split.config, revision=None)


def read_rows(split: DataSplit, columns: tuple[str, ...], data_root: Path | None) -> Sequence[Row]:
    """Read the rows that lm-eval's tasks are given: from the mirror at ``data_root``, else from the Hub.

    Raises:
        SmaugError: the split is not there or lacks one of ``columns``.
    """
    if data_root is None:
        return v1.read_rows(split, columns, None)
    splits = mirrored_splits(data_root, split.hub_id, split.config)
    if split.name not in splits:
        mirror_file(data_root, split.hub_id, split.config, split.name)  # says what is missing
    return v1.rows_of(splits[split.name], split, columns)


SUITE = Suite(
    name=NAME,
    columns=tuple(benchmark.modern_column(own_split) for benchmark in OPEN_LLM_V1),
    folder=None,
    read=read_rows,
)
