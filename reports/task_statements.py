"""State models' results on any tasks: one sentence for each model, or for those of which all is open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from smaug_eval.common.text import bound, fixed
from smaug_eval.leaderboard.columns import PERCENT, Column
from smaug_eval.reports.statements import REFUSED, Statement
from smaug_eval.reports.values import apart_text, distance_words, interval_text, value_text
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.differences import NOT_PAIRED, Difference
from smaug_eval.results.pairing import NOT_MEASURED
from smaug_eval.results.tables import ScoreCell, ScoreTable
from smaug_eval.stats import Outcome

MIXED = "mixed"
_NAMED = 4
"""Tasks that a sentence names."""
_ALONE = 3
"""Models from which on those of which all is open share a sentence."""
_CLEAR = {
    Outcome.BETTER: "better",
    Outcome.WORSE: "worse",
    Outcome.HIGHER: "higher",
    Outcome.LOWER: "lower",
}

Cells = Mapping[str, ScoreCell]


def task_statements(comparison: Comparison) -> list[Statement]:
    """Return a sentence for each model's results on tasks without a common average."""
    found = [
        each for table in comparison.all_tables if not table.is_averaged for each in _statements(comparison, table)
    ]
    open_ = [each for each in found if each.verdict == Outcome.INCONCLUSIVE.value]
    if len(found) <= _ALONE or len(open_) < 2:
        return found
    names = ", ".join(dict.fromkeys(each.model for each in open_))
    together = Statement(
        names, Outcome.INCONCLUSIVE.value, f"show no clear difference from {comparison.baseline} on any task", ""
    )
    return [*(each for each in found if each not in open_), together]


def _statements(comparison: Comparison, table: ScoreTable) -> list[Statement]:
    columns = {column.title: column for column in table.described}
    own = {model: _cells(table, model) for model in table.cells}
    if len(own) == 1 or comparison.baseline not in own:
        return [_scores(model, cells, columns, table) for model, cells in own.items()][:_ALONE]
    others = {model: cells for model, cells in own.items() if model != comparison.baseline}
    told = {model for each in comparison.tables if each.is_averaged for model in each.cells}
    return [
        _on_group(model, cells, columns, table, str(comparison.baseline))
        or _against(model, cells, columns, table, str(comparison.baseline))
        for model, cells in others.items()
        if model not in told or any(cell.why_not != NOT_MEASURED for cell in cells.values())
    ]


def outcome_words(cells: Cells, columns: Mapping[str, Column]) -> str:
    """Return how tasks came out, such as "better on a (+3.1), b (+2.0); no clear difference on 3"."""
    parts = []
    for outcome, word in _CLEAR.items():
        named = [
            f"{title} ({apart_text(cell.difference.points, columns[title].unit)})"
            for title, cell in cells.items()
            if cell.difference is not None and cell.difference.verdict.outcome is outcome
        ]
        if named:
            more = len(named) - _NAMED
            parts.append(f"{word} on {', '.join(named[:_NAMED])}" + (f" and {more} more" if more > 0 else ""))
    open_ = sum(_is_open(cell) for cell in cells.values())
    if open_:
        parts.append(f"no clear difference on {open_} task{'' if open_ == 1 else 's'}")
    return "; ".join(parts)


def _cells(table: ScoreTable, model: str) -> dict[str, ScoreCell]:
    """A model's single tasks; groups of them only where it has no other."""
    found = {
        column.title: (cell, column.reported or len(column.leaves) > 1)
        for column, cell in zip(table.described, table.cells[model], strict=True)
        if cell is not None
    }
    only_groups = all(is_group for _, is_group in found.values())
    return {title: cell for title, (cell, is_group) in found.items() if only_groups or not is_group}


def _is_open(cell: ScoreCell) -> bool:
    return cell.difference is not None and cell.difference.verdict.outcome not in _CLEAR


def _scores(model: str, cells: Cells, columns: Mapping[str, Column], table: ScoreTable) -> Statement:
    named = [
        f"{value_text(cell.score.value, columns[title].unit)}{columns[title].unit.name} on {title} "
        f"({', '.join(_evidence(title, cell, columns[title], table))})"
        for title, cell in list(cells.items())[:_NAMED]
    ]
    more = len(cells) - len(named)
    text = f"scores {'; '.join(named)}" + (f"; and {more} more" if more > 0 else "")
    return Statement(model, "", text, "")


