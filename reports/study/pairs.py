"""Compare every two arms of a study, over items and seeds: their scores, and what became of the preferred answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

from smaug_eval.common.text import fixed, signed
from smaug_eval.reports.study.answers import StudyTable, Test, adjusted, beside
from smaug_eval.reports.study.findings import difference, mean_of
from smaug_eval.reports.study.scores import POINTS, Scores, scores_label, scores_on
from smaug_eval.results.study import StudyResults, chosen
from smaug_eval.stats import CrossedContrast, Outcome

NATS = "nats"
_MARKS = {Outcome.BETTER: "▲ ", Outcome.WORSE: "▼ "}


@dataclass(frozen=True)
class ArmMatrix:
    """Hold all pairs of arms on one measure.

    Attributes:
        title: What was measured, and on which pairs the arms were trained.
        means: Arm to its mean as text, in the order of the matrix.
        tests: Each pair of arms once: the first less the second, p adjusted by Holm's method over all pairs.
    """

    title: str
    means: Mapping[str, str]
    tests: Mapping[tuple[str, str], Test]

    def of(self, arm: str, other: str) -> Test | None:
        """Return ``arm`` less ``other``; None where they share nothing, or are the same."""
        if (arm, other) in self.tests:
            return self.tests[arm, other]
        back = self.tests.get((other, arm))
        return None if back is None else replace(back, name=f"{arm} less {other}", contrast=turned(back.contrast))

    def table(self) -> StudyTable:
        """Return the matrix as text, row less column."""
        tested = sum(test.contrast.p_value is not None for test in self.tests.values())
        family = f"p adjusted by Holm's method over all {tested} pairs" if tested else "one seed: nothing is tested"
        rows = [(arm, self.means[arm], *(self._cell(arm, other) for other in self.means)) for arm in self.means]
        headings = ("arm", "mean", *(f"less {other}" for other in self.means))
        return StudyTable(f"{self.title}: row less column, over items and seeds, {family}", headings, rows)

    def _cell(self, arm: str, other: str) -> str:
        if arm == other:
            return "–"
        test = self.of(arm, other)
        if test is None:
            return "not compared"
        apart = f"{_MARKS.get(test.outcome, '')}{signed(test.contrast.estimate, test.digits)} {test.interval_words}"
        evidence = test.p_words if test.adjusted_p is not None else ""
        return ", ".join(filter(None, (apart, evidence, test.outcome_shown)))

    def numbers(self) -> Mapping[str, Any]:
        """Return the numbers for JSON."""
        pairs = [{"arm": arm, "other": other, **test.numbers()} for (arm, other), test in self.tests.items()]
        return {"title": self.title, "arms": list(self.means), "pairs": pairs}


@lru_cache(maxsize=4)
def arm_matrices(study: StudyResults) -> tuple[ArmMatrix, ...]:
    """Compare all arms on the sets that the questions are about; nothing where there are but two.

    The model before the training is one of them where it was evaluated.
    """
    sets = list(dict.fromkeys((study.questions.low, study.questions.high)))
    found = [_of_scores(scores, name) for name in sets for scores in scores_on(study, name) if scores.columns]
    found += [_of_answers(study, name) for name in sets]
    return tuple(each for each in found if len(each.means) > 2)


def turned(found: CrossedContrast) -> CrossedContrast:
    """Return a contrast with all weights negated."""
    ends = found.interval
    return replace(found, estimate=-found.estimate or 0.0, interval=None if ends is None else (-ends[1], -ends[0]))


def _of_scores(scores: Scores, pair_set: str) -> ArmMatrix:
    means = {arm: fixed(scores.average({arm: 1.0}).estimate) for arm in scores.values}
    tests = _tests(list(means), lambda arm, other: scores.average({arm: 1.0, other: -1.0}), POINTS, 1)
    return ArmMatrix(f"{scores_label(scores)} in percent, trained on {pair_set}", means, tests)


def _of_answers(study: StudyResults, pair_set: str) -> ArmMatrix:
    arms = study.arms_on(pair_set)
    found = {arm: mean_of(study, arm, pair_set, chosen) for arm in arms}
    means = {arm: signed(each.estimate, 2) for arm, each in found.items() if each is not None}
    tests = _tests(list(means), lambda arm, other: difference(study, arm, other, pair_set, chosen), NATS, 2)
    return ArmMatrix(f"Log-ratio of held-out preferred answers in nats, trained on {pair_set}", means, tests)


def _tests(
    arms: Sequence[str], contrast: Callable[[str, str], CrossedContrast | None], unit: str, digits: int
) -> dict[tuple[str, str], Test]:
    found: dict[tuple[str, str], Test] = {}
    for other, arm in combinations(arms, 2):
        apart = contrast(arm, other)
        if apart is not None:
            found[arm, other] = beside(f"{arm} less {other}", apart, unit, digits)
    return dict(zip(found, adjusted(list(found.values())), strict=True))


def arm_tables(study: StudyResults) -> Iterator[StudyTable]:
    """Yield the matrices as text."""
    yield from (each.table() for each in arm_matrices(study))
