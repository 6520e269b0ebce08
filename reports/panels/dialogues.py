"""Show judged answers in a panel: scores of each turn, by category, under both parsing rules, pairs, and judges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from smaug_eval.leaderboard.intervals import Interval
from smaug_eval.mt_bench.files.records import Judgments
from smaug_eval.mt_bench.scores.agreement import agreements, panel_scores
from smaug_eval.mt_bench.scores.conditions import condition_notes
from smaug_eval.mt_bench.scores.disagreements import Disagreement, disagreements
from smaug_eval.mt_bench.scores.pairs import PairwiseScores, model_strengths, pair_scores, position_bias
from smaug_eval.mt_bench.scores.single import ModelScores, single_scores
from smaug_eval.reports.charts.radar import radar
from smaug_eval.reports.html.browser import JUDGMENTS, state, word
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.statements import JudgedDifference, judged_differences, judged_otherwise, scored_models
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.differences import p_words
from smaug_eval.results.judged import JudgedSet
from smaug_eval.stats import Strength

LISTED = 100
"""Most judgments listed of those without a verdict and those that the two rules read differently."""


class ScoredAnswers(NamedTuple):
    """Hold a number with its interval."""

    value: float | None
    interval: Interval | None


class ModelRow(NamedTuple):
    """Hold a model's row of the table of scores."""

    model: str
    means: list[ScoredAnswers]
    scores: ModelScores
    difference: JudgedDifference | None

    @property
    def p_value(self) -> str:
        """Word the p value of the difference; empty where there is none."""
        value = self.difference.p_value if self.difference is not None else None
        return "" if value is None else p_words(value)


class PairRow(NamedTuple):
    """Hold a model's row of the table of pairs."""

    model: str
    scores: PairwiseScores
    strength: Strength | None


