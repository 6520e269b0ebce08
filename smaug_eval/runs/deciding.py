"""Score documents round by round until each column is decided: which model is better, or that the difference is small.

Documents come in a random order, the same for all models (:mod:`smaug_eval.leaderboard.orders`). After each round every
undecided column is looked at with an interval that holds at every look (:mod:`smaug_eval.stats.sequential`). All
answers go into the journal, so that the stages behind this one only write lm-eval's files, a killed run continues, and
scoring everything later computes the rest alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from smaug_eval import stats
from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.common.files import write_json
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.leaderboard.orders import DocumentOrder
from smaug_eval.results.kept_values import KeptValues, ScoredDocument, scored_samples
from smaug_eval.results.layout import DECISIONS_FILE
from smaug_eval.results.stopping import RECORDED, decision_words
from smaug_eval.runs.jobs import EvaluationJob, Workplace
from smaug_eval.stats import ALPHA, Drawn, Interval, Outcome

_WORST = (-1.0, 1.0)


@dataclass(frozen=True)
class ColumnToDecide:
    """Describe a column of the comparison.

    Attributes:
        title: Its title.
        metric: Its metric, ``name`` or ``name,filter``.
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
            SmaugError: a value is not between 0 and 1, or the baseline's results do not fit.
        """
        round_ = _Rounds(self, place)
        round_.run()
        found = round_.found()
        write_json(folder / DECISIONS_FILE, found)
        lines = [each["words"] for own in found["models"].values() for each in own["columns"].values()]
        scored, whole = round_.scored, sum(each.order.size for each in self.columns) * len(self.jobs)
        return {"decisions": lines, "documents": scored, "of": whole, "warnings": []}


@dataclass
class _Course:
    """How the comparison of a model on a column fares."""

    column: ColumnToDecide
    differences: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    interval: Interval = _WORST
    outcome: Outcome = Outcome.INCONCLUSIVE
    looks: list[tuple[int, float, float]] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return len(self.differences)

    @property
    def is_open(self) -> bool:
        return self.outcome is Outcome.INCONCLUSIVE and self.seen < self.column.order.size

    def drawn(self, values: Sequence[float], *, ends: bool = True) -> Drawn:
        order = self.column.order
        weighted = np.asarray(values) * order.weights[: len(values)]
        return Drawn(weighted, order.size if ends else None, order.bound)

    def look(self, level: float, margin: float | None) -> None:
        low, high = stats.mean_interval(self.drawn(self.differences), level)
        low, high = max(low, self.interval[0]), min(high, self.interval[1])  # all of them hold together
        self.interval = (low, high) if low <= high else ((low + high) / 2,) * 2
        self.looks.append((self.seen, *self.interval))
        if self.seen < self.column.order.size:
            self.outcome = stats.decided(self.interval, margin, higher_is_better=self.column.higher_is_better)

    @property
    def difference(self) -> float:
        return float(self.drawn(self.differences).values.mean())

    def score_interval(self) -> Interval:
        """That of the model's own score, which holds wherever one stops."""
        low, high = stats.mean_interval(self.drawn([2 * value - 1 for value in self.values]))
        return (low + 1) / 2, (high + 1) / 2


