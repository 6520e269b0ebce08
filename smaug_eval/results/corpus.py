"""Compute metrics that are no mean over documents from the parts in samples: perplexity, F1, BLEU and the like.

A metric's parts are taken for what they are named only where they give the very score that the results report.

Source: ``api/metrics.py`` of lm-eval 0.4.13, whose aggregations these are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smaug_eval.leaderboard import v2_scores
from smaug_eval.results.json_files import mapping
from smaug_eval.results.sample_index import sample_value
from smaug_eval.stats import Parts, ScoreOf

Array = NDArray[np.float64]
Rows = Callable[[Sequence[Sequence[Any]]], "list[Parts] | None"]
"""Makes the rows of several models from their logged parts; None where these are of another kind."""

_MEANS = frozenset({"acc", "acc_norm", "acc_bytes", "exact_match", "em", "mc1", "mc2", "extractive_match", "qem"})
"""Metrics that every harness averages over documents."""
_MOST_LABELS = 30
_MOST_CHARACTERS = 2_000_000
_NEAR = 1e-4
_TINY = 1e-300
_CHRF_ORDER, _CHRF_BETA = 6, 2


class CorpusMetric(NamedTuple):
    """Hold a metric of several models, in parts.

    Attributes:
        rows: Of each model, one row for each document.
        score: The metric from the rows' means, in lm-eval's unit.
        name: Says what is computed.
    """

    rows: Sequence[Parts]
    score: ScoreOf
    name: str


class _CorpusWay(NamedTuple):
    name: str
    rows: Rows
    score: ScoreOf


def is_mean(metric: str, config: Mapping[str, Any]) -> bool | None:
    """Return whether a metric is a mean of its values; None where that has to be found out.

    Args:
        metric: Its name without filter.
        config: The task's configuration; empty where it is not known.
    """
    aggregation = aggregation_of(metric, config)
    if aggregation is not None:
        return aggregation in {"mean", "nanmean"} or (None if aggregation not in _WAYS else False)
    if any(metric == name or metric.endswith(f"_{name}") for name in _WAYS):
        return False
    return True if metric in _MEANS else None


def aggregation_of(metric: str, config: Mapping[str, Any]) -> str | None:
    """Return how a task's configuration aggregates a metric; None where it says nothing, or names a function."""
    listed = config.get("metric_list")
    for each in map(mapping, listed if isinstance(listed, list) else ()):
        aggregation = each.get("aggregation")
        if each.get("metric") == metric and isinstance(aggregation, str) and aggregation.isidentifier():
            return aggregation
    return None


def corpus_metric(
    metric: str, config: Mapping[str, Any], parts: Sequence[Sequence[Any]], reported: Sequence[float]
) -> CorpusMetric | None:
    """Build a metric of several models from its parts.

    Args:
        metric: Its name without filter.
        config: The task's configuration.
        parts: What each model's samples hold of it, document by document.
        reported: What the results say of each model, over the same documents.

    Returns:
        None where no known way of aggregating gives what is reported of every model.
    """
    aggregation = aggregation_of(metric, config) or metric
    wanted = [
        ways for name, ways in _WAYS.items() if aggregation == name or metric == name or metric.endswith(f"_{name}")
    ]
    for way in dict.fromkeys([*(way for ways in wanted for way in ways), *_ANY]):
        rows = way.rows(parts)
        if rows is None:
            continue
        found = [float(way.score([own.mean(axis=0)])) for own in rows if len(own)]
        if len(found) == len(reported) and all(map(_is_near, found, reported)):
            return CorpusMetric(rows, way.score, way.name)
    return None


def _is_near(found: float, reported: float) -> bool:
    return math.isfinite(found) and math.isclose(found, reported, rel_tol=_NEAR, abs_tol=_NEAR / 10)


def _numbers(parts: Sequence[Sequence[Any]]) -> list[Parts] | None:
    rows = [np.array([[sample_value(each)] for each in own], np.float64).reshape(-1, 1) for own in parts]
    return rows if all(np.isfinite(own).all() for own in rows) else None


