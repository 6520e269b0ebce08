"""What is compared with what: models, a baseline, their scores, and where a difference would mean nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rapidfuzz import process

from reports.dialogues import JudgedSet
from reports.differences import (
    ColumnPair,
    Difference,
    Gates,
    adjusted,
    average_difference,
    column_difference,
    mixed_average,
    pair_column,
)
from reports.documents import logged_values
from reports.gates import comparability, is_refused
from reports.merging import merge_dialogues, merge_models, merge_trainings
from reports.sources import Source, TaskResult, Training
from reports.study_data import Study, read_study, selection
from smaug_eval.comparable import LIMITED, Outcome
from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard.registry import SUITES
from smaug_eval.leaderboard.scores import ColumnScore, Score, SuiteScores, suite_scores
from smaug_eval.leaderboard.suite import Suite

DEFAULT_BASELINE = "base"

Results = Mapping[str, TaskResult]


class Cell(NamedTuple):
    """One model's score beside the baseline's, in percent.

    Attributes:
        score: The model's.
        reference: The baseline's; None where it has none, and for the baseline itself.
        difference: How far they are apart; None where it would mean nothing.
        why_not: Why there is no difference, for a model other than the baseline.
    """

    score: Score
    reference: Score | None
    difference: Difference | None
    why_not: str | None

    @property
    def delta(self) -> float | None:
        """The difference in points alone."""
        return None if self.difference is None else self.difference.points


@dataclass(frozen=True)
class SuiteTable:
    """A suite's scores.

    Attributes:
        suite: The suite's name.
        columns: Titles of the columns that at least one model was measured on.
        metrics: Headline metric of each column.
        average_label: What the averages are averages of; None where the models' differ.
        averages: Model to its average; p values of the differences are adjusted over the models.
        cells: Model to one cell per column, None where it was not measured; p values are adjusted over the columns.
        scores: Model to its scores, task by task.
    """

    suite: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    average_label: str | None
    averages: dict[str, Cell]
    cells: dict[str, list[Cell | None]]
    scores: dict[str, SuiteScores]


@dataclass(frozen=True)
class Comparison:
    """Everything the panels are made from.

    Attributes:
        title: The page's title.
        sources: What the given paths hold.
        models: Model to task to newest result, in the order of the tables.
        baseline: The model others are compared with; None where nothing was evaluated or judged.
        trainings: All training logs.
        suites: The suites that the results hold tasks of.
        tables: Their scores.
        dialogues: Judged answers of all sources, brought together where they can stand in one table.
        gates: Model to task to whether its result compares with the baseline's, for tasks that both have.
        archive: The archived leaderboard's rows, to rank models in; None where it was not given.
        study: The study whose questions the report answers; all else then holds but a selection of it. None where it is
            no study, or one of several sources.
    """

    title: str
    sources: Sequence[Source]
    models: Mapping[str, Results]
    baseline: str | None
    trainings: Sequence[Training]
    suites: Sequence[Suite]
    tables: Sequence[SuiteTable]
    dialogues: Sequence[JudgedSet] = ()
    gates: Mapping[str, Gates] = field(default_factory=dict)
    archive: Path | None = None
    study: Study | None = None

    @property
    def judged_models(self) -> list[str]:
        """Every model with judged answers."""
        return list(dict.fromkeys(model for each in self.dialogues for model in each.models))

    @property
    def tasks(self) -> list[str]:
        """Every task and group that some model has a result of."""
        return list(dict.fromkeys(task for results in self.models.values() for task in results))

    @property
    def baseline_results(self) -> Results:
        """The baseline's results; empty where there is no baseline."""
        return self.models.get(self.baseline, {}) if self.baseline else {}

    def headline_metric(self, task: str) -> str | None:
        """The metric a suite scores ``task`` by; None for a task of no suite."""
        return headline_metric(self.suites, task)

    def totals_compare(self, model: str, task: str) -> bool:
        """Whether the model's total of ``task`` may be held against the baseline's; not so for the baseline.

        It takes the same documents on both sides, and of a group the same members, all of which compare so.
        """
        gates, own, other = (
            self.gates.get(model, {}),
            _members(self.models[model], task),
            _members(self.baseline_results, task),
        )
        return own == other and all(each in gates and gates[each].outcome is Outcome.COMPARABLE for each in own)

    def incomparable(self) -> Iterator[str]:
        """A sentence per reason why some of a model's results do not compare with the baseline's."""
        for model, gates in self.gates.items():
            reasons = {task: ["; ".join(gate.reasons)] if is_refused(gate) else [] for task, gate in gates.items()}
            for reason, where in _by_text(reasons):
                yield f"{model} and {self.baseline} do not compare on {where} ({reason}): no difference is shown."

    def remarks(self) -> Iterator[str]:
        """A sentence per thing to know beside a model's comparisons with the baseline."""
        for model, gates in self.gates.items():
            results = self.models[model]
            tasks = {task: gate for task, gate in gates.items() if not results[task].is_group}
            # That a model was limited to some documents is said of the model, for all tasks together.
            remarks = {
                task: [] if is_refused(gate) else [each for each in gate.remarks if LIMITED not in each]
                for task, gate in tasks.items()
            }
            for remark, where in _by_text(remarks):
                yield f"{model} against {self.baseline}, {where}: {remark}."


