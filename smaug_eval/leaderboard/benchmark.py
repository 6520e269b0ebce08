"""Describe a benchmark: its column, its tasks, how logged samples are scored, and how others run and name it.

A benchmark is one file in :mod:`smaug_eval.leaderboard.benchmarks`, which lists them. Suites, the scoring of samples,
both views of a run, the dump of requests and the names in other programs' results all read this description.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.forms import Form
from smaug_eval.leaderboard.intervals import Values
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.scores import ColumnScore, Score, mean_over_documents

Sample = Mapping[str, Any]
"""One line of lm-eval's samples file."""

Documents = Mapping[str, Mapping[str, Values]]
"""Leaf task to metric to values per document, as :func:`smaug_eval.leaderboard.rescore.document_metrics` gives them."""


@dataclass(frozen=True)
class ViewCause:
    """Name one reason why the leaderboard's score and lm-eval 0.4.13's differ.

    Attributes:
        name: The rule.
        points: 0.4.13's score minus the leaderboard's through this rule alone, in percentage points; None where these
            outputs cannot say.
        detail: What the rule is, and what is known where ``points`` is None.
        run: lm-eval's own task that has to be run to see it; None where nothing has to be run.
    """

    name: str
    points: float | None
    detail: str
    run: str | None = None


ModernRule = Callable[[Column, ColumnScore, Documents], tuple[Score | None, tuple[ViewCause, ...]]]
"""Column, its score in the leaderboard's view and values per document to the score by lm-eval 0.4.13's rule, and why
the two differ; None for the score where the samples do not tell."""


def same_rule(_column: Column, score: ColumnScore, _documents: Documents) -> tuple[Score | None, tuple[ViewCause, ...]]:
    """Return the leaderboard's own score: lm-eval 0.4.13 scores the same outputs by the same rule."""
    return score.score, ()


def unnormalised_rule(
    column: Column, score: ColumnScore, _documents: Documents
) -> tuple[Score | None, tuple[ViewCause, ...]]:
    """Return lm-eval's own value of a group of the second leaderboard: weighted by documents, and not normalised."""
    if not column.is_normalised:
        return score.score, ()
    modern = mean_over_documents(list(score.leaves.values()))
    detail = "lm-eval weighs tasks by their documents and leaves a guess its score; the leaderboard counts it as 0"
    return modern, (ViewCause("normalisation", modern.value - score.score.value, detail),)


@dataclass(frozen=True)
class ModernTask:
    """Name lm-eval 0.4.13's own task of a benchmark, and its rule.

    Attributes:
        name: The task, or the group, whose tasks then are ``<name>_<subject>``.
        metric: Its headline metric, ``name`` or ``name,filter``.
        rule: Its score from the leaderboard's outputs.
        weighted_by_size: Whether a group weighs its tasks by their documents.
    """

    name: str
    metric: str
    rule: ModernRule = same_rule
    weighted_by_size: bool = False


@dataclass(frozen=True)
class Benchmark:
    """Hold everything that the program knows of one benchmark.

    Attributes:
        title: The column's name in tables.
        metric: The leaderboard's metric.
        tasks: Its tasks: one, or the subjects of a group, whose mean is the score.
        measure: A logged sample and the stops of the task to values by metric, in [0, 1]. It raises LookupError,
            TypeError or ValueError for a sample that is not in lm-eval's format.
        reported: Metric to what other versions call it in results, the most exact first; the headline comes first.
        modern: lm-eval 0.4.13's own task.
        group: lm-eval's name of the group; empty for a single task.
        names: Names in other programs' results to names in ``tasks``.
        partial_names: Those of ``names`` that do not measure the headline metric.
        old_names: Name in ``tasks`` to its name in harness 0.2 and 0.3, where that is not lm-eval's today.
        old_versions: Version of a task of harness 0.2 and 0.3 that is another task, to a note that says why.
        key_notes: Key of ``reported`` that is not the leaderboard's metric, to a note in which ``{reason}`` may stand.
        internal: Metrics of ``measure`` that only ``modern.rule`` reads.
        weighted_by_size: Whether the score of a group weighs its tasks by their documents.
        floors: Of each task the score that guessing has, see :class:`~smaug_eval.leaderboard.columns.Column`.
        floor: The same for the mean of all tasks.
        check: Makes sure that what scores it is installed, and raises SmaugError otherwise; None where nothing is
            needed beyond this program.
    """

    title: str
    metric: str
    tasks: tuple[TaskSpec, ...]
    measure: Callable[[Sample, Sequence[str]], dict[str, float]]
    reported: Mapping[str, tuple[str, ...]]
    modern: ModernTask
    group: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    partial_names: frozenset[str] = frozenset()
    old_names: Mapping[str, str] = field(default_factory=dict)
    old_versions: Mapping[int, str] = field(default_factory=dict)
    key_notes: Mapping[str, str] = field(default_factory=dict)
    internal: frozenset[str] = frozenset()
    weighted_by_size: bool = False
    floors: tuple[float, ...] = ()
    floor: float = 0.0
    check: Callable[[], None] | None = None

    @property
    def form(self) -> Form:
        """Return the form of its tasks; other suites' tasks in this form are scored and viewed by the same rules."""
        return self.tasks[0].form

    @property
    def column(self) -> Column[TaskSpec]:
        """Return the leaderboard's column."""
        return Column(
            self.title,
            self.group or self.tasks[0].name,
            self.metric,
            self.tasks,
            weighted_by_size=self.weighted_by_size,
            floors=self.floors,
            floor=self.floor,
        )

    def modern_column(self, own: Callable[[DataSplit, TaskSpec], DataSplit]) -> Column[TaskSpec]:
        """Return lm-eval 0.4.13's own column.

        Args:
            own: A split of a task to the split that lm-eval's own task reads.
        """
        leaves = tuple(self._modern_task(spec, own) for spec in self.tasks)
        weighted = self.modern.weighted_by_size
        return Column(self.title, self.modern.name, self.modern.metric, leaves, weighted_by_size=weighted)

    def _modern_task(self, spec: TaskSpec, own: Callable[[DataSplit, TaskSpec], DataSplit]) -> TaskSpec:
        name = f"{self.modern.name}_{spec.subject}" if self.group else self.modern.name
        shots = None if spec.shots is None else own(spec.shots, spec)
        return replace(spec, name=name, evaluated=own(spec.evaluated, spec), shots=shots)

    def task(self, name: str) -> TaskSpec | None:
        """Return the task that other programs' results call ``name``; None where it is none of this benchmark's."""
        own = self.names.get(name)
        return next((spec for spec in self.tasks if spec.name == own), None)

    def is_old(self, name: str) -> bool:
        """Say whether ``name`` is a task's name in harness 0.2 and 0.3 alone."""
        return name in self.old_names.values()
