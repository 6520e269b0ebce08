"""The panel of judged answers: scores of each turn, by category, under both parsing rules, pairs, and who judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reports.browser import state, word
from reports.comparison import Comparison
from reports.dialogues import JudgedSet
from reports.differences import p_words
from reports.radar import radar
from reports.statements import JudgedDifference, judged_differences
from smaug_eval.leaderboard.intervals import Interval
from smaug_eval.mt_bench.disagreements import Disagreement, disagreements
from smaug_eval.mt_bench.pair_scores import PairScores, pair_scores, position_bias
from smaug_eval.mt_bench.records import Judgments
from smaug_eval.mt_bench.scores import ModelScores, single_scores

LISTED = 100
"""Most judgments listed of those without a verdict and those that the two rules read differently."""


class Scored(NamedTuple):
    """A number with its interval."""

    value: float | None
    interval: Interval | None


class ModelRow(NamedTuple):
    """A model's row of the table of scores."""

    model: str
    means: list[Scored]
    scores: ModelScores
    difference: JudgedDifference | None

    @property
    def p_value(self) -> str:
        """The difference's, in words; empty where there is none."""
        value = self.difference.p_value if self.difference is not None else None
        return "" if value is None else p_words(value)


class PairRow(NamedTuple):
    """A model's row of the table of pairs."""

    model: str
    scores: PairScores


def dialogues(comparison: Comparison) -> Mapping[str, Any] | None:
    """What judges said of the models' answers."""
    views = [_set_view(each, comparison.baseline, number) for number, each in enumerate(comparison.dialogues)]
    return {"sets": views} if views else None


def dialogue_warnings(comparison: Comparison) -> Iterator[str]:
    """What a reader must know before trusting a judge's scores."""
    for each in comparison.dialogues:
        where = each.key.title
        if each.is_demo:
            yield f"{where}: the judge is a rule of the demo, not a model; its scores mean nothing outside of the demo."
        failures = sum(found.failed for found in disagreements(each.judgments))
        if failures:
            yield f"{where}: judgments without a verdict, listed with the scores and counted nowhere: {failures}."
        if missing := each.counted("missing"):
            yield f"{where}: judgments that are missing, since the judge did not answer: {missing}."
        if not_judged := each.counted("not_judged"):
            yield f"{where}: turns without an answer, which were not judged: {not_judged}."
        for note in each.judgments.notes:
            yield f"{where}: {note}."


def _set_view(each: JudgedSet, baseline: str | None, number: int) -> Mapping[str, Any]:
    judgments = each.judgments
    scores = single_scores(judgments.single)
    reference = _reference([model for model, own in scores.items() if own.n], baseline)
    differences = judged_differences(each, reference)
    rows = [_model_row(model, own, differences.get(model)) for model, own in scores.items()]
    categories = list(dict.fromkeys(name for own in scores.values() for name in own.by_category))
    pairs = pair_scores(judgments.pairs)
    listed = disagreements(judgments)
    return {
        "key": each.key,
        "is_demo": each.is_demo,
        "is_named": each.is_named,
        "served_by": [name for name in each.served_by if name != each.key.judge],
        "rows": rows,
        "reference": reference,
        "categories": categories,
        "finds": {name: state("judgments", category=word(name)) for name in categories},
        "radar": radar(scores, categories, key=f"radar-{number}", title=each.key.title),
        "by_category": {row.model: [_category(row.scores, name) for name in categories] for row in rows},
        "notes": _notes(scores.values(), pairs.values()),
        "has_strict": any(own.strict is not None for own in scores.values()),
        "has_variance": any(own.variance is not None for own in scores.values()),
        "pairs": [PairRow(model, own) for model, own in pairs.items()],
        "bias": position_bias(judgments.pairs) if judgments.pairs else None,
        "listed": listed[:LISTED],
        "unlisted": max(0, len(listed) - LISTED),
        "counts": _counts(judgments, listed),
        "marks": each.marks,
        "mark_names": sorted({mark for counts in each.marks.values() for mark in counts}, key=lambda m: (m != "ok", m)),
        "settings": each.settings,
    }


def _notes(scores: Iterable[ModelScores], pairs: Iterable[PairScores]) -> list[str]:
    """Each note once; pairs have theirs from both sides."""
    of_scores = [note for own in scores for note in own.notes]
    return list(dict.fromkeys([*of_scores, *(note for own in pairs for note in own.notes)]))


def _reference(models: Sequence[str], baseline: str | None) -> str | None:
    """The model that others are compared with: the report's baseline where it has scores, of ``models`` that have."""
    return baseline if baseline in models and len(models) > 1 else None


def _model_row(model: str, scores: ModelScores, difference: JudgedDifference | None) -> ModelRow:
    means = [Scored(getattr(scores, name), scores.intervals[name]) for name in ("turn1", "turn2", "average")]
    return ModelRow(model, means, scores, difference)


def _category(scores: ModelScores, name: str) -> Scored | None:
    found = scores.by_category.get(name)
    return None if found is None else Scored(found.mean, found.interval)


def _counts(judgments: Judgments, listed: Sequence[Disagreement]) -> Mapping[str, int]:
    """How many verdicts there should be, how many there are not, and how many depend on the reader."""
    failed = sum(each.failed for each in listed)
    return {
        "verdicts": len(judgments.single) + 2 * len(judgments.pairs),
        "failed": failed,
        "differing": len(listed) - failed,
    }