def _members(results: Results, task: str) -> set[str]:
    """The task, and of a group all tasks and groups below it that have results."""
    found, left = set(), [task]
    while left:
        each = left.pop()
        if each in results and each not in found:  # a file may name a group among its own members
            found.add(each)
            left += results[each].subtasks
    return found


def _by_text(texts: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Each text that some task has, and the tasks that have it in words."""
    tasks: dict[str, list[str]] = {}
    for task, found in texts.items():
        for text in found:
            tasks.setdefault(text, []).append(task)
    for text, where in tasks.items():
        yield text, "every task" if 1 < len(where) == len(texts) else some_tasks(where)


def some_tasks(tasks: Sequence[str]) -> str:
    """The first task by name, and how many more there are."""
    return min(tasks) if len(tasks) == 1 else f"{min(tasks)} and {len(tasks) - 1} more"


def headline_metric(suites: Sequence[Suite], task: str) -> str | None:
    """The metric that one of ``suites`` scores ``task`` by; None for a task of none of them."""
    for suite in suites:
        for column in suite.columns:
            if task == column.task or any(task == leaf.name for leaf in column.leaves):
                return column.metric
    return None


def compare(
    sources: Sequence[Source],
    *,
    title: str | None,
    baseline: str | None,
    archive: Path | None = None,
    whole: bool = False,
) -> Comparison:
    """Bring sources together.

    Args:
        sources: With labels that tell them apart.
        title: The page's title; made from the labels where None.
        baseline: A model; where None, the model called "base", else the first.
        archive: The archived leaderboard's rows as CSV.
        whole: Keep every model of a study, not only those that its page sets side by side.

    Raises:
        SmaugError: there is no such baseline, or results are not in lm-eval's format.
    """
    study = read_study(sources[0]) if len(sources) == 1 and not whole else None
    if study is not None:
        sources = [selection(sources[0], study, baseline)]
    models = merge_models(sources)
    dialogues = merge_dialogues(sources)
    judged = dict.fromkeys(model for each in dialogues for model in each.models)
    chosen = _choose_baseline(baseline, list(models or judged))
    ordered = {name: models[name] for name in dict.fromkeys([chosen, *models]) if name in models}
    tasks = {task for results in models.values() for task in results}
    known = [suite for suite in (make() for make in SUITES.values()) if tasks & _leaf_names(suite)]
    gates = {model: _gates(model, ordered, chosen, known) for model in ordered if chosen in ordered and model != chosen}
    tables = {suite.name: table for suite in known if (table := suite_table(suite, ordered, chosen, gates))}
    return Comparison(
        title=title or "Comparison of " + ", ".join(source.label for source in sources),
        sources=sources,
        models=ordered,
        baseline=chosen,
        trainings=merge_trainings(sources),
        suites=[suite for suite in known if suite.name in tables],
        tables=list(tables.values()),
        dialogues=dialogues,
        gates=gates,
        archive=archive,
        study=study,
    )


def _gates(model: str, models: Mapping[str, Results], baseline: str | None, suites: Sequence[Suite]) -> Gates:
    """Whether a model's results compare with the baseline's, for every task that both have."""
    if baseline is None:
        return {}
    reference = models[baseline]
    return {
        task: comparability(model, result, baseline, reference[task], headline_metric(suites, task))
        for task, result in models[model].items()
        if task in reference
    }


def _choose_baseline(wanted: str | None, models: Sequence[str]) -> str | None:
    if wanted is None or not models:  # a run may train and evaluate nothing
        named_base = [name for name in models if name.rpartition("/")[2] == DEFAULT_BASELINE]
        return next(iter([*named_base, *models]), None)
    if wanted not in models:
        nearest = process.extractOne(wanted, models)
        raise SmaugError(
            f"baseline {wanted!r} is none of the models: {', '.join(models) or 'there are no results'}",
            fix=f"did you mean {nearest[0]!r}?" if nearest else "leave the baseline out",
        )
    return wanted


def suite_table(
    suite: Suite, models: Mapping[str, Results], baseline: str | None, gates: Mapping[str, Gates]
) -> SuiteTable | None:
    """The models' scores in one suite; None where no model has any.

    Args:
        suite: The suite.
        models: Model to its results.
        baseline: The model that the others are compared with.
        gates: Of the other models.

    Raises:
        SmaugError: results of the suite's tasks are not as lm-eval writes them.
    """
    scores = {name: found for name, results in models.items() if (found := _model_scores(name, suite, results))}
    if not scores:
        return None
    titles = {title for each in scores.values() for title in _by_title(each)}
    measured = [column for column in suite.columns if column.title in titles]
    labels = {each.average_label for each in scores.values()}
    reference = scores.get(baseline) if baseline else None
    cells, averages = {}, {}
    for model, own in scores.items():
        if baseline is None or model == baseline:
            by_title = {title: Cell(column.score, None, None, None) for title, column in _by_title(own).items()}
            averages[model] = Cell(own.average, None, None, None)
        else:
            results = (models[model], models[baseline])
            by_title, averages[model] = _compared(suite, own, reference, results, gates[model])
        cells[model] = [by_title.get(column.title) for column in measured]
    return SuiteTable(
        suite=suite.name,
        columns=tuple(column.title for column in measured),
        metrics=tuple(column.metric for column in measured),
        average_label=labels.pop() if len(labels) == 1 else None,
        averages=dict(zip(averages, _adjusted(list(averages.values())), strict=True)),
        cells=cells,
        scores=scores,
    )


def _leaf_names(suite: Suite) -> set[str]:
    return {leaf.name for column in suite.columns for leaf in column.leaves}


def _has_metric(result: TaskResult, metric: str) -> bool:
    """Whether a result holds the headline metric; one of that task's name in another's version may not."""
    name, _, filter_name = metric.partition(",")
    return any(each.name == name and each.filter == (filter_name or "none") for each in result.metrics)


def _model_scores(model: str, suite: Suite, results: Results) -> SuiteScores | None:
    metrics = {leaf.name: column.metric for column in suite.columns for leaf in column.leaves}
    own = {task: result for task, result in results.items() if task in metrics and _has_metric(result, metrics[task])}
    if not own:
        return None
    entries = {task: result.entry for task, result in own.items()}
    notes = {task: result.notes for task, result in own.items()}
    documents = {
        task: values
        for task, result in own.items()
        if result.samples is not None and (values := logged_values(result.samples, metrics[task])) is not None
    }
    try:
        return suite_scores(suite, entries, notes=notes, documents=documents)
    except SmaugError as error:
        raise SmaugError(f"{model}: {error.message}", fix=error.fix) from error
    except (LookupError, TypeError, ValueError) as error:
        raise SmaugError(
            f"{model}: results of {suite.name} are not as lm-eval 0.4.13 writes them ({error!r})", fix="evaluate again"
        ) from error


def _by_title(scores: SuiteScores) -> dict[str, ColumnScore]:
    return {column.title: column for column in scores.columns}


def _compared(
    suite: Suite, own: SuiteScores, reference: SuiteScores | None, results: Sequence[Results], gates: Gates
) -> tuple[dict[str, Cell], Cell]:
    """A model's cells by column, and its average."""
    mine, theirs = _by_title(own), {} if reference is None else _by_title(reference)
    pairs = {
        column.title: pair_column(column, mine[column.title], theirs.get(column.title), results, gates)
        for column in suite.columns
        if column.title in mine
    }
    cells = _adjusted([_column_cell(mine[title], theirs.get(title), pair) for title, pair in pairs.items()])
    by_title = dict(zip(pairs, cells, strict=True))
    gap = _average_gap(own, reference, pairs)
    if gap is not None or reference is None:
        return by_title, Cell(own.average, None if reference is None else reference.average, None, gap)
    only = cells[0].difference if len(cells) == 1 else None  # of one column the average is that column, p and all
    apart = only or average_difference(list(pairs.values()), own.average, reference.average)
    return by_title, Cell(own.average, reference.average, apart, None)


def _column_cell(own: ColumnScore, other: ColumnScore | None, pair: ColumnPair) -> Cell:
    if other is None or pair.why_not is not None:
        return Cell(own.score, None if other is None else other.score, None, pair.why_not)
    return Cell(own.score, other.score, column_difference(pair, own.score, other.score), None)


def _average_gap(own: SuiteScores, reference: SuiteScores | None, pairs: Mapping[str, ColumnPair]) -> str | None:
    """Why the averages do not compare; None where they do."""
    if reference is None:
        return "the baseline was not measured on it"
    if _by_title(own).keys() != _by_title(reference).keys():
        return "an average of other columns"
    refused = ((title, pair.why_not) for title, pair in pairs.items() if pair.why_not is not None)
    return next((f"{title}: {why_not}" for title, why_not in refused), None) or mixed_average(pairs)


def _adjusted(cells: Sequence[Cell]) -> list[Cell]:
    """The same cells with p values by Holm's method over all of them."""
    found = iter(adjusted([cell.difference for cell in cells if cell.difference is not None]))
    return [cell if cell.difference is None else cell._replace(difference=next(found)) for cell in cells]
