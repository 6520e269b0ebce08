"""Put all pairs of models into matrices, row against column, and say which model is best and by how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from smaug_eval.common.text import bound, fixed, signed
from smaug_eval.leaderboard.columns import PERCENT, Unit
from smaug_eval.mt_bench.scores.single import compare, single_scores
from smaug_eval.reports.statements import (
    REFUSED,
    JudgedDifference,
    Statement,
    average_place,
    judge_words,
    scored_models,
)
from smaug_eval.reports.values import apart_text, distance_words, interval_text, value_text
from smaug_eval.results.boards import SHORT_NAMES
from smaug_eval.results.comparison import MOST_CHOICES, Comparison
from smaug_eval.results.differences import Difference, p_words
from smaug_eval.results.judged import JudgedSet
from smaug_eval.results.pairs import ModelPair, PairTable, pair_tables
from smaug_eval.results.tables import ScoreTable
from smaug_eval.stats import Outcome, holm

MARKS = {Outcome.BETTER: "▲", Outcome.WORSE: "▼", Outcome.HIGHER: "△", Outcome.LOWER: "▽"}
MOST_TOLD = 3
"""Most models beside the baseline of which a sentence is written for every pair."""


@dataclass(frozen=True)
class MatrixEntry:
    """Hold a row against a column as texts.

    Attributes:
        apart: The difference; of several tasks without an average, how many the row is better and worse on.
        interval: Its 95% interval; empty where there is none.
        p_value: Adjusted over all pairs, as a phrase.
        outcome: The verdict's word; empty where there is none.
        mark: The verdict as a mark.
        why_not: Why the two are not compared; empty where they are.
        kind: The verdict in one word: "better", "worse", "mixed", "inconclusive".
    """

    apart: str = ""
    interval: str = ""
    p_value: str = ""
    outcome: str = ""
    mark: str = ""
    why_not: str = ""
    kind: str = ""


@dataclass(frozen=True)
class PairMatrix:
    """Hold all pairs of models on one suite, one task or one set of judged questions.

    Attributes:
        title: What it is of.
        where: The same within a sentence.
        family: What p was adjusted over, such as "all 3 pairs".
        scores: Model to its score as text, in the order of the matrix; empty texts where there is no common score.
        entries: Row and column to what the row comes to against the column.
        best: Which model is best, and how far ahead of the next; None where no score says so.
        statements: A sentence for each pair, the model less the other.
        unit: Of the differences.
        is_judged: Whether it is of judged answers.
    """

    title: str
    where: str
    family: str
    scores: Mapping[str, str]
    entries: Mapping[tuple[str, str], MatrixEntry]
    best: Statement | None
    statements: Mapping[tuple[str, str], Statement]
    unit: str = "points"
    is_judged: bool = False

    @property
    def models(self) -> list[str]:
        """Return the models, in the order of rows and columns."""
        return list(self.scores)


def pair_matrices(comparison: Comparison) -> list[PairMatrix]:
    """Compare every model with every other: suites, all other tasks, judged answers; the same with any baseline.

    Empty where there is but one model, and where there are more than are compared in pairs.
    """
    found = [_of_scores(comparison, table) for table in pair_tables(comparison)]
    judged = [_of_judged(each) for each in comparison.dialogues] if comparison.choices else []
    return [each for each in [*found, *judged] if each is not None]


def best_statements(matrices: Sequence[PairMatrix]) -> list[Statement]:
    """Say of each matrix which model is best; of judged answers where there is nothing else.

    Nothing is said of two models: their one difference says it.
    """
    found = [each for each in matrices if each.best is not None and len(each.models) > 2]
    measured = [each for each in found if not each.is_judged]
    return [each.best for each in measured or found if each.best is not None]


def told_pairs(matrices: Sequence[PairMatrix], baseline: str | None, *, judged: bool) -> list[Statement]:
    """Say how models beside the baseline compare with each other, where they are few.

    Args:
        matrices: All of them.
        baseline: The model of which other sentences tell.
        judged: Whether to tell of judged answers, or of everything else.
    """
    found = []
    for each in (each for each in matrices if each.is_judged is judged):
        others = [model for model in each.models if model != baseline]
        if 1 < len(others) <= MOST_TOLD:
            found += [told for pair, told in each.statements.items() if baseline not in pair]
    return found


def too_many(comparison: Comparison) -> str:
    """Say that there are more models than are compared in pairs; empty where there are not."""
    number = len(comparison.candidates)
    if number <= MOST_CHOICES:
        return ""
    return (
        f"There are {number} models; every pair is compared, and the baseline can be chosen, up to {MOST_CHOICES}. All "
        f"differences are from {comparison.baseline}: name another with --baseline, or report on fewer models"
    )


def _of_scores(comparison: Comparison, pairs: PairTable) -> PairMatrix | None:
    table = next(each for each in comparison.all_tables if each.suite == pairs.suite)
    name = SHORT_NAMES.get(pairs.suite, pairs.suite)
    family = _family(pairs.tests, pairs, of_tasks=not pairs.label)
    values = _values(table, pairs)
    column = next((each for each in table.described if each.title == pairs.label), None)
    unit = PERCENT if column is None else column.unit
    where = average_place(table, pairs.models[0]) if table.is_averaged else f"{pairs.label} ({name})"
    told = {
        (pair.model, pair.other): _told(pair, where, family, values, unit)
        for pair in pairs.pairs
        if pair.difference is not None or pair.why_not
    }
    direction = True if column is None else column.higher_is_better
    entries = {}
    for pair in pairs.pairs:
        for own in (pair, pair.turned()):
            entries[own.model, own.other] = _entry(own, bool(pairs.label), unit)
    return PairMatrix(
        title=f"{name}: {pairs.label}" if pairs.label else f"{name}: tasks on which a model is better or worse",
        where=where,
        family=family,
        scores={model: value_text(values[model], unit) if model in values else "" for model in pairs.models},
        entries=entries,
        best=_best(pairs, values, where, family, unit, direction) if pairs.label else None,
        statements=told if pairs.label else {},
        unit="points" if unit == PERCENT else unit.of_difference.strip() or "its unit",
    )


def _family(tests: int, pairs: PairTable, *, of_tasks: bool) -> str:
    if not of_tasks:
        return "the only pair" if tests == 1 else f"all {tests} pairs"
    return f"all {tests} tests, of {len(pairs.columns)} tasks and {len(pairs.pairs)} pairs"


def _values(table: ScoreTable, pairs: PairTable) -> dict[str, float]:
    """Return the models' scores that the differences are of."""
    if table.is_averaged:
        return {model: own.average.value for model, own in table.scores.items() if model in pairs.models}
    if pairs.label not in table.columns:
        return {}
    place = table.columns.index(pairs.label)
    return {model: cell.score.value for model, own in table.cells.items() if (cell := own[place]) is not None}


