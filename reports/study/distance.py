"""Test how the change of preferred answers depends on the number of tokens in which a pair's answers differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

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
    names_words,
)
from smaug_eval.reports.study.findings import NATS, change
from smaug_eval.results.study import BASE, Measured, Quantity, StudyResults, chosen, per_edit, rejected
from smaug_eval.stats import CrossedContrast

PER_DOUBLING = "nats per doubling"
_LEADS = {
    "above 0": "The change of preferred answers is the lower the fewer tokens differ",
    "below 0": "The change of preferred answers is the lower the more tokens differ, the contrary of the claim",
    "inconclusive": "Whether the change of preferred answers depends on the tokens that differ is not shown",
}
PER_EDIT = "nats per token"
_NOT_TRAINED = "not trained"


class DistancePlace(NamedTuple):
    """Locate a pair set on the axis of edit distances.

    Attributes:
        pair_set: Its name.
        edits: Mean number of tokens to change.
        distance: Mean of the edit distance over the longer answer's length.
    """

    pair_set: str
    edits: float
    distance: float


@dataclass(frozen=True)
class Curve:
    """Hold an arm's change of preferred answers over the sets.

    Attributes:
        arm: The arm.
        places: The sets it was trained on, the nearest first.
        changes: For each its change in nats per pair.
    """

    arm: str
    places: Sequence[DistancePlace]
    changes: Sequence[CrossedContrast]


def by_distance(study: StudyResults) -> StudyFinding:
    """Answer RQ4.

    Is the subject's drop larger where fewer tokens differ?
    """
    asked = study.questions
    title = "Is it worse where fewer tokens differ?"
    claim = f"The fewer tokens differ, the further {asked.subject} lowers the preferred answers."
    rule = (
        "Supported: over the sets, the change rises with the number of tokens that differ (slope above 0 against its "
        "logarithm), and at the nearest set it is below 0. Not supported: the slope is below 0, or the nearest set's "
        "change above 0. As both must hold, neither is adjusted."
    )
    places = curve_places(study)
    slope = slope_of(study, asked.subject, places, chosen)
    if slope is None:
        sentence = f"It takes two sets of different edit distance: {asked.subject} has {sets_words(places)}."
        answer = StudyAnswer.OPEN if not places else StudyAnswer.INCONCLUSIVE
        if not places and any(study.was_measured(asked.subject, name) for name in study.pair_sets):
            sentence = f"The held-out rows of {asked.subject} are single completions without an edit distance."
            answer = StudyAnswer.UNAVAILABLE
        return StudyFinding("rq4", title, claim, answer, sentence, rule, tables=_tables(study))
    own = own_places(study, asked.subject, places)
    nearest, farthest = own[0], own[-1]
    first, last = (change(study, asked.subject, place.pair_set) for place in (nearest, farthest))
    apart = between(study, asked.subject, nearest, farthest, chosen)
    if first is None or last is None or apart is None:
        raise AssertionError("own_places names sets that were measured")
    rising = deciding(f"{asked.subject}: slope of the change", slope, PER_DOUBLING)
    falls = deciding(f"{asked.subject} on {nearest.pair_set}, the nearest set", first, NATS)
    if rising.is_below or falls.is_above:
        answer = StudyAnswer.NOT_SUPPORTED
    else:
        answer = StudyAnswer.SUPPORTED if rising.is_above and falls.is_below else StudyAnswer.INCONCLUSIVE
    tests = adjusted(
        [rising, falls, beside(f"{asked.subject}: {nearest.pair_set} less {farthest.pair_set}", apart, NATS)]
        + [
            beside(f"{arm}: slope of the change", found, PER_DOUBLING)
            for arm in study.arms
            if arm != asked.subject and (found := slope_of(study, arm, places, chosen)) is not None
        ]
        + _per_edit_test(study, places)
        + _high_test(study, own)
    )
    sentence = (
        f"{_LEADS[rising.outcome_words]}: with every doubling of them, that after {asked.subject} moves by "
        f"{rising.shown.removesuffix(' per doubling')} ({rising.evidence}): from {signed(first.estimate, 2)} nats a "
        f"pair at {tokens_words(nearest)} ({nearest.pair_set}) to {signed(last.estimate, 2)} at "
        f"{tokens_words(farthest)} ({farthest.pair_set})."
    )
    return StudyFinding(
        key="rq4",
        title=title,
        claim=claim,
        answer=answer,
        sentence=sentence,
        rule=rule,
        tests=tests,
        remarks=_remarks(study, tests, places, own),
        tables=_tables(study),
        trainings=[
            each.name
            for arm in dict.fromkeys((asked.subject, asked.before))
            for place in own
            for each in study.of(arm, place.pair_set)
        ],
    )


def curve_places(study: StudyResults) -> list[DistancePlace]:
    """Return the sets of the curve, or the low and the high one where the recipe names none, by tokens that differ."""
    asked = study.questions
    found = (_place(study, name) for name in dict.fromkeys(asked.curve or (asked.low, asked.high)))
    return sorted((place for place in found if place is not None), key=lambda place: place.edits)


def own_places(study: StudyResults, arm: str, places: Sequence[DistancePlace]) -> list[DistancePlace]:
    """Return those of the sets that an arm, and what it is measured against, were trained on."""
    return [place for place in places if change(study, arm, place.pair_set) is not None]


def curves(study: StudyResults) -> list[Curve]:
    """Return each arm with at least two sets of the curve: the subject, the remedy, then the others."""
    places, asked = curve_places(study), study.questions
    found = []
    for arm in dict.fromkeys([asked.subject, asked.remedy, *study.arms]):
        own = own_places(study, arm, places)
        changes = [change(study, arm, place.pair_set) for place in own]
        if len(own) > 1:
            found.append(Curve(arm, own, [each for each in changes if each is not None]))
    return found


def slope_of(
    study: StudyResults, arm: str, places: Sequence[DistancePlace], quantity: Quantity
) -> CrossedContrast | None:
    """Fit the least-squares slope of the sets' mean change against the logarithm (base 2) of the tokens that differ.

    It is a weighted sum of the sets' means, so that items count as the same ones where sets share them.

    Returns:
        None with fewer than two sets, or where they do not differ in edit distance.
    """
    own = own_places(study, arm, places)
    positions = np.array([math.log2(max(place.edits, 1.0)) for place in own])
    if len(own) < 2 or np.ptp(positions) < 1e-9:
        return None
    centred = positions - positions.mean()
    weights = centred / float(centred @ centred)
    terms = [
        term
        for place, weight in zip(own, weights, strict=True)
        for term in _terms(study, arm, place.pair_set, float(weight), quantity)
    ]
    return contrast(terms)


def between(
    study: StudyResults, arm: str, nearest: DistancePlace, farthest: DistancePlace, quantity: Quantity
) -> CrossedContrast | None:
    """Return the change at one set less that at another."""
    return contrast(
        [
            *_terms(study, arm, nearest.pair_set, 1.0, quantity),
            *_terms(study, arm, farthest.pair_set, -1.0, quantity),
        ]
    )


def curve_table(study: StudyResults) -> StudyTable:
    """Return every arm's change at every set."""
    places, rows = curve_places(study), []
    found = {arm.arm: dict(zip(arm.places, arm.changes, strict=True)) for arm in curves(study)}
    for place in places:
        cells = (_cell(changes.get(place)) for changes in found.values())
        rows.append((place.pair_set, fixed(place.edits), f"{fixed(100 * place.distance)}%", *cells))
    return StudyTable(
        "Change of preferred answers of held-out pairs in nats per pair, with 95% intervals over pairs and seeds",
        ("pair set", "tokens that differ", "edit distance", *found),
        rows,
    )


