"""Show a study's arms, with their settings and means, and all its trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.study.tables import arms_table, trainings_table
from smaug_eval.results.comparison import Comparison


def arms(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show every arm with its settings, means over its seeds, and all trainings."""
    if comparison.study is None:
        return None
    shown = list(dict.fromkeys([*comparison.models, *(each.name for each in comparison.trainings)]))
    return {"tables": [arms_table(comparison.study)], "trainings": trainings_table(comparison.study), "selected": shown}


PANEL = Panel("arms", "Arms and trainings", arms, "study_arms", same_for_all=True)
