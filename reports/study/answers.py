"""Answer a question of a study: tests with numbers, a verdict, and sentences made from them alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple

from smaug_eval.common.text import NOT_AVAILABLE, bound, fixed, signed
from smaug_eval.results.differences import p_words
from smaug_eval.results.layout import training_stage
from smaug_eval.results.study import Measured
from smaug_eval.stats import ContrastPart, CrossedContrast, Outcome, crossed_contrast, held_back, holm, verdict
from smaug_eval.trainers.layout import HELD_OUT_FILE

AGAINST = "Against the paper"
"""How a remark begins that contradicts arXiv 2402.13228."""


ADJUSTED, ONE_SEED = "once adjusted for all tests", "with one seed"
"""What keeps a test inconclusive whose interval leaves out 0."""


class StudyAnswer(str, Enum):
    """List what the data can show about a claim."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    INCONCLUSIVE = "inconclusive"
    OPEN = "not measured"
    UNAVAILABLE = "not available"


@dataclass(frozen=True)
class Test:
    """Hold one contrast that was tested against 0.

    Attributes:
        name: What is compared, as text.
        contrast: The numbers.
        unit: Of the estimate.
        decides: Whether the verdict rests on it; all others of a question are adjusted by Holm's method together.
        adjusted_p: The p value, adjusted where it does not decide; None where there is none.
        digits: Decimals shown.
    """

    name: str
    contrast: CrossedContrast
    unit: str
    decides: bool
    adjusted_p: float | None
    digits: int = 2

    @property
    def outcome(self) -> Outcome:
        """Return the outcome: better above 0, worse below it."""
        return verdict(self.contrast.interval, self.adjusted_p).outcome

    @property
    def is_above(self) -> bool:
        """Return whether it is above 0, and not by chance."""
        return self.outcome is Outcome.BETTER

    @property
    def is_below(self) -> bool:
        """Return whether it is below 0, and not by chance."""
        return self.outcome is Outcome.WORSE

    @property
    def outcome_words(self) -> str:
        """Return the outcome as a phrase."""
        return {Outcome.BETTER: "above 0", Outcome.WORSE: "below 0"}.get(self.outcome, "inconclusive")

    @property
    def proviso(self) -> str:
        """Return why an inconclusive test is not what its interval suggests, which leaves out 0.

        Empty where it does not.

        Either p, adjusted for all tests, is above 5%, or there is none: the interval of one seed is over items alone.
        """
        if not held_back(self.contrast.interval, self.contrast.p_value, self.adjusted_p):
            return ""
        return ADJUSTED if self.contrast.p_value is not None else ONE_SEED

    @property
    def outcome_shown(self) -> str:
        """Return the outcome as a phrase that explains where it is not what the interval beside it suggests."""
        if not self.proviso:
            return self.outcome_words
        side = "above" if self.contrast.estimate > 0 else "below"
        why = {ADJUSTED: "unadjusted", ONE_SEED: "over the items of one seed"}[self.proviso]
        return f"{self.outcome_words} ({side} 0 {why})"

    @property
    def interval_words(self) -> str:
        """Return the interval as "[-1.00, +0.20]"; "n/a" where there is none."""
        ends = self.contrast.interval
        return NOT_AVAILABLE if ends is None else f"[{bound(ends[0], self.digits)}, {bound(ends[1], self.digits)}]"

    @property
    def p_words(self) -> str:
        """Return the p value as a phrase; "n/a" where there is none."""
        return NOT_AVAILABLE if self.adjusted_p is None else p_words(self.adjusted_p)

    @property
    def evidence(self) -> str:
        """Return the interval, p value and what it rests on, as a phrase."""
        found = self.contrast
        size = f"{found.items:,} items, {found.seeds} seed{'s' if found.seeds != 1 else ''}"
        if found.interval is None:
            return f"no interval: nothing varies; {size}"
        if found.seeds == 1:
            return f"95% interval over items alone {self.interval_words}; {size}"
        return f"95% interval {self.interval_words}, {self.p_words}; {size}"

    @property
    def shown(self) -> str:
        """Return the estimate with its unit."""
        return f"{signed(self.contrast.estimate, self.digits)} {self.unit}"

    def numbers(self) -> Mapping[str, Any]:
        """Return the numbers for JSON."""
        found = self.contrast
        return {
            "name": self.name,
            "unit": self.unit,
            "decides": self.decides,
            "estimate": found.estimate,
            "standard_error": found.standard_error,
            "interval": found.interval,
            "p_value": found.p_value,
            "adjusted_p": self.adjusted_p,
            "items": found.items,
            "seeds": found.seeds,
            "seeds_share": found.seeds_share,
            "outcome": self.outcome_words,
            "outcome_shown": self.outcome_shown,
        }


