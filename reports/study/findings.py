"""Test whether a loss lowers preferred answers, whether another prevents it, and how both depend on edit distance."""

from __future__ import annotations

from collections.abc import Sequence

from smaug_eval.common.text import NOT_AVAILABLE, bound, fixed, signed
from smaug_eval.reports.study.answers import (
    AGAINST,
    StudyAnswer,
    StudyFinding,
    StudyTable,
    Term,
    Test,
    adjusted,
    beside,
    contrast,
    deciding,
    distance_words,
    names_words,
    not_shown,
)
from smaug_eval.results.study import BASE, Quantity, StudyResults, below, chosen, margin, ranked_first, rejected
from smaug_eval.stats import CrossedContrast

NATS = "nats"
REGIONS = {
    "before": lambda pair: pair.chosen_before,
    "at": lambda pair: pair.chosen_at,
    "after": lambda pair: pair.chosen_after,
}
_SMALL_SHARE = 0.05


def lowered(study: StudyResults) -> StudyFinding:
    """Answer RQ1.

    Does the subject make preferred answers less likely where the two answers hardly differ?
    """
    asked = study.questions
    title = f"Does {asked.subject} lower the preferred answers?"
    claim = f"Trained on {asked.low}, {asked.subject} makes the preferred answers less likely than {_before(study)}."
    rule = "Supported: the mean change of held-out preferred answers is below 0. Not supported: it is above 0."
    found = change(study, asked.subject, asked.low)
    if found is None:
        return _open(study, "rq1", title, claim, rule, asked.subject, "preferred answers")
    test = deciding(f"{asked.subject} on {asked.low}", found, NATS)
    others = [arm for arm in study.arms_on(asked.low) if arm not in (asked.subject, asked.before)]
    tests = adjusted([test, *_tests(study, others, asked.low)])
    likely = distance_words(found.estimate, NATS, "more likely", "less likely")
    sentence = (
        f"After {asked.subject} on {asked.low}, the preferred answers of held-out pairs are {likely} "
        f"{_before(study)} ({test.evidence})."
    )
    return StudyFinding(
        key="rq1",
        title=title,
        claim=claim,
        answer=_one_sided(test, wanted_above=False),
        sentence=sentence,
        rule=rule,
        tests=tests,
        remarks=[*_one_seed([test]), *_lowering_remarks(study, tests), *_region_remarks(study)],
        tables=[changes_table(study, asked.low)],
        trainings=_names(study, (asked.subject, asked.before), (asked.low,)),
    )