def per_edit_table(study: StudyResults) -> StudyTable:
    """Return the same by each token that differs, and the rank correlation of change and distance over the sets."""
    places, rows = curve_places(study), []
    for arm in (curve.arm for curve in curves(study)):
        own = own_places(study, arm, places)
        values = {place: change(study, arm, place.pair_set, per_edit) for place in own}
        cells = (_cell(values[place], NOT_AVAILABLE) if place in values else _NOT_TRAINED for place in places)
        rows.append((arm, *cells, rank_words(study, arm, own)))
    headings = ("arm", *(place.pair_set for place in places), "rank correlation by seed")
    caption = (
        "The same change divided by the number of tokens that differ, in nats; and Spearman's rank correlation over "
        "the sets of the change per pair with the tokens that differ"
    )
    return StudyTable(caption, headings, rows)


def rank_words(study: StudyResults, arm: str, own: Sequence[DistancePlace]) -> str:
    """Word Spearman's correlation over the sets for each seed that has them all; "n/a" with fewer than three sets."""
    from scipy.stats import spearmanr

    means: dict[int, list[float]] = {}
    for place in own:
        for each in study.of(arm, place.pair_set):
            if each.held_out:
                means.setdefault(each.seed, []).append(float(np.mean(list(each.having(chosen).values()))))
    full = [values for values in means.values() if len(values) == len(own) and np.ptp(values) > 0]
    if len(own) < 3 or not full:
        return "n/a"
    edits = [place.edits for place in own]
    return ", ".join(signed(float(spearmanr(edits, values).statistic), 2) for values in full)