def _weighted(parts: Sequence[Sequence[Any]]) -> list[Parts] | None:
    """Return rows (log-likelihood, words or bytes)."""
    if not all(_is_pair(each) for own in parts for each in own):
        return None
    rows = [np.array([[sample_value(a), sample_value(b)] for a, b in own], np.float64).reshape(-1, 2) for own in parts]
    return rows if all(np.isfinite(own).all() and (own[:, 1] > 0).all() for own in rows) else None


def _lists(parts: Sequence[Sequence[Any]]) -> list[Parts] | None:
    """Return rows (sum, number) of lists of numbers or truth values.

    IFEval has one value for each instruction.
    """
    if not all(isinstance(each, list) and each for own in parts for each in own):
        return None
    rows = [np.array([[sum(map(sample_value, each)), len(each)] for each in own], np.float64) for own in parts]
    return rows if all(own.ndim == 2 and np.isfinite(own).all() for own in rows) else None


def _both_levels(parts: Sequence[Sequence[Any]]) -> list[Parts] | None:
    """Return rows (prompt followed, instructions followed, instructions) of IFEval's two levels."""
    if not all(_is_pair(each) and isinstance(each[1], list) and each[1] for own in parts for each in own):
        return None
    rows = [
        np.array([[sample_value(prompt), sum(map(sample_value, each)), len(each)] for prompt, each in own], np.float64)
        for own in parts
    ]
    return rows if all(own.ndim == 2 and np.isfinite(own).all() for own in rows) else None


def _strict(means: Sequence[Array]) -> Array:
    return (means[0][..., 0] + means[0][..., 1] / means[0][..., 2]) / 2


def _confusions(parts: Sequence[Sequence[Any]]) -> list[Parts] | None:
    """Mark (right class, predicted class) of each document in a table of classes, as one row."""
    if not all(_is_pair(each) and all(isinstance(label, str | int) for label in each) for own in parts for each in own):
        return None
    labels = sorted({str(label) for own in parts for each in own for label in each})
    if not 1 < len(labels) <= _MOST_LABELS:
        return None
    number = {label: place for place, label in enumerate(labels)}
    found = []
    for own in parts:
        rows = np.zeros((len(own), len(labels) ** 2))
        rows[np.arange(len(own)), [number[str(a)] * len(labels) + number[str(b)] for a, b in own]] = 1.0
        found.append(rows)
    return found


def _brier(parts: Sequence[Sequence[Any]]) -> list[Parts] | None:
    values = []
    for own in parts:
        rows = []
        for each in own:
            if not (_is_pair(each) and isinstance(each[0], int) and isinstance(each[1], list)):
                return None
            gold, shares = each[0], [sample_value(share) for share in each[1]]
            if not 0 <= gold < len(shares) or not all(map(math.isfinite, shares)):
                return None
            rows.append([sum((share - (place == gold)) ** 2 for place, share in enumerate(shares))])
        values.append(np.array(rows, np.float64).reshape(-1, 1))
    return values


def _texts(parts: Sequence[Sequence[Any]]) -> list[list[tuple[list[str], str]]] | None:
    """Return references and prediction of each document, as lm-eval logs them for sacrebleu."""
    found = []
    characters = 0
    for own in parts:
        pairs = []
        for each in own:
            if not (_is_pair(each) and isinstance(each[1], str | list)):
                return None
            references = each[0] if isinstance(each[0], list) else [each[0]]
            prediction = each[1] if isinstance(each[1], str) else next(iter(each[1]), "")
            texts = [*references, prediction]
            if not all(isinstance(text, str) for text in texts):
                return None
            characters += sum(map(len, texts))
            pairs.append((references, prediction))
        found.append(pairs)
    return found if characters <= _MOST_CHARACTERS else None


def _bleu_counts(parts: Sequence[Sequence[Any]]) -> list[Parts] | None:
    """Count right and all n-grams for n = 1 to 4, and both lengths, in rows."""
    if (texts := _texts(parts)) is None:
        return None
    from sacrebleu.metrics import BLEU

    bleu = BLEU(effective_order=True)
    found = []
    for own in texts:
        scores = (bleu.sentence_score(prediction, references) for references, prediction in own)
        rows = [[*each.counts, *each.totals, each.sys_len, each.ref_len] for each in scores]
        found.append(np.array(rows, np.float64).reshape(-1, 10))
    return found


