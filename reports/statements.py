"""Who is better, by how much, and whether to believe it: one sentence per model and comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from reports.comparison import Cell, Comparison, SuiteTable
from reports.dialogues import JudgedSet
from reports.differences import NOT_PAIRED, Difference, p_words
from reports.text import fixed, signed
from smaug_eval.mt_bench.scores import PairedComparison, compare
from smaug_eval.stats import Outcome, holm, verdict

REFUSED = "not compared"


class Statement(NamedTuple):
    """One model against the baseline, in words.

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
    """A sentence for each model's average in each suite."""
    return [
        _statement(model, comparison.baseline, cell, f"the {table.average_label or 'average'} ({table.suite})", table)
        for table in comparison.tables
        for model, cell in table.averages.items()
        if model != comparison.baseline or len(table.averages) == 1
    ]


def judged_statements(comparison: Comparison) -> list[Statement]:
    """A sentence for each model that was judged, where the baseline was judged, too; p values by Holm's method over the
    models of a set."""
    return [statement for each in comparison.dialogues for statement in _judged(each, comparison.baseline)]


def judged_differences(each: JudgedSet, baseline: str | None) -> dict[str, PairedComparison]:
    """Each model against the baseline where both have scores; p values by Holm's method over the models."""
    models = list(dict.fromkeys(record.model for record in each.judgments.single if record.value is not None))
    if baseline not in models:
        return {}
    compared = {model: compare(each.judgments.single, model, baseline) for model in models if model != baseline}
    found = {model: apart for model, apart in compared.items() if apart is not None}
    tested = holm([apart.p_value for apart in found.values() if apart.p_value is not None])
    values = iter(tested)
    return {
        model: apart if apart.p_value is None else replace(apart, p_value=next(values))
        for model, apart in found.items()
    }


def _judged(each: JudgedSet, baseline: str | None) -> Iterator[Statement]:
    judge = "the demo's rule (not a model)" if each.is_demo else each.key.judge or "a judge that is not recorded"
    for model, apart in judged_differences(each, baseline).items():
        size = f"{fixed(abs(apart.difference), 2)} of 10 points {'higher' if apart.difference > 0 else 'lower'} than"
        yield Statement(
            model,
            verdict(apart.interval, apart.p_value).outcome.value,
            f"is scored {size if apart.difference else 'the same as'} {baseline} by {judge} on {each.key.title} "
            f"({judged_evidence(apart)})",
            "",
        )


def judged_evidence(apart: PairedComparison) -> str:
    """How far a difference of judged scores can be trusted, as a phrase."""
    questions = f"{apart.n} question{'' if apart.n == 1 else 's'}"
    if apart.interval is not None:
        how = f"95% interval {interval_words(apart.interval, 2)}"
    else:
        how = "the same on every question" if apart.n > 1 else "one question tells nothing of others"
    p_value = "" if apart.p_value is None else f"{p_words(apart.p_value)}, "
    return f"{how}, {p_value}{questions}"


def _statement(model: str, baseline: str | None, cell: Cell, where: str, table: SuiteTable) -> Statement:
    own = cell.score
    if cell.difference is not None and cell.reference is not None:
        apart = cell.difference
        return Statement(
            model,
            apart.verdict.outcome.value,
            f"scores {points_words(apart.points)} {baseline} on {where}: {fixed(own.value)} against "
            f"{fixed(cell.reference.value)} ({evidence(apart)})",
            " ".join(_details(apart, table, model)),
        )
    if cell.why_not is not None:
        text = f"scores {fixed(own.value)} on {where}; it is not compared with {baseline}: {cell.why_not}"
        return Statement(model, REFUSED, text, "")
    interval = "" if own.interval is None else f" (95% interval {interval_words(own.interval)})"
    return Statement(model, "", f"scores {fixed(own.value)} on {where}{interval}", "")


def points_words(points: float) -> str:
    """A difference up to "than" or "as" the other model's name, such as "4.7 points lower than"."""
    shown = fixed(abs(points))
    if float(shown) == 0:
        return "less than 0.1 points away from" if points else "the same as"
    return f"{shown} point{'' if shown == '1.0' else 's'} {'higher' if points > 0 else 'lower'} than"


def interval_words(interval: tuple[float, float], digits: int = 1) -> str:
    """An interval of points or percent, such as "−6.0 to −3.4"."""
    return f"{fixed(interval[0], digits)} to {fixed(interval[1], digits)}"


def evidence(difference: Difference) -> str:
    """Interval and p value as a phrase."""
    if difference.interval is None:
        return "no interval: nothing says how far the scores would vary"
    parts = [f"95% interval {signed(difference.interval[0])} to {signed(difference.interval[1])}", difference.p_words]
    return ", ".join(part for part in parts if part)


def _details(difference: Difference, table: SuiteTable, model: str) -> Iterator[str]:
    if len(table.columns) > 1 and (where := columns_words(table, model)):
        yield f"By column: {where}."
    is_open = difference.verdict.outcome is Outcome.INCONCLUSIVE
    if is_open and difference.detectable is not None:
        yield (
            f"With these {difference.n:,} documents a true difference of {fixed(difference.detectable)} points would "
            "be found in 80% of evaluations; a smaller one may well be there."
        )
    if difference.test == NOT_PAIRED:
        yield "Without samples of both models their documents count as independent: mostly, the interval is too wide."
    if difference.remarks:
        yield f"Compared on the documents in common only: {'; '.join(difference.remarks)}."


def columns_words(table: SuiteTable, model: str) -> str:
    """How the columns came out, such as "worse on GSM8K (−25.5); inconclusive on 5"; empty where none compares."""
    groups: dict[Outcome, list[str]] = {}
    for title, cell in zip(table.columns, table.cells[model], strict=True):
        if cell is not None and cell.difference is not None:
            named = f"{title} ({signed(cell.difference.points)})"
            groups.setdefault(cell.difference.verdict.outcome, []).append(named)
    parts = [
        f"{outcome.value} on {len(groups[outcome]) if outcome is Outcome.INCONCLUSIVE else ', '.join(groups[outcome])}"
        for outcome in Outcome
        if outcome in groups
    ]
    return "; ".join(parts)