def _entry(pair: ModelPair, has_score: bool, unit: Unit) -> MatrixEntry:
    if not has_score:
        if not pair.compared:
            return MatrixEntry(
                why_not=pair.why_not or next((c.why_not for c in pair.tasks.values() if c.why_not), "no task")
            )
        counts = {outcome: pair.count(outcome) for outcome in MARKS}
        parts = [f"{MARKS[outcome]} {count}" for outcome, count in counts.items() if count]
        words = ", ".join(f"{outcome.value} on {count}" for outcome, count in counts.items() if count)
        clear = [outcome for outcome, count in counts.items() if count]
        kind = clear[0].value if len(clear) == 1 else "mixed" if clear else Outcome.INCONCLUSIVE.value
        of = f"of {pair.compared} task{'' if pair.compared == 1 else 's'}"
        return MatrixEntry(" ".join(parts), outcome=f"{words or 'no clear difference'} {of}", kind=kind)
    apart = pair.difference
    if apart is None:
        return MatrixEntry(why_not=pair.why_not or "not measured on both")
    return MatrixEntry(
        apart=apart_text(apart.points, unit),
        interval="" if apart.interval is None else interval_text(apart.interval, unit, is_difference=True),
        p_value=apart.p_words,
        outcome=apart.word,
        mark=MARKS.get(apart.verdict.outcome, ""),
        kind=apart.verdict.outcome.value,
    )


