"""Show a study's counterpart to Fig. 4: log-probability by position around the edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.study.positions import after_edit_table, position_charts
from smaug_eval.results.comparison import Comparison


def positions(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show the log-probability by position around the first token that differs."""
    if comparison.study is None:
        return None
    charts, table = position_charts(comparison.study), after_edit_table(comparison.study)
    return {"charts": charts, "after": table} if charts or table else None


PANEL = Panel("positions", "Where in the answers (Fig. 4)", positions, "study_positions", same_for_all=True)