def dialogues(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show what judges said of the models' answers."""
    views = [_set_view(each, comparison.baseline, number) for number, each in enumerate(comparison.dialogues)]
    return {"sets": views, "agreement": between_judges(comparison.dialogues)} if views else None


def between_judges(sets: Sequence[JudgedSet]) -> list[Mapping[str, Any]]:
    """Show how far several judges of one question set agree, and what they say together."""
    titles: dict[tuple[str, str], list[JudgedSet]] = {}
    for each in sets:
        titles.setdefault((each.key.title, each.key.references), []).append(each)
    found: list[Mapping[str, Any]] = []
    for (title, _), several in titles.items():
        together = Judgments()
        for each in several:
            together.single += each.judgments.single
            together.pairs += each.judgments.pairs
        if agreed := agreements(together):
            found.append({"title": title, "agreements": agreed, "panel": panel_scores(together.single)})
    return found


def dialogue_warnings(comparison: Comparison) -> Iterator[str]:
    """Yield what a reader must know before trusting a judge's scores."""
    for each in comparison.dialogues:
        where = each.key.title
        if each.is_demo:
            yield f"{where}: the judge is a rule of the demo, not a model; its scores mean nothing outside of the demo."
        failures = sum(found.failed for found in disagreements(each.judgments))
        if failures:
            yield f"{where}: judgments without a verdict, listed with the scores and counted nowhere: {failures}."
        if missing := len(each.judgments.missing):
            yield f"{where}: judgments that are missing, since the judge did not answer: {missing}."
            reasons = "; ".join(f"{number} x {reason}" for reason, number in each.missing_reasons.items())
            yield f"{where}: why these judgments are missing: {reasons}."
        if not_judged := each.not_judged:
            yield f"{where}: turns without an answer, which were not judged: {not_judged}."
        yield from (f"{where}: {text}" for text in _apart(each, comparison.baseline))
        for note in (*each.judgments.notes, *condition_notes(each.judgments)):
            yield f"{where}: {note}."


def _apart(each: JudgedSet, baseline: str | None) -> Iterator[str]:
    """Yield which models were not judged together with the baseline, or not alike."""
    models = scored_models(each)
    if baseline is None or baseline not in models:
        return
    for model in models:
        if model != baseline and (why := each.why_not(model, baseline)):
            yield f"{model} and {baseline} do not compare ({why}): no difference is shown."
        elif model != baseline and (unchecked := each.unchecked(model, baseline)):
            yield f"{model} against {baseline}: {unchecked}."


def _set_view(each: JudgedSet, baseline: str | None, number: int) -> Mapping[str, Any]:
    judgments = each.judgments
    scores = single_scores(judgments.single)
    reference = _reference([model for model, own in scores.items() if own.n], baseline)
    differences = judged_differences(each, reference)
    rows = [_model_row(model, own, differences.get(model)) for model, own in scores.items()]
    categories = list(dict.fromkeys(name for own in scores.values() for name in own.by_category))
    pairs = pair_scores(judgments.pairs)
    strengths = model_strengths(judgments.pairs) if judgments.pairs else {}
    later = sorted({turn for own in scores.values() for turn in own.later})
    listed = disagreements(judgments)
    return {
        "key": each.key,
        "is_demo": each.is_demo,
        "is_named": each.is_named,
        "served_by": [name for name in each.served_by if name != each.key.judge],
        "rows": rows,
        "reference": reference,
        "why_not": judged_otherwise(each, reference),
        "categories": categories,
        "finds": {name: state(JUDGMENTS, category=word(name)) for name in categories},
        "radar": radar(scores, categories, key=f"radar-{number}", title=each.key.title),
        "by_category": {row.model: [_category(row.scores, name) for name in categories] for row in rows},
        "notes": _notes(scores.values(), pairs.values()),
        "later": later,
        "missing": each.missing,
        "missing_in_all": len(judgments.missing),
        "has_raw": any(own.raw is not None for own in scores.values()),
        "pairs_have_raw": any(own.raw is not None for own in pairs.values()),
        "strengths": strengths,
        "unread_pairs": len(judgments.pairs) if judgments.pairs and not pairs else 0,
        "has_strict": any(own.strict is not None for own in scores.values()),
        "has_variance": any(own.variance is not None for own in scores.values()),
        "pairs": [PairRow(model, own, strengths.get(model)) for model, own in pairs.items()],
        "bias": position_bias(judgments.pairs) if judgments.pairs else None,
        "listed": listed[:LISTED],
        "unlisted": max(0, len(listed) - LISTED),
        "counts": _counts(judgments, listed),
        "marks": each.marks,
        "mark_names": sorted({mark for counts in each.marks.values() for mark in counts}, key=lambda m: (m != "ok", m)),
        "settings": {name: own.recorded for name, own in each.settings.items()},
    }


def _notes(scores: Iterable[ModelScores], pairs: Iterable[PairwiseScores]) -> list[str]:
    """Return each note once; pairs have theirs from both sides."""
    of_scores = [note for own in scores for note in own.notes]
    return list(dict.fromkeys([*of_scores, *(note for own in pairs for note in own.notes)]))


def _reference(models: Sequence[str], baseline: str | None) -> str | None:
    """Choose the model that others are compared with: the baseline where it has scores, of ``models`` that have."""
    return baseline if baseline in models and len(models) > 1 else None


def _model_row(model: str, scores: ModelScores, difference: JudgedDifference | None) -> ModelRow:
    means = [ScoredAnswers(getattr(scores, name), scores.intervals[name]) for name in ("turn1", "turn2", "average")]
    return ModelRow(model, means, scores, difference)


def _category(scores: ModelScores, name: str) -> ScoredAnswers | None:
    found = scores.by_category.get(name)
    return None if found is None else ScoredAnswers(found.mean, found.interval)


def _counts(judgments: Judgments, listed: Sequence[Disagreement]) -> Mapping[str, int]:
    """Say how many verdicts there should be, how many there are not, and how many depend on the reader."""
    failed = sum(each.failed for each in listed)
    return {
        "verdicts": len(judgments.single) + 2 * len(judgments.pairs),
        "failed": failed,
        "differing": len(listed) - failed,
    }


PANEL = Panel("dialogues", "Judged answers", dialogues)