def _ter_counts(parts: Sequence[Sequence[Any]]) -> list[Parts] | None:
    if (texts := _texts(parts)) is None:
        return None
    from sacrebleu.metrics import TER

    ter = TER()
    found = []
    for own in texts:
        scores = (ter.sentence_score(prediction, references) for references, prediction in own)
        found.append(np.array([[each.num_edits, each.ref_length] for each in scores], np.float64).reshape(-1, 2))
    return found


def _chrf_counts(parts: Sequence[Sequence[Any]]) -> list[Parts] | None:
    """Count the prediction's, the reference's and their common character n-grams for each order, in rows.

    Of several references those of the one with the best score.
    """
    if (texts := _texts(parts)) is None:
        return None
    found = []
    for own in texts:
        rows = []
        for references, prediction in own:
            counts = [_common_ngrams(prediction, reference) for reference in references]
            rows.append(max(counts, key=lambda row: float(_chrf([np.array(row)])), default=[0.0] * 3 * _CHRF_ORDER))
        found.append(np.array(rows, np.float64).reshape(-1, 3 * _CHRF_ORDER))
    return found


def _common_ngrams(prediction: str, reference: str) -> list[float]:
    one, other = ("".join(text.split()) for text in (prediction, reference))
    row = []
    for order in range(1, _CHRF_ORDER + 1):
        own, theirs = (
            Counter(text[start : start + order] for start in range(len(text) - order + 1)) for text in (one, other)
        )
        row += [float(own.total()), float(theirs.total()), float((own & theirs).total())]
    return row


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


def _mean(means: Sequence[Array]) -> Array:
    return means[0][..., 0]


def _ratio(means: Sequence[Array]) -> Array:
    return means[0][..., 0] / means[0][..., 1]


def _perplexity(means: Sequence[Array]) -> Array:
    with np.errstate(over="ignore"):
        return np.exp(-means[0][..., 0])


def _weighted_perplexity(means: Sequence[Array]) -> Array:
    with np.errstate(over="ignore"):
        return np.exp(-_ratio(means))


def _bits(means: Sequence[Array]) -> Array:
    return -_ratio(means) / math.log(2)


def _percent_ratio(means: Sequence[Array]) -> Array:
    return 100 * _ratio(means)


def _table(means: Sequence[Array]) -> Array:
    """Return shares by right and predicted class, shape ``(..., classes, classes)``."""
    classes = math.isqrt(means[0].shape[-1])
    return means[0].reshape(*means[0].shape[:-1], classes, classes)


def _class_f1(table: Array) -> Array:
    right = np.diagonal(table, axis1=-2, axis2=-1)
    both = table.sum(axis=-1) + table.sum(axis=-2)
    return np.divide(2 * right, both, out=np.zeros_like(right), where=both > 0)


def _binary_f1(means: Sequence[Array]) -> Array:
    """Compute F1 of the class 1, which sorts last of 0 and 1."""
    return _class_f1(_table(means))[..., -1]


def _macro_f1(means: Sequence[Array]) -> Array:
    table = _table(means)
    seen = (table.sum(axis=-1) + table.sum(axis=-2)) > 0
    return _class_f1(table).sum(axis=-1) / np.maximum(1, seen.sum(axis=-1))


def _weighted_f1(means: Sequence[Array]) -> Array:
    table = _table(means)
    return (_class_f1(table) * table.sum(axis=-1)).sum(axis=-1)


def _agreement(means: Sequence[Array]) -> Array:
    """Return the share of right predictions, which is what micro-averaged F1 comes to."""
    return np.trace(_table(means), axis1=-2, axis2=-1)