class StudyTable(NamedTuple):
    """Hold rows of text; the first cell of each is its heading."""

    caption: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class StudyFinding:
    """Hold a question's answer.

    Attributes:
        key: ``rq1`` to ``rq4``: the section's anchor.
        title: The question in a few words.
        claim: What is tested, as a statement that the data may contradict.
        answer: The verdict.
        sentence: Why, with the numbers it rests on.
        rule: When the claim counts as supported.
        tests: All of them, those that decide first.
        remarks: What else the data say, among it what contradicts the paper.
        tables: What stands beside the tests.
        trainings: Names of the trainings behind the tests that decide.
        files: What in a training's or model's folder the numbers come from.
    """

    key: str
    title: str
    claim: str
    answer: StudyAnswer
    sentence: str
    rule: str
    tests: Sequence[Test] = ()
    remarks: Sequence[str] = ()
    tables: Sequence[StudyTable] = ()
    trainings: Sequence[str] = ()
    files: Sequence[str] = field(default=(f"{training_stage('<training>')}/{HELD_OUT_FILE}",))

    def numbers(self) -> Mapping[str, Any]:
        """Return the numbers for JSON."""
        return {
            "question": self.key,
            "title": self.title,
            "claim": self.claim,
            "verdict": self.answer.value,
            "sentence": self.sentence,
            "rule": self.rule,
            "tests": [test.numbers() for test in self.tests],
            "remarks": list(self.remarks),
            "tables": [table._asdict() for table in self.tables],
            "trainings": list(self.trainings),
        }


class Term(NamedTuple):
    """Describe one loss in a contrast of held-out pairs: its name with its set, its weight, and what was measured."""

    name: str
    weight: float
    measured: Measured


def contrast(terms: Sequence[Term]) -> CrossedContrast | None:
    """Return the weighted sum of the terms over the items they share; terms of other items are added as independent.

    Two terms share items where at least half of the items of the smaller are the other's.

    Returns:
        None without a term.
    """
    groups: list[tuple[list[Term], set[str]]] = []
    for term in terms:
        own = set(term.measured.items)
        for place, (members, items) in enumerate(groups):
            if 2 * len(own & items) >= min(len(own), len(items)):
                groups[place] = ([*members, term], own & items)
                break
        else:
            groups.append(([term], own))
    blocks = [
        [ContrastPart(term.name, term.weight, term.measured.on(sorted(items))) for term in members]
        for members, items in groups
    ]
    return crossed_contrast(blocks) if blocks else None


def deciding(name: str, found: CrossedContrast, unit: str, digits: int = 2) -> Test:
    """Return a test that the verdict rests on: its p value stands as it is."""
    return Test(name, found, unit, True, found.p_value, digits)


def beside(name: str, found: CrossedContrast, unit: str, digits: int = 2) -> Test:
    """Return a test beside the verdict; its p value is still to be adjusted (:func:`adjusted`)."""
    return Test(name, found, unit, False, found.p_value, digits)


def adjusted(tests: Sequence[Test]) -> list[Test]:
    """Return the same tests, with p values of those that do not decide adjusted by Holm's method over them all."""
    p_values = iter(holm([test.contrast.p_value for test in _others(tests) if test.contrast.p_value is not None]))
    return [
        test if test.decides or test.contrast.p_value is None else replace(test, adjusted_p=next(p_values))
        for test in tests
    ]


def not_shown(names: Sequence[str], tests: Mapping[str, Test], what: str) -> list[str]:
    """Return phrases that name the losses with an effect not shown, apart those whose interval alone would show it."""
    groups = {why: [name for name in names if tests[name].proviso == why] for why in (ADJUSTED, ONE_SEED, "")}
    return [f"not shown {f'{what} {why}'.rstrip()}: {names_words(own)}" for why, own in groups.items() if own]


def names_words(names: Sequence[str]) -> str:
    """Return the names as "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def contradictions(findings: Sequence[StudyFinding]) -> list[str]:
    """Return where the data contradict the paper: claims that are not supported, and remarks on them."""
    refuted = [f"{each.claim} Not so here." for each in findings if each.answer is StudyAnswer.NOT_SUPPORTED]
    return refuted + [remark for each in findings for remark in each.remarks if remark.startswith(AGAINST)]


def distance_words(value: float, unit: str, more: str, less: str, digits: int = 2) -> str:
    """Return a difference as a phrase: "1.20 nats less likely than"."""
    if value == 0:
        return "exactly as likely as" if more.startswith("more") else "exactly as high as"
    return f"{fixed(abs(value), digits)} {unit} {more if value > 0 else less} than"


def _others(tests: Sequence[Test]) -> list[Test]:
    return [test for test in tests if not test.decides]
