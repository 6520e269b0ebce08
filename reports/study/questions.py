"""Answer the four questions of a study from its data, with a figure for each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from markupsafe import Markup

from smaug_eval.reports.charts.lines import MODEL_COLOURS
from smaug_eval.reports.study.answers import StudyFinding, Test
from smaug_eval.reports.study.charts import Band, band_chart, band_words, interval_chart
from smaug_eval.reports.study.distance import by_distance, curves
from smaug_eval.reports.study.findings import lowered, prevented
from smaug_eval.reports.study.scores import better_scores
from smaug_eval.results.study import StudyResults

_CHART_TITLES = {
    "rq1": "Change of the preferred answers by arm",
    "rq2": "Differences of the preferred answers, and the margin",
    "rq3": "Differences of scores",
}
QUESTIONS = ("preferred answers", "the remedy", "scores", "edit distance")
"""What the four questions are about, for the page's contents."""
_MOST_CURVES = len(MODEL_COLOURS)


@lru_cache(maxsize=4)
def findings(study: StudyResults) -> tuple[StudyFinding, ...]:
    """Answer the four questions from the data alone."""
    return lowered(study), prevented(study), better_scores(study), by_distance(study)


def question_chart(found: StudyResults, finding: StudyFinding) -> Markup | None:
    """Draw the question's figure; None where there is nothing to draw."""
    if finding.key == "rq4":
        return _curve_chart(found)
    if not finding.tests:
        return None
    unit = finding.tests[0].unit
    tests: list[Test] = [test for test in finding.tests if test.unit == unit]
    return interval_chart(tests, key=f"study-{finding.key}", title=_CHART_TITLES[finding.key], axis=unit)


def _curve_chart(found: StudyResults) -> Markup | None:
    bands = [
        Band(
            curve.arm,
            [place.edits for place in curve.places],
            [each.estimate for each in curve.changes],
            [(each.interval or (each.estimate,))[0] for each in curve.changes],
            [(each.interval or (each.estimate,))[-1] for each in curve.changes],
            colour,
        )
        for curve, colour in zip(curves(found)[:_MOST_CURVES], _colours(), strict=False)
    ]
    if not bands:
        return None
    return band_chart(
        bands,
        key="study-rq4",
        title="Change of the preferred answers against the number of tokens that differ",
        description=band_words(bands),
        labels=("tokens that differ (mean of the set)", "change (nats per pair)"),
        is_log=True,
        zero_line=True,
    )


def _colours() -> Sequence[str]:
    """The second colour for the subject and the first for the remedy, as in the other figures."""
    return (MODEL_COLOURS[1], MODEL_COLOURS[0], *MODEL_COLOURS[2:])
