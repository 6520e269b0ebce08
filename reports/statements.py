"""State who is better, by how much, and whether to believe it: one sentence per model and comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from smaug_eval.common.text import bound, counted, fixed, signed
from smaug_eval.mt_bench.scores.single import PairedComparison, compare
from smaug_eval.reports.values import points_words
from smaug_eval.results.boards import SIX
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.differences import NOT_PAIRED, Difference, held_back_words, p_words
from smaug_eval.results.judged import JudgedSet
from smaug_eval.results.tables import ScoreCell, ScoreTable
from smaug_eval.stats import Outcome, holm, verdict

REFUSED = "not compared"


HELD_BACK = {
    "unadjusted": "The interval, which is not adjusted, leaves out 0; p, adjusted for all models, is above 0.05.",
    "by its interval alone": "The interval leaves out 0, but p is above 0.05: a verdict takes both.",
    "by its p value alone": "p is at most 0.05, but no interval leaves out 0: a verdict takes both.",
}


@dataclass(frozen=True)
class JudgedDifference(PairedComparison):
    """Hold a model's judged scores less the baseline's.

    ``p_value`` is by Holm's method over the models, ``own_p`` is not.
    """

    own_p: float | None = None

    @property
    def outcome(self) -> Outcome:
        """Return what it comes to."""
        return self.decided if self.decided is not None else verdict(self.interval, self.p_value).outcome

    @property
    def held_back(self) -> str:
        """Return the same as :attr:`smaug_eval.results.differences.Difference.held_back`."""
        return "" if self.stopped else held_back_words(self.difference, self.interval, self.own_p, self.p_value)


class Statement(NamedTuple):
    """State how one model compares with the baseline.

    Attributes:
        model: The model.
        verdict: "better", "worse", "inconclusive" or "not compared"; empty where there is nothing to compare with.
        text: The sentence, beginning after the model's name.
        detail: What to know beside it; empty where there is nothing.
    """

    model: str
    verdict: str
    text: str
    detail: str


def average_statements(comparison: Comparison) -> list[Statement]:
    """Return a sentence for each model's average in each suite."""
    return [
        _statement(model, comparison.baseline, cell, average_place(table, model), table)
        for table in comparison.tables
        for model, cell in table.averages.items()
        if model != comparison.baseline or len(table.averages) == 1
    ]


def average_place(table: ScoreTable, model: str) -> str:
    """Name a model's average in a table within a sentence."""
    return f"the {table.scores[model].average_label} {_of(table)}"


def judge_words(each: JudgedSet) -> str:
    """Name the judge of a set within a sentence."""
    return "the demo's rule (not a model)" if each.is_demo else each.key.judge or "a judge that is not recorded"


def _of(table: ScoreTable) -> str:
    """What an average is of: a suite by its name, else what its columns hold."""
    return {SIX: "of the leaderboard's benchmarks"}.get(table.suite, f"({table.suite})")


def judged_statements(comparison: Comparison) -> list[Statement]:
    """Return a sentence for each model that was judged, where the baseline was judged, too.

    P values by Holm's method over the models of a set.
    """
    return [statement for each in comparison.dialogues for statement in statements_of(each, comparison.baseline)]


def scored_models(each: JudgedSet) -> list[str]:
    """List the models of which a judge scored single answers."""
    return list(dict.fromkeys(record.model for record in each.judgments.single if record.value is not None))


def judged_otherwise(each: JudgedSet, baseline: str | None) -> dict[str, str]:
    """Say of each model why its scores are not held against the baseline's; empty where all are."""
    models = scored_models(each)
    if baseline not in models:
        return {}
    found = {model: each.why_not(model, baseline) for model in models if model != baseline}
    return {model: why for model, why in found.items() if why}


def judged_differences(each: JudgedSet, baseline: str | None) -> dict[str, JudgedDifference]:
    """Return each model against the baseline where both have scores, and were judged alike as far as it was recorded.

    P values are by Holm's method over the models.
    """
    models = scored_models(each)
    if baseline not in models:
        return {}
    compared = {
        model: compare(each.judgments.single, model, baseline)
        for model in models
        if model != baseline and not each.why_not(model, baseline)
    }
    found = {model: apart for model, apart in compared.items() if apart is not None}
    tested = holm([apart.p_value for apart in found.values() if apart.p_value is not None])
    values = iter(tested)
    return {
        model: JudgedDifference(
            **{**vars(apart), "p_value": None if apart.p_value is None else next(values)}, own_p=apart.p_value
        )
        for model, apart in found.items()
    }


def statements_of(each: JudgedSet, baseline: str | None) -> Iterator[Statement]:
    """Yield a sentence for each model of a set of judged answers but the baseline."""
    judge = judge_words(each)
    for model, why in judged_otherwise(each, baseline).items():
        text = f"is not compared with {baseline} by {judge} on {each.key.title}: {why}"
        yield Statement(model, REFUSED, text, "")
    for model, apart in judged_differences(each, baseline).items():
        size = f"{fixed(abs(apart.difference), 2)} of 10 points {'higher' if apart.difference > 0 else 'lower'} than"
        yield Statement(
            model,
            apart.outcome.value,
            f"is scored {size if apart.difference else 'the same as'} {baseline} by {judge} on {each.key.title} "
            f"({judged_evidence(apart)})",
            _held_back_sentence(apart),
        )