def _matthews(means: Sequence[Array]) -> Array:
    """Compute Matthews' correlation of several classes.

    Source: J. Gorodkin, Computational Biology and Chemistry 28, 2004.
    """
    table = _table(means)
    gold, predicted = table.sum(axis=-1), table.sum(axis=-2)
    above = _agreement(means) - (gold * predicted).sum(axis=-1)
    below = np.sqrt((1 - (gold**2).sum(axis=-1)) * (1 - (predicted**2).sum(axis=-1)))
    return np.divide(above, below, out=np.zeros_like(np.asarray(above)), where=below > 0)


def _bleu(means: Sequence[Array]) -> Array:
    """Compute BLEU (K. Papineni et al., ACL 2002); 0 where an n-gram order is never right, which sacrebleu smooths."""
    rows = means[0]
    right, every, length, reference = rows[..., :4], rows[..., 4:8], rows[..., 8], rows[..., 9]
    shares = 100.0 * right / np.maximum(every, _TINY)
    with np.errstate(divide="ignore"):
        brevity = np.where(length < reference, np.exp(1 - reference / np.maximum(length, _TINY)), 1.0)
        score: Array = brevity * np.exp(np.log(np.maximum(shares, _TINY)).mean(axis=-1))
    return np.where((shares > 0).all(axis=-1), score, 0.0)


def _chrf(means: Sequence[Array]) -> Array:
    """Compute chrF2 (M. Popović, WMT 2015) as sacrebleu does: orders that one side has no n-gram of do not count."""
    rows = means[0].reshape(*means[0].shape[:-1], _CHRF_ORDER, 3)
    predicted, reference, common = rows[..., 0], rows[..., 1], rows[..., 2]
    counted = (predicted > 0) & (reference > 0)
    orders = np.maximum(1, counted.sum(axis=-1))
    precision = np.where(counted, common / np.maximum(predicted, _TINY), 0.0).sum(axis=-1) / orders
    recall = np.where(counted, common / np.maximum(reference, _TINY), 0.0).sum(axis=-1) / orders
    below = _CHRF_BETA**2 * precision + recall
    score: Array = 100 * (1 + _CHRF_BETA**2) * precision * recall / np.maximum(below, _TINY)
    return score


_F1 = (
    _CorpusWay("F1 of class 1", _confusions, _binary_f1),
    _CorpusWay("macro F1", _confusions, _macro_f1),
    _CorpusWay("weighted F1", _confusions, _weighted_f1),
    _CorpusWay("micro F1", _confusions, _agreement),
)
_WAYS: Mapping[str, tuple[_CorpusWay, ...]] = {
    "perplexity": (
        _CorpusWay("perplexity", _numbers, _perplexity),
        _CorpusWay("perplexity by words or bytes", _weighted, _weighted_perplexity),
    ),
    "ppl": (_CorpusWay("perplexity", _numbers, _perplexity),),
    "weighted_perplexity": (_CorpusWay("perplexity by words or bytes", _weighted, _weighted_perplexity),),
    "bits_per_byte": (_CorpusWay("bits per byte", _weighted, _bits),),
    "f1": _F1,
    "mcc": (_CorpusWay("Matthews' correlation", _confusions, _matthews),),
    "matthews_corrcoef": (_CorpusWay("Matthews' correlation", _confusions, _matthews),),
    "bleu": (_CorpusWay("BLEU", _bleu_counts, _bleu),),
    "chrf": (_CorpusWay("chrF", _chrf_counts, _chrf),),
    "ter": (_CorpusWay("TER", _ter_counts, _percent_ratio),),
    "brier_score": (_CorpusWay("Brier score", _brier, _mean),),
    v2_scores.BOTH: (_CorpusWay("mean of both levels", _both_levels, _strict),),
}
"""Metric or aggregation to the ways in which its parts may make a score."""
_ANY = (
    _CorpusWay("mean", _numbers, _mean),
    _CorpusWay("mean over all entries", _lists, _ratio),
    *_F1,
    _CorpusWay("perplexity by words or bytes", _weighted, _weighted_perplexity),
    _CorpusWay("bits per byte", _weighted, _bits),
)
"""What is tried of a metric whose name says nothing."""