def _ends(interval: tuple[float, float], unit: Unit) -> str:
    if unit == PERCENT:
        return f"{bound(interval[0])} to {bound(interval[1])}"
    return " to ".join(interval_text(interval, unit, is_difference=True).split(", "))


def _evidence(apart: Difference, family: str, unit: Unit) -> str:
    if apart.interval is None:
        return "no interval: nothing says how far the scores would vary"
    parts = [f"95% interval {_ends(apart.interval, unit)}", f"{apart.p_words} over {family}" if apart.p_words else ""]
    return ", ".join(filter(None, parts))


def _told(pair: ModelPair, where: str, family: str, values: Mapping[str, float], unit: Unit) -> Statement:
    apart = pair.difference
    if apart is None:
        return Statement(pair.model, REFUSED, f"is not compared with {pair.other} on {where}: {pair.why_not}", "")
    own = apart.in_common or (values.get(pair.model), values.get(pair.other))
    scores = " against ".join(value_text(value, unit) for value in own)
    place = where if apart.in_common is None else f"the documents in common of {where}"
    text = f"{_verb(unit)} {distance_words(apart, 'a value')} {pair.other} on {place}: {scores}"
    return Statement(pair.model, apart.verdict.outcome.value, f"{text} ({_evidence(apart, family, unit)})", "")


def _verb(unit: Unit) -> str:
    return "scores" if unit == PERCENT else "has"


def _best(
    pairs: PairTable, values: Mapping[str, float], where: str, family: str, unit: Unit, higher_is_better: bool | None
) -> Statement | None:
    if higher_is_better is None or len(values) < 2:
        return None
    first, second, *_ = sorted(values, key=values.__getitem__, reverse=higher_is_better)
    pair = pairs.of(first, second)
    if pair is None:
        return None
    head = f"is best on {where}, with {value_text(values[first], unit)}"
    if pair.difference is None:
        return Statement(first, REFUSED, f"{head}; it is not compared with {second}, the next: {pair.why_not}", "")
    distance = distance_words(pair.difference, "a value")
    text = f"{head}: {distance} {second}, the next ({_evidence(pair.difference, family, unit)})"
    return Statement(first, pair.difference.verdict.outcome.value, text, _not_told_apart(pairs, first, second))


def _not_told_apart(pairs: PairTable, best: str, second: str) -> str:
    """Name the models, other than the next, that the best one is not shown to be better than."""
    open_ = [
        model
        for model in pairs.models
        if model not in (best, second)
        and (pair := pairs.of(best, model)) is not None
        and pair.difference is not None
        and pair.difference.verdict.outcome is not Outcome.BETTER
    ]
    return f"It is not shown to be better than {', '.join(open_)} either." if open_ else ""


def judged_pairs(each: JudgedSet) -> dict[tuple[str, str], JudgedDifference]:
    """Compare every model with every other by its judged scores; p values by Holm's method over all pairs.

    Pairs that were not judged alike are left out (:meth:`smaug_eval.results.judged.JudgedSet.why_not`).
    """
    compared = {
        (model, other): apart
        for other, model in combinations(scored_models(each), 2)
        if not each.why_not(model, other) and (apart := compare(each.judgments.single, model, other)) is not None
    }
    values = iter(holm([apart.p_value for apart in compared.values() if apart.p_value is not None]))
    return {
        pair: JudgedDifference(
            **{**vars(apart), "p_value": None if apart.p_value is None else next(values)}, own_p=apart.p_value
        )
        for pair, apart in compared.items()
    }


