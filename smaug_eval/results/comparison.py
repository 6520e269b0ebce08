"""Define a comparison: models, a baseline, their scores, and where a difference would mean nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.parallel import mapped
from smaug_eval.common.suggest import nearest
from smaug_eval.results.boards import TASKS, PageBoard, boards_of
from smaug_eval.results.comparable import LIMITED, Comparability, Comparable
from smaug_eval.results.files import Unread
from smaug_eval.results.fitting import with_readable_samples
from smaug_eval.results.gates import KnownConditions, comparability, group_gate, is_refused
from smaug_eval.results.json_files import mapping
from smaug_eval.results.judged import JudgedSet
from smaug_eval.results.merging import descriptions, merge_dialogues, merge_models, merge_trainings
from smaug_eval.results.metrics import MetricChoice, headline
from smaug_eval.results.names import short_names
from smaug_eval.results.pairing import Gates
from smaug_eval.results.sources import BASE, Source
from smaug_eval.results.study import read_study, selection
from smaug_eval.results.tables import KnownScores, ScoreTable, score_table
from smaug_eval.results.task_results import TaskResult
from smaug_eval.results.trainings import Training

if TYPE_CHECKING:
    from smaug_eval.results.study import StudyResults

DEFAULT_BASELINE = BASE
MOST_CHOICES = 12
"""Most models of which every one can be the baseline on one page, and every pair is compared."""

Results = Mapping[str, TaskResult]


@dataclass(frozen=True)
class Comparison:
    """Hold everything the panels are made from.

    Attributes:
        title: The page's title.
        sources: What the given paths hold.
        models: Model to task to newest result, in the order of the tables.
        baseline: The model others are compared with; None where nothing was evaluated or judged.
        trainings: All training logs.
        boards: The tables that the results make, with what the models have in them.
        tables: Scores on suites, which have an average.
        others: Scores on all other tasks; None where there are none.
        dialogues: Judged answers of all sources, brought together where they can stand in one table.
        gates: Model to task to whether its result compares with the baseline's, for tasks that both have.
        archive: The archived leaderboard's rows, to rank models in; None where it was not given.
        study: The study whose questions the report answers; all else then holds but a selection of it. None where it is
            no study, or one of several sources.
        full_names: Name on the page to the whole name, for models whose common beginning is cut.
        described: What runs' manifests say of models.
        unread: Samples that cannot be read.
        given: What the comparison was made of; None where it was put together by hand.
    """

    title: str
    sources: Sequence[Source]
    models: Mapping[str, Results]
    baseline: str | None
    trainings: Sequence[Training]
    boards: Sequence[PageBoard]
    tables: Sequence[ScoreTable]
    others: ScoreTable | None = None
    dialogues: Sequence[JudgedSet] = ()
    gates: Mapping[str, Gates] = field(default_factory=dict)
    archive: Path | None = None
    study: StudyResults | None = None
    full_names: Mapping[str, str] = field(default_factory=dict)
    described: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    unread: Sequence[Unread] = ()
    given: Given | None = field(default=None, repr=False, compare=False)

    @property
    def candidates(self) -> list[str]:
        """Return every model that can be the baseline, in the order of the sources, whatever the baseline is."""
        return [] if self.given is None else self.given.candidates

    @property
    def choices(self) -> list[str]:
        """Return the models that a page lets its reader choose the baseline from.

        Empty where there is but one, and where there are more than :data:`MOST_CHOICES`.
        """
        return self.candidates if 1 < len(self.candidates) <= MOST_CHOICES else []

    @property
    def first(self) -> Comparison:
        """Return the comparison with the baseline that was given, whose lists of documents a page shows."""
        return self if self.given is None else self.given.against(self.given.baseline)

    def against_all(self) -> dict[str, Comparison]:
        """Return the comparison with each of :attr:`choices` as the baseline; those that are not yet made, at once."""
        return dict(zip(self.choices, mapped(self.against, self.choices), strict=True))

    def against(self, baseline: str | None) -> Comparison:
        """Return the comparison of the same models with another baseline, as :func:`compare` makes it.

        Args:
            baseline: One of :attr:`candidates`.
        """
        return self if self.given is None or baseline == self.baseline else self.given.against(baseline)

    @property
    def known_scores(self) -> KnownScores:
        """Return what keeps models' scores, for all baselines together."""
        return KnownScores() if self.given is None else self.given.scores

    @property
    def all_tables(self) -> list[ScoreTable]:
        """Return the suites' tables, then the table of all other tasks."""
        return [*self.tables, *([] if self.others is None else [self.others])]

    @property
    def judged_models(self) -> list[str]:
        """Return every model with judged answers."""
        return list(dict.fromkeys(model for each in self.dialogues for model in each.models))

    @property
    def tasks(self) -> list[str]:
        """Return every task and group that some model has a result of."""
        return list(dict.fromkeys(task for results in self.models.values() for task in results))

    @property
    def baseline_results(self) -> Results:
        """Return the baseline's results; empty where there is no baseline."""
        return self.models.get(self.baseline, {}) if self.baseline else {}

    def full_name(self, model: str) -> str:
        """Return a model's whole name."""
        return self.full_names.get(model, model)

    def headline_metric(self, task: str) -> str | None:
        """Return the metric that stands for ``task``; None where no model has a number of it."""
        return headline_metric(self.boards, self.models, task)

    def totals_compare(self, model: str, task: str) -> bool:
        """Return whether the model's total of ``task`` may be compared with the baseline's; not so for the baseline.

        It takes the same documents on both sides, and of a group the same members, all of which compare so.
        """
        gates, own, other = (
            self.gates.get(model, {}),
            _members(self.models[model], task),
            _members(self.baseline_results, task),
        )
        return own == other and all(each in gates and gates[each].outcome is Comparable.COMPARABLE for each in own)

    def incomparable(self) -> Iterator[str]:
        """Yield a sentence per reason why models' results do not compare with the baseline's."""
        found = {
            model: {
                task: ["; ".join(gate.reasons)] if is_refused(gate) else []
                for task, gate in gates.items()
                if not self.models[model][task].is_group
            }
            for model, gates in self.gates.items()
        }
        for models, reason, where in self._grouped(found):
            yield f"{models} and {self.baseline} do not compare on {where} ({reason}): no difference is shown."

    def remarks(self) -> Iterator[str]:
        """Yield a sentence per thing to know beside models' comparisons with the baseline."""
        found = {}
        for model, gates in self.gates.items():
            results = self.models[model]
            # That a model was limited to some documents is said of the model, for all tasks together.
            found[model] = {
                task: [] if is_refused(gate) else [each for each in gate.remarks if LIMITED not in each]
                for task, gate in gates.items()
                if not results[task].is_group
            }
        for models, remark, where in self._grouped(found):
            yield f"{models} against {self.baseline}, {where}: {remark}."

    def _grouped(self, found: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[tuple[str, str, str]]:
        """Yield models, a text and tasks as phrases; a text that is the same but for the model's name comes once."""
        about: dict[tuple[str, str], dict[str, str]] = {}
        for model, texts in found.items():
            for text, where in _by_text(texts):
                about.setdefault((text.replace(model, _MODEL), where), {})[model] = text
        for (text, where), own in about.items():
            if len(own) == 1:
                model, said = next(iter(own.items()))
                yield model, said, where
            else:
                models = f"all {len(own)} other models" if len(own) == len(self.gates) > 3 else ", ".join(own)
                yield models, text.replace(_MODEL, "the model"), where


_MODEL = "\x00"


def _members(results: Results, task: str) -> set[str]:
    """Return the task, and of a group all tasks and groups below it that have results."""
    found, left = set(), [task]
    while left:
        each = left.pop()
        if each in results and each not in found:  # a file may name a group among its own members
            found.add(each)
            left += results[each].subtasks
    return found


def _by_text(texts: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yield each text that some task has, with its tasks as a phrase."""
    tasks: dict[str, list[str]] = {}
    for task, found in texts.items():
        for text in found:
            tasks.setdefault(text, []).append(task)
    for text, where in tasks.items():
        yield text, "every task" if 1 < len(where) == len(texts) else some_tasks(where)


def some_tasks(tasks: Sequence[str]) -> str:
    """Name the first task, and say how many more there are."""
    return min(tasks) if len(tasks) == 1 else f"{min(tasks)} and {len(tasks) - 1} more"


def headline_metric(boards: Sequence[PageBoard], models: Mapping[str, Results], task: str) -> str | None:
    """Return the metric that stands for a task on its board, else its own first one; None where there is no number."""
    for board in boards:
        for entries in board.entries.values():
            for entry in entries.values():
                if entry.result.task == task:
                    return entry.metric
        for column in board.board.columns:
            if column.task == task:
                return column.metric
    results = [own[task] for own in models.values() if task in own]
    found = (headline(result.metrics, result.configured) for result in results)
    return next((metric.key for metric in found if metric is not None), None)


def compare(
    sources: Sequence[Source],
    *,
    title: str | None,
    baseline: str | None,
    archive: Path | None = None,
    whole: bool = False,
    metrics: Sequence[MetricChoice] = (),
    shorten: bool = False,
) -> Comparison:
    """Bring sources together.

    Args:
        sources: With labels that tell them apart.
        title: The page's title; made from the labels where None.
        baseline: A model; where None, the one that the only run's recipe names, the one called "base", else the first.
        archive: The archived leaderboard's rows as CSV.
        whole: Keep every model of a study, not only those that its page sets side by side.
        metrics: Metrics that were named to stand for tasks of no suite.
        shorten: Cut what all names of models begin with, where they are long.

    Raises:
        SmaugError: there is no such baseline, or results are not in lm-eval's format.
    """
    study = None
    if len(sources) == 1 and not whole and sources[0].manifest is not None:
        study = read_study(sources[0])
        if study is not None:
            sources = [selection(sources[0], study, baseline)]
    named = merge_models(sources)
    dialogues, trainings = merge_dialogues(sources), merge_trainings(sources)
    judged = list(dict.fromkeys(model for each in dialogues for model in each.models))
    chosen = _choose_baseline(baseline, list(named) or judged, sources)
    may_cut = shorten and not judged and not trainings
    cut = short_names(list(named)) if may_cut else {name: name for name in named}
    models, unread = with_readable_samples({cut[name]: results for name, results in named.items()})
    given = Given(
        models=models,
        candidates=list(models) or judged,
        baseline=cut.get(chosen, chosen) if chosen is not None else None,
        metrics=metrics,
        common={
            "title": title or "Comparison of " + ", ".join(source.label for source in sources),
            "sources": sources,
            "trainings": trainings,
            "dialogues": dialogues,
            "archive": archive,
            "study": study,
            "full_names": {short: name for name, short in cut.items() if short != name},
            "described": {cut.get(name, name): about for name, about in descriptions(sources).items()},
            "unread": unread,
        },
    )
    return given.against(given.baseline)


@dataclass(frozen=True, eq=False)
class Given:
    """Hold what a comparison is made of whatever its baseline is, and the comparisons that were made of it.

    Attributes:
        models: Model to task to result, in the order of the sources.
        candidates: Models that can be the baseline.
        baseline: The one that was asked for.
        metrics: Metrics that were named to stand for tasks of no suite.
        common: Attributes that all comparisons share.
    """

    models: Mapping[str, Results]
    candidates: list[str]
    baseline: str | None
    metrics: Sequence[MetricChoice]
    common: Mapping[str, Any]

    @cached_property
    def _made(self) -> dict[str | None, Comparison]:
        return {}

    @cached_property
    def scores(self) -> KnownScores:
        """Keep the scores that were computed."""
        return KnownScores()

    @cached_property
    def _conditions(self) -> KnownConditions:
        return KnownConditions()

    def against(self, baseline: str | None) -> Comparison:
        """Return the comparison with one baseline; it is made once."""
        if baseline not in self._made:
            self._made[baseline] = self._compared(baseline)
        return self._made[baseline]

    def _compared(self, first: str | None) -> Comparison:
        names = dict.fromkeys([*([] if first is None else [first]), *self.models])
        ordered = {name: self.models[name] for name in names if name in self.models}
        boards = boards_of(ordered, self.metrics)
        metric_of = {task: headline_metric(boards, ordered, task) for own in ordered.values() for task in own}
        gates = (
            {
                model: _gates(model, ordered, first, boards, metric_of, self._conditions)
                for model in ordered
                if model != first
            }
            if first is not None and first in ordered
            else {}
        )
        made = [score_table(board, list(ordered), first, gates, self.scores) for board in boards]
        tables = [table for table in made if table is not None]
        return Comparison(
            models=ordered,
            baseline=first,
            boards=boards,
            tables=[table for table in tables if table.suite != TASKS],
            others=next((table for table in tables if table.suite == TASKS), None),
            gates=gates,
            given=self,
            **self.common,
        )


def _gates(
    model: str,
    models: Mapping[str, Results],
    baseline: str | None,
    boards: Sequence[PageBoard],
    metric_of: Mapping[str, str | None],
    known: KnownConditions,
) -> Gates:
    """Decide whether a model's results compare with the baseline's, for every task that both have, under any name."""
    if baseline is None:
        return {}
    own, reference = models[model], models[baseline]
    partners = {task: reference[task] for task in own if task in reference}
    for board in boards:
        theirs = board.entries.get(baseline, {})
        for leaf, entry in board.entries.get(model, {}).items():
            if leaf in theirs and entry.result.task not in partners:
                partners[entry.result.task] = theirs[leaf].result
    found: dict[str, Comparability] = {
        task: comparability(model, own[task], baseline, other, metric_of[task], read=known.of)
        for task, other in partners.items()
        if not own[task].is_group
    }
    for task in partners:
        if own[task].is_group:
            members = {each for each in _members(own, task) | _members(reference, task) if each != task}
            single = [each for each in sorted(members) if not (own.get(each) or reference[each]).is_group]
            found[task] = group_gate({each: found.get(each) for each in single})
    return {task: found[task] for task in own if task in found}


def _own_baseline(models: Sequence[str], sources: Sequence[Source]) -> list[str]:
    """The models that the only run's own recipe names as its baseline; empty for several sources."""
    if len(sources) != 1:
        return []
    recipe = mapping((sources[0].manifest or {}).get("recipe"))
    named = mapping(recipe.get("report")).get("baseline")
    return [name for name in models if named in (name, sources[0].recorded.get(name))] if named else []


def _choose_baseline(wanted: str | None, models: Sequence[str], sources: Sequence[Source]) -> str | None:
    if wanted is None or not models:  # a run may train and evaluate nothing
        named_base = [name for name in models if name.rpartition("/")[2] == DEFAULT_BASELINE]
        return next(iter([*_own_baseline(models, sources), *named_base, *models]), None)
    if wanted in models:
        return wanted
    recorded = [name for source in sources for name, old in source.recorded.items() if old == wanted]
    own_arms = [name for name in recorded if name in models]
    if len(own_arms) > 1 and sum(wanted in source.recorded.values() for source in sources) == 1:
        return own_arms[0]  # asked in several ways by one run; what was asked otherwise is not compared
    ends = [name for name in models if name.endswith((f"/{wanted}", f", {wanted}"))]
    for found in (recorded, ends):
        if len(found) == 1 and found[0] in models:
            return found[0]
    near = nearest(wanted, models) if models else ""
    raise SmaugError(
        f"baseline {wanted!r} is none of the models: {', '.join(models) or 'there are no results'}",
        fix=near.removeprefix("; ") if "did you mean" in near else "name one of them, or leave the baseline out",
    )
