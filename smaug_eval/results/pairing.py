"""Bring together the documents that two models were both measured on, column by column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.scores import ColumnScore
from smaug_eval.results.clusters import cluster_labels
from smaug_eval.results.comparable import Comparability
from smaug_eval.results.corpus import CorpusMetric, corpus_metric, is_mean
from smaug_eval.results.documents import Logged, logged
from smaug_eval.results.entries import Entry
from smaug_eval.results.gates import is_refused
from smaug_eval.results.stopping import EarlyStop
from smaug_eval.stats import Labels, Parts, Values

Gates = Mapping[str, Comparability]
"""Task to whether the model's result of it compares with the baseline's."""
Stratum = tuple[Values, Values]
"""Values of the model and of the baseline on the same documents."""


NOT_MEASURED = "the baseline was not measured on it"


@dataclass(frozen=True)
class ColumnPair:
    """Hold one column of a model beside the baseline's.

    Attributes:
        strata: The documents of each of its tasks; None where samples are missing, so that only totals compare.
        why_not: Why the two do not compare; None where they do.
        remarks: What a reader should know.
        corpus: Rows of both models and how they make the score, where that is no mean over documents.
        clusters: For each document of the only stratum the passage that it shares with others; None where documents
            count as independent.
        stopped: Where one of the two stopped early; what was found is in it where it was found between these two.
        names: Of the tasks that the strata are of; what is drawn of a stratum depends on its name.
    """

    strata: Sequence[Stratum] | None
    why_not: str | None
    remarks: tuple[str, ...] = ()
    corpus: CorpusMetric | None = None
    clusters: Labels | None = None
    stopped: EarlyStop | None = None
    names: tuple[str, ...] = ()


def pair_column(
    column: Column,
    own: ColumnScore,
    other: ColumnScore | None,
    entries: Sequence[Mapping[str, Entry]],
    gates: Gates,
) -> ColumnPair:
    """Bring together the documents of a column.

    Args:
        column: The column; one weighted by size has all of its documents in one stratum.
        own: The model's score.
        other: The baseline's; None where it was not measured.
        entries: The model's and the baseline's, by leaf task.
        gates: Of the model's tasks.
    """
    if other is None:
        return ColumnPair(None, NOT_MEASURED)
    stopped = next((each.stopped for task in own.leaves if (each := entries[0][task].result).stopped), None)
    has_fewer = stopped is not None and own.leaves.keys() <= other.leaves.keys()  # what came last in the order
    if own.leaves.keys() != other.leaves.keys() and not has_fewer:
        return ColumnPair(None, "measured on other tasks")
    found = _pair_tasks(column, own, entries, gates)
    if stopped is None or not _is_what_was_decided(found, stopped):
        return found
    return replace(found, stopped=stopped)


def _pair_tasks(column: Column, own: ColumnScore, entries: Sequence[Mapping[str, Entry]], gates: Gates) -> ColumnPair:
    pairs = [
        pair_task(task, [side[task] for side in entries], gates[entries[0][task].result.task])
        for task in own.leaves or [column.task]
    ]
    if len(pairs) == 1:
        return pairs[0]
    for task, pair in zip(own.leaves, pairs, strict=True):
        if pair.why_not is not None:
            return ColumnPair(None, f"{task}: {pair.why_not.removeprefix(f'{task}: ')}")
    found = one_column(pairs)
    if found.strata is None or not column.weighted_by_size or column.is_normalised:
        return found
    first, second = (np.concatenate([stratum[side] for stratum in found.strata]) for side in (0, 1))
    return replace(found, strata=[(first, second)], names=(column.task,))


def _is_what_was_decided(pair: ColumnPair, stopped: EarlyStop) -> bool:
    """Return whether the documents and the differences are those that an early stop was decided on."""
    if stopped.found is None or stopped.apart is None or pair.strata is None:
        return False
    if sum(len(own) for own, _ in pair.strata) != stopped.n:
        return False
    total = 0.0
    for own, other in pair.strata:
        apart = np.asarray(own - other, np.float64)
        # Of two levels: document, entries, and their number.
        total += float(apart.sum() if apart.ndim == 1 else (apart[:, :2] @ [1.0, stopped.per_entry]).sum())
    return math.isclose(100 * total / stopped.n, stopped.apart, rel_tol=0, abs_tol=1e-6)


def one_column(pairs: Sequence[ColumnPair]) -> ColumnPair:
    """Join tasks that all compare as one column: the plain mean over them.

    Args:
        pairs: One of each task, as :func:`pair_task` gives it.
    """
    remarks = tuple(dict.fromkeys(remark for pair in pairs for remark in pair.remarks))
    strata = [stratum for pair in pairs for stratum in pair.strata or ()]
    stopped = next((pair.stopped for pair in pairs if pair.stopped is not None), None)
    if len(strata) == len(pairs) and not any(pair.corpus for pair in pairs):
        names = tuple(name for pair in pairs for name in pair.names)
        return ColumnPair(strata, None, remarks, stopped=stopped, names=names)
    return ColumnPair(None, _mixed(remarks) if remarks else None, remarks, stopped=stopped)


def mixed_average(pairs: Mapping[str, ColumnPair]) -> str | None:
    """Say why no average over these columns compares; None where it does.

    Each of them may compare for itself: one has only some documents in common, another no samples to find them by.
    """
    partly = next((title for title, pair in pairs.items() if pair.remarks), None)
    if partly is None or all(pair.strata is not None for pair in pairs.values()):
        return None
    return f"{partly}: {_mixed(pairs[partly].remarks)}"


def _mixed(remarks: Sequence[str]) -> str:
    return f"{'; '.join(remarks)}; without all samples there is no score on those in common"


def pair_task(task: str, entries: Sequence[Entry], gate: Comparability) -> ColumnPair:
    """Bring together the documents of one task that both models were measured on.

    Args:
        task: Its name.
        entries: The model's and the baseline's.
        gate: Whether they compare.
    """
    stopped = next((each.result.stopped for each in entries if each.result.stopped is not None), None)
    found = _pair_task(task, entries, gate)
    return found if stopped is None else replace(found, stopped=replace(stopped, found=None, average=None))


def _pair_task(task: str, entries: Sequence[Entry], gate: Comparability) -> ColumnPair:
    if is_refused(gate):
        return ColumnPair(None, "; ".join(gate.reasons))
    names = [each.metric.partition(",")[0] for each in entries]
    if names[0] != names[1]:
        return ColumnPair(None, f"{task}: metric: {names[0]} here, {names[1]} for the baseline")
    logs = _logs(entries) if gate.rows is not None else None
    if logs is None or gate.rows is None:
        return ColumnPair(None, None, gate.reasons)
    values = [log.values[rows] for log, rows in zip(logs, gate.rows, strict=True)]
    name, config = names[0], entries[0].result.config
    kind = is_mean(name, config)
    if kind or (kind is None and _are_means(entries, logs)):
        if not all(log.is_finite or np.isfinite(each).all() for log, each in zip(logs, values, strict=True)):
            return ColumnPair(None, f"{task}: some documents have no number")
        stratum = (values[0], values[1])
        is_right_wrong = all(log.is_right_wrong for log in logs) or _is_right_wrong(stratum)
        clusters = None if is_right_wrong else cluster_labels(entries[1].result.samples, gate.rows[1])
        return ColumnPair([stratum], None, gate.reasons, clusters=clusters, names=(task,))
    corpus = _corpus(name, config, entries, logs)
    if corpus is None:
        return ColumnPair(None, None, gate.reasons)
    rows = [own[places] for own, places in zip(corpus.rows, gate.rows, strict=True)]
    return ColumnPair([(rows[0], rows[1])], None, gate.reasons, corpus=corpus._replace(rows=rows), names=(task,))


def _logs(entries: Sequence[Entry]) -> list[Logged] | None:
    """Read what both models' samples hold of the metric; None where either has none."""
    found = [None if each.result.samples is None else logged(each.result.samples, each.metric) for each in entries]
    known = [log for log in found if log is not None]
    return known if len(known) == len(entries) else None


