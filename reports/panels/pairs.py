"""Show every pair of models as a matrix, row against column: difference of the average, and verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smaug_eval.reports.pair_matrices import pair_matrices, too_many
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.results.comparison import Comparison


def pairs(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show the matrices of three models and more; of two the other panels say all there is.

    None for a study: its verdicts are over seeds, and pairs of single trainings would contradict them.
    """
    if comparison.study is not None:
        return None
    matrices = [each for each in pair_matrices(comparison) if len(each.models) > 2]
    note = too_many(comparison)
    return {"matrices": matrices, "too_many": note} if matrices or note else None


PANEL = Panel("pairs", "Any two models", pairs, same_for_all=True)
