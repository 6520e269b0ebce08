"""Write docs/study-batching.md from the run of recipes/study-batching.yaml: what the order of the pairs changes.

    python -m benchmarks.batching_page runs/study-batching [--out docs/study-batching.md]

Three quantities of the arm with ``batching: question`` are tested against those of the arm that draws pairs one by one,
over items and seeds at once; p values are adjusted by Holm's method. Every figure comes from the run's files.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.study_page import about, read_grid, write_from_run
from smaug_eval.common.text import signed
from smaug_eval.reports.formats import escaped
from smaug_eval.reports.study.answers import StudyTable, Test, adjusted, beside, names_words
from smaug_eval.reports.study.findings import difference, mean_of
from smaug_eval.reports.study.formats import table_lines
from smaug_eval.reports.study.scores import POINTS, scores_on
from smaug_eval.results.study import StudyResults, chosen, margin
from smaug_eval.stats import CrossedContrast

NATS = "nats"

READING = """## How to read this

Tests are over items (held-out pairs, or documents) and seeds at once (`smaug_eval/stats/crossed.py`), with p values
adjusted by Holm's method. Both arms take the same number of steps of as many pairs each with the same seeds; only the
order of the pairs differs. An interval that holds 0 does not show that there is no difference: it says how large one
may be. A model of two million parameters says little of one of seven billion.
"""


def tests_of(study: StudyResults) -> list[Test]:
    """Test the difference that drawing by question makes in preferred answers, margin and score, adjusted by Holm."""
    asked = study.questions
    arm, other, pair_set = asked.remedy, asked.subject, asked.low
    found: dict[str, tuple[CrossedContrast | None, str, int]] = {
        "preferred answers": (difference(study, arm, other, pair_set, chosen), NATS, 2),
        "margin": (difference(study, arm, other, pair_set, margin), NATS, 2),
    }
    scores = next(iter(scores_on(study, pair_set)), None)
    if scores is not None and {arm, other} <= set(scores.values):
        found["benchmark score"] = (scores.average({arm: 1.0, other: -1.0}), POINTS, 1)
    return adjusted(
        [beside(name, each, unit, digits) for name, (each, unit, digits) in found.items() if each is not None]
    )


def page(run: Path) -> str:
    """Return the page as text.

    Args:
        run: The study's run directory.

    Raises:
        SmaugError: it is no study, or cannot be read.
    """
    source, study = read_grid(run, "make study-batching")
    asked = study.questions
    tests = tests_of(study)
    lines = ["# Pairs drawn one by one, or question by question", "", *about(source, "batching_page"), ""]
    if study.missing:
        lines += [f"**{len(study.missing)} of {len(study.planned)} trainings are missing: this is a part.**", ""]
    moved = [test.name for test in tests if test.is_above or test.is_below]
    what = f"shows in: {names_words(moved)}" if moved else "is not shown in any of them"
    if not tests:
        told = (
            f"On {asked.low}, the arms `{asked.remedy}` and `{asked.subject}` have nothing in common that was measured."
        )
        return "\n".join([*lines, told, "", READING])
    lines += [
        f"Trained on {asked.low}, the arm `{asked.remedy}` (`batching: question`) was held against `{asked.subject}`",
        f"(`batching: pairs`) in {names_words([test.name for test in tests])}. A difference {what}.",
        "",
    ]
    rows: list[tuple[str, ...]] = [
        (test.name, f"{signed(test.contrast.estimate, test.digits)} {test.unit}", test.interval_words, test.p_words)
        for test in tests
    ]
    headings = ("quantity", f"{asked.remedy} less {asked.subject}", "95% interval", "adjusted p")
    lines += table_lines(StudyTable("Differences over items and seeds", headings, rows), escaped)
    lines += _means(study)
    return "\n".join(lines).rstrip() + "\n\n" + READING


def _means(study: StudyResults) -> list[str]:
    asked = study.questions
    rows: list[tuple[str, ...]] = []
    for arm in (asked.subject, asked.remedy):
        both = [mean_of(study, arm, asked.low, quantity) for quantity in (chosen, margin)]
        shown = [beside(arm, each, NATS) for each in both if each is not None]
        rows.append((arm, *(f"{signed(test.contrast.estimate, 2)} {test.interval_words}" for test in shown)))
    table = StudyTable("Nats per held-out pair, against the model before", ("arm", "preferred answers", "margin"), rows)
    return list(table_lines(table, escaped))


def main() -> None:
    """Write the page."""
    write_from_run(page, __doc__, Path("docs/study-batching.md"))


if __name__ == "__main__":
    main()
