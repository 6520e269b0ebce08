"""Describe what was measured of a model for readers elsewhere: each score with its data set, metric and sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.suggest import nearest
from smaug_eval.common.text import bound, signed
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.protocol import TaskSpec
from smaug_eval.leaderboard.registry import SUITES
from smaug_eval.leaderboard.scores import Score
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.mt_bench.files.records import JudgmentRecord, PairJudgmentRecord
from smaug_eval.mt_bench.judge.parsing import HIGHEST, LOWEST
from smaug_eval.mt_bench.scores.pairs import pair_scores
from smaug_eval.mt_bench.scores.single import single_scores
from smaug_eval.reports.statements import average_statements, judged_statements, statements_of
from smaug_eval.results.comparison import Comparison, compare
from smaug_eval.results.json_files import mapping
from smaug_eval.results.judged import JudgedSet
from smaug_eval.results.merging import with_distinct_labels
from smaug_eval.results.sources import Source, is_run_directory, read_source, read_sources
from smaug_eval.results.tables import ScoreCell, ScoreTable
from smaug_eval.results.task_results import Evaluation, TaskResult


@dataclass(frozen=True)
class DataSource:
    """Name the rows behind a score.

    Attributes:
        name: Of the data set: the Hub's id, or the task where the data are from elsewhere.
        on_hub: Whether it is the Hub's id.
        config: Its configuration; None where the task names none.
        split: The split that is scored.
        revision: The commit that was read; None where nothing says it.
    """

    name: str
    on_hub: bool = False
    config: str | None = None
    split: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Judgment:
    """Say how answers were judged.

    Attributes:
        judge: The judge's name; empty where it is not recorded.
        is_demo: Whether it is the demo's rule, and no model.
        prompts: Names of its prompts.
        date: Of the last judgment, Unix time; 0 where none is recorded.
    """

    judge: str
    is_demo: bool
    prompts: tuple[str, ...]
    date: float


@dataclass(frozen=True)
class MeasuredScore:
    """Hold one score of one model.

    Attributes:
        suite: The suite, or ``tasks``.
        title: The column, or the suite's average.
        metric: As results call it.
        score: In the column's unit.
        unit: ``%``, or empty for lm-eval's own.
        higher_is_better: Whether more is better; None where nobody says so.
        bounds: Between what values lie; None where they have no bound.
        data: The rows behind it; None for an average.
        shots: Solved examples before each question; None where nothing says so.
        sentence: What the report says of it.
        results: The results of the column's tasks; empty for an average.
        parts: Of an average what it is the mean of; empty for a column.
        judgment: How it was judged; None for what no judge scored.
    """

    suite: str
    title: str
    metric: str
    score: Score
    unit: str
    higher_is_better: bool | None
    bounds: tuple[float, float] | None
    data: DataSource | None
    shots: int | None
    sentence: str
    results: tuple[TaskResult, ...] = ()
    parts: tuple[str, ...] = ()
    judgment: Judgment | None = None


def read_run_to_share(run: Path) -> tuple[Source, Comparison]:
    """Read a run directory, and compare its models as its report does.

    Raises:
        SmaugError: it is no run directory, or nothing in it can be read.
    """
    if not is_run_directory(run):
        raise SmaugError(f"{run} is no run directory of smaug-eval", fix="give runs/NAME, which `smaug-eval run` made")
    source = read_source(run)
    recipe = mapping((source.manifest or {}).get("recipe"))
    wanted = mapping(recipe.get("report")).get("baseline")
    known = {*source.results, *(model for each in source.dialogues for model in each.models)}
    baseline = wanted if isinstance(wanted, str) and wanted in known else None
    return source, compare([source], title=source.label, baseline=baseline, whole=True)


def read_to_share(paths: Sequence[Path]) -> tuple[list[Source], Comparison]:
    """Read runs and anybody's results, and compare all models.

    Raises:
        SmaugError: a path holds nothing, or nothing that can be read.
    """
    if len(paths) == 1 and is_run_directory(paths[0]):
        source, comparison = read_run_to_share(paths[0])
        return [source], comparison
    sources = with_distinct_labels(read_sources(paths))
    return sources, compare(sources, title=None, baseline=None, whole=True)


def measured(comparison: Comparison, model: str) -> list[MeasuredScore]:
    """Return every score of a model, suite by suite: its average where there is one, then its columns.

    Raises:
        SmaugError: there is no such model.
    """
    if model not in comparison.models:
        raise SmaugError(f"model {model!r} was not scored{nearest(model, list(comparison.models))}")
    sentences = {(each.model, each.text): each for each in average_statements(comparison)}
    found: list[MeasuredScore] = []
    for table in comparison.all_tables:
        if model in table.averages:
            own = [f"{each.model} {each.text}" for each in sentences.values() if each.model == model]
            text = next((each for each in own if table.suite in each), own[0] if own else "")
            found.append(_average(table, model, text))
        found += _columns(table, model, comparison)
    return found


def measured_by_judges(comparison: Comparison, model: str) -> list[MeasuredScore]:
    """Return every judged score of a model: single answers by turn and together, then its share of pairs won.

    A question set that several judges scored is a suite of its own for each judge.
    """
    return [score for each in comparison.dialogues for score in _judged_scores(comparison, each, model)]


def _judged_scores(comparison: Comparison, each: JudgedSet, model: str) -> Iterator[MeasuredScore]:
    single = single_scores(each.judgments.single).get(model)
    pair = pair_scores(each.judgments.pairs).get(model)
    said = next(
        (f"{told.model} {told.text}" for told in statements_of(each, comparison.baseline) if told.model == model), ""
    )
    suite = (
        each.key.title
        if sum(own.key.title == each.key.title for own in comparison.dialogues) == 1
        else (f"{each.key.title}, {each.key.judge}")
    )

    def measured_as(
        title: str, metric: str, unit: str, score: Score, bounds: tuple[float, float],
        records: Sequence[JudgmentRecord | PairJudgmentRecord], sentence: str = "",
    ) -> MeasuredScore:  # fmt: skip
        prompts = tuple(dict.fromkeys(name for record in records for name in _prompts(record)))
        judgment = Judgment(each.key.judge, each.is_demo, prompts, max((own.tstamp for own in records), default=0.0))
        return MeasuredScore(
            suite,
            title,
            metric,
            score,
            unit,
            True,
            bounds,
            DataSource(each.key.title),
            None,
            sentence,
            judgment=judgment,
        )

    if single is not None:
        own = [record for record in each.judgments.single if record.model == model]
        scale = (float(LOWEST), float(HIGHEST))
        for name, title in (("turn1", "turn 1"), ("turn2", "turn 2"), ("average", "average")):
            value = getattr(single, name)
            if value is not None:
                n = len({record.question_id for record in own if name == "average" or f"turn{record.turn}" == name})
                score = Score(value, None, n, single.notes, single.intervals[name])
                yield measured_as(title, "score", "points of 10", score, scale, own, said if name == "average" else "")
    if pair is not None:
        ends = None if pair.interval is None else (100 * pair.interval[0], 100 * pair.interval[1])
        score = Score(100 * pair.win_rate_adjusted, None, pair.n, pair.notes, ends)
        games = [record for record in each.judgments.pairs if model in (record.model_1, record.model_2)]
        yield measured_as("pairs", "win rate, ties as half", "%", score, (0.0, 100.0), games)


def _prompts(record: JudgmentRecord | PairJudgmentRecord) -> tuple[str, ...]:
    return tuple(str(name) for name in record.judge[1:])


def judged_sentences(comparison: Comparison, model: str) -> list[str]:
    """Return what the report says of a model's judged answers."""
    return [f"{each.model} {each.text}" for each in judged_statements(comparison) if each.model == model]


