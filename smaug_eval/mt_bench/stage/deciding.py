"""Choose which questions to judge next until a comparison of judged scores is decided.

Questions come in a random order, the same for all models. A question's value is the difference of the two models' mean
scores over its turns, from -9 to 9; the interval of the mean over all questions holds at every look
(:mod:`smaug_eval.stats.sequential`). A comparison in which a judged question has no such value, since the judge gave no
verdict, goes on to the last question.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smaug_eval import stats
from smaug_eval.mt_bench.files.questions import QuestionId
from smaug_eval.mt_bench.files.records import JudgmentRecord
from smaug_eval.mt_bench.judge.parsing import HIGHEST, LOWEST
from smaug_eval.mt_bench.judge.plan import Match
from smaug_eval.mt_bench.scores.single import question_differences, question_scores
from smaug_eval.mt_bench.scores.stopped import StoppedJudging
from smaug_eval.stats import ALPHA, Drawn, Interval, Outcome

_BOUND = float(HIGHEST - LOWEST)
_MIDDLE = (HIGHEST + LOWEST) / 2
_FIRST_LOOK, _GROWTH = 10, 1.15


@dataclass(frozen=True)
class StopRule:
    """Say when a judging stops.

    Attributes:
        against: The model that the others are compared with.
        within: A difference in points of the judge's scale that is too small to matter; None to stop on higher or lower
            alone.
        seed: Of the questions' order.
    """

    against: str
    within: float | None = None
    seed: int = 42

    @property
    def inputs(self) -> dict[str, Any]:
        """Return what decides where it stops."""
        return {"stop": {"against": self.against, "within": self.within, "seed": self.seed}}


@dataclass
class _JudgedCourse:
    """How the comparison of a model fares; ``order`` has the questions that both can be judged on."""

    order: list[QuestionId]
    interval: Interval = (-_BOUND, _BOUND)
    outcome: Outcome = Outcome.INCONCLUSIVE
    seen: int = 0
    looks: list[tuple[int, float, float]] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.outcome is Outcome.INCONCLUSIVE and self.seen < len(self.order)

    def look(self, end: int, values: Mapping[QuestionId, float], margin: float | None) -> None:
        self.seen = end
        own = [values[question] for question in self.order[:end] if question in values]
        if len(own) < end or any(abs(value) > _BOUND for value in own):
            return
        found = stats.mean_interval(Drawn(np.array(own), len(self.order), _BOUND), ALPHA)
        self.interval = stats.narrowed(self.interval, found)
        self.looks.append((end, *self.interval))
        if end < len(self.order):
            self.outcome = stats.decided(self.interval, margin)


class QuestionRounds:
    """Hold how far a judging that may stop has come.

    Args:
        matches: Every judgment of single answers that could be made.
        rule: When to stop.
    """

    def __init__(self, matches: Sequence[Match], rule: StopRule) -> None:
        self._rule, self._matches = rule, matches
        asked: dict[str, dict[QuestionId, None]] = {}
        for match in matches:
            asked.setdefault(match.models[0], {})[match.question.question_id] = None
        self._asked = asked
        questions = sorted({question for own in asked.values() for question in own}, key=str)
        seed = [rule.seed, zlib.crc32("\n".join(map(str, questions)).encode())]
        order = [questions[place] for place in np.random.default_rng(seed).permutation(len(questions))]
        other = asked.get(rule.against, {})
        self._courses = {
            model: _JudgedCourse([question for question in order if question in own and question in other])
            for model, own in asked.items()
            if model != rule.against
        }
        self._looks = {
            model: stats.look_sizes(len(each.order), _FIRST_LOOK, _GROWTH) for model, each in self._courses.items()
        }
        self._number = 0
        self._wanted: dict[str, dict[QuestionId, None]] = {model: {} for model in asked}

    @property
    def is_open(self) -> bool:
        """Return whether a comparison is open."""
        return any(each.is_open for each in self._courses.values())

    def next_round(self) -> list[Match]:
        """Start the next round; return every judgment that it and those before it take."""
        for model, course in self._courses.items():
            if course.is_open:
                for each in (model, self._rule.against):
                    self._wanted[each] |= dict.fromkeys(course.order[: self._looks[model][self._number]])
        return self.asked()

    def asked(self) -> list[Match]:
        """Return the judgments of all rounds so far.

        A comparison that went to its last question takes the questions, too, that only one of the two can be judged on.
        """
        found = {model: dict(own) for model, own in self._wanted.items()}
        for model, course in self._courses.items():
            if course.seen == len(course.order):
                for each in (model, self._rule.against):
                    found[each] |= self._asked.get(each, {})
        return [each for each in self._matches if each.question.question_id in found[each.models[0]]]

    def look(self, records: Sequence[JudgmentRecord]) -> list[str]:
        """Look at all open comparisons; return what was decided, as text.

        Args:
            records: The judgments there are.
        """
        told = []
        looked_at = [model for model, course in self._courses.items() if course.is_open]
        for model in looked_at:
            values = question_differences(records, model, self._rule.against)
            self._courses[model].look(self._looks[model][self._number], values, self._rule.within)
            if not self._courses[model].is_open:
                told.append(f"{model}: {self._stopped(model, {}).decided_words}")
        self._number += 1
        return told

    def stopped(self, records: Sequence[JudgmentRecord]) -> dict[str, StoppedJudging]:
        """Return how each model's judging ended.

        Args:
            records: The judgments there are.
        """
        found = {model: self._stopped(model, question_scores(records, model)) for model in self._courses}
        baseline = self._rule.against
        if baseline in self._asked:
            own = {match.question.question_id for match in self.asked() if match.models == (baseline,)}
            n, of = len(own), len(self._asked[baseline])
            scores = question_scores(records, baseline)
            order = max((each.order for each in self._courses.values()), key=len, default=[])
            interval = _score_interval(order, n, of, scores)
            found[baseline] = StoppedJudging(n, of, score_interval=interval)
        return found

    def _stopped(self, model: str, scores: Mapping[QuestionId, float]) -> StoppedJudging:
        course, rule = self._courses[model], self._rule
        size = len(course.order)
        own = _score_interval(course.order, course.seen, size, scores)
        return StoppedJudging(course.seen, size, rule.against, rule.within, course.outcome, course.interval, own)

    def as_json(self, stopped: Mapping[str, StoppedJudging]) -> dict[str, Any]:
        """Return what was decided, with every look, as plain data.

        Args:
            stopped: How each model's judging ended.
        """
        looks = {model: [list(look) for look in course.looks] for model, course in self._courses.items()}
        return {
            **self._rule.inputs["stop"],
            "level": ALPHA,
            "models": {
                model: {**each.as_json(), "looks": looks.get(model, []), "words": each.decided_words}
                for model, each in stopped.items()
            },
        }


def _score_interval(
    order: Sequence[QuestionId], n: int, of: int, scores: Mapping[QuestionId, float]
) -> Interval | None:
    """The anytime-valid interval of a model's own mean score over its questions; None where one has no score."""
    own = [scores[question] for question in order[:n] if question in scores]
    if not own or len(own) < n or of < n or not all(LOWEST <= value <= HIGHEST for value in own):
        return None
    low, high = stats.mean_interval(Drawn(np.array(own) - _MIDDLE, of, _BOUND / 2))
    return low + _MIDDLE, high + _MIDDLE