def judged_evidence(apart: JudgedDifference) -> str:
    """Return how far a difference of judged scores can be trusted, as a phrase."""
    questions = f"{apart.n} question{'' if apart.n == 1 else 's'}"
    if apart.stopped and apart.interval is None:
        how = apart.stopped
    elif apart.stopped and apart.interval is not None:
        how = f"{apart.stopped}: interval {interval_words(apart.interval, 2)}"
    elif apart.interval is not None:
        how = f"95% interval {interval_words(apart.interval, 2)}"
    else:
        how = "the same on every question" if apart.n > 1 else "one question says nothing about others"
    p_value = "" if apart.p_value is None else f"{p_words(apart.p_value)}, "
    return f"{how}, {p_value}{questions}"


def _statement(model: str, baseline: str | None, cell: ScoreCell, where: str, table: ScoreTable) -> Statement:
    own = cell.score
    if cell.difference is not None and cell.reference is not None:
        apart = cell.difference
        where, compared = (
            (where, (own.value, cell.reference.value))
            if apart.in_common is None
            else (f"the documents in common of {where}", apart.in_common)
        )
        return Statement(
            model,
            apart.verdict.outcome.value,
            f"scores {points_words(apart.points)} {baseline} on {where}: {fixed(compared[0])} against "
            f"{fixed(compared[1])} ({evidence(apart)})",
            " ".join(_details(apart, table, model, baseline)),
        )
    if cell.why_not is not None:
        text = f"scores {fixed(own.value)} on {where}; it is not compared with {baseline}: {cell.why_not}"
        return Statement(model, REFUSED, text, "")
    interval = "" if own.interval is None else f" (95% interval {interval_words(own.interval)})"
    return Statement(model, "", f"scores {fixed(own.value)} on {where}{interval}", "")


def interval_words(interval: tuple[float, float], digits: int = 1) -> str:
    """Return an interval of points or percent, such as "−6.0 to −3.4"."""
    return f"{fixed(interval[0], digits)} to {fixed(interval[1], digits)}"


def evidence(difference: Difference) -> str:
    """Return the interval and p value as a phrase."""
    if difference.interval is None:
        return "no interval: nothing says how far the scores would vary"
    parts = [f"95% interval {bound(difference.interval[0])} to {bound(difference.interval[1])}", difference.p_words]
    return ", ".join(part for part in parts if part)


def _details(difference: Difference, table: ScoreTable, model: str, baseline: str | None) -> Iterator[str]:
    if len(table.columns) > 1 and (where := columns_words(table, model)):
        yield f"By column: {where}."
    is_open = difference.verdict.outcome is Outcome.INCONCLUSIVE
    is_alone = sum(cell.difference is not None for cell in table.averages.values()) == 1
    alone = "" if is_alone else ", before p is adjusted for the other models"
    if is_open and difference.detectable is None and difference.interval is not None:
        yield "No difference is so large that as few documents would find it in 80% of evaluations."
    elif is_open and difference.detectable is not None:
        yield (
            f"With these {counted(difference.n)} documents a true difference of {fixed(difference.detectable)} points "
            f"would be found in 80% of evaluations{alone}; a smaller one can go unnoticed."
        )
    if held_back := _held_back_sentence(difference):
        yield held_back
    if difference.test == NOT_PAIRED:
        yield "Without samples of both models documents count as independent: the interval is conservative."
    if difference.in_common is not None:
        own, other = (table.averages[str(each)].score.value for each in (model, baseline))
        yield (
            f"Compared on the documents in common only: {'; '.join(difference.remarks)}. Each on all of its own, "
            f"{model} scores {fixed(own)} and {baseline} {fixed(other)}."
        )


def _held_back_sentence(found: Difference | JudgedDifference) -> str:
    return next((text for why, text in HELD_BACK.items() if found.held_back.endswith(why)), "")


def columns_words(table: ScoreTable, model: str) -> str:
    """Return how the columns came out, such as "worse on GSM8K (−25.5); inconclusive on 5"; empty where none compares.

    Of the inconclusive ones those are named whose interval or p value alone says something else.
    """
    cells = zip(table.columns, table.cells[model], strict=True)
    found = {title: cell.difference for title, cell in cells if cell is not None and cell.difference is not None}
    parts = []
    for outcome in Outcome:
        named = {title: apart for title, apart in found.items() if apart.verdict.outcome is outcome}
        if outcome is not Outcome.INCONCLUSIVE:
            where = ", ".join(f"{title} ({signed(apart.points)})" for title, apart in named.items())
        else:
            close = (
                f"{title} {signed(apart.points)}, {apart.held_back}"
                for title, apart in named.items()
                if apart.held_back
            )
            where = f"{len(named)} ({told})" if (told := "; ".join(close)) else str(len(named))
        parts += [f"{outcome.value} on {where}"] if named else []
    return "; ".join(parts)
