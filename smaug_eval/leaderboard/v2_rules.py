"""Score as the second leaderboard's table of February 2025 has it: MATH by the rule before math-verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from smaug_eval.leaderboard import v2_scores
from smaug_eval.leaderboard.benchmarks import math_hard
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.math_rules import RULES
from smaug_eval.leaderboard.scores import ColumnScore, SuiteScores, column_score, mean_of_means

MATH = math_hard.BENCHMARK.title
BEFORE = RULES[1]
UNKNOWN_RULE = "scored by math-verify alone; the table of February 2025 has the rule of October 2024"


def of_february_2025(scores: SuiteScores, results: Mapping[str, Mapping[str, Any]]) -> SuiteScores:
    """Return scores with MATH, and so the average, by the rule that the table of February 2025 has.

    Args:
        scores: In ``open_llm_v2``, or of lm-eval's own tasks.
        results: lm-eval's ``results`` by task, in which every rule's value stands.

    Returns:
        The same where MATH was not measured. Where results do not have that rule's values, MATH has a note that it does
        not compare.
    """
    columns = tuple(_by_rule(each, results) if each.title == MATH else each for each in scores.columns)
    if columns == scores.columns:
        return scores
    notes = [f"{each.title}: {note}" for each in columns for note in each.score.notes]
    average = mean_of_means([each.score for each in columns], notes)
    return replace(scores, columns=columns, average=average)


def _by_rule(own: ColumnScore, results: Mapping[str, Mapping[str, Any]]) -> ColumnScore:
    if not all(f"{BEFORE},none" in results.get(name, {}) for name in own.leaves):
        return replace(own, score=replace(own.score, notes=(*own.score.notes, UNKNOWN_RULE)))
    columns: tuple[Column[Any], ...] = (math_hard.BENCHMARK.column, v2_scores.MATH_COLUMN)
    column = next(each for each in columns if own.leaves.keys() <= {leaf.name for leaf in each.leaves})
    found = column_score(replace(column, metric=BEFORE), {name: results[name] for name in own.leaves})
    notes: Sequence[str] = own.score.notes
    return replace(found, score=replace(found.score, notes=tuple(dict.fromkeys((*notes, *found.score.notes)))))
