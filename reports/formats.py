"""The report without pictures: a summary in Markdown for a pull request, and its numbers as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from reports.comparison import Cell, Comparison, SuiteTable
from reports.dialogues import JudgedSet
from reports.differences import Difference
from reports.headline import preferred_likelihood
from reports.panels import warning_lines
from reports.sample_panel import sample_counts
from reports.scores_panel import described, published_rows, standings
from reports.sources import Training
from reports.statements import average_statements, judged_differences, judged_evidence, judged_statements
from reports.study_formats import study_lines, study_numbers
from reports.subjects import SubjectRow, SubjectTable, subjects
from reports.text import NOT_AVAILABLE, bound, fixed, signed, visible
from reports.training_details import edits
from reports.training_panel import FINAL_COLUMNS, last_values, story
from smaug_eval import __version__
from smaug_eval.leaderboard.scores import Score
from smaug_eval.mt_bench.pair_scores import pair_scores
from smaug_eval.mt_bench.scores import single_scores
from smaug_eval.stats import Interval, Outcome

SCHEMA = 1
_MARKS = re.compile(r"([\\`*_{}\[\]<>|#~&!])")


def summary(comparison: Comparison) -> str:
    """The verdicts, each suite's table, what happened in training, and the warnings, in GitHub's Markdown."""
    return "\n".join(_summary_lines(comparison)).rstrip() + "\n"


def numbers(comparison: Comparison) -> str:
    """The report's numbers as JSON; what is not a finite number is null.

    Keys of version 1, to which later ones only add:

    - ``schema``, ``version`` (of smaug-eval), ``title``, ``baseline``, ``warnings`` (sentences);
    - ``statements``: ``model``, ``verdict`` ("better", "worse", "inconclusive", "not compared" or ""), ``text``,
      ``detail``;
    - ``models``: name to what the run's manifest says of it;
    - ``suites``: ``suite``, ``average_label``, ``columns`` (``title``, ``metric``) and ``models``: name to
      ``average``, ``columns`` (by title, null where not measured) and ``tasks`` (scores by task). A score has
      ``value``, ``stderr``, ``interval`` (percent), ``n`` and ``notes``; averages and columns also ``difference`` and
      ``why_not``. A difference is in points: ``points``, ``interval``, ``p_value``, ``adjusted_p``, ``detectable``,
      ``n``, ``gained``, ``lost``, ``correlation``, ``test``, ``verdict``, ``remarks``, ``in_common`` (both scores on
      the documents in common, null where these are all) and ``held_back`` (such as "above 0 unadjusted", where interval
      or p value alone say something else than an inconclusive verdict);
    - ``published`` and ``standings``: rows of the archived leaderboard, and ranks in it where it was given;
    - ``judged``: ``title``, ``judge``, ``demo``, ``single`` and ``pairs``, by model;
    - ``trainings``: ``name``, ``loss``, ``beta``, ``lambda``, ``steps``, ``last`` (the last logged values by split) and
      ``edits`` (changes before, at and after the edit, nats per token and per pair);
    - ``subjects``: ``suite``, ``column`` and ``categories``: ``title``, ``mean`` and ``subjects``, each model to a
      score as above;
    - ``outcomes``: ``task``, ``model`` and ``counts`` of documents gained, lost, and so on; ``solutions``: the same of
      how solutions end; ``runs``: label to manifest;
    - ``tasks``: model to task to ``n`` and ``metrics`` (label to ``value`` and ``stderr``, in lm-eval's units);
    - ``study``: of a study alone, :func:`reports.study_formats.study_numbers`; all other keys then hold one training of
      each arm.
    """
    outcomes, failures = sample_counts(comparison)
    found = {
        "schema": SCHEMA,
        "version": __version__,
        "title": comparison.title,
        "baseline": comparison.baseline,
        "statements": [each._asdict() for each in (*average_statements(comparison), *judged_statements(comparison))],
        "warnings": warning_lines(comparison),
        "models": {model: described(comparison, model) for model in comparison.models},
        "suites": [_suite(table) for table in comparison.tables],
        "published": {model: asdict(row) for model, row in published_rows(comparison)},
        "standings": [each.as_dict() for each in standings(comparison)],
        "judged": [
            {
                "title": each.key.title,
                "judge": each.key.judge,
                "demo": each.is_demo,
                "single": {model: asdict(own) for model, own in single_scores(each.judgments.single).items()},
                "pairs": {model: asdict(own) for model, own in pair_scores(each.judgments.pairs).items()},
            }
            for each in comparison.dialogues
        ],
        "trainings": [_training(each) for each in comparison.trainings],
        "subjects": [_subjects(each) for each in (subjects(comparison) or {"tables": []})["tables"]],
        "outcomes": [{"task": row.family, "model": row.model, "counts": row.counts} for row in outcomes],
        "solutions": [{"task": row.task, "model": row.model, "counts": row.counts} for row in failures],
        "runs": {source.label: source.manifest for source in comparison.sources if source.manifest},
        "tasks": {
            model: {
                task: {
                    "n": result.n,
                    "metrics": {each.label: {"value": each.value, "stderr": each.stderr} for each in result.metrics},
                }
                for task, result in results.items()
            }
            for model, results in comparison.models.items()
        },
    }
    if comparison.study is not None:
        found["study"] = study_numbers(comparison.study)
    return json.dumps(_finite(found), indent=2, allow_nan=False) + "\n"


def escaped(text: str) -> str:
    """``text`` on one line, with everything that Markdown or HTML would act on written out."""
    shown = _MARKS.sub(lambda match: f"\\{match.group()}", " ".join(visible(text).split()))
    return shown.replace("@", "&#64;")  # or the names of models would notify people


def _summary_lines(comparison: Comparison) -> Iterator[str]:
    yield from (f"## {escaped(comparison.title)}", "")
    if comparison.study is not None:
        yield from study_lines(comparison.study, escaped)
        return
    for each in (*average_statements(comparison), *judged_statements(comparison)):
        verdict = f" ({each.verdict})" if each.verdict else ""
        yield f"- **{escaped(each.model)}**{verdict} {escaped(each.text)}. {escaped(each.detail)}".rstrip()
    for fall in filter(None, map(preferred_likelihood, comparison.trainings)):
        if fall.below_reference:
            yield f"- **training {escaped(fall.training)} made preferred answers less likely** ({fall.amount})"
    yield ""
    for table in comparison.tables:
        yield from _suite_lines(table, comparison.baseline)
    for judged in comparison.dialogues:
        yield from _judged_lines(judged, comparison.baseline)
    if comparison.trainings:
        yield from ("**Training**", "", *(f"- {escaped(sentence)}" for sentence in story(comparison.trainings)), "")
    if warnings := warning_lines(comparison):
        yield from ("**Read this first**", "", *(f"- {escaped(warning)}" for warning in warnings), "")


def _suite_lines(table: SuiteTable, baseline: str | None) -> Iterator[str]:
    titles = [table.average_label or "average", *table.columns]
    differences = f", difference from {escaped(str(baseline))} in points" if len(table.cells) > 1 else ""
    yield from (f"**{escaped(table.suite)}**: score in percent{differences}", "")
    yield f"| model | {' | '.join(map(escaped, titles))} |"
    yield "|---|" + "---:|" * len(titles)
    for model, cells in table.cells.items():
        shown = " | ".join(_cell_text(cell) for cell in (table.averages[model], *cells))
        yield f"| {escaped(model)} | {shown} |"
    if any(cell is not None and cell.difference is not None for cells in table.cells.values() for cell in cells):
        yield from ("", "95% intervals in brackets; bold: better or worse with p adjusted by Holm's method.")
    yield ""


def _judged_lines(judged: JudgedSet, baseline: str | None) -> Iterator[str]:
    scores, differences = single_scores(judged.judgments.single), judged_differences(judged, baseline)
    judge = "a rule of the demo, no model" if judged.is_demo else judged.key.judge or "a judge that is not recorded"
    yield from _judged_pair_lines(judged, judge)
    if not scores:
        return
    yield from (f"**{escaped(judged.key.title)}**: scores from 1 to 10 by {escaped(judge)}", "")
    yield from ("| model | turn 1 | turn 2 | average | difference | failed |", "|---|---:|---:|---:|---:|---:|")
    for model, own in scores.items():
        means = [_mean_text(getattr(own, name), own.intervals[name]) for name in ("turn1", "turn2", "average")]
        apart = differences.get(model)
        difference = "" if apart is None else f"{signed(apart.difference, 2)} ({judged_evidence(apart)})"
        yield f"| {escaped(model)} | {' | '.join(means)} | {difference} | {own.failed} |"
    yield ""


def _judged_pair_lines(judged: JudgedSet, judge: str) -> Iterator[str]:
    if not (scores := pair_scores(judged.judgments.pairs)):
        return
    yield from (f"**{escaped(judged.key.title)}**: pairs, each judged in both orders by {escaped(judge)}", "")
    yield from (
        "| model | win | loss | tie | win rate, ties as half | without a verdict |",
        "|---|---:|---:|---:|---:|---:|",
    )
    for model, own in scores.items():
        ends = "" if own.interval is None else f" [{', '.join(fixed(100 * end) for end in own.interval)}]"
        rate = f"{fixed(100 * own.win_rate_adjusted)}%{ends}"
        yield f"| {escaped(model)} | {own.win} | {own.loss} | {own.tie} | {rate} | {own.failed} |"
    yield ""


def _mean_text(value: float | None, interval: Interval | None) -> str:
    return (
        fixed(value, 2) if interval is None else f"{fixed(value, 2)} [{fixed(interval[0], 2)}, {fixed(interval[1], 2)}]"
    )


def _cell_text(cell: Cell | None) -> str:
    if cell is None:
        return NOT_AVAILABLE
    return f"{fixed(cell.score.value)} {_difference_text(cell)}".rstrip()


def _difference_text(cell: Cell) -> str:
    apart = cell.difference
    if apart is None:
        return "" if cell.why_not is None else "(not compared)"
    interval = "" if apart.interval is None else f" [{bound(apart.interval[0])}, {bound(apart.interval[1])}]"
    is_clear = apart.verdict.outcome in {Outcome.BETTER, Outcome.WORSE}
    shown = f"**{signed(apart.points)}**{interval}" if is_clear else f"{signed(apart.points)}{interval}"
    common = (
        "" if apart.in_common is None else f"{fixed(apart.in_common[0])} against {fixed(apart.in_common[1])} in common"
    )
    told = "; ".join(filter(None, (apart.held_back, common)))
    return f"{shown} ({told})" if told else shown


def _suite(table: SuiteTable) -> Mapping[str, Any]:
    columns = zip(table.columns, table.metrics, strict=True)
    return {
        "suite": table.suite,
        "average_label": table.average_label,
        "columns": [{"title": title, "metric": metric} for title, metric in columns],
        "models": {
            model: {
                "average": _cell(table.averages[model]),
                "columns": {title: _cell(cell) for title, cell in zip(table.columns, cells, strict=True)},
                "tasks": {
                    task: asdict(score)
                    for column in table.scores[model].columns
                    for task, score in column.leaves.items()
                },
            }
            for model, cells in table.cells.items()
        },
    }


def _subjects(table: SubjectTable) -> Mapping[str, Any]:
    def by_model(row: SubjectRow) -> Mapping[str, Any]:
        return {model: _cell(cell) for model, cell in zip(table.models, row.cells, strict=True)}

    categories = [
        {
            "title": each.mean.title,
            "mean": by_model(each.mean),
            "subjects": {s.title: by_model(s) for s in each.subjects},
        }
        for each in table.categories
    ]
    return {"suite": table.suite, "column": table.column, "categories": categories}


def _cell(cell: Cell | None) -> Mapping[str, Any] | None:
    if cell is None:
        return None
    score: Score = cell.score
    return {**asdict(score), "difference": _difference(cell.difference), "why_not": cell.why_not}


def _difference(difference: Difference | None) -> Mapping[str, Any] | None:
    return (
        None
        if difference is None
        else {**asdict(difference), "verdict": difference.verdict.words(" points"), "held_back": difference.held_back}
    )


def _training(training: Training) -> Mapping[str, Any]:
    return {
        "name": training.name,
        **{key: training.summary.get(key) for key in ("loss", "beta", "lambda", "steps")},
        "last": last_values(training, list(FINAL_COLUMNS)),
        "edits": [each._asdict() for each in edits(training)],
    }


def _finite(value: Any) -> Any:
    """``value`` as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
