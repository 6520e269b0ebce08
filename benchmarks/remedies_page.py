"""Write docs/study-remedies.md from the run of recipes/study-remedies.yaml: what each loss keeps, and at what price.

    python -m benchmarks.remedies_page runs/study-remedies [--out docs/study-remedies.md]

Every loss but the study's subject (DPO) is a remedy. On each pair set three quantities of a remedy are tested against
the subject's, over items and seeds at once, and the preferred answers against the reference too; p values are adjusted
by Holm's method over the remedies, each quantity on each set by itself. Every figure comes from the run's files.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmarks.study_page import about, read_grid
from smaug_eval.common.files import write_text
from smaug_eval.common.text import signed
from smaug_eval.reports.formats import escaped
from smaug_eval.reports.study.answers import StudyTable, Test, beside, names_words
from smaug_eval.reports.study.findings import difference, mean_of
from smaug_eval.reports.study.formats import table_lines
from smaug_eval.reports.study.scores import AVERAGE, POINTS, scores_on
from smaug_eval.results.study import BASE, StudyResults, chosen, margin
from smaug_eval.stats import CrossedContrast, holm

CLAIMED = {
    "dpop": "its penalty keeps the preferred answers at least as likely as before (arXiv 2402.13228)",
    "dpo_nll": "its likelihood term keeps them from falling (arXiv 2404.19733)",
    "dpo_shift": "a smaller share of the rejected answer lets them rise (arXiv 2502.07599)",
    "cal_dpo": "it draws them up to a target above the reference (arXiv 2412.14516)",
    "nca": "it keeps them from falling (arXiv 2402.05369)",
    "apo_zero": "it raises them by themselves (arXiv 2408.06266)",
}
"""By loss, what its authors say of the preferred answers; losses of which nothing is said are left out."""


class Remedy(NamedTuple):
    """Hold the tests of one loss on one pair set; None where a quantity was not measured."""

    arm: str
    kept: Test | None
    more_than_subject: Test | None
    margin: Test | None
    score: Test | None
    score_above_base: Test | None


def tests_on(study: StudyResults, pair_set: str) -> list[Remedy]:
    """Test every remedy on a set, adjusted by Holm's method over the remedies."""
    subject = study.questions.subject
    arms = [arm for arm in study.arms_on(pair_set) if arm != subject]
    scores = next(iter(scores_on(study, pair_set)), None)

    def scored(arm: str, other: str) -> CrossedContrast | None:
        if scores is None or not {arm, other} <= set(scores.values):
            return None
        return scores.average({arm: 1.0, other: -1.0})

    columns: list[Mapping[str, Test]] = [
        _adjusted({arm: mean_of(study, arm, pair_set, chosen) for arm in arms}, "nats"),
        _adjusted({arm: difference(study, arm, subject, pair_set, chosen) for arm in arms}, "nats"),
        _adjusted({arm: difference(study, arm, subject, pair_set, margin) for arm in arms}, "nats"),
        _adjusted({arm: scored(arm, subject) for arm in arms}, POINTS, 1),
        _adjusted({arm: scored(arm, BASE) for arm in arms}, POINTS, 1),
    ]
    return [Remedy(arm, *(column.get(arm) for column in columns)) for arm in arms]


def page(run: Path) -> str:
    """Return the page as text.

    Args:
        run: The study's run directory.

    Raises:
        SmaugError: it is no study, or cannot be read.
    """
    source, found = read_grid(run, "make study-remedies")
    lines = ["# Remedies for DPO's falling preferred answers, compared", "", *about(source, "remedies_page"), ""]
    if found.missing:
        lines += [f"**{len(found.missing)} of {len(found.planned)} trainings are missing: this is a part.**", ""]
    for pair_set in dict.fromkeys((found.questions.low, found.questions.high)):
        lines += _set_lines(found, pair_set)
    return "\n".join(lines).rstrip() + "\n\n" + READING


READING = """## How to read this

Tests are over items and seeds at once (`smaug_eval/stats/crossed.py`), with p values adjusted by Holm's method over the
remedies, each quantity by itself. Kept: the preferred answers are not shown to be less likely than before the training,
and are shown to be more likely than after the subject. All losses share one learning rate and number of steps; none was
tuned. A model of two million parameters says little of one of seven billion.
"""


def _set_lines(study: StudyResults, pair_set: str) -> Iterator[str]:
    remedies = tests_on(study, pair_set)
    subject = study.questions.subject
    yield f"## Trained on {pair_set}"
    yield ""
    own = mean_of(study, subject, pair_set, chosen)
    if own is not None:
        test = beside(subject, own, "nats")
        yield f"{subject} itself moved the preferred answers by {test.shown} ({test.evidence})."
        yield ""
    keepers = [each.arm for each in remedies if _is_kept(each)]
    yield f"- Kept the preferred answers: {names_words(keepers)}."
    costly = [each.arm for each in remedies if _is_kept(each) and each.margin is not None and each.margin.is_below]
    yield f"- Of these, with a smaller margin than {subject}: {names_words(costly)}."
    better = [each.arm for each in remedies if each.score is not None and each.score.is_above]
    yield f"- Scores above {subject}'s: {names_words(better)}."
    gained = [each.arm for each in remedies if each.score_above_base is not None and each.score_above_base.is_above]
    lost = [each.arm for each in remedies if each.score_above_base is not None and each.score_above_base.is_below]
    yield f"- Scores above the base's: {names_words(gained)}; below: {names_words(lost)}."
    for each in remedies:
        claim = CLAIMED.get(str(study.arms[each.arm].get("loss")))
        if claim is not None and each.kept is not None and each.kept.is_below:
            moved = f"{each.kept.shown} {each.kept.interval_words}"
            yield f"- Against the literature, {each.arm} moved the preferred answers by {moved}: {claim}."
    yield ""
    headings = ("loss", "preferred", f"preferred less {subject}", f"margin less {subject}")
    scores = (f"{AVERAGE} less {subject}", f"{AVERAGE} less base")
    rows = [(each.arm, *(_cell(test) for test in each[1:])) for each in remedies]
    caption = f"Remedies on {pair_set}: nats per held-out pair and points of the score, 95% intervals, adjusted p"
    yield from table_lines(StudyTable(caption, (*headings, *scores), rows), escaped)


def _adjusted(found: Mapping[str, CrossedContrast | None], unit: str, digits: int = 2) -> dict[str, Test]:
    tests = {arm: beside(arm, each, unit, digits) for arm, each in found.items() if each is not None}
    p_values = iter(holm([test.contrast.p_value for test in tests.values() if test.contrast.p_value is not None]))
    return {
        arm: test if test.contrast.p_value is None else replace(test, adjusted_p=next(p_values))
        for arm, test in tests.items()
    }


def _is_kept(remedy: Remedy) -> bool:
    more = remedy.more_than_subject
    return remedy.kept is not None and not remedy.kept.is_below and more is not None and more.is_above


def _cell(test: Test | None) -> str:
    if test is None:
        return "not measured"
    return f"{signed(test.contrast.estimate, test.digits)} {test.interval_words}, {test.p_words}"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run directory of the study")
    parser.add_argument("--out", type=Path, default=Path("docs/study-remedies.md"))
    arguments = parser.parse_args()
    write_text(arguments.out, page(arguments.run))


if __name__ == "__main__":
    main()
