"""Show every two arms of a study against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.study.pairs import arm_tables
from smaug_eval.results.comparison import Comparison


def arm_pairs(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show the matrices of three arms and more; of two the questions say all there is."""
    tables = [] if comparison.study is None else list(arm_tables(comparison.study))
    return {"tables": tables} if tables else None


PANEL = Panel("arm-pairs", "Any two arms", arm_pairs, "study_pairs", same_for_all=True)
