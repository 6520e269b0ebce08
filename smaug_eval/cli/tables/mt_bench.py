"""Show scores of judgments in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from smaug_eval.cli.tables.whole import print_whole
from smaug_eval.leaderboard.intervals import Interval
from smaug_eval.mt_bench.files.foreign import is_human
from smaug_eval.mt_bench.files.layout import find_benches
from smaug_eval.mt_bench.files.records import Judgments
from smaug_eval.mt_bench.files.settings import JudgmentSettings
from smaug_eval.mt_bench.judge.judgments_file import load_judgment_files
from smaug_eval.mt_bench.scores.agreement import SCORES, Agreement, agreements, panel_scores
from smaug_eval.mt_bench.scores.conditions import bias_words, condition_notes
from smaug_eval.mt_bench.scores.pairs import (
    PairwiseScores,
    model_strengths,
    pair_scores,
    pairs_without_verdict,
    position_bias,
)
from smaug_eval.mt_bench.scores.single import ModelScores, single_scores
from smaug_eval.mt_bench.scores.whole import missing_by_model, missing_reasons, of_judge
from smaug_eval.stats import Strength

if TYPE_CHECKING:
    from smaug_eval.runs.mt_bench import JudgeResult
    from smaug_eval.runs.pipeline import RunResult


def print_judging(result: JudgeResult, baseline: str | None) -> None:
    """Print the scores after a judging; of a dry run, what there is to do; of one without a judgment, nothing."""
    if result.summary is None and result.complete:
        print(result.forecast)
        return
    if result.file.is_file() and result.file.stat().st_size:
        print_scores(load_judgment_files([result.file]), result.judge, baseline)
    print(f"judgments: {result.file}")


def print_scores(judgments: Judgments, judge: str | None, baseline: str | None) -> None:
    """Print the tables of judgments, and what a reader must know beside them."""
    chosen = judgments if judge is None else of_judge(judgments, judge)
    for table in score_tables(chosen, baseline=baseline):
        print_whole(table)
    for line in score_lines(chosen):
        print(line)


def print_run_scores(result: RunResult) -> None:
    """Print the scores of an MT-Bench run, and where its report is."""
    for shown in run_tables(result.path):
        print_whole(shown)
    print(f"report: {result.report}")


def score_tables(judgments: Judgments, *, baseline: str | None = None, title: str | None = None) -> Iterator[Table]:
    """Return for each judge a table of single answers' scores and one of pairs, where there are any.

    With several judges, a table shows how far they agree, and one their joint scores.
    """
    names = list(dict.fromkeys(record.judge[0] for record in judgments.every))
    asked = [name for name in names if not is_human(name)] or names[:1]
    missing = missing_by_model(judgments)
    for name in asked:
        own = of_judge(judgments, name) if len(names) > 1 else judgments
        heading = f"{title or 'judge'}: {name}" if len(names) > 1 else title
        if own.single:
            yield _single_table(single_scores(own.single), heading, missing)
        if own.pairs and (pairs := pair_scores(own.pairs, baseline=baseline)):
            strengths = {} if baseline is not None else model_strengths(own.pairs)
            yield _pair_table(pairs, heading, missing, strengths)
    if panel := panel_scores(judgments.single):
        table = _table(
            "all judges together: mean of their scores", "model", "average", "95%", "answers", "between judges"
        )
        for model, each in panel.items():
            between = f"{each.between:.2f}"
            table.add_row(Text(model), _mean(each.average), _interval(each.interval), f"{each.n:,}", between)
        yield table
    if found := agreements(judgments):
        yield _agreement_table(found)


def score_lines(judgments: Judgments) -> Iterator[str]:
    """Yield what a reader must know beside the tables, a line each."""
    names = list(dict.fromkeys(record.judge[0] for record in judgments.pairs))
    for name in names:
        bias = position_bias([record for record in judgments.pairs if record.judge[0] == name])
        if bias.pairs and not is_human(name):
            yield f"position bias: {name or 'the judge'} {bias_words(bias)}"
    unread = pairs_without_verdict(judgments.pairs)
    if unread:
        failed = ", ".join(f"{model} ({number:,})" for model, number in unread.items())
        yield f"pairs without a verdict alone, so without a score: {failed}"
    if judgments.missing:
        reasons = "; ".join(f"{number:,} x {reason}" for reason, number in missing_reasons(judgments).items())
        yield f"judgments that are missing, on which no figure rests: {len(judgments.missing):,} ({reasons})"
    notes = [*judgments.notes, *condition_notes(judgments)]
    for name in names or dict.fromkeys(record.judge[0] for record in judgments.single):
        own = of_judge(judgments, name)
        notes += [note for each in single_scores(own.single).values() for note in each.notes] if own.single else []
        notes += [note for each in pair_scores(own.pairs).values() for note in each.notes] if own.pairs else []
    for note in dict.fromkeys(notes):
        yield f"note: {note}"


def run_tables(run: Path) -> Iterator[Table | Text]:
    """Yield the tables of every question set judged in a run directory, and the lines beside them."""
    for bench in find_benches(run):
        files = [file for file in bench.judgments if file.stat().st_size]
        if not files:
            continue
        settings = JudgmentSettings.read(files[0])
        asked, judge = settings.question_set or bench.name, settings.judge or "unknown"
        how = "judged by a rule for the demo, no model" if settings.demo else f"judged by {judge}"
        # A recipe names one judge; those of an earlier recipe were moved away.
        judgments = load_judgment_files(files)
        yield from score_tables(judgments, baseline=settings.baseline, title=f"{asked}, {how}")
        yield from (Text(line) for line in score_lines(judgments))


def _single_table(scores: Mapping[str, ModelScores], title: str | None, missing: Mapping[str, int]) -> Table:
    later = sorted({turn for score in scores.values() for turn in score.later})
    has_raw = any(score.raw is not None for score in scores.values())
    headings = ["turn 1", "turn 2", *(f"turn {turn}" for turn in later), "average", "95%", "judged", "no verdict"]
    headings += ["strict", *(["whole text"] if has_raw else []), *(["missing"] if missing else [])]
    table = _table(title, "model", *headings)
    for model, score in scores.items():
        raw = [_mean(score.raw.average if score.raw is not None else None)] if has_raw else []
        table.add_row(
            Text(model),
            _mean(score.turn1),
            _mean(score.turn2),
            *(_mean(score.later.get(turn)) for turn in later),
            _mean(score.average),
            _interval(score.intervals.get("average")),
            f"{score.n:,}",
            f"{score.failed:,}",
            _mean(score.strict.average if score.strict is not None else None),
            *raw,
            *([f"{missing.get(model, 0):,}"] if missing else []),
        )
    return table


def _pair_table(
    scores: Mapping[str, PairwiseScores],
    title: str | None,
    missing: Mapping[str, int],
    strengths: Mapping[str, Strength],
) -> Table:
    has_raw = any(score.raw is not None for score in scores.values())
    headings = ["wins", "losses", "ties", "no verdict", "wins + ties / 2", "95%", "strict"]
    headings += [*(["whole text"] if has_raw else []), *(["strength", "95%"] if strengths else [])]
    table = _table(title, "model", *headings, *(["missing"] if missing else []))
    for model, score in scores.items():
        counts = (f"{count:,}" for count in (score.win, score.loss, score.tie, score.failed))
        shown = [f"{score.win_rate_adjusted:.1%}", _interval(score.interval, 100), _share(score.strict)]
        shown += [_share(score.raw)] if has_raw else []
        if strengths:
            strength = strengths.get(model)
            shown.append("" if strength is None else f"{strength.rating:.0f}{' (open)' if strength.open else ''}")
            shown.append("" if strength is None else _interval(strength.interval, digits=0))
        shown += [f"{missing.get(model, 0):,}"] if missing else []
        table.add_row(Text(model), *counts, *shown)
    return table


def _agreement_table(found: Sequence[Agreement]) -> Table:
    table = _table("agreement between judges", "judges", "of", "verdicts", "equal", "95%", "kappa", "close")
    for each in found:
        close = f"{each.within_one:.1%} within 1" if each.within_one is not None else ""
        if each.kind != SCORES and each.decided is not None:
            close = f"{each.decided:.1%} without ties"
        _agreement_row(table, " and ".join(each.judges), each, close)
        for name, (number, share, kappa) in each.by_category.items():
            table.add_row(Text(f"  {name}"), each.kind, f"{number:,}", f"{share:.1%}", "", _mean(kappa), "")
    return table


def _agreement_row(table: Table, names: str, each: Agreement, close: str) -> None:
    interval = _interval(each.interval, 100)
    table.add_row(Text(names), each.kind, f"{each.n:,}", f"{each.share:.1%}", interval, _mean(each.kappa), close)


def _table(title: str | None, first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, title=None if title is None else Text(title), title_justify="left")
    table.add_column(first)
    for other in others:
        table.add_column(other, justify="right")
    return table


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _interval(interval: Interval | None, factor: float = 1, digits: int = 2) -> str:
    return "" if interval is None else f"{factor * interval[0]:.{digits}f} - {factor * interval[1]:.{digits}f}"