def prevented(study: StudyResults) -> StudyFinding:
    """Answer RQ2.

    Does the remedy prevent it, and is it still a preference loss that grows the margin?
    """
    asked = study.questions
    title = f"Does {asked.remedy} prevent it?"
    claim = (
        f"On the same pairs {asked.remedy} leaves the preferred answers more likely than {asked.subject} does, and not "
        f"less likely than {_before(study)}, while its margin over the rejected answers still grows."
    )
    rule = (
        "Supported: the difference and the margin are both above 0, and the change itself is not shown to be below 0. "
        "Not supported: one of the three is below 0. As all must hold, none is adjusted."
    )
    gain = difference(study, asked.remedy, asked.subject, asked.low, chosen)
    own = change(study, asked.remedy, asked.low)
    grown = mean_of(study, asked.remedy, asked.low, margin)
    if gain is None or own is None or grown is None:
        arm = asked.remedy if own is None or (grown is None and gain is not None) else asked.subject
        what = "preferred answers" if gain is None or own is None else "pairs, and so no margin"
        return _open(study, "rq2", title, claim, rule, arm, what)
    more = deciding(f"{asked.remedy} less {asked.subject}", gain, NATS)
    level = deciding(f"{asked.remedy} less {_level(study)}", own, NATS)
    wider = deciding(f"margin of {asked.remedy} (preferred less rejected)", grown, NATS)
    decides = (more, level, wider)
    if any(test.is_below for test in decides):
        answer = StudyAnswer.NOT_SUPPORTED
    else:
        answer = StudyAnswer.SUPPORTED if more.is_above and wider.is_above else StudyAnswer.INCONCLUSIVE
    names = [arm for arm in study.arms_on(asked.low) if arm not in (asked.subject, asked.remedy)]
    others = [
        beside(f"{arm} less {asked.subject}", found, NATS)
        for arm in names
        if (found := difference(study, arm, asked.subject, asked.low, chosen)) is not None
    ]
    others += [
        beside(f"{arm} less {asked.remedy}", found, NATS)
        for arm in names
        if study.arms[arm].get("loss")
        not in {study.arms.get(each, {}).get("loss") for each in (asked.subject, asked.remedy)}
        and (found := difference(study, arm, asked.remedy, asked.low, chosen)) is not None
    ]
    tests = adjusted([*decides, *others])
    ranked = study.mean(asked.remedy, asked.low, ranked_first)
    likely = distance_words(gain.estimate, NATS, "more likely", "less likely")
    sentence = (
        f"{asked.remedy} leaves the preferred answers {likely} {asked.subject} does ({more.evidence}); against "
        f"{_level(study)} they {_moved(level)}; its margin {_moved(wider)}; it grew in "
        f"{_percent(ranked)} of the pairs."
    )
    return StudyFinding(
        key="rq2",
        title=title,
        claim=claim,
        answer=answer,
        sentence=sentence,
        rule=rule,
        tests=tests,
        remarks=[*_one_seed(decides), *_premise_remarks(study), *_remedy_remarks(study, tests, level)],
        tables=[margins_table(study, asked.low)],
        trainings=_names(study, (asked.subject, asked.remedy), (asked.low,)),
    )


def change(study: StudyResults, arm: str, pair_set: str, quantity: Quantity = chosen) -> CrossedContrast | None:
    """Return the mean of a log-ratio after a training.

    Less that of another arm where the study measures against one.
    """
    before = study.questions.before
    if before == BASE:
        return mean_of(study, arm, pair_set, quantity)
    return difference(study, arm, before, pair_set, quantity)


def mean_of(study: StudyResults, arm: str, pair_set: str, quantity: Quantity) -> CrossedContrast | None:
    """Return the mean of a quantity over held-out pairs and seeds; None where it was not measured."""
    found = study.measured(arm, pair_set, quantity)
    return None if found is None else contrast([Term(arm, 1.0, found)])


def difference(study: StudyResults, arm: str, other: str, pair_set: str, quantity: Quantity) -> CrossedContrast | None:
    """Return one arm's mean less the other's on the same pairs; None where either was not measured."""
    mine, theirs = study.measured(arm, pair_set, quantity), study.measured(other, pair_set, quantity)
    if mine is None or theirs is None:
        return None
    return contrast([Term(arm, 1.0, mine), Term(other, -1.0, theirs)])


def changes_table(study: StudyResults, pair_set: str) -> StudyTable:
    """Return where in the preferred answers each arm acted: nats per pair before, at and after the edit, and shares."""
    rows = []
    for arm in study.arms_on(pair_set):
        parts = [mean_of(study, arm, pair_set, quantity) for quantity in REGIONS.values()]
        shown = (_with_interval(part) for part in (mean_of(study, arm, pair_set, chosen), *parts))
        share = study.mean(arm, pair_set, below)
        rows.append((arm, *shown, _percent(share)))
    return StudyTable(
        f"Preferred answers of held-out pairs of {pair_set}: change of log-probability against the reference in nats "
        "per pair, with 95% intervals over pairs and seeds; before, at and after the first token that differs",
        ("arm", "whole answer", *REGIONS, "pairs below reference"),
        rows,
    )


