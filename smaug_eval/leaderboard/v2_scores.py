"""Describe the columns of the Open LLM Leaderboard v2 over lm-eval's own tasks, normalised so that a guess scores 0.

``N(x, b) = max(0, (x - b) / (1 - b)) * 100`` with b the score of guessing. BBH and MuSR are normalised task by task,
for their numbers of choices differ, and averaged without weights; GPQA's and MATH's tasks are weighted by their
documents. lm-eval's own values of these groups are neither normalised nor, for BBH and MuSR, averaged so. The
benchmarks' own files say all of this once, for others' results and for runs of ``open_llm_v2`` alike.

Source: the leaderboard's documentation and its fork of lm-eval; the formulas give the published values of the archived
table from the subtasks' (tests/leaderboard/test_v2_scores.py).
"""

from __future__ import annotations

from smaug_eval.leaderboard.benchmark import Benchmark
from smaug_eval.leaderboard.benchmarks import OPEN_LLM_V2, bbh, ifeval
from smaug_eval.leaderboard.benchmarks.ifeval import BOTH as BOTH
from smaug_eval.leaderboard.benchmarks.ifeval import INSTRUCTIONS as INSTRUCTIONS
from smaug_eval.leaderboard.benchmarks.ifeval import PROMPTS as PROMPTS
from smaug_eval.leaderboard.benchmarks.ifeval import STRICT as STRICT
from smaug_eval.leaderboard.columns import Board, Column, Task

NAME = "leaderboard_v2"
PREFIX = "leaderboard_"
_OWN_PREFIX = "open_llm_v2_"


def _theirs(name: str) -> str:
    """lm-eval's name of a task or group of the suite."""
    return PREFIX + name.removeprefix(_OWN_PREFIX)


def _column(benchmark: Benchmark) -> Column[Task]:
    """A benchmark's column over lm-eval's own tasks."""
    own = benchmark.column
    leaves = tuple(Task(_theirs(leaf.name), leaf.official_rows) for leaf in own.leaves)
    return Column(
        own.title,
        _theirs(own.task),
        own.metric,
        leaves,
        weighted_by_size=own.weighted_by_size,
        floors=own.floors,
        floor=own.floor,
    )


BOARD = Board(NAME, tuple(map(_column, OPEN_LLM_V2)))
"""The six columns in the order of the leaderboard's table."""
IFEVAL_COLUMN, BBH_COLUMN, MATH_COLUMN, GPQA_COLUMN, MUSR_COLUMN, MMLU_PRO_COLUMN = BOARD.columns
BBH_CHOICES = {name: len(prompts["choices"]) for name, prompts in bbh.PROMPTS.items()}
"""Task of BBH to its number of choices."""

ifeval_entry = ifeval.entry
IFEVAL = _theirs(ifeval.TASK.name)
TASKS = {leaf.name: column for column in BOARD.columns for leaf in column.leaves}
"""Task to the column that it belongs to."""
GROUPS = frozenset({"leaderboard", *(column.task for column in BOARD.columns)} - TASKS.keys())
"""lm-eval's groups of these tasks."""
SHOTS = {benchmark.title: benchmark.tasks[0].num_fewshot for benchmark in OPEN_LLM_V2}
"""Column to the shots that its tasks have by themselves."""