def _average(table: ScoreTable, model: str, sentence: str) -> MeasuredScore:
    score = table.averages[model].score
    return MeasuredScore(
        table.suite,
        table.average_label or "average",
        "average",
        score,
        "%",
        True,
        (0.0, 100.0),
        None,
        None,
        sentence or _sentence(model, table.averages[model], None),
        parts=tuple(each.title for each in table.scores[model].columns),
    )


def _columns(table: ScoreTable, model: str, comparison: Comparison) -> Iterator[MeasuredScore]:
    cells = table.cells.get(model) or [None] * len(table.described)  # it may have no task of this table
    for column, metric, cell in zip(table.described, table.metrics, cells, strict=True):
        if cell is None:
            continue
        results = tuple(_results(comparison, model, column))
        yield MeasuredScore(
            table.suite,
            column.title,
            metric,
            cell.score,
            column.unit.name,
            column.higher_is_better,
            column.unit.bounds,
            _data(table.suite, column, results, comparison.sources),
            _shots(_leaf(table.suite, column), results),
            _sentence(model, cell, comparison.baseline),
            results,
        )


def _results(comparison: Comparison, model: str, column: Column) -> Iterator[TaskResult]:
    """The results behind a column, whatever they are called."""
    for board in comparison.boards:
        if column in board.board.columns:
            for leaf in column.leaves:
                if (entry := board.entries.get(model, {}).get(leaf.name)) is not None:
                    yield entry.result


