"""What is compared with what: models, a baseline, their scores, and where a difference would mean nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rapidfuzz import process

from reports.dialogues import JudgedSet, merged_sets
from reports.documents import logged_values
from reports.sources import Source, TaskResult, Training, merge_models, merge_trainings
from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard.registry import SUITES
from smaug_eval.leaderboard.scores import Score, SuiteScores, suite_scores
from smaug_eval.leaderboard.suite import Suite

DEFAULT_BASELINE = "base"

Results = Mapping[str, TaskResult]


class Cell(NamedTuple):
    """One model's score beside the baseline's, in percent.

    Attributes:
        score: The model's.
        reference: The baseline's; None where it has none, and for the baseline itself.
        delta: Their difference; None where it would mean nothing.
        why_not: Why there is no difference, for a model other than the baseline.
    """

    score: Score
    reference: Score | None
    delta: float | None
    why_not: str | None


@dataclass(frozen=True)
class SuiteTable:
    """A suite's scores.

    Attributes:
        suite: The suite's name.
        columns: Titles of the columns that at least one model was measured on.
        metrics: Headline metric of each column.
        average_label: What the averages are averages of; None where the models' differ.
        averages: Model to its average.
        cells: Model to one cell per column; None where it was not measured.
    """

    suite: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    average_label: str | None
    averages: dict[str, Cell]
    cells: dict[str, list[Cell | None]]


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
    """

    title: str
    sources: Sequence[Source]
    models: Mapping[str, Results]
    baseline: str | None
    trainings: Sequence[Training]
    suites: Sequence[Suite]
    tables: Sequence[SuiteTable]
    dialogues: Sequence[JudgedSet] = ()

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
        for suite in self.suites:
            for column in suite.columns:
                if task == column.task or any(task == leaf.name for leaf in column.leaves):
                    return column.metric
        return None

    def incomparable(self) -> Iterator[str]:
        """A sentence per reason why some of a model's results do not compare with the baseline's."""
        for model, results in self.models.items():
            reasons: dict[str, list[str]] = {}
            for task in results.keys() & self.baseline_results.keys():
                if reason := why_incomparable(self.baseline_results[task], results[task]):
                    reasons.setdefault(reason, []).append(task)
            for reason, tasks in reasons.items():
                others = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
                where = f"{min(tasks)}{others}"
                yield f"{model} and {self.baseline} do not compare on {where} ({reason}): no difference is shown."


def why_incomparable(baseline: TaskResult, other: TaskResult) -> str | None:
    """Why two results of one task do not compare; None where nothing speaks against it.

    Documents must be the same in number and, where both evaluations logged samples, in lm-eval's hash over
    documents, prompts and targets.
    """
    if baseline.n != other.n:
        return f"{other.n} documents against {baseline.n}"
    if None not in (baseline.fingerprint, other.fingerprint) and baseline.fingerprint != other.fingerprint:
        return "documents, prompts or their order differ"
    return None


def compare(sources: Sequence[Source], *, title: str | None, baseline: str | None) -> Comparison:
    """Bring sources together.

    Args:
        sources: With labels that tell them apart.
        title: The page's title; made from the labels where None.
        baseline: A model; where None, the model called "base", else the first.

    Raises:
        SmaugError: there is no such baseline, or results are not in lm-eval's format.
    """
    models = merge_models(sources)
    dialogues = merged_sets([(source.label, each) for source in sources for each in source.dialogues])
    judged = dict.fromkeys(model for each in dialogues for model in each.models)
    chosen = _choose_baseline(baseline, list(models or judged))
    ordered = {name: models[name] for name in dict.fromkeys([chosen, *models]) if name in models}
    tasks = {task for results in models.values() for task in results}
    suites = [make() for name, make in SUITES.items() if any(task.startswith(f"{name}_") for task in tasks)]
    tables = [table for suite in suites if (table := suite_table(suite, ordered, chosen)) is not None]
    return Comparison(
        title=title or "Comparison of " + ", ".join(source.label for source in sources),
        sources=sources,
        models=ordered,
        baseline=chosen,
        trainings=merge_trainings(sources),
        suites=suites,
        tables=tables,
        dialogues=dialogues,
    )


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


def suite_table(suite: Suite, models: Mapping[str, Results], baseline: str | None) -> SuiteTable | None:
    """The models' scores in one suite; None where no model has any.

    Raises:
        SmaugError: results of the suite's tasks are not as lm-eval writes them.
    """
    scores = {name: found for name, results in models.items() if (found := _model_scores(name, suite, results))}
    if not scores:
        return None
    measured = [column for column in suite.columns if any(column.title in _titles(each) for each in scores.values())]
    labels = {each.average_label for each in scores.values()}
    reference = scores.get(baseline) if baseline else None
    columns = tuple(column.title for column in measured)
    cells: dict[str, list[Cell | None]] = {}
    averages = {}
    for model, own in scores.items():
        why_not = {} if baseline is None else _column_gaps(own, reference, models[model], models[baseline])
        own_by_title = {column.title: column.score for column in own.columns}
        base_by_title = {column.title: column.score for column in reference.columns} if reference else {}
        cells[model] = [
            _cell(own_by_title[title], base_by_title.get(title), why_not.get(title), model == baseline)
            if title in own_by_title
            else None
            for title in columns
        ]
        gap = _average_gap(own, reference, why_not)
        averages[model] = _cell(own.average, reference.average if reference else None, gap, model == baseline)
    label = labels.pop() if len(labels) == 1 else None
    return SuiteTable(suite.name, columns, tuple(column.metric for column in measured), label, averages, cells)


def _model_scores(model: str, suite: Suite, results: Results) -> SuiteScores | None:
    metrics = {leaf.name: column.metric for column in suite.columns for leaf in column.leaves}
    own = {task: result for task, result in results.items() if task in metrics}
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


def _titles(scores: SuiteScores) -> set[str]:
    return {column.title for column in scores.columns}


def _column_gaps(own: SuiteScores, reference: SuiteScores | None, mine: Results, base: Results) -> dict[str, str]:
    """Column title to the reason why the model and the baseline do not compare on it."""
    theirs = {column.title: column for column in reference.columns} if reference else {}
    gaps = {}
    for column in own.columns:
        other = theirs.get(column.title)
        if other is None:
            gaps[column.title] = "the baseline was not measured on it"
        elif other.leaves.keys() != column.leaves.keys():
            gaps[column.title] = "measured on other tasks"
        else:
            reasons = (why_incomparable(base[task], mine[task]) for task in column.leaves)
            if reason := next(filter(None, reasons), None):
                gaps[column.title] = reason
    return gaps


def _average_gap(own: SuiteScores, reference: SuiteScores | None, column_gaps: Mapping[str, str]) -> str | None:
    if reference is None or _titles(own) != _titles(reference):
        return "an average of other columns"
    title = next(iter(column_gaps), None)
    return None if title is None else f"{title}: {column_gaps[title]}"


def _cell(score: Score, reference: Score | None, why_not: str | None, is_baseline: bool) -> Cell:
    if is_baseline:
        return Cell(score, None, None, None)
    delta = score.value - reference.value if reference is not None and why_not is None else None
    return Cell(score, reference, delta, why_not)