def tokens_words(place: DistancePlace) -> str:
    """Return how many tokens differ in a set."""
    return f"{fixed(place.edits)} token{'' if fixed(place.edits) == '1.0' else 's'} apart"


def sets_words(places: Sequence[DistancePlace]) -> str:
    """Return the sets with their tokens that differ."""
    return names_words([f"{place.pair_set} ({tokens_words(place)})" for place in places]) if places else "none"


def _tables(study: StudyResults) -> list[StudyTable]:
    return [curve_table(study), per_edit_table(study)] if curves(study) else []


def _per_edit_test(study: StudyResults, places: Sequence[DistancePlace]) -> list[Test]:
    asked = study.questions
    found = slope_of(study, asked.subject, places, per_edit)
    return (
        []
        if found is None
        else [beside(f"{asked.subject}: slope of the change per token that differs", found, PER_EDIT)]
    )


def _high_test(study: StudyResults, own: Sequence[DistancePlace]) -> list[Test]:
    """The change on the set of large edit distance, where that is not on the curve."""
    asked = study.questions
    if asked.high in [place.pair_set for place in own]:
        return []
    found = change(study, asked.subject, asked.high)
    return [] if found is None else [beside(f"{asked.subject} on {asked.high}, beside the curve", found, NATS)]


def _remarks(
    study: StudyResults, tests: Sequence[Test], places: Sequence[DistancePlace], own: Sequence[DistancePlace]
) -> list[str]:
    asked = study.questions
    by_name = {test.name: test for test in tests}
    remarks = []
    if min(test.contrast.seeds for test in tests if test.decides) == 1:
        remarks.append("There is one seed: what a loss does cannot be separated from the luck of one training.")
    whole = by_name[f"{asked.subject}: slope of the change"]
    each = by_name.get(f"{asked.subject}: slope of the change per token that differs")
    if each is not None and {whole.outcome_words, each.outcome_words} == {"above 0", "below 0"}:
        remarks.append(
            "The answer depends on what is counted. "
            + _view(asked.subject, whole, "per pair")
            + " "
            + _view(asked.subject, each, "by each token that differs")
        )
    elif each is not None:
        remarks.append(_view(asked.subject, each, "by each token that differs"))
    remedy = by_name.get(f"{asked.remedy}: slope of the change")
    if remedy is not None:
        remarks.append(_view(asked.remedy, remedy, "per pair"))
    changes = [found.estimate for place in own if (found := change(study, asked.subject, place.pair_set)) is not None]
    lowest = int(np.argmin(changes))
    if lowest > 0 and whole.is_above:
        remarks.append(f"The curve is not monotonous: the lowest change is at {own[lowest].pair_set}.")
    remarks += _ratio_remark(study, own)
    remarks += _high_remark(study, by_name.get(f"{asked.subject} on {asked.high}, beside the curve"))
    strangers = _strangers(study, own)
    if strangers:
        remarks.append(
            f"{names_words(strangers)} hold{'s' if len(strangers) == 1 else ''} other problems than "
            f"{own[0].pair_set}: there, more than the edit distance differs."
        )
    return remarks


