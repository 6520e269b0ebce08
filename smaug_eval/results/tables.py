"""Show some models' scores on a board, each beside the baseline's with difference and verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from smaug_eval import stats
from smaug_eval.common.parallel import mapped
from smaug_eval.leaderboard import v2_scores
from smaug_eval.leaderboard.columns import PERCENT, Column
from smaug_eval.leaderboard.scores import ColumnScore, Score, SuiteScores, column_score, suite_scores, value_score
from smaug_eval.results.boards import SIX, TASKS, PageBoard
from smaug_eval.results.corpus import corpus_metric, is_mean
from smaug_eval.results.differences import (
    Difference,
    adjusted,
    average_difference,
    column_difference,
    mixed_difference,
    stopped_average,
    turned,
)
from smaug_eval.results.documents import logged, logged_values
from smaug_eval.results.entries import Entry
from smaug_eval.results.fitting import misfit
from smaug_eval.results.metrics import label_of
from smaug_eval.results.pairing import ColumnPair, Gates, mixed_average, pair_column

Entries = Mapping[str, Entry]


class ScoreCell(NamedTuple):
    """Hold one model's score beside the baseline's, in the column's unit.

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
        """Return the difference in points alone."""
        return None if self.difference is None else self.difference.points


@dataclass(frozen=True)
class ScoreTable:
    """Hold scores on a board.

    Attributes:
        suite: The board's name.
        columns: Titles of the columns that at least one model was measured on.
        metrics: Headline metric of each column.
        average_label: What the averages are averages of; None where the models' differ, or there are none.
        averages: Model to its average; p values of the differences are adjusted over the models. Empty where the
            columns have no common average.
        cells: Model to one cell per column, None where it was not measured; p values are adjusted over the columns.
        scores: Model to its scores, task by task.
        described: What each column is.
        labels: Title of a column to what was asked, where no suite says it.
    """

    suite: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    average_label: str | None
    averages: dict[str, ScoreCell]
    cells: dict[str, list[ScoreCell | None]]
    scores: dict[str, SuiteScores]
    described: tuple[Column, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_averaged(self) -> bool:
        """Return whether the columns have a common average."""
        return bool(self.averages)

    def columns_as_dicts(self) -> list[dict[str, Any]]:
        """Return what each column is, as plain data."""
        return [
            {
                "title": column.title,
                "metric": metric,
                "unit": column.unit.name,
                "higher_is_better": column.higher_is_better,
                "label": self.labels.get(column.title, ""),
            }
            for column, metric in zip(self.described, self.metrics, strict=True)
        ]


class KnownScores:
    """Keep models' scores on boards, which are the same whatever the baseline is, and differences of pairs of them.

    The same model's results can make another board where another model stands first: metrics of tasks that nobody
    describes are the first model's. Scores count only for columns and results that are the same.

    Attributes:
        draws: What is drawn of documents, for all pairs of models together.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[tuple[Column, ...], Entries, SuiteScores | None]] = {}
        self._apart: dict[tuple[Hashable, str, str], Difference] = {}
        self.draws = stats.Draws()

    def difference(
        self, of: Hashable, model: str, baseline: str, pairs: Sequence[ColumnPair], make: Callable[[], Difference]
    ) -> Difference:
        """Return a difference that is not yet adjusted; of each two models it is computed once, for both directions.

        Args:
            of: What it is a difference of, such as a column of a board.
            model: The model.
            baseline: The one that it is held against.
            pairs: Their documents.
            make: Computes it.
        """
        if any(pair.stopped is not None or pair.strata is None for pair in pairs):
            return make()
        if (of, model, baseline) not in self._apart:
            back = self._apart.get((of, baseline, model))
            remarks = tuple(dict.fromkeys(remark for pair in pairs for remark in pair.remarks))
            found = make() if back is None else replace(turned(back), remarks=remarks)
            self._apart[of, model, baseline] = found
        return self._apart[of, model, baseline]

    def announce(self, board: PageBoard, models: Iterable[str]) -> None:
        """Hold the documents of all models ready to be drawn together, where a difference on a board needs draws.

        Raises:
            SmaugError: a samples file is damaged.
        """
        columns = board.board.columns
        drawn = [(leaf.name, [leaf]) for column in columns for leaf in column.leaves
                 if len(column.leaves) > 1 or board.board.is_averaged]  # fmt: skip
        drawn += [(column.task, list(column.leaves)) for column in columns
                  if len(column.leaves) > 1 and column.weighted_by_size and not column.is_normalised]  # fmt: skip
        for model in models:
            entries = board.entries.get(model, {})
            for stratum, leaves in drawn:
                rows = [_drawn_rows(entry) for leaf in leaves if (entry := entries.get(leaf.name)) is not None]
                known = [each for each in rows if each is not None]
                if known and len(known) == len(rows):
                    self.draws.add(stratum, np.concatenate(known))
        self.draws.draw_added()

    def of(self, board: PageBoard, model: str) -> SuiteScores | None:
        """Return a model's scores on a board; None where it has none."""
        entries, columns = board.entries.get(model, {}), tuple(board.board.columns)
        held = self._found.get((board.name, model))
        if held is None or held[0] != columns or not _are_same(held[1], entries):
            held = (columns, entries, _model_scores(board, entries))
            self._found[board.name, model] = held
        return held[2]


def _drawn_rows(entry: Entry) -> stats.Parts | None:
    """Return what is drawn of a model's documents, shape ``(n, k)``; None where that is not known of it alone."""
    logs = None if entry.result.samples is None else logged(entry.result.samples, entry.metric)
    if logs is None:
        return None
    if logs.is_finite:
        return logs.values.reshape(-1, 1)
    if not entry.metric.startswith(v2_scores.BOTH):
        return None
    found = corpus_metric(entry.metric.partition(",")[0], entry.result.config, [logs.parts], [entry.reported])
    return None if found is None else found.rows[0]


def _are_same(first: Entries, second: Entries) -> bool:
    return first.keys() == second.keys() and all(
        first[leaf].result is second[leaf].result and first[leaf].metric == second[leaf].metric for leaf in first
    )


def score_table(
    board: PageBoard,
    models: Sequence[str],
    baseline: str | None,
    gates: Mapping[str, Gates],
    known: KnownScores | None = None,
) -> ScoreTable | None:
    """Build the table of the models' scores on one board; None where no model has any.

    Args:
        board: The board with what the models have in it.
        models: Their names in the order of the table.
        baseline: The model that the others are compared with.
        gates: Of the other models.
        known: Scores that were computed before, to which these are added.

    Raises:
        SmaugError: a samples file is damaged.
    """
    known = KnownScores() if known is None else known
    own_scores = mapped(lambda model: known.of(board, model), models)
    scores = {model: found for model, found in zip(models, own_scores, strict=True) if found}
    if not scores:
        return None
    titles = {title for each in scores.values() for title in _by_title(each)}
    measured = [column for column in board.board.columns if column.title in titles]
    has_average = board.board.is_averaged and (board.name != SIX or len(measured) > 1)
    labels = {each.average_label for each in scores.values()} if has_average else {None}
    reference = scores.get(baseline) if baseline else None
    if reference is not None and len(scores) > 2:
        known.announce(board, scores)
    cells, averages = {}, {}
    for model, own in scores.items():
        if baseline is None or model == baseline:
            by_title = {title: ScoreCell(column.score, None, None, None) for title, column in _by_title(own).items()}
            average: ScoreCell | None = ScoreCell(own.average, None, None, None)
        else:
            entries = (board.entries[model], board.entries.get(baseline, {}))
            by_title, average = _compared(
                board, (model, baseline), (own, reference), entries, gates.get(model, {}), known
            )
        cells[model] = [by_title.get(column.title) for column in measured]
        if average is not None and has_average:
            averages[model] = average
    return ScoreTable(
        suite=board.name,
        columns=tuple(column.title for column in measured),
        metrics=tuple(_metric_words(board, column) for column in measured),
        average_label=labels.pop() if len(labels) == 1 else None,
        averages=dict(zip(averages, _adjusted(list(averages.values())), strict=True)),
        cells=cells,
        scores=scores,
        described=tuple(measured),
        labels={column.title: board.labels[column.title] for column in measured if column.title in board.labels},
    )


def _metric_words(board: PageBoard, column: Column) -> str:
    """Return what to write beside a column's title.

    It is the metric as results call it, where the suite does not say it.
    """
    if board.name == TASKS:
        return label_of(column.metric)
    used = {own[leaf.name].metric for own in board.entries.values() for leaf in column.leaves if leaf.name in own}
    names = {key.partition(",")[0] for key in used}
    if board.name == SIX and len(used) == 1 and names == {"exact_match"}:
        return label_of(used.pop())
    return column.metric


def _model_scores(board: PageBoard, entries: Entries) -> SuiteScores | None:
    if not entries:
        return None
    values = {leaf: entry.values for leaf, entry in entries.items()}
    fits = {leaf: misfit(entry.result) for leaf, entry in entries.items()}
    notes = {leaf: (*entry.notes, *_misfit_notes(fits[leaf])) for leaf, entry in entries.items()}
    if not board.board.is_averaged:
        columns = [column for column in board.board.columns if _is_measured(column, entries)]
        found = [_sampled(column, column_score(column, values, notes=notes), entries, fits) for column in columns]
        return _stopped(SuiteScores(board.name, tuple(found), (), Score(math.nan, None, None), ""), entries)
    documents = {
        leaf: logs
        for leaf, entry in entries.items()
        if entry.result.samples is not None
        and fits[leaf] is None
        and (logs := logged_values(entry.result.samples, entry.metric)) is not None
    }
    if not any(_is_measured(column, entries) for column in board.board.columns):
        return None
    return _stopped(suite_scores(board.board, values, notes=notes, documents=documents), entries)


def _stopped(scores: SuiteScores, entries: Entries) -> SuiteScores:
    """Return scores with the intervals that hold where an evaluation stopped early; the average then has none."""
    found = []
    for column in scores.columns:
        stops = [stopped for leaf in column.leaves if (stopped := entries[leaf].result.stopped) is not None]
        if stops:
            own = replace(column.score, stderr=None, interval=stops[0].score_interval)
            leaves = {leaf: replace(score, stderr=None, interval=None) for leaf, score in column.leaves.items()}
            leaves = dict.fromkeys(leaves, own) if len(leaves) == 1 and column.raw is None else leaves
            raw = None if column.raw is None else replace(column.raw, stderr=None, interval=None)
            column = replace(column, score=own, leaves=leaves, raw=raw)
        found.append(column)
    if found == list(scores.columns):
        return scores
    average = replace(scores.average, stderr=None, interval=found[0].score.interval if len(found) == 1 else None)
    return replace(scores, columns=tuple(found), average=average)


def _is_measured(column: Column, entries: Entries) -> bool:
    """Return whether a model has a task of a column, or what is reported of all of them together."""
    return any(leaf.name in entries for leaf in column.leaves) or (column.reported and column.task in entries)


def _misfit_notes(reason: str | None) -> tuple[str, ...]:
    return () if reason is None else (f"the samples {reason}: scored as reported",)


def _sampled(column: Column, found: ColumnScore, entries: Entries, fits: Mapping[str, str | None]) -> ColumnScore:
    """Return the score with an interval from its samples where they are those of the results.

    Else the score is as the results give it.
    """
    if len(column.leaves) != 1 or column.leaves[0].name not in entries:
        return found
    entry = entries[column.leaves[0].name]
    if entry.result.samples is None or fits[column.leaves[0].name] is not None:
        return found
    logs = logged(entry.result.samples, entry.metric)
    if logs is None or not len(logs.values):
        return found
    name, config, scale = column.metric.partition(",")[0], entry.result.config, column.unit.scale
    if is_mean(name, config) is not False and np.isfinite(logs.values).all():
        own = _mean_score(column, logs.values)
        if math.isclose(own.value, found.score.value, rel_tol=1e-4, abs_tol=1e-4):
            return replace(found, score=replace(found.score, stderr=own.stderr, interval=own.interval))
    corpus = corpus_metric(name, config, [logs.parts], [entry.reported])
    if corpus is None:
        return found
    spread = stats.score_interval(corpus.rows, corpus.score)
    if spread.interval is None or spread.standard_error is None:
        return found
    interval = (scale * spread.interval[0], scale * spread.interval[1])
    return replace(found, score=replace(found.score, stderr=scale * spread.standard_error, interval=interval))


def _mean_score(column: Column, values: stats.Values) -> Score:
    """Average values per document in the column's unit."""
    if column.unit is PERCENT and bool(((values >= 0) & (values <= 1)).all()):
        return value_score(values)
    scale = column.unit.scale
    error, interval = stats.standard_error(values), stats.t_mean_interval(values)
    return Score(
        scale * float(values.mean()),
        None if error is None else scale * error,
        len(values),
        (),
        None if interval is None else (scale * interval[0], scale * interval[1]),
    )


def _by_title(scores: SuiteScores) -> dict[str, ColumnScore]:
    return {column.title: column for column in scores.columns}


def _compared(
    board: PageBoard,
    names: tuple[str, str],
    both: tuple[SuiteScores, SuiteScores | None],
    entries: Sequence[Entries],
    gates: Gates,
    known: KnownScores,
) -> tuple[dict[str, ScoreCell], ScoreCell | None]:
    """Compare a model's cells by column, and its average."""
    own, reference = both
    mine, theirs = _by_title(own), {} if reference is None else _by_title(reference)
    columns = [column for column in board.board.columns if column.title in mine]
    pairs = {
        column.title: pair_column(column, mine[column.title], theirs.get(column.title), entries, gates)
        for column in columns
    }
    found = [
        _column_cell(
            board.name, column, names, mine[column.title], theirs.get(column.title), pairs[column.title], known
        )
        for column in columns
    ]
    families = [board.name == TASKS and (column.reported or len(column.leaves) > 1) for column in columns]
    cells = _adjusted_within(found, families)
    by_title = dict(zip(pairs, cells, strict=True))
    if not board.board.is_averaged:
        return by_title, None
    gap = _average_gap(own, reference, pairs)
    if gap is not None or reference is None:
        return by_title, ScoreCell(own.average, None if reference is None else reference.average, None, gap)
    only = cells[0].difference if len(cells) == 1 else None  # of one column the average is that column, p and all
    listed = list(pairs.values())
    apart = only or known.difference(
        (board.name, tuple(columns)),
        *names,
        listed,
        lambda: _average_apart(columns, listed, own.average, reference.average, known.draws),
    )
    return by_title, ScoreCell(own.average, reference.average, apart, None)


def _average_apart(
    columns: Sequence[Column], pairs: Sequence[ColumnPair], own: Score, other: Score, draws: stats.Draws
) -> Difference:
    if any(pair.stopped is not None for pair in pairs):
        return stopped_average(pairs, own, other)
    plain = not any(column.is_normalised for column in columns) and all(pair.corpus is None for pair in pairs)
    return (
        average_difference(pairs, own, other, draws) if plain else mixed_difference(columns, pairs, own, other, draws)
    )


def _column_cell(
    suite: str,
    column: Column,
    names: tuple[str, str],
    own: ColumnScore,
    other: ColumnScore | None,
    pair: ColumnPair,
    known: KnownScores,
) -> ScoreCell:
    if other is None or pair.why_not is not None:
        return ScoreCell(own.score, None if other is None else other.score, None, pair.why_not)
    apart = known.difference(
        (suite, column),
        *names,
        [pair],
        lambda: column_difference(pair, own.score, other.score, column, known.draws),
    )
    return ScoreCell(own.score, other.score, apart, None)


def _average_gap(own: SuiteScores, reference: SuiteScores | None, pairs: Mapping[str, ColumnPair]) -> str | None:
    """Say why the averages do not compare; None where they do."""
    if reference is None:
        return "the baseline was not measured on it"
    if _by_title(own).keys() != _by_title(reference).keys():
        return "an average of other columns"
    refused = ((title, pair.why_not) for title, pair in pairs.items() if pair.why_not is not None)
    return next((f"{title}: {why_not}" for title, why_not in refused), None) or mixed_average(pairs)


def _adjusted_within(cells: Sequence[ScoreCell], families: Sequence[bool]) -> list[ScoreCell]:
    """Adjust p values by Holm's method, single tasks and groups of them each by themselves."""
    found = list(cells)
    for family in (False, True):
        places = [place for place, own in enumerate(families) if own is family]
        for place, cell in zip(places, _adjusted([cells[place] for place in places]), strict=True):
            found[place] = cell
    return found


def _adjusted(cells: Sequence[ScoreCell]) -> list[ScoreCell]:
    """Adjust p values by Holm's method over all cells."""
    found = iter(adjusted([cell.difference for cell in cells if cell.difference is not None]))
    return [cell if cell.difference is None else cell._replace(difference=next(found)) for cell in cells]
