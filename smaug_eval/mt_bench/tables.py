"""Scores of judgments as the terminal shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.table import Table
from rich.text import Text

from smaug_eval.leaderboard.intervals import Interval
from smaug_eval.mt_bench.layout import find_benches, read_settings
from smaug_eval.mt_bench.pair_scores import PairScores, pair_scores
from smaug_eval.mt_bench.records import Judgments, read_judgments
from smaug_eval.mt_bench.scores import ModelScores, single_scores


def score_tables(
    judgments: Judgments, *, judge: str | None = None, baseline: str | None = None, title: str | None = None
) -> Iterator[Table]:
    """A table of single answers' scores and one of pairs, where there are any.

    Raises:
        SmaugError: several judges judged and none is chosen.
    """
    if judgments.single:
        yield _single_table(single_scores(judgments.single, judge=judge), title)
    if judgments.pairs:
        yield _pair_table(pair_scores(judgments.pairs, judge=judge, baseline=baseline), title)


def run_tables(run: Path) -> Iterator[Table]:
    """The tables of every question set judged in a run directory."""
    for bench in find_benches(run):
        if not bench.judgments:
            continue
        settings = read_settings(bench.judgments[0])
        asked, judge = settings.get("question_set", bench.name), settings.get("judge", "unknown")
        how = "judged by a rule for the demo, no model" if settings.get("demo") else f"judged by {judge}"
        baseline = settings.get("baseline")
        # A recipe names one judge; those of an earlier recipe were moved away.
        yield from score_tables(read_judgments(bench.judgments), baseline=baseline, title=f"{asked}, {how}")


def _single_table(scores: Mapping[str, ModelScores], title: str | None) -> Table:
    table = _table(title, "model", "turn 1", "turn 2", "average", "95%", "judged", "no verdict", "strict")
    for model, score in scores.items():
        strict = score.strict.average if score.strict is not None else None
        table.add_row(
            Text(model),
            _mean(score.turn1),
            _mean(score.turn2),
            _mean(score.average),
            _interval(score.intervals.get("average")),
            f"{score.n:,}",
            f"{score.failed:,}",
            _mean(strict),
        )
    return table


def _pair_table(scores: Mapping[str, PairScores], title: str | None) -> Table:
    table = _table(title, "model", "wins", "losses", "ties", "no verdict", "wins + ties / 2", "95%")
    for model, score in scores.items():
        counts = (f"{count:,}" for count in (score.win, score.loss, score.tie, score.failed))
        table.add_row(Text(model), *counts, f"{score.win_rate_adjusted:.1%}", _interval(score.interval, 100))
    return table


def _table(title: str | None, first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, title=None if title is None else Text(title), title_justify="left")
    table.add_column(first)
    for other in others:
        table.add_column(other, justify="right")
    return table


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _interval(interval: Interval | None, factor: float = 1) -> str:
    return "" if interval is None else f"{factor * interval[0]:.2f} - {factor * interval[1]:.2f}"
