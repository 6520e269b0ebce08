"""Score documents round by round until each column is decided: which model is better, or that the difference is small.

Documents come in a random order, the same for all models (:mod:`smaug_eval.leaderboard.orders`). After each round every
undecided column is looked at with an interval that holds at every look (:mod:`smaug_eval.stats.sequential`). All
answers go into the journal, so that the stages behind this one only write lm-eval's files, a killed run continues, and
scoring everything later computes the rest alone. On a cluster the documents of a round are divided among its workers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from smaug_eval import stats
from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.common.files import write_json
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.engines.shares import Share
from smaug_eval.leaderboard.orders import DocumentOrder
from smaug_eval.results.kept_values import KeptValues, ScoredDocument, scored_samples
from smaug_eval.results.layout import DECISIONS_FILE
from smaug_eval.results.stopping import RECORDED, decision_words
from smaug_eval.runs.jobs import EvaluationJob, Workplace
from smaug_eval.stats import ALPHA, Interval, Outcome

_WORST = (-math.inf, math.inf)


@dataclass(frozen=True)
class ColumnToDecide:
    """Describe a column of the comparison.

    Attributes:
        title: Its title.
        metric: Its metric in samples, as of :func:`~smaug_eval.results.kept_values.scored_samples`.
        order: Of its documents.
        higher_is_better: Whether more is better; None where nobody says so.
    """

    title: str
    metric: str
    order: DocumentOrder
    higher_is_better: bool | None = True


@dataclass(frozen=True)
class DecisionJob:
    """Describe how models are compared with a baseline until every column is decided.

    Attributes:
        name: Of the evaluation in the recipe.
        columns: What to compare them on.
        jobs: Model to column's title to its evaluation; that of the baseline too, unless it is ``kept``.
        baseline: Its name.
        kept: The baseline's results, where they are there already; None where it is scored like the others.
        margin: A difference too small to matter, as a fraction; None to stop on better or worse alone.
        averaged: Whether the mean of the columns means something.
    """

    name: str
    columns: tuple[ColumnToDecide, ...]
    jobs: Mapping[str, Mapping[str, EvaluationJob]]
    baseline: str
    kept: Path | None = None
    margin: float | None = None
    averaged: bool = True

    @property
    def model(self) -> str:
        """Return what its engines are loaded with."""
        return " ".join(next(iter(own.values())).model for own in self.jobs.values())

    @property
    def engine(self) -> EngineSpec:
        """Return the engine of one of its models; they differ in the weights alone."""
        return next(iter(next(iter(self.jobs.values())).values())).engine

    @property
    def level(self) -> float:
        """Return the level of each interval: 5% is shared by the columns and, where there is one, their average."""
        return ALPHA / (len(self.columns) + self.has_average)

    @property
    def has_average(self) -> bool:
        """Return whether the average of the columns has an interval, too."""
        return self.averaged and len(self.columns) > 1

    def perform(self, folder: Path, place: Workplace) -> Mapping[str, Any]:
        """Score and decide, as :class:`~smaug_eval.runs.jobs.Job` describes.

        Raises:
            Interrupted: stopped between two rounds; the answers stay.
            SmaugError: a value is beyond what it can be, or the baseline's results do not fit.
        """
        rounds = Rounds(self)
        while rounds.is_open:
            if place.should_stop():
                raise Interrupted(f"stopped before {rounds.title}")
            for ask in rounds.wanted():
                rounds.take(ask, [ask.perform(folder, place)])
            for line in rounds.look():
                place.voice.say(line)
        return rounds.finish(folder)


@dataclass(frozen=True)
class RoundShare:
    """Describe the documents of a column on which a model is scored in a round, or a share of them; a job of its own.

    Attributes:
        name: The model's.
        column: The column.
        job: The model's evaluation on it.
        start: The first document's place in the order.
        end: The place behind the last one.
        share: Which of these documents; None for all.
    """

    name: str
    column: ColumnToDecide
    job: EvaluationJob
    start: int
    end: int
    share: Share | None = None

    @property
    def model(self) -> str:
        """Return the engine and what it is loaded with."""
        return self.job.model

    @property
    def documents(self) -> int:
        """Return their number."""
        return self.end - self.start

    def divided(self, shares: int) -> list[RoundShare]:
        """Return shares of it, not more than there are documents."""
        number = min(shares, self.documents)
        return [self] if number < 2 else [replace(self, share=Share(each, number)) for each in range(number)]

    def perform(self, folder: Path, place: Workplace) -> Mapping[str, Any]:
        """Score the documents, as :class:`~smaug_eval.runs.jobs.Job` describes; ``scored`` has them in their order.

        Raises:
            SmaugError: lm-eval left a document out, or a value is beyond what it can be.
        """
        order, metric = self.column.order, self.column.metric
        part = slice(None) if self.share is None else slice(self.share.number, None, self.share.of)
        keys = list(order.keys(self.start, self.end))[part]
        by_task = {task: sorted(number for other, number in keys if other == task) for task in order.sizes}
        samples = self.job.samples({task: own for task, own in by_task.items() if own}, place)
        found = {
            (task, each.number): each
            for task, rows in samples.items()
            for each in scored_samples(rows, metric, order.per_entry)
        }
        try:
            scored = [found[key] for key in keys]
        except KeyError as error:
            raise SmaugError(f"{self.column.title}: lm-eval scored no document {error.args[0]}") from error
        largest = order.largest[self.start : self.end][part]
        wrong = next(
            (each.value for each, most in zip(scored, largest, strict=True) if not 0 <= each.value <= most), None
        )
        if wrong is not None:
            raise SmaugError(
                f"{self.column.title}: {metric} of a document is {wrong}, not between 0 and 1",
                fix="score this column in an evaluation without stop",
            )
        return {"scored": [tuple(each) for each in scored]}


@dataclass
class _Course:
    """How the comparison of a model on a column fares."""

    column: ColumnToDecide
    own: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    interval: Interval = _WORST
    outcome: Outcome = Outcome.INCONCLUSIVE
    looks: list[tuple[int, float, float]] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return len(self.own)

    @property
    def is_open(self) -> bool:
        return self.outcome is Outcome.INCONCLUSIVE and self.seen < self.column.order.size

    @property
    def differences(self) -> list[float]:
        return [one - two for one, two in zip(self.own, self.other, strict=True)]

    def drawn(self, *, ends: bool = True) -> stats.Drawn:
        return self.column.order.drawn(self.differences, ends=ends)

    def short(self, *, ends: bool = True) -> list[list[stats.Floored]]:
        """What each of the two may be short of floors."""
        sides = [self.column.order.floored(values, ends=ends) for values in (self.own, self.other)]
        return sides if any(sides) else []

    def look(self, level: float, margin: float | None) -> None:
        self.interval = stats.narrowed(self.interval, self.difference_interval(level))
        self.looks.append((self.seen, *self.interval))
        if self.seen < self.column.order.size and self.column.order.may_end(self.seen):
            self.outcome = stats.decided(self.interval, margin, higher_is_better=self.column.higher_is_better)

    def difference_interval(self, level: float, *, ends: bool = True) -> Interval:
        return stats.difference_above_floors(self.drawn(ends=ends), self.short(ends=ends), level)

    @property
    def difference(self) -> float:
        """As far as it is known: of the linear parts, and what the two are short of floors."""
        short = [stats.shortfall(side) for side in self.short()] or [0.0, 0.0]
        return float(self.drawn().values.mean()) + short[0] - short[1]

    @property
    def apart(self) -> float:
        """The plain mean of the differences, by which the documents are known again."""
        return float(np.mean(self.differences))

    def score_interval(self) -> Interval:
        """That of the model's own score, which holds wherever one stops."""
        order = self.column.order
        drawn, scale, offset = order.drawn_score(self.own)
        short = order.floored(self.own)
        level = ALPHA / 2 if short else ALPHA
        low, high = (scale * end + offset for end in stats.mean_interval(drawn, level))
        if not short:
            return low, high
        least, most = stats.shortfall_interval(short, level)
        return max(0.0, low + least), max(0.0, high + most)


