"""Show the first panel of a study: what was trained, and the four verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.study.answers import contradictions
from smaug_eval.reports.study.questions import findings
from smaug_eval.reports.study.tables import trained_words
from smaug_eval.results.comparison import Comparison


def study(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show the abstract: what was trained, and the four verdicts."""
    if comparison.study is None:
        return None
    found = comparison.study
    return {
        "findings": findings(found),
        "against": contradictions(findings(found)),
        "trained": trained_words(found),
        "missing": found.missing,
    }


PANEL = Panel("study", "The study in short", study, same_for_all=True)