def _of_judged(each: JudgedSet) -> PairMatrix | None:
    found = judged_pairs(each)
    if not found:
        return None
    scores = single_scores(each.judgments.single)
    values = {model: own.average for model, own in scores.items() if own.average is not None}
    models = [model for model in each.models if any(model in pair for pair in found)]
    tests = sum(apart.p_value is not None for apart in found.values())
    family = "the only pair" if tests == 1 else f"all {tests} pairs"
    where, judge = f"{each.key.title}", judge_words(each)
    both = {**found, **{(other, model): _turned(apart) for (model, other), apart in found.items()}}
    ranked = sorted((model for model in models if model in values), key=values.__getitem__, reverse=True)
    best = None
    if len(ranked) > 1 and (apart := both.get((ranked[0], ranked[1]))) is not None:
        text = f"is scored best by {judge} on {where}, with {fixed(values[ranked[0]], 2)} of 10: {_distance(apart)} "
        text += f"{ranked[1]}, the next ({_judged_evidence(apart, family)})"
        best = Statement(ranked[0], apart.outcome.value, text, "")
    return PairMatrix(
        title=f"{each.key.title}: average score by {judge}",
        where=where,
        family=family,
        scores={model: fixed(values[model], 2) if model in values else "" for model in models},
        entries=dict(_judged_entries(each, models, both)),
        best=best,
        statements={
            (model, other): Statement(
                model,
                apart.outcome.value,
                f"is scored {_distance(apart)} {other} by {judge} on {where} ({_judged_evidence(apart, family)})",
                "",
            )
            for (model, other), apart in found.items()
        },
        unit="points of 10",
        is_judged=True,
    )


def _judged_entries(
    each: JudgedSet, models: Sequence[str], both: Mapping[tuple[str, str], JudgedDifference]
) -> Iterator[tuple[tuple[str, str], MatrixEntry]]:
    for pair in ((row, column) for row in models for column in models if row != column):
        apart = both.get(pair)
        if apart is None:
            yield pair, MatrixEntry(why_not=each.why_not(*pair) or "no question is scored for both")
            continue
        yield (
            pair,
            MatrixEntry(
                apart=signed(apart.difference, 2),
                interval="" if apart.interval is None else ", ".join(signed(end, 2) for end in apart.interval),
                p_value="" if apart.p_value is None else p_words(apart.p_value),
                outcome=apart.held_back or apart.outcome.value,
                mark=MARKS.get(apart.outcome, ""),
                kind=apart.outcome.value,
            ),
        )


_TURNED = {Outcome.BETTER: Outcome.WORSE, Outcome.WORSE: Outcome.BETTER}


def _turned(apart: JudgedDifference) -> JudgedDifference:
    interval: tuple[float, float] | None = None if apart.interval is None else (-apart.interval[1], -apart.interval[0])
    decided = None if apart.decided is None else _TURNED.get(apart.decided, apart.decided)
    turned = -apart.difference if apart.difference else 0.0
    return replace(apart, difference=turned, interval=interval, decided=decided)


def _distance(apart: JudgedDifference) -> str:
    if not apart.difference:
        return "the same as"
    return f"{fixed(abs(apart.difference), 2)} points {'higher' if apart.difference > 0 else 'lower'} than"


def _judged_evidence(apart: JudgedDifference, family: str) -> str:
    interval, level = "no interval", "" if apart.stopped else "95% "
    if apart.interval is not None:
        interval = f"{level}interval {signed(apart.interval[0], 2)} to {signed(apart.interval[1], 2)}"
    p_value = "" if apart.p_value is None else f"{p_words(apart.p_value)} over {family}, "
    stopped = f", {apart.stopped}" if apart.stopped else ""
    return f"{interval}, {p_value}{apart.n} question{'' if apart.n == 1 else 's'}{stopped}"