class Rounds:
    """Hold how far a :class:`DecisionJob` has come: what is asked next, and what the answers have decided.

    Args:
        job: The work.

    Attributes:
        scored: Documents scored so far, of all models.
    """

    def __init__(self, job: DecisionJob) -> None:
        self._job, self._number, self.scored = job, 0, 0
        self._kept = None if job.kept is None else KeptValues(job.kept)
        self._models = [model for model in job.jobs if job.kept is not None or model != job.baseline]
        self._courses = {(m, each.title): _Course(each) for m in self._models for each in job.columns}
        self._answers: dict[tuple[str, str], list[ScoredDocument]] = {}
        self._looks = {each.title: stats.look_sizes(each.order.size) for each in job.columns}

    @property
    def is_open(self) -> bool:
        """Return whether a column of a model is open."""
        return any(course.is_open for course in self._courses.values())

    @property
    def part(self) -> float:
        """Return the share of all documents that was scored; most comparisons end before all are."""
        return self.scored / self._whole

    @property
    def _whole(self) -> int:
        return sum(each.order.size for each in self._job.columns) * len(self._job.jobs)

    @property
    def title(self) -> str:
        """Return what the next round is called."""
        return f"round {self._number + 1} of {self._job.name}"

    @property
    def _ends(self) -> dict[tuple[str, str], int]:
        """How far the open columns of each model go in this round."""
        number = self._number
        return {key: self._looks[key[1]][number] for key, course in self._courses.items() if course.is_open}

    def wanted(self) -> list[RoundShare]:
        """List what is asked in this round.

        To and fro: the model that answers last is in memory when the next round begins.
        """
        ends, job = self._ends, self._job
        columns = {title: end for (_, title), end in ends.items()}
        asked = [*self._models, *([] if self._kept is not None else [job.baseline])]
        found = []
        for model in asked if self._number % 2 else reversed(asked):
            for column in job.columns:
                title = column.title
                if title in columns if model == job.baseline else (model, title) in ends:
                    start = len(self._answers.get((model, title), ()))
                    found.append(RoundShare(model, column, job.jobs[model][title], start, columns[title]))
        return found

    def take(self, ask: RoundShare, summaries: Sequence[Mapping[str, Any]]) -> None:
        """Take what became of a part of the round.

        Args:
            ask: What was asked.
            summaries: Of its shares, in their order, or of all of it.
        """
        shares = [[ScoredDocument(*each) for each in summary["scored"]] for summary in summaries]
        known = self._answers.setdefault((ask.name, ask.column.title), [])
        known += [shares[place % len(shares)][place // len(shares)] for place in range(ask.documents)]
        self.scored += ask.documents

    def look(self) -> list[str]:
        """Compare what was asked in this round, and begin the next; return what was decided, as text.

        Raises:
            SmaugError: two models were asked differently, or the baseline's results lack a document.
        """
        told = []
        for (model, title), end in self._ends.items():
            course = self._courses[model, title]
            self._compare(course, model, end)
            if not course.is_open:
                told.append(f"{model}, {title}: {self._words(course)}")
        self._number += 1
        return told

    def _compare(self, course: _Course, model: str, end: int) -> None:
        title, start = course.column.title, course.seen
        own = self._answers[model, title][start:end]
        other = self._of_baseline(course.column, start, end)
        apart = sum(one.shown != two.shown for one, two in zip(own, other, strict=True))
        if apart:
            raise SmaugError(
                f"{title}: {model} and {self._job.baseline} were shown or held against other texts on {apart:,} of "
                f"{end - start:,} documents",
                fix="compare models that were asked alike: same data, shots and chat template",
            )
        course.own += [each.value for each in own]
        course.other += [each.value for each in other]
        course.look(self._job.level, self._job.margin)

    def _of_baseline(self, column: ColumnToDecide, start: int, end: int) -> list[ScoredDocument]:
        if self._kept is None:
            return self._answers[self._job.baseline, column.title][start:end]
        return self._kept.of(column.order.keys(start, end), column.metric, column.order.per_entry)

    def _words(self, course: _Course) -> str:
        low, high = (100 * end for end in course.interval)
        margin = None if self._job.margin is None else 100 * self._job.margin
        return decision_words(course.outcome, course.seen, course.column.order.size, (low, high), margin)

    def finish(self, folder: Path) -> dict[str, Any]:
        """Write what was decided; return the summary for the stage's record.

        Args:
            folder: Of the stage.
        """
        found = self.found()
        write_json(folder / DECISIONS_FILE, found)
        lines = [each["words"] for own in found["models"].values() for each in own["columns"].values()]
        return {"decisions": lines, "documents": self.scored, "of": self._whole, "warnings": []}

    def found(self) -> dict[str, Any]:
        """Return what was decided, as plain data; differences in points."""
        job = self._job
        models = {model: self._of_model(model) for model in self._models}
        if self._kept is None:
            models[job.baseline] = self._of_the_baseline()
        return {
            "evaluation": job.name,
            "against": job.baseline,
            "margin": None if job.margin is None else 100 * job.margin,
            "level": job.level,
            "columns": {
                each.title: {"documents": each.order.size, "seed": each.order.seed, "metric": each.metric}
                for each in job.columns
            },
            "models": models,
        }

    def _of_model(self, model: str) -> dict[str, Any]:
        courses = {each.title: self._courses[model, each.title] for each in self._job.columns}
        return {
            "average": self._average(list(courses.values())) if self._job.has_average else None,
            "columns": {title: self._of_column(course) for title, course in courses.items()},
        }

    def _average(self, courses: Sequence[_Course]) -> dict[str, Any]:
        level = self._job.level
        sides = [course.short() for course in courses]
        # Columns without floors are short of nothing; each one's score counts 1 / k.
        short = [
            [part._replace(weight=part.weight / len(courses)) for own in sides if own for part in own[side]]
            for side in (0, 1)
        ]
        linear = stats.average_interval([each.drawn() for each in courses], level / 2 if any(short) else level)
        interval = stats.with_shortfalls(linear, short, level) if any(short) else linear
        return {
            RECORDED.difference: 100 * float(np.mean([each.difference for each in courses])),
            RECORDED.interval: _points(interval),
            RECORDED.outcome: stats.decided(interval, self._job.margin).value,
            RECORDED.columns: len(courses),
        }

    def _of_column(self, course: _Course) -> dict[str, Any]:
        beyond = course.difference_interval(self._job.level, ends=False)
        return {
            RECORDED.n: course.seen,
            RECORDED.of: course.column.order.size,
            RECORDED.sizes: dict(course.column.order.sizes),
            RECORDED.outcome: course.outcome.value,
            RECORDED.difference: 100 * course.difference,
            RECORDED.apart: 100 * course.apart,
            RECORDED.per_entry: course.column.order.per_entry,
            RECORDED.interval: _points(course.interval),
            RECORDED.beyond: _points(beyond),
            RECORDED.score_interval: _points(course.score_interval()),
            "looks": [[n, *_points((low, high))] for n, low, high in course.looks],
            "words": self._words(course),
        }

    def _of_the_baseline(self) -> dict[str, Any]:
        columns = {}
        for each in self._job.columns:
            course = _Course(each, own=[one.value for one in self._answers[self._job.baseline, each.title]])
            columns[each.title] = {
                RECORDED.n: course.seen,
                RECORDED.of: each.order.size,
                RECORDED.sizes: dict(each.order.sizes),
                RECORDED.score_interval: _points(course.score_interval()),
                "words": f"{course.seen:,} of {each.order.size:,} documents, as many as a comparison took",
            }
        return {"average": None, "columns": columns}


def _points(interval: Interval) -> list[float]:
    return [100 * end for end in interval]