def margins_table(study: StudyResults, pair_set: str) -> StudyTable:
    """Return what each arm did to both answers of a pair."""
    rows = []
    for arm in study.arms_on(pair_set):
        shown = (_with_interval(mean_of(study, arm, pair_set, quantity)) for quantity in (chosen, rejected, margin))
        rows.append((arm, *shown, _percent(study.mean(arm, pair_set, ranked_first))))
    return StudyTable(
        f"Both answers of held-out pairs of {pair_set} against the reference, in nats per pair with 95% intervals",
        ("arm", "preferred", "rejected", "margin", "margin grew"),
        rows,
    )


def _before(study: StudyResults) -> str:
    return "before the training" if study.questions.before == BASE else f"after {study.questions.before}"


def _level(study: StudyResults) -> str:
    return "the reference" if study.questions.before == BASE else study.questions.before


def _tests(study: StudyResults, arms: Sequence[str], pair_set: str) -> list[Test]:
    return [
        beside(f"{arm} on {pair_set}", found, NATS)
        for arm in arms
        if (found := change(study, arm, pair_set)) is not None
    ]


def _one_sided(test: Test, *, wanted_above: bool) -> StudyAnswer:
    """Supported on the wanted side of 0, not supported on the other."""
    if not (test.is_above or test.is_below):
        return StudyAnswer.INCONCLUSIVE
    return StudyAnswer.SUPPORTED if test.is_above == wanted_above else StudyAnswer.NOT_SUPPORTED


def _moved(test: Test) -> str:
    if test.contrast.estimate == 0 and test.contrast.interval is None:
        return "did not move at all"
    word = "rose" if test.contrast.estimate > 0 else "fell"
    chance = f", which {test.proviso} may be chance" if test.proviso else ", which may be chance"
    clear = "" if test.is_above or test.is_below else chance
    return f"{word} by {fixed(abs(test.contrast.estimate), 2)} nats {test.interval_words}{clear}"


def _lowering_remarks(study: StudyResults, tests: Sequence[Test]) -> list[str]:
    asked = study.questions
    arms = {test.name.removesuffix(f" on {asked.low}"): test for test in tests if not test.decides}
    variants, remedies = set(study.variants(asked.subject)), {asked.remedy, *study.variants(asked.remedy)}
    remarks = []
    own = {name: test for name, test in arms.items() if name in variants}
    if own:
        lowered_by = [name for name, test in own.items() if test.is_below]
        rest = [name for name in own if name not in lowered_by]
        parts = [f"lower them, too: {names_words(lowered_by)}"] if lowered_by else []
        parts += not_shown(rest, own, "to lower them")
        remarks.append(f"Other settings of {asked.subject}: {'; '.join(parts)}.")
    baselines = {name: test for name, test in arms.items() if name not in variants | remedies}
    for word, chosen_ones in (
        ("lower", [name for name, test in baselines.items() if test.is_below]),
        ("raise", [name for name, test in baselines.items() if test.is_above]),
    ):
        if chosen_ones:
            sizes = (f"{name} ({signed(arms[name].contrast.estimate, 2)})" for name in chosen_ones)
            remarks.append(f"Baselines that {word} the preferred answers: {names_words(list(sizes))} nats.")
    return remarks


def _region_remarks(study: StudyResults) -> list[str]:
    """What the paper's account of the gradient says of the tokens before the edit, held against the data."""
    asked = study.questions
    parts = {name: change(study, asked.subject, asked.low, quantity) for name, quantity in REGIONS.items()}
    whole = change(study, asked.subject, asked.low)
    known = {name: part for name, part in parts.items() if part is not None}
    if whole is None or not known:
        return []
    sizes = "; ".join(f"{name} it {signed(part.estimate, 2)}" for name, part in known.items())
    remarks = [f"Of the change of {asked.subject}, by the first token that differs, in nats per pair: {sizes}."]
    first = deciding("before", known["before"], NATS)
    if first.is_below or first.is_above:
        share = abs(first.contrast.estimate) / max(sum(abs(part.estimate) for part in known.values()), 1e-12)
        grade = "though hardly" if share < _SMALL_SHARE else "and not a little"
        remarks.append(
            f"{AGAINST}'s account, in which the tokens before the edit cancel, they move as well, {grade}: "
            f"{first.shown} a pair {first.interval_words}, {fixed(100 * share, 0)}% of the whole."
        )
    return remarks


