"""Write docs/study-remedies.md from the run of recipes/study-remedies.yaml: what each loss keeps, and at what price.

    python -m benchmarks.remedies_page runs/study-remedies [--out docs/study-remedies.md]

Every loss but the study's subject (DPO) is a remedy. On each pair set three quantities of a remedy (preferred answers,
margin, score) are tested against the subject's and against the model before the training, over items and seeds at
once; p values are adjusted by Holm's method over the remedies, each quantity on each set by itself. Every figure and
every sentence comes from the run's files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.study_page import about, read_grid, write_from_run
from smaug_eval.common.text import NOT_AVAILABLE, signed
from smaug_eval.reports.formats import escaped
from smaug_eval.reports.study.answers import StudyTable, Test, adjusted, beside, names_words
from smaug_eval.reports.study.findings import difference, margins_table, mean_of
from smaug_eval.reports.study.formats import table_lines
from smaug_eval.reports.study.scores import AVERAGE, POINTS, scores_on
from smaug_eval.results.study import BASE, StudyResults, chosen, margin
from smaug_eval.stats import CrossedContrast


class Claim(NamedTuple):
    """Hold what the authors of a loss say of the preferred answers.

    Attributes:
        words: The claim, with its source.
        beside_subject: Whether it compares them with those after the subject; else with those before the training.
    """

    words: str
    beside_subject: bool = False


CLAIMED = {
    "dpop": Claim("a penalty avoids that they fall below the reference (arXiv 2402.13228, abstract)"),
    "dpo_nll": Claim("the likelihood term, called crucial in arXiv 2404.19733 (abstract), makes them more likely"),
    "dpo_shift": Claim(
        "they are more likely than after DPO, at the price of the margin (arXiv 2502.07599, abstract)",
        beside_subject=True,
    ),
    "cal_dpo": Claim("they are drawn to a target above the reference, so that they do not fall (arXiv 2412.14516)"),
    "nca": Claim("the likelihood of the chosen answer is prevented from decreasing (arXiv 2402.05369, abstract)"),
    "apo_zero": Claim(
        "its first term raises them by themselves (arXiv 2408.06266, equation 7, as its authors put it into TRL)"
    ),
}
"""By loss, what its authors say of the preferred answers; losses of which nothing is said are left out."""
_MISSING_SHOWN = 6


class Remedy(NamedTuple):
    """Hold the tests of one loss on one pair set; None where a quantity was not measured."""

    arm: str
    kept: Test | None
    more_than_subject: Test | None
    grown: Test | None
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
        _adjusted({arm: mean_of(study, arm, pair_set, margin) for arm in arms}, "nats"),
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
        names = [*found.missing[:_MISSING_SHOWN], *(["others"] if len(found.missing) > _MISSING_SHOWN else [])]
        counts = f"{len(found.missing)} of {len(found.planned)} trainings are missing"
        lines += [f"**{counts} ({names_words(names)}): this is a part.**", ""]
    for pair_set in dict.fromkeys((found.questions.low, found.questions.high)):
        lines += _set_lines(found, pair_set)
    return "\n".join(lines).rstrip() + "\n\n" + READING


READING = """## How to read this

