"""Show two views of one run: the leaderboard's scores, and those of lm-eval 0.4.13 from the same outputs.

What both score from the same prompts is recomputed, and each rule's part in the difference is given in points. What
would need other prompts (lm-eval's own draw of shots, a BOS token, an output that no ":" stopped) is named, with the
task to run for it. Scores are in percent.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from smaug_eval.leaderboard.benchmark import Benchmark, Documents, ViewCause
from smaug_eval.leaderboard.benchmarks import benchmark_of
from smaug_eval.leaderboard.benchmarks.gsm8k import STOP
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.modern import NAME as MODERN_SUITE
from smaug_eval.leaderboard.protocol import TaskSpec
from smaug_eval.leaderboard.scores import ColumnScore, Score, mean_of_means, value_score


@dataclass(frozen=True)
class ColumnViews:
    """Hold one column in both views.

    Attributes:
        title: The column.
        metric: The leaderboard's metric.
        v1: Its score on the leaderboard's rules.
        modern: Its score on lm-eval 0.4.13's rules; None where the samples do not tell, with a note where they only
            give its least value.
        causes: Why they differ; the known points sum to the difference.
        others: Further metrics of the same outputs: ``acc``, ``mc1``, ``flexible_extract`` and the like.
    """

    title: str
    metric: str
    v1: Score
    modern: Score | None
    causes: tuple[ViewCause, ...]
    others: dict[str, Score]

    @property
    def modern_is_least(self) -> bool:
        """Return whether ``modern`` is a lower bound: the ":" stop may have cut answers that 0.4.13 would read."""
        return any(cause.name == STOP and cause.points is None for cause in self.causes)


def column_views(column: Column, score: ColumnScore, documents: Documents, *, own_prompts: bool = True) -> ColumnViews:
    """Return both views of a column.

    Args:
        column: The column.
        score: Its score in the leaderboard's view.
        documents: Values per document of its leaf tasks; tasks without samples are left out.
        own_prompts: Whether the prompts were the leaderboard's; otherwise they were lm-eval's own.
    """
    benchmark = benchmark_of(column.leaves[0].form)
    modern, causes = benchmark.modern.rule(column, score, documents)
    prompts = _other_prompts(benchmark, column.leaves[0]) if own_prompts else ()
    others = _others(column, documents, benchmark.internal)
    return ColumnViews(column.title, column.metric, score.score, modern, (*causes, *prompts), others)


def average_difference(columns: Sequence[ColumnViews]) -> tuple[float, float] | None:
    """Return the mean of the columns in 0.4.13's view, and its difference from the leaderboard's.

    None where a column lacks that view.
    """
    known = [column for column in columns if column.modern is not None]
    if len(known) < len(columns) or not columns:
        return None
    modern = float(np.mean([column.modern.value for column in known if column.modern is not None]))
    return modern, modern - float(np.mean([column.v1.value for column in columns]))


def _other_prompts(benchmark: Benchmark, spec: TaskSpec) -> tuple[ViewCause, ...]:
    task = benchmark.modern.name
    draws = f"lm-eval draws others (seed 1234, no shuffle): needs other prompts, eval --suite {MODERN_SUITE}"
    draw = ViewCause("shots", None, draws, task)
    bos = ViewCause(
        "BOS", None, "added where the tokenizer asks for it: needs other prompts, from lm-eval itself", task
    )
    return (draw, bos) if spec.draws_shots and spec.num_fewshot else (bos,)


def _others(column: Column, documents: Documents, internal: Set[str]) -> dict[str, Score]:
    measured = [documents[leaf.name] for leaf in column.leaves if leaf.name in documents]
    if not measured:
        return {}
    names = set.intersection(*(set(values) for values in measured)) - {column.metric, *internal}
    return {name: mean_of_means([value_score(values[name]) for values in measured]) for name in sorted(names)}