def _premise_remarks(study: StudyResults) -> list[str]:
    """Say where RQ2 asks for a remedy of what RQ1 does not show."""
    asked = study.questions
    found = change(study, asked.subject, asked.low)
    if found is None or (fall := deciding("", found, NATS)).is_below:
        return []
    return [
        f"That {asked.subject} lowers the preferred answers is itself not shown ({fall.shown} {fall.interval_words}); "
        "what is tested here is the difference between the two losses."
    ]


def _remedy_remarks(study: StudyResults, tests: Sequence[Test], level: Test) -> list[str]:
    asked = study.questions
    remarks = []
    ends = level.contrast.interval
    if ends is not None and ends[0] <= 0 <= ends[1]:
        remarks.append(
            f"Whether {asked.remedy} leaves the preferred answers above or below {_level(study)} is not determined: "
            f"{level.interval_words}."
        )
    by_name = {test.name: test for test in tests}
    variants = [
        (arm, test)
        for arm in study.variants(asked.remedy)
        if (test := by_name.get(f"{arm} less {asked.subject}")) is not None
    ]
    if variants:
        better = [arm for arm, test in variants if test.is_above]
        rest = [arm for arm, test in variants if not test.is_above]
        parts = [f"above {asked.subject}, too: {names_words(better)}"] if better else []
        parts += not_shown(rest, dict(variants), f"to be above {asked.subject}")
        remarks.append(f"Other settings of {asked.remedy}: {'; '.join(parts)}.")
    own = study.mean(asked.remedy, asked.low, ranked_first)
    for arm in study.arms:
        test = by_name.get(f"{arm} less {asked.remedy}")
        other = study.mean(arm, asked.low, ranked_first)
        if test is not None and test.is_above and own is not None:
            grew = "it has no margin" if other is None else f"its margin grew in {_percent(other)} of the pairs"
            remarks.append(
                f"{arm} leaves the preferred answers more likely than {asked.remedy} does ({test.shown}); {grew}, that "
                f"of {asked.remedy} in {_percent(own)}."
            )
    return remarks


def _one_seed(tests: Sequence[Test]) -> list[str]:
    if min(test.contrast.seeds for test in tests) > 1:
        return []
    return [
        "There is one seed: what a loss does cannot be separated from the luck of one training, so that nothing counts "
        "as shown, however narrow the interval over items."
    ]


def _open(study: StudyResults, key: str, title: str, claim: str, rule: str, arm: str, what: str) -> StudyFinding:
    pair_set = study.questions.low
    if not study.was_measured(arm, pair_set):
        sentence = f"There are no held-out pairs of {arm} on {pair_set} yet."
        return StudyFinding(key, title, claim, StudyAnswer.OPEN, sentence, rule)
    sentence = f"The held-out rows of {arm} on {pair_set} are single completions without {what}."
    tables = [margins_table(study, pair_set)]
    return StudyFinding(key, title, claim, StudyAnswer.UNAVAILABLE, sentence, rule, tables=tables)


def _names(study: StudyResults, arms: Sequence[str], pair_sets: Sequence[str]) -> list[str]:
    return [each.name for arm in dict.fromkeys(arms) for name in pair_sets for each in study.of(arm, name)]


def _percent(share: float | None) -> str:
    return NOT_AVAILABLE if share is None else f"{fixed(100 * share, 0)}%"


def _with_interval(found: CrossedContrast | None) -> str:
    if found is None:
        return NOT_AVAILABLE
    ends = found.interval
    shown = "" if ends is None else f" [{bound(ends[0], 2)}, {bound(ends[1], 2)}]"
    return f"{signed(found.estimate, 2)}{shown}"