Tests are over items and seeds at once (`smaug_eval/stats/crossed.py`), with p values adjusted by Holm's method over the
remedies, each quantity by itself. "Not shown" is no proof of "no effect": with few seeds only large effects are found.
Kept: shown to be more likely than after the subject, and not less likely than before the training by an interval that
is not adjusted, since adjusting would let more losses pass. All losses share one learning rate and number of steps, and
have their default weights; none was tuned, so that a loss may do better with settings of its own. Claims are those of
the cited abstracts and equations, for other models and data. A model of two million parameters says little of one of
seven billion.
"""


def _set_lines(study: StudyResults, pair_set: str) -> Iterator[str]:
    subject = study.questions.subject
    yield f"## Trained on {pair_set}"
    yield ""
    yield from _gap_lines(study, pair_set)
    own = mean_of(study, subject, pair_set, chosen)
    if own is None:
        why = "has no held-out preferred answers" if study.was_measured(subject, pair_set) else "was not measured"
        yield f"{subject} {why} on {pair_set}: no loss can be compared with it."
        yield ""
        return
    test = beside(subject, own, "nats")
    lowered = "" if test.is_below else f" That {subject} lowers them is not shown here."
    shown = {"above 0": "shown to be above 0", "below 0": "shown to be below 0"}.get(test.outcome_words, "inconclusive")
    found = escaped(f"{test.shown} ({test.evidence})")
    yield f"Change of the preferred answers after {subject}: {found}, {shown}.{lowered}"
    yield ""
    remedies = tests_on(study, pair_set)
    yield from _finding_lines(remedies, subject)
    yield from _claim_lines(study, remedies)
    headings = ("loss", "preferred", f"preferred less {subject}", "margin", f"margin less {subject}")
    scores = (f"{AVERAGE} less {subject}", f"{AVERAGE} less base")
    rows = [
        (
            each.arm,
            *(_cell(test, NOT_AVAILABLE) for test in (each.kept, each.more_than_subject, each.grown, each.margin)),
            *(_cell(test, "not measured") for test in (each.score, each.score_above_base)),
        )
        for each in remedies
    ]
    caption = f"Remedies on {pair_set}: nats per held-out pair and points of the score, 95% intervals, adjusted p"
    yield from table_lines(StudyTable(caption, (*headings, *scores), rows), escaped)
    yield from table_lines(margins_table(study, pair_set), escaped)


def _gap_lines(study: StudyResults, pair_set: str) -> Iterator[str]:
    """Yield which losses of the grid have fewer seeds on the set than planned, or none."""
    planned = {arm: [name for name in study.planned if name.startswith(f"{arm}.{pair_set}.")] for arm in study.arms}
    there = {arm: sum(bool(each.held_out) for each in study.of(arm, pair_set)) for arm in study.arms}
    gaps = [f"{arm} ({there[arm]} of {len(names)} seeds)" for arm, names in planned.items() if there[arm] < len(names)]
    if gaps:
        yield f"Not measured in full, since a training failed or has not run: {names_words(gaps)}."
        yield ""


def _finding_lines(remedies: Sequence[Remedy], subject: str) -> Iterator[str]:
    preferred = "- Preferred answers"
    yield f"{preferred}, less those before the training: {_sides({each.arm: each.kept for each in remedies})}."
    yield f"{preferred}, less those after {subject}: {_sides({each.arm: each.more_than_subject for each in remedies})}."
    kept = [each for each in remedies if _is_kept(each)]
    yield f"- Kept the preferred answers: {names_words([each.arm for each in kept])}."
    if kept:
        yield f"- Margin of these: {_sides({each.arm: each.grown for each in kept})}."
        yield f"- Margin of these, less that of {subject}: {_sides({each.arm: each.margin for each in kept})}."
    yield f"- Scores, less those of {subject}: {_sides({each.arm: each.score for each in remedies})}."
    yield f"- Scores, less those of the base: {_sides({each.arm: each.score_above_base for each in remedies})}."
    yield ""


def _sides(tests: Mapping[str, Test | None]) -> str:
    """Return which losses are shown to be above 0, which below it, and which of those measured neither."""
    there = {arm: test for arm, test in tests.items() if test is not None}
    if not there:
        return "not measured"
    above = [arm for arm, test in there.items() if test.is_above]
    below = [arm for arm, test in there.items() if test.is_below]
    neither = [arm for arm in there if arm not in (*above, *below)]
    return f"above 0: {names_words(above)}; below 0: {names_words(below)}; not shown: {names_words(neither)}"


def _claim_lines(study: StudyResults, remedies: Sequence[Remedy]) -> Iterator[str]:
    """Yield what the authors of each loss say of the preferred answers, and whether that was so here."""
    lines = []
    for each in remedies:
        claim = CLAIMED.get(str(study.arms[each.arm].get("loss")))
        test = each.more_than_subject if claim is not None and claim.beside_subject else each.kept
        if claim is None or test is None:
            continue
        word = "So here" if test.is_above else "Against the literature" if test.is_below else "Not decided here"
        beside_what = f"less {study.questions.subject}" if claim.beside_subject else "less the reference"
        found = f"{test.shown} {beside_what}, {test.interval_words}, {test.p_words}"
        lines.append(f"- {each.arm}: {claim.words}. {word}: {escaped(found)}.")
    if lines:
        yield "What the authors say of the preferred answers, and what came out:"
        yield ""
        yield from lines
        yield ""


def _adjusted(found: Mapping[str, CrossedContrast | None], unit: str, digits: int = 2) -> dict[str, Test]:
    tests = {arm: beside(arm, each, unit, digits) for arm, each in found.items() if each is not None}
    return dict(zip(tests, adjusted([*tests.values()]), strict=True))


def _is_kept(remedy: Remedy) -> bool:
    more, kept = remedy.more_than_subject, remedy.kept
    if more is None or kept is None or not more.is_above:
        return False
    ends = kept.contrast.interval
    return kept.contrast.estimate >= 0 if ends is None else ends[1] >= 0


def _cell(test: Test | None, none: str) -> str:
    if test is None:
        return none
    return f"{signed(test.contrast.estimate, test.digits)} {test.interval_words}, {test.p_words}"


def main() -> None:
    """Write the page."""
    write_from_run(page, __doc__, Path("docs/study-remedies.md"))


if __name__ == "__main__":
    main()