def _view(arm: str, test: Test, counted: str) -> str:
    how = {"above 0": "the change rises with the tokens that differ", "below 0": "it falls with them"}
    alone = f" {test.proviso}" if test.proviso else ""
    shape = how.get(test.outcome_words, f"no dependence on the edit distance is shown{alone}")
    return f"{arm}, {counted}: {shape} (slope {test.shown}, {test.interval_words})."


def _high_remark(study: StudyResults, test: Test | None) -> list[str]:
    """What the set of large edit distance, of other problems, says of the paper's account."""
    asked, place = study.questions, _place(study, study.questions.high)
    if test is None or place is None:
        return []
    where = f"on {asked.high} ({fixed(100 * place.distance, 0)}% of the tokens differ, {fixed(place.edits)} a pair)"
    size = f"{test.shown}, {test.interval_words}"
    if test.is_below:
        return [
            f"{AGAINST}'s account, in which small edit distances are to blame, {asked.subject} lowers the "
            f"preferred answers {where} as well: {size}."
        ]
    if test.is_above:
        return [f"As the paper has it, {asked.subject} raises the preferred answers {where}: {size}."]
    alone = f" {test.proviso}" if test.proviso else ""
    return [f"That {asked.subject} moves the preferred answers {where} is not shown{alone}: {size}."]


def _ratio_remark(study: StudyResults, own: Sequence[DistancePlace]) -> list[str]:
    """How much of the preferred answers' probability a nat of the rejected ones costs, where both fall."""
    arm, shown = study.questions.subject, []
    for place in own:
        fallen = study.mean(arm, place.pair_set, chosen)
        other = study.mean(arm, place.pair_set, rejected)
        if fallen is None or other is None or not other < 0 or not fallen < 0:
            return []
        shown.append(f"{fixed(fallen / other, 2)} at {place.pair_set} (rejected {signed(other, 1)})")
    return [f"For each nat that the rejected answers fall, {arm} lowers the preferred ones by {names_words(shown)}."]


def _strangers(study: StudyResults, own: Sequence[DistancePlace]) -> list[str]:
    """Sets whose items are mostly not those of the nearest set."""
    items = []
    for place in own:
        found = study.measured(study.questions.subject, place.pair_set, chosen)
        items.append(set(found.items) if found is not None else set())
    return [
        place.pair_set
        for place, mine in zip(own[1:], items[1:], strict=True)
        if 2 * len(mine & items[0]) < min(len(mine), len(items[0]))
    ]


def _terms(study: StudyResults, arm: str, pair_set: str, weight: float, quantity: Quantity) -> list[Term]:
    """An arm's mean on a set, less that of what it is measured against."""
    before = study.questions.before
    weights: Mapping[str, float] = {arm: weight}
    if before != BASE:
        weights = {arm: weight, before: -weight} if before != arm else {arm: 0.0}
    found: list[tuple[str, float, Measured | None]] = [
        (name, own, study.measured(name, pair_set, quantity)) for name, own in weights.items()
    ]
    return [Term(f"{name}.{pair_set}", own, measured) for name, own, measured in found if measured is not None]


def _place(study: StudyResults, pair_set: str) -> DistancePlace | None:
    pairs = [
        pair
        for each in study.trainings
        if each.pair_set == pair_set
        for pair in each.held_out.values()
        if not math.isnan(pair.edits)
    ]
    if not pairs:
        return None
    return DistancePlace(
        pair_set,
        float(np.mean([pair.edits for pair in pairs])),
        float(np.mean([pair.edit_distance for pair in pairs])),
    )


def _cell(found: CrossedContrast | None, none: str = _NOT_TRAINED) -> str:
    if found is None:
        return none
    ends = found.interval
    shown = "" if ends is None else f" [{bound(ends[0], 2)}, {bound(ends[1], 2)}]"
    return f"{signed(found.estimate, 2)}{shown}"