def _data(suite: str, column: Column, results: Sequence[TaskResult], sources: Sequence[Source]) -> DataSource:
    evaluation = _evaluation(results, sources)
    commits = mapping({} if evaluation is None else evaluation.document.get("data_revisions"))
    leaf = _leaf(suite, column)
    if leaf is not None:
        split = leaf.evaluated
        on_hub = split.hub_id.count("/") == 1 and _suite_is_on_hub(suite)
        revision = commits.get(split.hub_id) or (split.pinned if on_hub and commits else None)
        return DataSource(split.hub_id, on_hub, split.config, split.name, revision)
    config = results[0].config if results else {}
    name, subset = config.get("dataset_path"), config.get("dataset_name")
    scored = config.get("test_split") or config.get("validation_split")
    if not isinstance(name, str) or name.count("/") != 1 or name.startswith((".", "/")):
        return DataSource(column.task, split=scored if isinstance(scored, str) else None)
    revision = commits.get(name) or mapping(config.get("dataset_kwargs")).get("revision")
    return DataSource(
        name,
        True,
        subset if isinstance(subset, str) else None,
        scored if isinstance(scored, str) else None,
        revision if isinstance(revision, str) else None,
    )


def _shots(leaf: TaskSpec | None, results: Sequence[TaskResult]) -> int | None:
    """A suite's own number where its shots are part of the documents, for which lm-eval says 0."""
    told = next((each.asked.shots for each in results if each.asked.shots is not None), None)
    return leaf.num_fewshot if leaf is not None and not told else told


def _leaf(suite: str, column: Column) -> TaskSpec | None:
    """The task of a suite of ours whose data a column reads."""
    own = _suite(suite)
    known = {each.title: each for each in own.columns} if own is not None else {}
    leaves = known[column.title].leaves if column.title in known else ()
    return leaves[0] if leaves else None


def _suite(name: str) -> Suite | None:
    return SUITES[name]() if name in SUITES else None


def _suite_is_on_hub(name: str) -> bool:
    suite = _suite(name)
    return suite is not None and suite.on_hub


def _evaluation(results: Sequence[TaskResult], sources: Sequence[Source]) -> Evaluation | None:
    files = {each.source for each in results}
    return next((each for source in sources for each in source.evaluations if each.source in files), None)


def _sentence(model: str, cell: ScoreCell, baseline: str | None) -> str:
    apart = cell.difference
    if apart is None:
        return f"{model} is not compared: {cell.why_not}" if cell.why_not else ""
    against = f"against {baseline}" if baseline else "against the baseline"
    ends = "" if apart.interval is None else " to ".join(map(bound, apart.interval))
    interval = f", 95% interval {ends}" if ends else ""
    unit = apart.unit.of_difference
    return f"{model}: {signed(apart.points)}{unit} {against}{interval}: {apart.outcome_words}"
