"""Show one question of a study: claim, verdict, figure, tests and tables."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.study.questions import QUESTIONS, findings, question_chart
from smaug_eval.results.comparison import Comparison


def question(comparison: Comparison, place: int) -> Mapping[str, Any] | None:
    """Show one question: claim, verdict, figure, tests, tables, and where the numbers come from."""
    if comparison.study is None:
        return None
    finding = findings(comparison.study)[place]
    return {"finding": finding, "chart": question_chart(comparison.study, finding)}


PANELS = tuple(
    Panel(
        f"rq{place + 1}", f"RQ{place + 1}: {title}", partial(question, place=place), "study_question", same_for_all=True
    )
    for place, title in enumerate(QUESTIONS)
)
"""One panel for each question."""
