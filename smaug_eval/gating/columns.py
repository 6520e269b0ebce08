"""Find the evidence of averages and columns in the report's tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from smaug_eval import stats
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.suggest import nearest
from smaug_eval.gating.evidence import MEND, NOT_MEASURED, Evidence
from smaug_eval.gating.policy import ALL, DETECTED_POINTS, DETECTED_SHARE, Requirement
from smaug_eval.gating.sides import Sides
from smaug_eval.leaderboard import v2_scores
from smaug_eval.leaderboard.columns import PERCENT, Column
from smaug_eval.leaderboard.registry import SUITES
from smaug_eval.results.boards import PageBoard
from smaug_eval.results.differences import NOT_PAIRED, Difference
from smaug_eval.results.pairing import ColumnPair, pair_column
from smaug_eval.results.tables import ScoreCell, ScoreTable
from smaug_eval.stats.means import Z


def score_evidence(requirement: Requirement, sides: Sides, model: str) -> list[Evidence]:
    """Find what a requirement is about for one model; empty where neither side has it.

    Args:
        requirement: Of an average or of columns.
        sides: What is compared.
        model: The gated model.

    Raises:
        SmaugError: a column's name is none of any suite and of the results.
    """
    tables = [(table, board) for table, board in _tables(sides) if _is_in(requirement, table)]
    if requirement.average is not None:
        return [_average(table, sides, model) for table, _ in tables if table.is_averaged]
    found = [
        _column(table, board, place, sides, model)
        for table, board in tables
        for place in _places(requirement, table, board)
    ]
    for name in requirement.except_ if requirement.column == ALL else [str(requirement.column)] if not found else []:
        _check_known(name, sides)
    return [each for each in found if each is not None]


def _tables(sides: Sides) -> Iterator[tuple[ScoreTable, PageBoard]]:
    boards = {board.name: board for board in sides.comparison.boards}
    for table in sides.comparison.all_tables:
        yield table, boards[table.suite]


def _is_in(requirement: Requirement, table: ScoreTable) -> bool:
    wanted = requirement.average if requirement.average is not None else requirement.suite
    return wanted in (None, ALL, table.suite)


def _places(requirement: Requirement, table: ScoreTable, board: PageBoard) -> list[int]:
    """Indices of the columns that are meant."""
    names = {column.title: _names_of(column, board) for column in table.described}
    left_out = {each.casefold() for each in requirement.except_}
    if requirement.column == ALL:
        return [place for place, title in enumerate(table.columns) if not names[title] & left_out]
    return [place for place, title in enumerate(table.columns) if str(requirement.column).casefold() in names[title]]


def _names_of(column: Column, board: PageBoard) -> set[str]:
    tasks = [task for task, title in board.homes.items() if title == column.title]
    single = [column.task, *tasks] if len(column.leaves) == 1 else [column.task]
    return {name.casefold() for name in (column.title, *single)}


def _check_known(name: str, sides: Sides) -> None:
    """Refuse a column that no suite and no result has; one that was not measured is no fault of the policy."""
    suites = [make().columns for make in SUITES.values()] + [v2_scores.BOARD.columns]
    titles = {column.title for columns in suites for column in columns}
    tasks = {column.task for columns in suites for column in columns}
    leaves = {leaf.name for columns in suites for column in columns for leaf in column.leaves}
    here = {title for table in sides.comparison.all_tables for title in table.columns} | set(sides.comparison.tasks)
    if name.casefold() not in {each.casefold() for each in titles | tasks | leaves | here}:
        shown = sorted(titles | here)
        raise SmaugError(f"column {name!r} is none of any suite and of these results{nearest(name, shown)}", fix=MEND)


def _average(table: ScoreTable, sides: Sides, model: str) -> Evidence:
    baseline = str(sides.baseline)
    label = f"{table.average_label or 'average'}"
    cell = table.averages.get(model)
    own, other = table.scores.get(model), table.scores.get(baseline)
    if cell is None:
        return _without(table.suite, label, f"{model} {NOT_MEASURED}", None if other is None else other.average.value)
    found = _of_cell(table.suite, label, cell, "%")
    if own is None or found.difference != 0 or found.interval is not None or other is None:
        return found
    # Scores that are resampled have no interval where every document is the same.
    board = next(each for each in sides.comparison.boards if each.name == table.suite)
    by_column = [
        _column(table, board, place, sides, model) for place, each in enumerate(table.cells[model]) if each is not None
    ]
    known = [each for each in by_column if each is not None]
    if not known or any(each.same_on is None for each in known):
        return found
    halves = [each.interval[1] for each in known if each.interval is not None]
    if len(halves) < len(known):
        return found
    half = math.hypot(*halves) / len(halves)
    return _same(found, sum(each.same_on or 0 for each in known), half)


def _column(table: ScoreTable, board: PageBoard, place: int, sides: Sides, model: str) -> Evidence | None:
    baseline, column = str(sides.baseline), table.described[place]
    cell = table.cells[model][place] if model in table.cells else None
    other = table.cells[baseline][place] if baseline in table.cells else None
    if cell is None:
        if other is None:
            return None  # of another model of the run
        return _without(table.suite, column.title, f"{model} {NOT_MEASURED}", other.score.value, column.unit.name)
    found = _of_cell(table.suite, column.title, cell, column.unit.name, column.higher_is_better)
    if found.difference != 0 or found.interval is not None:
        return found
    pair = _pair(table, board, column, model, baseline, sides)
    count = None if pair is None else _documents_alike(pair)
    return found if pair is None or count is None else _same(found, count, _bound(pair, column))


def _pair(
    table: ScoreTable, board: PageBoard, column: Column, model: str, baseline: str, sides: Sides
) -> ColumnPair | None:
    own, other = (
        next((each for each in table.scores[name].columns if each.title == column.title), None)
        for name in (model, baseline)
    )
    if own is None or other is None:
        return None
    entries = (board.entries[model], board.entries[baseline])
    return pair_column(column, own, other, entries, sides.comparison.gates.get(model, {}))


def _documents_alike(pair: ColumnPair) -> int | None:
    """Documents of a pair where both models have the same value on every one; None where they have not."""
    strata = pair.strata or []
    return sum(len(own) for own, _ in strata) if strata and all(np.array_equal(*each) for each in strata) else None


def _bound(pair: ColumnPair, column: Column) -> float | None:
    """How far a score in percent could be away whose documents are all the same, as for right and wrong answers."""
    if column.unit != PERCENT:
        return None
    sizes = [len(own) for own, _ in pair.strata or ()]
    floors = column.floors if len(column.floors) == len(sizes) else (0.0,) * len(sizes)
    weights = sizes if column.weighted_by_size else [1] * len(sizes)
    halves = [
        weight / sum(weights) * stats.right_wrong_interval(0, 0, size)[1] / (1 - floor)
        for weight, size, floor in zip(weights, sizes, floors, strict=True)
    ]
    return 100 * math.hypot(*halves) / (1 - column.floor)


def _same(found: Evidence, count: int, half: float | None) -> Evidence:
    """Evidence of models that are the same on every document, with an interval where the score has bounds."""
    detectable = None if half is None else stats.detectable_difference(half / Z)
    interval = None if half is None else (-half, half)
    return replace(
        found,
        interval=interval,
        detectable=detectable,
        same_on=count,
        test="the same value on every document; interval as of right and wrong answers that agree",
    )


def _without(where: str, subject: str, why_not: str, reference: float | None, unit: str = "%") -> Evidence:
    return Evidence(where=where, subject=subject, unit=unit, reference=reference, why_not=why_not)


def _of_cell(where: str, subject: str, cell: ScoreCell, unit: str, higher_is_better: bool | None = True) -> Evidence:
    score, apart = cell.score, cell.difference
    invalid = "; ".join(note for note in score.notes if "not comparable" in note)
    known = Evidence(
        where=where,
        subject=subject,
        unit=unit,
        score=score.value,
        score_interval=score.interval,
        reference=None if cell.reference is None else cell.reference.value,
        higher_is_better=higher_is_better,
        n=score.n,
        invalid=invalid,
        remarks=score.notes,
    )
    if apart is None:
        return replace(known, why_not=cell.why_not or f"the baseline {NOT_MEASURED}")
    remarks = (*score.notes, *apart.remarks, *([NOT_PAIRED] if apart.test == NOT_PAIRED else []))
    return replace(
        known,
        difference=apart.points,
        interval=apart.interval,
        p_value=apart.p_value,
        adjusted_p=apart.adjusted_p,
        outcome=apart.verdict.outcome,
        held_back=apart.held_back,
        detectable=apart.detectable,
        must_detect=_must_detect(apart, cell),
        n=apart.n,
        same_on=apart.n if apart.gained == apart.lost == 0 else None,
        test=apart.test,
        remarks=tuple(dict.fromkeys(remarks)),
    )


def _must_detect(apart: Difference, cell: ScoreCell) -> float | None:
    if apart.unit == PERCENT:
        return DETECTED_POINTS
    return DETECTED_SHARE * abs(cell.reference.value) if cell.reference is not None and cell.reference.value else None