def _are_means(entries: Sequence[Entry], logs: Sequence[Logged]) -> bool:
    """Return whether a metric that nobody describes is the mean of its values; suites say what theirs are."""
    for entry, log in zip(entries, logs, strict=True):
        reported = entry.reported
        if not np.isfinite(log.values).all() or not len(log.values):
            return not any(isinstance(part, list) for part in log.parts)
        if math.isfinite(reported) and not math.isclose(float(log.values.mean()), reported, rel_tol=1e-4, abs_tol=1e-4):
            return False
    return True


def _corpus(
    name: str, config: Mapping[str, Any], entries: Sequence[Entry], logs: Sequence[Logged]
) -> CorpusMetric | None:
    parts = [log.parts for log in logs]
    return corpus_metric(name, config, parts, [entry.reported for entry in entries])


def _is_right_wrong(stratum: Stratum) -> bool:
    return all(bool(((values == 0) | (values == 1)).all()) for values in stratum)


def parts_of(pair: ColumnPair) -> tuple[list[Parts], list[Parts]]:
    """Return the rows of both models in each stratum; plain values are rows of one number."""
    rows = [[np.asarray(side, np.float64).reshape(len(side), -1) for side in stratum] for stratum in pair.strata or ()]
    return [own for own, _ in rows], [other for _, other in rows]