def _evidence(title: str, cell: ScoreCell, column: Column, table: ScoreTable) -> Iterator[str]:
    yield table.metrics[table.columns.index(title)]
    if label := table.labels.get(title):
        yield label
    interval = cell.score.interval
    yield "no interval" if interval is None else f"95% interval {_ends(interval, column)}"


def _ends(interval: tuple[float, float], column: Column) -> str:
    return " to ".join(interval_text(interval, column.unit).split(", "))


def _against(model: str, cells: Cells, columns: Mapping[str, Column], table: ScoreTable, baseline: str) -> Statement:
    compared = {title: cell for title, cell in cells.items() if cell.difference is not None}
    if not compared:
        reasons = list(dict.fromkeys(cell.why_not for cell in cells.values() if cell.why_not))
        why = reasons[0] if reasons else "they share no task"
        more = f" (and {len(reasons) - 1} more reasons)" if len(reasons) > 1 else ""
        return Statement(model, REFUSED, f"is not compared with {baseline}: {why}{more}", "")
    verdict = _verdict([cell.difference for cell in compared.values() if cell.difference is not None])
    if len(compared) == 1:
        title, cell = next(iter(compared.items()))
        return _single(model, verdict, title, cell, columns[title], table, baseline)
    text = f"against {baseline} on {len(compared)} tasks: {outcome_words(compared, columns)}"
    return Statement(model, verdict, text, " ".join(_details(compared.values())))


def _on_group(
    model: str, cells: Cells, columns: Mapping[str, Column], table: ScoreTable, baseline: str
) -> Statement | None:
    """The group that all of a model's tasks belong to, then its tasks; None where there is no such group."""
    own = dict(zip(table.columns, table.cells[model], strict=True))
    for title, column in columns.items():
        cell, members = own[title], {leaf.name for leaf in column.leaves}
        if cell is None or cell.difference is None or len(members) < 2 or not cells.keys() <= members:
            continue
        found = _single(model, _verdict([cell.difference]), title, cell, column, table, baseline)
        told = outcome_words(cells, columns)
        return found._replace(detail=f"By task: {told}. {found.detail}".rstrip() if told else found.detail)
    return None


def _verdict(differences: Sequence[Difference]) -> str:
    found = {each.verdict.outcome for each in differences if each.verdict.outcome in _CLEAR}
    if not found:
        return Outcome.INCONCLUSIVE.value
    return next(iter(found)).value if len(found) == 1 else MIXED


def _single(
    model: str, verdict: str, title: str, cell: ScoreCell, column: Column, table: ScoreTable, baseline: str
) -> Statement:
    apart = cell.difference
    if apart is None or cell.reference is None:
        return Statement(model, REFUSED, f"is not compared with {baseline}", "")
    metric = table.metrics[table.columns.index(title)]
    scores = " against ".join(value_text(each.value, column.unit) for each in (cell.score, cell.reference))
    verb = "scores" if column.unit == PERCENT else "has"
    text = f"{verb} {distance_words(apart, metric)} {baseline} on {title} ({metric}): {scores} ({task_evidence(apart)})"
    return Statement(model, verdict, text, " ".join(_details([cell])))


def task_evidence(apart: Difference) -> str:
    """Return the interval and p value of a difference in any unit, as a phrase."""
    if apart.interval is None:
        return "no interval: nothing says how far the scores would vary"
    if apart.unit == PERCENT:
        ends = f"{bound(apart.interval[0])} to {bound(apart.interval[1])}"
    else:
        ends = " to ".join(interval_text(apart.interval, apart.unit, is_difference=True).split(", "))
    return ", ".join(filter(None, (f"95% interval {ends}", apart.p_words)))


def _details(cells: Iterable[ScoreCell]) -> Iterator[str]:
    found = [cell.difference for cell in cells if cell.difference is not None]
    unpaired = [each for each in found if each.test == NOT_PAIRED and each.interval is not None]
    if unpaired:
        where = "" if len(unpaired) == len(found) else f" on {len(unpaired)} of these tasks"
        yield f"Without samples of both models documents count as independent{where}: the interval is conservative."
    detectable = [each.detectable for each in found if each.detectable is not None and each.unit == PERCENT]
    if len(found) == 1 and detectable and found[0].verdict.outcome not in _CLEAR:
        yield f"A true difference of {fixed(detectable[0])} points would be found in 80% of evaluations of this size."