class _Rounds:
    """Do the work of a :class:`DecisionJob`."""

    def __init__(self, job: DecisionJob, place: Workplace) -> None:
        self._job, self._place, self.scored = job, place, 0
        self._kept = None if job.kept is None else KeptValues(job.kept)
        self._models = [model for model in job.jobs if job.kept is not None or model != job.baseline]
        self._courses = {(m, each.title): _Course(each) for m in self._models for each in job.columns}
        self._answers: dict[tuple[str, str], list[ScoredDocument]] = {}
        self._looks = {each.title: stats.look_sizes(each.order.size) for each in job.columns}

    def run(self) -> None:
        """Go on until nothing is open."""
        number = 0
        while any(course.is_open for course in self._courses.values()):
            if self._place.should_stop():
                raise Interrupted(f"stopped before round {number + 1} of {self._job.name}")
            self._round(number)
            number += 1

    def _round(self, number: int) -> None:
        wanted = {
            (model, title): self._looks[title][number]
            for (model, title), course in self._courses.items()
            if course.is_open
        }
        ends = {title: end for (_, title), end in wanted.items()}
        asked = [*self._models, *([] if self._kept is not None else [self._job.baseline])]
        # To and fro: the model that answers last is in memory when the next round begins.
        for model in asked if number % 2 else reversed(asked):
            for column in self._job.columns:
                is_asked = column.title in ends if model == self._job.baseline else (model, column.title) in wanted
                if is_asked:
                    self._score(model, column, ends[column.title])
        for (model, title), end in wanted.items():
            self._compare(model, title, end)

    def _score(self, model: str, column: ColumnToDecide, end: int) -> None:
        known = self._answers.setdefault((model, column.title), [])
        start = len(known)
        samples = self._job.jobs[model][column.title].samples(column.order.documents(start, end), self._place)
        found = {
            (task, each.number): each for task, rows in samples.items() for each in scored_samples(rows, column.metric)
        }
        try:
            known += [found[key] for key in column.order.keys(start, end)]
        except KeyError as error:
            raise SmaugError(f"{column.title}: lm-eval scored no document {error.args[0]}") from error
        wrong = next((each.value for each in known[start:] if not 0 <= each.value <= 1), None)
        if wrong is not None:
            raise SmaugError(
                f"{column.title}: {column.metric} of a document is {wrong}, not between 0 and 1",
                fix="score this column in an evaluation without stop",
            )
        self.scored += end - start

    def _compare(self, model: str, title: str, end: int) -> None:
        course, start = self._courses[model, title], self._courses[model, title].seen
        own = self._answers[model, title][start:end]
        other = self._of_baseline(course.column, start, end)
        apart = sum(one.shown != two.shown for one, two in zip(own, other, strict=True))
        if apart:
            raise SmaugError(
                f"{title}: {model} and {self._job.baseline} were shown or held against other texts on {apart:,} of "
                f"{end - start:,} documents",
                fix="compare models that were asked alike: same data, shots and chat template",
            )
        course.values += [each.value for each in own]
        course.differences += [one.value - two.value for one, two in zip(own, other, strict=True)]
        course.look(self._job.level, self._job.margin)
        if not course.is_open:
            self._place.voice.say(f"{model}, {title}: {self._words(course)}")

    def _of_baseline(self, column: ColumnToDecide, start: int, end: int) -> list[ScoredDocument]:
        if self._kept is None:
            return self._answers[self._job.baseline, column.title][start:end]
        return self._kept.of(column.order.keys(start, end), column.metric)

    def _words(self, course: _Course) -> str:
        low, high = (100 * end for end in course.interval)
        margin = None if self._job.margin is None else 100 * self._job.margin
        return decision_words(course.outcome, course.seen, course.column.order.size, (low, high), margin)

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
        interval = stats.average_interval([each.drawn(each.differences) for each in courses], self._job.level)
        return {
            RECORDED.difference: 100 * float(np.mean([each.difference for each in courses])),
            RECORDED.interval: _points(interval),
            RECORDED.outcome: stats.decided(interval, self._job.margin).value,
            RECORDED.columns: len(courses),
        }

    def _of_column(self, course: _Course) -> dict[str, Any]:
        beyond = stats.mean_interval(course.drawn(course.differences, ends=False), self._job.level)
        return {
            RECORDED.n: course.seen,
            RECORDED.of: course.column.order.size,
            RECORDED.sizes: dict(course.column.order.sizes),
            RECORDED.outcome: course.outcome.value,
            RECORDED.difference: 100 * course.difference,
            RECORDED.interval: _points(course.interval),
            RECORDED.beyond: _points(beyond),
            RECORDED.score_interval: _points(course.score_interval()),
            "looks": [[n, *_points((low, high))] for n, low, high in course.looks],
            "words": self._words(course),
        }

    def _of_the_baseline(self) -> dict[str, Any]:
        columns = {}
        for each in self._job.columns:
            course = _Course(each, values=[one.value for one in self._answers[self._job.baseline, each.title]])
            columns[each.title] = {
                RECORDED.n: len(course.values),
                RECORDED.of: each.order.size,
                RECORDED.sizes: dict(each.order.sizes),
                RECORDED.score_interval: _points(course.score_interval()),
                "words": f"{len(course.values):,} of {each.order.size:,} documents, as many as a comparison took",
            }
        return {"average": None, "columns": columns}


def _points(interval: Interval) -> list[float]:
    return [100 * end for end in interval]
